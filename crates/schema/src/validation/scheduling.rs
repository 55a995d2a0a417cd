//! PriorityClass and RuntimeClass.

use std::collections::BTreeSet;

use super::metadata::immutable;
use super::{format, labels, metadata, pod, resources, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// The highest priority that users may define.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
/// The classes of the system itself.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// PriorityClass.
pub fn priority_class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let (name, value) = (object.at("metadata").at("name"), object.at("value"));
    if name.str().starts_with("system-") {
        if let Some(problem) = system_class_problem(object) {
            errs.push(name.forbidden(format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
            )));
        }
    } else if value.i64() > HIGHEST_USER_PRIORITY {
        errs.push(value.forbidden(format!(
            "maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        )));
    }
    if let Some(policy) = object.at("preemptionPolicy").opt() {
        rules::required_one_of(&policy, &["PreemptLowerPriority", "Never"], &mut errs);
    }
    errs
}

fn system_class_problem(object: &Node) -> Option<String> {
    let name = object.at("metadata").at("name").str();
    let Some((_, value)) = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if object.at("value").i64() != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    let global = object.at("globalDefault").bool();
    global.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

/// A changed PriorityClass: its value and policy stay.
pub fn priority_class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    if new.at("value").i64() != old.at("value").i64() {
        errs.push(new.at("value").forbidden("may not be changed in an update."));
    }
    immutable(&new.at("preemptionPolicy"), &old.at("preemptionPolicy"), &mut errs);
    errs
}

/// RuntimeClass.
pub fn runtime_class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    // Upstream leaves out what is said of metadata by the older kinds only.
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    if rules::not_empty(&object.at("handler"), &mut errs) {
        rules::formatted(&object.at("handler"), format::dns1123_label, &mut errs);
    }
    if let Some(overhead) = object.at("overhead").opt() {
        resources::overhead(&overhead.at("podFixed").reported_at(overhead.path()), &mut errs);
    }
    let scheduling = object.at("scheduling");
    labels::labels(&scheduling.at("nodeSelector"), &mut errs);
    let tolerations = scheduling.at("tolerations");
    pod::tolerations(&tolerations, &mut errs);
    let mut seen = BTreeSet::new();
    for toleration in tolerations.items() {
        let parts = ["key", "operator", "value", "effect"].map(|part| toleration.at(part).str());
        if !seen.insert(parts) {
            let shown = super::internal::compact("Toleration", &toleration.to_value());
            errs.push(crate::field::Error::duplicate_internal(toleration.path(), &shown, ""));
        }
    }
    errs
}

/// A changed RuntimeClass: its handler stays.
pub fn runtime_class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = runtime_class(new);
    metadata::validate_update_common(&new.at("metadata"), &old.at("metadata"), &mut errs);
    if new.at("handler").str() != old.at("handler").str() {
        errs.push(new.at("handler").invalid_str("field is immutable"));
    }
    errs
}
