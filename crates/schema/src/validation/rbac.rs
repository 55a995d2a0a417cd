//! The group `rbac.authorization.k8s.io`.

use super::{format, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

const GROUP: &str = "rbac.authorization.k8s.io";

fn name_is_path_segment(name: &str, _prefix: bool) -> Vec<String> {
    format::path_segment(name)
}

fn new_metadata(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), name_is_path_segment, &mut errs);
    errs
}

fn with_update(mut errs: ErrorList, new: &Node, old: &Node) -> ErrorList {
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs
}

/// Role.
pub fn role(object: &Node) -> ErrorList {
    let mut errs = new_metadata(object);
    object.at("rules").items().for_each(|rule| policy_rule(&rule, true, &mut errs));
    errs
}

/// A changed Role.
pub fn role_update(new: &Node, old: &Node) -> ErrorList {
    with_update(role(new), new, old)
}

/// ClusterRole.
pub fn cluster_role(object: &Node) -> ErrorList {
    let mut errs = new_metadata(object);
    object.at("rules").items().for_each(|rule| policy_rule(&rule, false, &mut errs));
    if let Some(aggregation) = object.at("aggregationRule").opt() {
        let selectors = aggregation.at("clusterRoleSelectors");
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errs.push(selectors.required(detail));
        }
        for selector in selectors.items() {
            let before = errs.len();
            labels::selector(&selector, &mut errs);
            if errs.len() != before {
                // Upstream shows the selector that it could not make.
                errs.push(selector.invalid_as(serde_json::Value::Null, "invalid label selector."));
            }
        }
    }
    errs
}

/// A changed ClusterRole.
pub fn cluster_role_update(new: &Node, old: &Node) -> ErrorList {
    with_update(cluster_role(new), new, old)
}

fn policy_rule(rule: &Node, namespaced: bool, errs: &mut ErrorList) {
    if rule.at("verbs").is_empty() {
        errs.push(rule.at("verbs").required("verbs must contain at least one value"));
    }
    let urls = rule.at("nonResourceURLs");
    if !urls.is_empty() {
        if namespaced {
            errs.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|list| !rule.at(list).is_empty()) {
            errs.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
        }
        return;
    }
    if rule.at("apiGroups").is_empty() {
        errs.push(rule.at("apiGroups").required("resource rules must supply at least one api group"));
    }
    if rule.at("resources").is_empty() {
        errs.push(rule.at("resources").required("resource rules must supply at least one resource"));
    }
}

/// RoleBinding.
pub fn role_binding(object: &Node) -> ErrorList {
    binding(object, &["Role", "ClusterRole"], true)
}

/// ClusterRoleBinding.
pub fn cluster_role_binding(object: &Node) -> ErrorList {
    binding(object, &["ClusterRole"], false)
}

fn binding(object: &Node, kinds: &[&str], namespaced: bool) -> ErrorList {
    let mut errs = new_metadata(object);
    let role = object.at("roleRef");
    rules::one_of(&role.at("apiGroup"), &[GROUP], &mut errs);
    rules::one_of(&role.at("kind"), kinds, &mut errs);
    if rules::not_empty(&role.at("name"), &mut errs) {
        rules::formatted(&role.at("name"), format::path_segment, &mut errs);
    }
    object.at("subjects").items().for_each(|subject| self::subject(&subject, namespaced, &mut errs));
    errs
}

fn subject(subject: &Node, namespaced: bool, errs: &mut ErrorList) {
    let (name, group) = (subject.at("name"), subject.at("apiGroup"));
    rules::not_empty(&name, errs);
    match subject.at("kind").str() {
        "ServiceAccount" => {
            if !name.is_empty() {
                rules::named(&name, format::name_is_subdomain, errs);
            }
            rules::one_of(&group, &[""], errs);
            if !namespaced {
                rules::not_empty(&subject.at("namespace"), errs);
            }
        }
        "User" | "Group" => rules::one_of(&group, &[GROUP], errs),
        _ => errs.push(subject.at("kind").not_supported(&["ServiceAccount", "User", "Group"])),
    }
}

fn binding_update(errs: ErrorList, new: &Node, old: &Node) -> ErrorList {
    let mut errs = with_update(errs, new, old);
    if new.at("roleRef").value() != old.at("roleRef").value() {
        errs.push(new.at("roleRef").invalid("cannot change roleRef"));
    }
    errs
}

/// A changed RoleBinding: its role stays.
pub fn role_binding_update(new: &Node, old: &Node) -> ErrorList {
    binding_update(role_binding(new), new, old)
}

/// A changed ClusterRoleBinding: its role stays.
pub fn cluster_role_binding_update(new: &Node, old: &Node) -> ErrorList {
    binding_update(cluster_role_binding(new), new, old)
}
