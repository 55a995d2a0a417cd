//! Jobs and CronJobs.

mod cron_job;
mod status;

use serde_json::Value;

pub use cron_job::{cron_job, cron_job_update};
pub use status::job_status_update;

use super::labels::Match;
use super::metadata::immutable;
use super::{format, labels, metadata, pod, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const INDEXED_FAILURES_MAX: i64 = 100_000;
/// Above this many completions, indexes get less freedom.
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_COMPLETIONS_PARALLELISM_MAX: i64 = 10_000;
const MANY_COMPLETIONS_FAILURES_MAX: i64 = 10_000;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// Job.
pub fn job(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    let (meta, spec) = (object.at("metadata"), object.at("spec"));
    metadata::validate(&meta, format::name_is_subdomain, &mut errs);
    generated_selector(object, &mut errs);
    job_spec_with_selector(&spec, &mut errs);
    if spec.at("completionMode").str() == "Indexed" && spec.at("completions").i64() > 0 {
        let host = format!("{}-{}", meta.at("name").str(), spec.at("completions").i64() - 1);
        if !format::dns1123_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errs.push(meta.at("name").invalid_str(detail));
        }
    }
    errs
}

/// The labels that the server itself puts on the pods of a Job.
fn generated_selector(object: &Node, errs: &mut ErrorList) {
    let spec = object.at("spec");
    if spec.at("manualSelector").bool() || !spec.at("selector").is_set() {
        return;
    }
    let (name, uid) = (object.at("metadata").at("name"), object.at("metadata").at("uid"));
    rules::not_empty(&uid, errs);
    let expected = [
        ("controller-uid", uid.str()),
        ("job-name", name.str()),
        ("batch.kubernetes.io/controller-uid", uid.str()),
        ("batch.kubernetes.io/job-name", name.str()),
    ];
    let labels = spec.at("template").at("metadata").at("labels");
    for (label, value) in expected {
        match labels.key(label).opt_str() {
            Some(actual) if actual == value => {}
            // All labels are shown, not only this one.
            Some(_) => {
                errs.push(labels.key(label).invalid_as(labels.to_value(), format!("must be '{value}'")));
            }
            None => errs.push(labels.key(label).required(format!("must be '{value}'"))),
        }
    }
    let expected: Value = expected
        .iter()
        .map(|(k, v)| ((*k).to_owned(), Value::from(*v)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    if labels::matches(&spec.at("selector"), &Node::root(&expected)) == Match::No {
        errs.push(spec.at("selector").invalid("`selector` not auto-generated"));
    }
}

fn job_spec_with_selector(spec: &Node, errs: &mut ErrorList) {
    job_spec(spec, errs);
    let (selector, labels) = (spec.at("selector"), spec.at("template").at("metadata").at("labels"));
    if selector.is_set() {
        labels::selector(&selector, errs);
    } else {
        errs.push(selector.required(""));
    }
    if labels::matches(&selector, &labels) == Match::No {
        errs.push(labels.invalid("`selector` does not match template `labels`"));
    }
}

fn job_spec(spec: &Node, errs: &mut ErrorList) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    rules::nonnegative_fields(spec, &counts, errs);
    if spec.at("maxFailedIndexes").is_set() && !spec.at("backoffLimitPerIndex").is_set() {
        errs.push(spec.at("backoffLimitPerIndex").required("when maxFailedIndexes is specified"));
    }
    managed_by(&spec.at("managedBy"), errs);
    if let Some(mode) = spec.at("completionMode").opt() {
        rules::one_of(&mode, &["NonIndexed", "Indexed"], errs);
    }
    match spec.at("completionMode").str() {
        "Indexed" => indexed(spec, errs),
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(field) = spec.at(field).opt() {
                    errs.push(field.invalid("requires indexed completion mode"));
                }
            }
        }
        _ => {}
    }
    if spec.at("podFailurePolicy").is_set() {
        pod_failure_policy(spec, errs);
    }
    if let Some(policy) = spec.at("successPolicy").opt() {
        if spec.at("completionMode").str() == "Indexed" {
            success_policy(spec, &policy, errs);
        } else {
            errs.push(policy.invalid("requires indexed completion mode"));
        }
    }
    if let Some(policy) = spec.at("podReplacementPolicy").opt() {
        let with_failure_policy = spec.at("podFailurePolicy").is_set();
        let supported: &[&str] =
            if with_failure_policy { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        rules::one_of(&policy, supported, errs);
    }
    pod::template(&spec.at("template"), errs);
    let restart = spec.at("template").at("spec").at("restartPolicy");
    match restart.str() {
        "Always" | "" => errs.push(restart.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.at("podFailurePolicy").is_set() => {
            errs.push(restart.invalid_str("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        _ => rules::one_of(&restart, &["OnFailure", "Never"], errs),
    }
}

fn managed_by(manager: &Node, errs: &mut ErrorList) {
    if !manager.is_set() {
        return;
    }
    rules::domain_prefixed_path(manager, errs);
    if manager.len() > 63 {
        errs.push(manager.too_long(63));
    }
}

fn indexed(spec: &Node, errs: &mut ErrorList) {
    let (completions, parallelism) = (spec.at("completions"), spec.at("parallelism"));
    let failures = spec.at("maxFailedIndexes");
    if !completions.is_set() {
        errs.push(completions.required("when completion mode is Indexed"));
    }
    if parallelism.i64() > INDEXED_PARALLELISM_MAX {
        let detail = format!(
            "must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed"
        );
        errs.push(parallelism.invalid(detail));
    }
    if completions.is_set() && failures.is_set() && failures.i64() > completions.i64() {
        errs.push(failures.invalid("must be less than or equal to completions"));
    }
    if failures.i64() > INDEXED_FAILURES_MAX {
        errs.push(failures.invalid(format!("must be less than or equal to {INDEXED_FAILURES_MAX}")));
    }
    if completions.i64() > MANY_COMPLETIONS && spec.at("backoffLimitPerIndex").is_set() {
        if !failures.is_set() {
            let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            errs.push(failures.required(detail));
        }
        let bounds =
            [(&parallelism, MANY_COMPLETIONS_PARALLELISM_MAX), (&failures, MANY_COMPLETIONS_FAILURES_MAX)];
        for (field, max) in bounds {
            if field.i64() > max {
                errs.push(field.invalid(format!(
                    "must be less than or equal to {max} when completions are above {MANY_COMPLETIONS} and used \
                     with backoff limit per index"
                )));
            }
        }
    }
}

/// Upstream prints lists of values as Go's `%q` does.
fn quoted(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| format!("\"{v}\"")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn required_of(node: &Node, values: &[&str], errs: &mut ErrorList) {
    if node.is_empty() {
        errs.push(node.required(quoted(values)));
    } else {
        rules::one_of(node, values, errs);
    }
}

fn pod_failure_policy(spec: &Node, errs: &mut ErrorList) {
    let list = spec.at("podFailurePolicy").at("rules");
    if list.len() > 20 {
        errs.push(list.too_many(20));
    }
    for rule in list.items() {
        let action = rule.at("action");
        if action.str() == "FailIndex" {
            if !spec.at("backoffLimitPerIndex").is_set() {
                errs.push(action.invalid_str("requires the backoffLimitPerIndex to be set"));
            }
        } else {
            required_of(&action, &ACTIONS, errs);
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.at("onPodConditions"));
        if codes.is_set() {
            exit_codes(spec, &codes, errs);
        }
        if conditions.len() > 20 {
            errs.push(conditions.too_many(20));
        }
        for pattern in conditions.items() {
            rules::formatted(&pattern.at("type"), format::label_key, errs);
            required_of(&pattern.at("status"), &["False", "True", "Unknown"], errs);
        }
        let detail = match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errs.push(Error { value: None, ..rule.invalid(detail) });
    }
}

fn exit_codes(spec: &Node, codes: &Node, errs: &mut ErrorList) {
    let (operator, values) = (codes.at("operator"), codes.at("values"));
    required_of(&operator, &["In", "NotIn"], errs);
    let pod = spec.at("template").at("spec");
    let known = |name: &str| {
        ["containers", "initContainers"]
            .iter()
            .any(|list| pod.at(list).items().any(|c| c.at("name").str() == name))
    };
    let container = codes.at("containerName");
    if container.is_set() && !known(container.str()) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errs.push(container.invalid_str(detail));
    }
    if values.is_empty() {
        errs.push(values.invalid("at least one value is required"));
    } else if values.len() > 255 {
        errs.push(values.too_many(255));
    }
    let (mut seen, mut known) = (Vec::new(), std::collections::BTreeSet::new());
    for value in values.items() {
        if operator.str() == "In" && value.i64() == 0 {
            errs.push(value.invalid_i64("must not be 0 for the In operator"));
        }
        if !known.insert(value.i64()) {
            errs.push(value.duplicate());
        }
        seen.push(value.i64());
    }
    if !seen.is_sorted() {
        errs.push(values.invalid("must be ordered"));
    }
}

fn success_policy(spec: &Node, policy: &Node, errs: &mut ErrorList) {
    let list = policy.at("rules");
    if list.is_empty() {
        errs.push(list.required("at least one rules must be specified when the successPolicy is specified"));
    }
    if list.len() > 20 {
        errs.push(list.too_many(20));
    }
    let completions = spec.at("completions").i64();
    for rule in list.items() {
        let (indexes, count) = (rule.at("succeededIndexes"), rule.at("succeededCount"));
        if !indexes.is_set() && !count.is_set() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errs.push(rule.required(detail));
        }
        let mut total = 0;
        if indexes.is_set() {
            if indexes.len() > 64 << 10 {
                errs.push(indexes.too_long(64 << 10));
            }
            match indexes_count(indexes.str(), completions) {
                Ok(n) => total = n,
                Err(problem) => {
                    errs.push(indexes.invalid_str(format!("error parsing succeededIndexes: {problem}")));
                }
            }
        }
        if count.is_set() {
            rules::nonnegative(&count, errs);
            if count.i64() > completions {
                let detail = format!(
                    "must be less than or equal to {completions} (the number of specified completions)"
                );
                errs.push(count.invalid(detail));
            }
            if indexes.is_set() && count.i64() > total {
                let detail = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified \
                     succeededIndexes field)"
                );
                errs.push(count.invalid(detail));
            }
        }
    }
}

/// The intervals of a text like `1,3-5`.
fn intervals(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.is_empty())
}

/// The ends of an interval of indexes, the last one included.
fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = text.split('-').collect();
    let quote = crate::field::quote;
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts \
             separated by '-'",
            quote(text)
        ));
    }
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {}", quote(text))),
        Ok(index) if index >= completions => Err(format!("too large index: {}", quote(text))),
        Ok(index) => Ok(index),
    };
    let from = index(parts[0])?;
    let Some(to) = parts.get(1) else { return Ok((from, from)) };
    match index(to)? {
        to if from >= to => Err(format!("non-increasing order, previous: {from}, current: {to}")),
        to => Ok((from, to)),
    }
}

/// How many indexes a text like `1,3-5` names.
fn indexes_count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for text in intervals(text) {
        let (from, to) = interval(text, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// A changed Job.
pub fn job_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = job(new);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    job_spec_with_selector(&spec, &mut errs);
    completions_update(&spec, &old_spec, &mut errs);
    immutable(&spec.at("selector"), &old_spec.at("selector"), &mut errs);
    template_update(&spec, old, &mut errs);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(&spec.at(field), &old_spec.at(field), &mut errs);
    }
    errs
}

fn completions_update(spec: &Node, old: &Node, errs: &mut ErrorList) {
    let (new, old) = (spec.at("completions"), old.at("completions"));
    if spec.at("completionMode").str() != "Indexed" {
        immutable(&new, &old, errs);
    } else if new.is_set() && new.value() != old.value() && new.i64() != spec.at("parallelism").i64() {
        // Upstream takes the root of a path, which is "spec".
        errs.push(new.invalid("can only be modified in tandem with spec.parallelism"));
    }
}

/// The template may change where it only says where pods go, while the job waits to start.
fn template_update(spec: &Node, old: &Node, errs: &mut ErrorList) {
    let (new, old_spec) = (spec.at("template"), old.at("spec"));
    let suspended = old_spec.at("suspend").bool();
    let mut before = old_spec.at("template").to_value();
    let status = old.at("status");
    let idle = !status.at("startTime").is_set() || status::is(&status, "Suspended");
    let may_move = suspended && idle && status.at("active").i64() == 0;
    if may_move {
        let template = new.to_value();
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            take(&mut before["spec"], &template["spec"], field);
        }
        for field in ["annotations", "labels"] {
            take(&mut before["metadata"], &template["metadata"], field);
        }
        let affinity = template["spec"]["affinity"]["nodeAffinity"].clone();
        if !affinity.is_null() {
            before["spec"]["affinity"]["nodeAffinity"] = affinity;
        } else if let Some(old_affinity) = before["spec"]["affinity"].as_object_mut() {
            old_affinity.remove("nodeAffinity");
            if old_affinity.is_empty() {
                before["spec"].as_object_mut().map(|spec| spec.remove("affinity"));
            }
        }
    }
    prune_nulls(&mut before);
    if !may_move {
        if new.to_value() != before {
            errs.push(new.invalid("field is immutable"));
        }
        return;
    }
    let now = new.to_value();
    for list in ["containers", "initContainers"] {
        for (i, container) in before["spec"][list].as_array_mut().into_iter().flatten().enumerate() {
            if container["name"] == now["spec"][list][i]["name"] {
                take(container, &now["spec"][list][i], "resources");
            }
        }
    }
    prune_nulls(&mut before);
    if now["spec"] != before["spec"] {
        let at = new.at("spec");
        let at = at.reported_at(spec.at("template.spec").path());
        errs.push(at.invalid("field is immutable"));
    }
}

fn take(to: &mut Value, from: &Value, field: &str) {
    let Some(object) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

/// Indexing may have left nulls where nothing was.
fn prune_nulls(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(prune_nulls);
    }
}
