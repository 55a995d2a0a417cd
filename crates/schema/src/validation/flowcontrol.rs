//! The group `flowcontrol.apiserver.k8s.io`.

use super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const VERBS: [&str; 10] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch", "*"];
/// The last matching precedence there is.
const PRECEDENCE_MAX: i64 = 10000;
/// No more queues than this.
const QUEUES_MAX: i64 = 10_000_000;

/// FlowSchema.
pub fn flow_schema(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    let precedence = spec.at("matchingPrecedence");
    if precedence.i64() <= 0 {
        errs.push(precedence.invalid_i64("must be a positive value"));
    }
    if precedence.i64() > PRECEDENCE_MAX {
        errs.push(precedence.invalid_i64(format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence.i64() == 1 && object.at("metadata").at("name").str() != "exempt" {
        errs.push(precedence.invalid_i64("only the schema named 'exempt' may have matchingPrecedence 1"));
    }
    if let Some(method) = spec.at("distinguisherMethod").opt() {
        let kind = method.at("type");
        if !["ByNamespace", "ByUser"].contains(&kind.str()) {
            errs.push(Error::not_supported(
                kind.path(),
                serde_json::json!({"Type": kind.str()}),
                &["ByNamespace", "ByUser"],
            ));
        }
    }
    let level = spec.at("priorityLevelConfiguration").at("name");
    if level.is_empty() {
        errs.push(level.required("must reference a priority level"));
    } else {
        rules::named(&level, format::name_is_subdomain, &mut errs);
    }
    spec.at("rules").items().for_each(|rule| policy_rules(&rule, &mut errs));
    errs
}

/// A changed FlowSchema, by what it is now.
pub fn flow_schema_update(new: &Node, _old: &Node) -> ErrorList {
    flow_schema(new)
}

fn policy_rules(rule: &Node, errs: &mut ErrorList) {
    let subjects = rule.at("subjects");
    if subjects.is_empty() {
        errs.push(subjects.required("subjects must contain at least one value"));
    }
    subjects.items().for_each(|subject| self::subject(&subject, errs));
    let (resources, urls) = (rule.at("resourceRules"), rule.at("nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errs.push(rule.required(detail));
    }
    for rule in resources.items() {
        verbs(&rule, errs);
        wildcard_list(
            &rule.at("apiGroups"),
            "resource rules must supply at least one api group",
            "api groups",
            errs,
        );
        wildcard_list(
            &rule.at("resources"),
            "resource rules must supply at least one resource",
            "resources",
            errs,
        );
        let namespaces = rule.at("namespaces");
        if namespaces.is_empty() && !rule.at("clusterScope").bool() {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            errs.push(namespaces.required(detail));
        } else {
            alone(&namespaces, "namespaces", errs);
        }
    }
    for rule in urls.items() {
        verbs(&rule, errs);
        let paths = rule.at("nonResourceURLs");
        if paths.is_empty() {
            errs.push(paths.required("nonResourceURLs must contain at least one value"));
        } else if paths.strings().contains(&"*") && paths.len() > 1 {
            errs.push(paths.invalid("if '*' is present, must not specify other non-resource URLs"));
        }
        for path in paths.items().filter(|path| path.str() != "*") {
            if !path.str().starts_with('/') {
                errs.push(path.invalid_str("must start with slash"));
            }
        }
    }
}

fn subject(subject: &Node, errs: &mut ErrorList) {
    let kind = subject.at("kind");
    let (field, other_kind) = match kind.str() {
        "ServiceAccount" => ("serviceAccount", "ServiceAccount"),
        "User" => ("user", "User"),
        "Group" => ("group", "Group"),
        _ => {
            errs.push(kind.not_supported(&["Group", "ServiceAccount", "User"]));
            return;
        }
    };
    let Some(inner) = subject.at(field).opt() else {
        errs.push(
            subject.at(field).required(format!("{field} is required when subject kind is '{other_kind}'")),
        );
        return;
    };
    rules::not_empty(&inner.at("name"), errs);
    if field == "serviceAccount" {
        rules::not_empty(&inner.at("namespace"), errs);
    }
}

fn verbs(rule: &Node, errs: &mut ErrorList) {
    let verbs = rule.at("verbs");
    let list = verbs.strings();
    if list.is_empty() {
        errs.push(verbs.required("verbs must contain at least one value"));
    } else if list.contains(&"*") {
        alone(&verbs, "verbs", errs);
    } else if list.iter().any(|verb| !VERBS.contains(verb)) {
        let mut supported = VERBS.to_vec();
        supported.sort_unstable();
        errs.push(Error::not_supported(verbs.path(), verbs.to_value(), &supported));
    }
}

fn wildcard_list(list: &Node, needed: &str, what: &str, errs: &mut ErrorList) {
    if list.is_empty() {
        errs.push(list.required(needed));
    } else {
        alone(list, what, errs);
    }
}

/// A wildcard stands alone.
fn alone(list: &Node, what: &str, errs: &mut ErrorList) {
    if list.len() > 1 && list.strings().contains(&"*") {
        errs.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

/// PriorityLevelConfiguration.
pub fn priority_level(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let (spec, exempt_name) = (object.at("spec"), object.at("metadata").at("name").str() == "exempt");
    let (kind, exempt, limited) = (spec.at("type"), spec.at("exempt"), spec.at("limited"));
    if exempt_name != (kind.str() == "Exempt") && ["Exempt", "Limited"].contains(&kind.str()) {
        errs.push(kind.invalid_str("must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.str() {
        "Exempt" => {
            if limited.is_set() {
                errs.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(&exempt, &mut errs);
        }
        "Limited" => {
            if exempt.is_set() {
                errs.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_set() {
                limited_level(&limited, &mut errs);
            } else {
                errs.push(limited.required("must not be empty when type is Limited"));
            }
        }
        _ => errs.push(kind.not_supported(&["Exempt", "Limited"])),
    }
    mandatory_level(object.at("metadata").at("name").str(), &spec, &mut errs);
    errs
}

/// The two levels that must be there are what they are; only the shares of `exempt` may be set.
fn mandatory_level(name: &str, spec: &Node, errs: &mut ErrorList) {
    let (kind, limited) = (spec.at("type").str(), spec.at("limited"));
    match name {
        "exempt" if kind != "Exempt" || limited.is_set() => errs
            .push(spec.invalid("spec of 'exempt' except the 'spec.exempt' field must equal the fixed value")),
        "catch-all" => {
            let response = limited.at("limitResponse");
            let fixed = kind == "Limited"
                && !spec.at("exempt").is_set()
                && limited.at("nominalConcurrencyShares").i64() == 5
                && limited.at("lendablePercent").i64() == 0
                && !limited.at("borrowingLimitPercent").is_set()
                && response.at("type").str() == "Reject"
                && !response.at("queuing").is_set();
            if !fixed {
                errs.push(spec.invalid("spec of 'catch-all' must equal the fixed value"));
            }
        }
        _ => {}
    }
}

/// A changed PriorityLevelConfiguration, by what it is now.
pub fn priority_level_update(new: &Node, _old: &Node) -> ErrorList {
    priority_level(new)
}

fn shares(level: &Node, errs: &mut ErrorList) {
    if level.at("nominalConcurrencyShares").i64() < 0 {
        errs.push(level.at("nominalConcurrencyShares").invalid("must be a non-negative integer"));
    }
    rules::number(&level.at("lendablePercent"), |n| format::in_range(n, 0, 100), errs);
}

fn limited_level(limited: &Node, errs: &mut ErrorList) {
    if limited.at("nominalConcurrencyShares").i64() < 0 {
        errs.push(limited.at("nominalConcurrencyShares").invalid("must be a non-negative integer"));
    }
    let response = limited.at("limitResponse");
    let (kind, queuing) = (response.at("type"), response.at("queuing"));
    match kind.str() {
        "Reject" => {
            if queuing.is_set() {
                errs.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
            }
        }
        "Queue" if !queuing.is_set() => {
            errs.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => self::queuing(&queuing, errs),
        _ => errs.push(kind.not_supported(&["Queue", "Reject"])),
    }
    rules::number(&limited.at("lendablePercent"), |n| format::in_range(n, 0, 100), errs);
    if limited.at("borrowingLimitPercent").i64() < 0 {
        let percent = limited.at("borrowingLimitPercent");
        errs.push(percent.invalid("if specified, must be a non-negative integer"));
    }
}

fn queuing(queuing: &Node, errs: &mut ErrorList) {
    let (length, queues, hand) =
        (queuing.at("queueLengthLimit"), queuing.at("queues"), queuing.at("handSize"));
    for field in [&length, &queues, &hand] {
        if field.i64() <= 0 {
            errs.push(field.invalid_i64("must be positive"));
        }
    }
    if queues.i64() > QUEUES_MAX {
        errs.push(queues.invalid_i64(format!("must not be greater than {QUEUES_MAX}")));
    }
    if hand.i64() > queues.i64() {
        errs.push(hand.invalid_i64(format!("should not be greater than queues ({})", queues.i64())));
    }
}
