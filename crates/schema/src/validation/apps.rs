//! The group `apps`, and what its kinds share with other controllers of pods.

use serde_json::Value;

use super::labels::Match;
use super::metadata::immutable;
use super::{core::storage, format, internal, labels, metadata, pod, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

fn with_metadata(object: &Node, spec: impl FnOnce(&Node, &mut ErrorList)) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    spec(&object.at("spec"), &mut errs);
    errs
}

fn with_metadata_update(new: &Node, old: &Node, spec: impl FnOnce(&Node, &mut ErrorList)) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    spec(&new.at("spec"), &mut errs);
    errs
}

/// Deployment.
pub fn deployment(object: &Node) -> ErrorList {
    with_metadata(object, deployment_spec)
}

/// A changed Deployment.
pub fn deployment_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |spec, errs| {
        deployment_spec(spec, errs);
        immutable(&spec.at("selector"), &old.at("spec").at("selector"), errs);
    })
}

fn deployment_spec(spec: &Node, errs: &mut ErrorList) {
    rules::nonnegative(&spec.at("replicas"), errs);
    required_selector(spec, "deployment", errs);
    template_for_replicas(spec, "ReplicaSet", errs);
    deployment_strategy(&spec.at("strategy"), errs);
    rules::nonnegative_fields(spec, &["minReadySeconds", "revisionHistoryLimit"], errs);
    if let Some(deadline) = spec.at("progressDeadlineSeconds").opt() {
        rules::nonnegative(&deadline, errs);
        if deadline.i64() <= spec.at("minReadySeconds").i64() {
            errs.push(deadline.invalid("must be greater than minReadySeconds"));
        }
    }
}

fn deployment_strategy(strategy: &Node, errs: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").str() {
        "Recreate" => {
            if rolling.is_set() {
                errs.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
            }
        }
        "RollingUpdate" if !rolling.is_set() => {
            errs.push(rolling.required("this should be defaulted and never be nil"));
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            rules::positive_int_or_percent(&unavailable, errs);
            rules::positive_int_or_percent(&surge, errs);
            if rules::int_or_percent(&unavailable) == 0 && rules::int_or_percent(&surge) == 0 {
                errs.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            rules::at_most_100_percent(&unavailable, errs);
        }
        _ => {
            let supported = ["Recreate", "RollingUpdate"];
            let shown = internal::compact("DeploymentStrategy", &strategy.to_value());
            errs.push(Error::not_supported_internal(strategy.path(), &shown, &supported));
        }
    }
}

/// `selector` is there and says something.
fn required_selector(spec: &Node, kind: &str, errs: &mut ErrorList) {
    let selector = spec.at("selector");
    if !selector.is_set() {
        errs.push(selector.required(""));
        return;
    }
    labels::selector(&selector, errs);
    if labels::selector_is_empty(&selector) {
        errs.push(selector.invalid(format!("empty selector is invalid for {kind}")));
    }
}

fn selector_matches_template(spec: &Node, errs: &mut ErrorList) {
    let labels = spec.at("template").at("metadata").at("labels");
    if labels::matches(&spec.at("selector"), &labels) == Match::No {
        errs.push(labels.invalid("`selector` does not match template `labels`"));
    }
}

/// Pods of a set of replicas restart always and have no end.
fn template_for_replicas(spec: &Node, kind: &str, errs: &mut ErrorList) {
    if labels::matches(&spec.at("selector"), &spec.at("template").at("metadata").at("labels"))
        == Match::Malformed
    {
        errs.push(spec.at("selector").invalid("invalid label selector"));
        return;
    }
    selector_matches_template(spec, errs);
    pod::template(&spec.at("template"), errs);
    endless(spec, kind, errs);
}

/// The pods restart always, without a deadline.
pub fn endless(spec: &Node, kind: &str, errs: &mut ErrorList) {
    let pod = spec.at("template").at("spec");
    rules::one_of(&pod.at("restartPolicy"), &["Always"], errs);
    if let Some(deadline) = pod.at("activeDeadlineSeconds").opt() {
        errs.push(deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// Counts of a status are not negative, and none of some exceeds `replicas`.
fn counts(status: &Node, fields: &[&'static str], parts: &[&'static str], errs: &mut ErrorList) {
    rules::nonnegative_fields(status, fields, errs);
    for part in parts.iter().map(|part| status.at(part)) {
        if part.i64() > status.at("replicas").i64() {
            errs.push(part.invalid_i64("cannot be greater than status.replicas"));
        }
    }
}

fn available_are_ready(status: &Node, ready: &str, errs: &mut ErrorList) {
    let available = status.at("availableReplicas");
    if available.i64() > status.at("readyReplicas").i64() {
        errs.push(available.invalid_i64(format!("cannot be greater than {ready}")));
    }
}

fn collisions_only_grow(new: &Node, old: &Node, errs: &mut ErrorList) {
    let (now, before) = (new.at("status").at("collisionCount"), old.at("status").at("collisionCount"));
    if before.is_set() && (!now.is_set() || now.i64() < before.i64()) {
        errs.push(now.invalid_i64("cannot be decremented"));
    }
}

/// A changed status of a Deployment.
pub fn deployment_status_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |_, errs| {
        let fields = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        counts(&new.at("status"), &fields, &["updatedReplicas", "readyReplicas", "availableReplicas"], errs);
        available_are_ready(&new.at("status"), "readyReplicas", errs);
        collisions_only_grow(new, old, errs);
    })
}

/// ReplicaSet.
pub fn replica_set(object: &Node) -> ErrorList {
    with_metadata(object, replica_set_spec)
}

/// A changed ReplicaSet.
pub fn replica_set_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |spec, errs| {
        replica_set_spec(spec, errs);
        immutable(&spec.at("selector"), &old.at("spec").at("selector"), errs);
    })
}

fn replica_set_spec(spec: &Node, errs: &mut ErrorList) {
    rules::nonnegative_fields(spec, &["replicas", "minReadySeconds"], errs);
    required_selector(spec, "deployment", errs);
    template_for_replicas(spec, "ReplicaSet", errs);
}

/// A changed status of a ReplicaSet or ReplicationController.
pub fn replica_set_status_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |_, errs| {
        let fields = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ];
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        counts(&new.at("status"), &fields, &parts, errs);
        available_are_ready(&new.at("status"), "readyReplicas", errs);
    })
}

/// DaemonSet.
pub fn daemon_set(object: &Node) -> ErrorList {
    with_metadata(object, daemon_set_spec)
}

/// A changed DaemonSet.
pub fn daemon_set_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |spec, errs| {
        immutable(&spec.at("selector"), &old.at("spec").at("selector"), errs);
        daemon_set_spec(spec, errs);
    })
}

fn daemon_set_spec(spec: &Node, errs: &mut ErrorList) {
    let selector = spec.at("selector");
    labels::selector(&selector, errs);
    selector_matches_template(spec, errs);
    if selector.is_set() && labels::selector_is_empty(&selector) {
        errs.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    pod::template(&spec.at("template"), errs);
    endless(spec, "DaemonSet", errs);
    rules::nonnegative(&spec.at("minReadySeconds"), errs);
    let (strategy, rolling) = (spec.at("updateStrategy"), spec.at("updateStrategy").at("rollingUpdate"));
    match strategy.at("type").str() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errs.push(rolling.required("")),
        "RollingUpdate" => rolling_daemon_set(&rolling, errs),
        _ => {
            let supported = ["RollingUpdate", "OnDelete"];
            let shown = internal::compact("DaemonSetUpdateStrategy", &strategy.to_value());
            errs.push(Error::not_supported_internal(strategy.path(), &shown, &supported));
        }
    }
    rules::nonnegative(&spec.at("revisionHistoryLimit"), errs);
}

fn rolling_daemon_set(rolling: &Node, errs: &mut ErrorList) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    rules::positive_int_or_percent(&unavailable, errs);
    rules::positive_int_or_percent(&surge, errs);
    rules::at_most_100_percent(&unavailable, errs);
    rules::at_most_100_percent(&surge, errs);
    match (rules::int_or_percent(&unavailable) != 0, rules::int_or_percent(&surge) != 0) {
        (true, true) => errs.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
        (false, false) => errs.push(unavailable.required("cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

/// A changed status of a DaemonSet.
pub fn daemon_set_status_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |_, errs| {
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        rules::nonnegative_fields(&new.at("status"), &fields, errs);
        collisions_only_grow(new, old, errs);
    })
}

/// StatefulSet.
pub fn stateful_set(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_label, &mut errs);
    {
        let (spec, errs) = (&object.at("spec"), &mut errs);
        stateful_set_spec(
            spec,
            |spec, errs| {
                for claim in spec.at("volumeClaimTemplates").items() {
                    storage::claim_spec(&claim.at("spec"), errs);
                }
            },
            true,
            errs,
        );
    }
    errs
}

/// What of a StatefulSet's spec may change.
const STATEFUL_SET_MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

/// A changed StatefulSet.
pub fn stateful_set_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, |spec, errs| {
        stateful_set_spec(spec, |_, _| {}, false, errs);
        let fixed = |spec: &Node| {
            let mut spec = spec.to_value();
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|name, _| !STATEFUL_SET_MUTABLE.contains(&name.as_str()));
            }
            for claim in spec["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
                if let Some(claim) = claim.as_object_mut() {
                    claim.retain(|name, _| !["kind", "apiVersion"].contains(&name.as_str()));
                }
            }
            spec
        };
        if fixed(spec) != fixed(&old.at("spec")) {
            errs.push(spec.forbidden(
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
            ));
        }
    })
}

fn stateful_set_spec(
    spec: &Node,
    claims: impl FnOnce(&Node, &mut ErrorList),
    check_service_name: bool,
    errs: &mut ErrorList,
) {
    let management = spec.at("podManagementPolicy");
    match management.str() {
        "" => errs.push(management.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errs.push(management.invalid_str("must be 'OrderedReady' or 'Parallel'")),
    }
    stateful_set_strategy(&spec.at("updateStrategy"), errs);
    if let Some(retention) = spec.at("persistentVolumeClaimRetentionPolicy").opt() {
        rules::one_of(&retention.at("whenDeleted"), &["Retain", "Delete"], errs);
        rules::one_of(&retention.at("whenScaled"), &["Retain", "Delete"], errs);
    }
    claims(spec, errs);
    rules::nonnegative_fields(spec, &["replicas", "minReadySeconds"], errs);
    if let Some(ordinals) = spec.at("ordinals").opt() {
        rules::nonnegative(&ordinals.at("start"), errs);
    }
    if check_service_name && !spec.at("serviceName").is_empty() {
        rules::formatted(&spec.at("serviceName"), format::dns1123_label, errs);
    }
    required_selector(spec, "statefulset", errs);
    let template = stateful_template(spec);
    let template = Node::new(Some(&template), spec.at("template").path().clone());
    if labels::matches(&spec.at("selector"), &template.at("metadata").at("labels")) == Match::Malformed {
        errs.push(spec.at("selector").invalid(""));
    } else {
        selector_matches_template(spec, errs);
        pod::template(&template, errs);
        pod::template_metadata(&template, errs);
    }
    endless(spec, "StatefulSet", errs);
}

fn stateful_set_strategy(strategy: &Node, errs: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").str() {
        "" => errs.push(strategy.required("")),
        "OnDelete" => {
            if rolling.is_set() {
                errs.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
            }
        }
        "RollingUpdate" => {
            rules::nonnegative(&rolling.at("partition"), errs);
            if let Some(unavailable) = rolling.at("maxUnavailable").opt() {
                rules::positive_int_or_percent(&unavailable, errs);
                if rules::int_or_percent(&unavailable) == 0 {
                    errs.push(unavailable.invalid("cannot be 0"));
                }
                rules::at_most_100_percent(&unavailable, errs);
            }
        }
        _ => errs.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
}

/// The template as its pods will be: with the volumes of the claims, and names set per pod.
fn stateful_template(spec: &Node) -> Value {
    let mut template = spec.at("template").to_value();
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else { return template };
    pod.remove("subdomain");
    pod.remove("hostname");
    let mut claims: Vec<&str> =
        spec.at("volumeClaimTemplates").items().map(|c| c.at("metadata").at("name").str()).collect();
    let mut seen = std::collections::BTreeSet::new();
    claims.retain(|name| seen.insert(*name));
    if !claims.is_empty() {
        let volume =
            |name: &&str| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        let mut volumes: Vec<Value> = claims.iter().map(volume).collect();
        let own = pod.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes
            .extend(own.into_iter().filter(|v| v["name"].as_str().is_none_or(|name| !seen.contains(name))));
        pod.insert("volumes".to_owned(), volumes.into());
    }
    template
}

/// A changed status of a StatefulSet.
pub fn stateful_set_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    counts(&new.at("status"), &fields, &parts, &mut errs);
    available_are_ready(&new.at("status"), "status.readyReplicas", &mut errs);
    errs.extend(with_metadata_update(new, old, |_, errs| collisions_only_grow(new, old, errs)));
    errs
}

/// ControllerRevision.
pub fn controller_revision(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    rules::nonnegative(&object.at("revision"), &mut errs);
    let data = object.at("data");
    if !data.is_set() {
        errs.push(data.required("data is mandatory"));
    } else if data.object().is_none() {
        errs.push(data.required("data must be a valid JSON object"));
    }
    errs
}

/// A changed ControllerRevision: only its number changes.
pub fn controller_revision_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata::validate(&new.at("metadata"), format::name_is_subdomain, &mut errs);
    rules::nonnegative(&new.at("revision"), &mut errs);
    immutable(&new.at("data"), &old.at("data"), &mut errs);
    errs
}

/// ReplicationController.
pub fn replication_controller(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), long_name, &mut errs);
    replication_controller_spec(&object.at("spec"), &mut errs);
    errs
}

/// A changed ReplicationController.
pub fn replication_controller_update(new: &Node, old: &Node) -> ErrorList {
    with_metadata_update(new, old, replication_controller_spec)
}

/// As the declared format has it: names are measured in bytes, and what a name is generated from
/// counts only by what was generated.
fn long_name(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        return Vec::new();
    }
    let in_bytes = |text: String| text.replace("no more than 253 characters", "no more than 253 bytes");
    format::name_is_subdomain(name, false).into_iter().map(in_bytes).collect()
}

fn replication_controller_spec(spec: &Node, errs: &mut ErrorList) {
    rules::nonnegative(&spec.at("minReadySeconds"), errs);
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    if selector.is_empty() {
        errs.push(selector.required(""));
    }
    if spec.at("replicas").is_set() {
        rules::nonnegative(&spec.at("replicas"), errs);
    } else {
        errs.push(spec.at("replicas").required(""));
    }
    if !template.is_set() {
        errs.push(template.required(""));
        return;
    }
    let labels = template.at("metadata").at("labels");
    if selector.entries().any(|(key, value)| labels.key(key).opt_str() != value.opt_str()) {
        errs.push(labels.invalid("`selector` does not match template `labels`"));
    }
    pod::template(&template, errs);
    endless(spec, "ReplicationController", errs);
}

/// PodTemplate.
pub fn pod_template(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    pod::template(&object.at("template"), &mut errs);
    errs
}

/// A changed PodTemplate.
pub fn pod_template_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    pod::template(&new.at("template"), &mut errs);
    errs
}
