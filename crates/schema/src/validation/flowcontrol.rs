//! The group `flowcontrol.apiserver.k8s.io`.

use serde_json::{Value, json};

use super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// The last matching precedence there is.
const PRECEDENCE_MAX: i64 = 10000;
/// No more queues than this.
const QUEUES_MAX: i64 = 10_000_000;
/// How many bits of a hash there are to deal queues by.
const HASH_BITS: f64 = 60.0;
/// An annotation by which an older version keeps shares that are zero.
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

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
                json!({"Type": kind.str()}),
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
    let name = object.at("metadata").at("name").str();
    if mandatory_schema(name).is_some_and(|fixed| Some(&fixed) != spec.value()) {
        errs.push(spec.invalid(format!("spec of '{name}' must equal the fixed value")));
    }
    conditions(&object.at("status").at("conditions"), &mut errs);
    errs
}

/// A changed FlowSchema, by what it is now.
pub fn flow_schema_update(new: &Node, _old: &Node) -> ErrorList {
    flow_schema(new)
}

/// A changed status of a FlowSchema or PriorityLevelConfiguration.
pub fn status_update(new: &Node, _old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    conditions(&new.at("status").at("conditions"), &mut errs);
    errs
}

fn conditions(list: &Node, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for condition in list.items() {
        let kind = condition.at("type");
        if !seen.insert(kind.str()) {
            errs.push(Error::duplicate(kind.path(), kind.str()));
        }
        rules::not_empty(&kind, errs);
    }
}

/// The specs of the two schemas that must be there.
fn mandatory_schema(name: &str) -> Option<Value> {
    let everything = |groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
        json!([{
            "subjects": subjects,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "clusterScope": true, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }])
    };
    match name {
        "exempt" => Some(json!({
            "priorityLevelConfiguration": {"name": "exempt"},
            "matchingPrecedence": 1,
            "rules": everything(&["system:masters"]),
        })),
        "catch-all" => Some(json!({
            "priorityLevelConfiguration": {"name": "catch-all"},
            "matchingPrecedence": PRECEDENCE_MAX,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": everything(&["system:unauthenticated", "system:authenticated"]),
        })),
        _ => None,
    }
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
        } else if namespaces.strings().contains(&"*") {
            alone(&namespaces, "namespaces", errs);
        } else {
            for namespace in namespaces.items() {
                let wrong = format::name_is_label(namespace.str(), false).into_iter();
                errs.extend(wrong.map(|m| {
                    let intro = "each member of this list must be '*' or a DNS-1123 label; ";
                    namespace.invalid_str(format!("{intro}{m}"))
                }));
            }
        }
    }
    for rule in urls.items() {
        verbs(&rule, errs);
        let paths = rule.at("nonResourceURLs");
        if paths.is_empty() {
            errs.push(paths.required("nonResourceURLs must contain at least one value"));
        } else if paths.strings().contains(&"*") {
            alone(&paths, "non-resource URLs", errs);
        } else {
            let faults = paths.items().filter_map(|path| Some(path.invalid_str(path_fault(path.str())?)));
            errs.extend(faults);
        }
    }
}

/// What is wrong with the path of a non-resource rule.
fn path_fault(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("must not be empty"),
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if path.contains('*') && (path.matches('*').count() > 1 || !path.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

/// The kinds of subjects with their fields, in the order in which upstream looks at fields.
const SUBJECTS: [(&str, &str); 3] =
    [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn subject(subject: &Node, errs: &mut ErrorList) {
    let kind = subject.at("kind");
    let Some((own_kind, field)) = SUBJECTS.into_iter().find(|(name, _)| *name == kind.str()) else {
        errs.push(kind.not_supported(&["Group", "ServiceAccount", "User"]));
        return;
    };
    match subject.at(field).opt() {
        None => {
            let detail = format!("{field} is required when subject kind is '{own_kind}'");
            errs.push(subject.at(field).required(detail));
        }
        Some(account) if field == "serviceAccount" => service_account(&account, errs),
        Some(named) => {
            rules::not_empty(&named.at("name"), errs);
        }
    }
    for (kind, other) in SUBJECTS.into_iter().filter(|(kind, _)| *kind != own_kind) {
        if subject.at(other).is_set() {
            let detail = format!("{other} is forbidden when subject kind is not '{kind}'");
            errs.push(subject.at(other).forbidden(detail));
        }
    }
}

fn service_account(account: &Node, errs: &mut ErrorList) {
    let (name, namespace) = (account.at("name"), account.at("namespace"));
    if rules::not_empty(&name, errs) && name.str() != "*" {
        rules::named(&name, format::name_is_subdomain, errs);
    }
    if namespace.is_empty() {
        errs.push(namespace.required("must specify namespace for service account"));
    } else {
        rules::named(&namespace, format::name_is_label, errs);
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
        errs.push(Error::not_supported(verbs.path(), verbs.to_value(), &VERBS));
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
    let annotations = object.at("metadata").at("annotations");
    if annotations.key(ZERO_SHARES).is_set() {
        errs.push(annotations.forbidden(format!("annotation '{ZERO_SHARES}' is forbidden")));
    }
    let (spec, exempt_name) = (object.at("spec"), object.at("metadata").at("name").str() == "exempt");
    let (kind, exempt, limited) = (spec.at("type"), spec.at("exempt"), spec.at("limited"));
    if exempt_name != (kind.str() == "Exempt") {
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
    conditions(&object.at("status").at("conditions"), &mut errs);
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
    for field in [&length, &queues] {
        if field.i64() <= 0 {
            errs.push(field.invalid_i64("must be positive"));
        }
    }
    if queues.i64() > QUEUES_MAX {
        errs.push(queues.invalid_i64(format!("must not be greater than {QUEUES_MAX}")));
    }
    let (deck, size) = (queues.i64(), hand.i64());
    if size <= 0 {
        errs.push(hand.invalid_i64("must be positive"));
    } else if size > deck {
        errs.push(hand.invalid_i64(format!("should not be greater than queues ({deck})")));
    } else if ((deck as f64).log2() * size as f64).ceil() > HASH_BITS {
        errs.push(hand.invalid_i64(format!(
            "required entropy bits of deckSize {deck} and handSize {size} should not be greater than {HASH_BITS}"
        )));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subjects_are_of_one_kind_and_urls_well_formed() {
        let rules = json!([{
            "subjects": [{"kind": "User", "user": {"name": ""}, "group": {"name": "g"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["x"], "namespaces": ["A"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["", "x", "/a b", "/a//b", "/a*", "/a/*", "/"]}],
        }]);
        let object = json!({"metadata": {"name": "x"}, "spec": {"matchingPrecedence": 5,
            "priorityLevelConfiguration": {"name": "p"}, "rules": rules}});
        let errs = flow_schema(&Node::root(&object));
        let lines: Vec<String> = errs.iter().map(|e| e.to_string().chars().take(110).collect()).collect();
        expect_test::expect![[r#"
            spec.rules[0].subjects[0].user.name: Required value
            spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'
            spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DN
            spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "": must not be empty
            spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "x": must start with slash
            spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/a b": must not contain white-space
            spec.rules[0].nonResourceRules[0].nonResourceURLs[3]: Invalid value: "/a//b": must not contain double slash
            spec.rules[0].nonResourceRules[0].nonResourceURLs[4]: Invalid value: "/a*": wildcard can only do suffix matchi"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn queues_are_dealt_within_the_bits_of_a_hash() {
        let of = |queues: i64, hand: i64| {
            let queuing = json!({"queueLengthLimit": 1, "queues": queues, "handSize": hand});
            let mut errs = ErrorList::new();
            super::queuing(&Node::root(&queuing), &mut errs);
            errs.iter().map(|e| e.field.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(64, 8), Vec::<String>::new());
        assert_eq!(of(10_000_000, 8), ["handSize"]);
        assert_eq!(of(20_000_000, 1), ["queues"]);
        assert_eq!(of(4, 5), ["handSize"]);
    }
}
