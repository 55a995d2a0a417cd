//! PodDisruptionBudget.

use super::{conditions, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// PodDisruptionBudget. Upstream leaves metadata to the common rules.
pub fn pod_disruption_budget(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    let spec = object.at("spec");
    let bounds = [spec.at("minAvailable"), spec.at("maxUnavailable")];
    if bounds.iter().all(Node::is_set) {
        errs.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for bound in bounds.iter().filter(|bound| bound.is_set()) {
        rules::positive_int_or_percent(bound, &mut errs);
        rules::at_most_100_percent(bound, &mut errs);
    }
    labels::selector(&spec.at("selector"), &mut errs);
    if let Some(policy) = spec.at("unhealthyPodEvictionPolicy").opt() {
        rules::one_of(&policy, &["AlwaysAllow", "IfHealthyBudget"], &mut errs);
    }
    errs
}

/// A changed status.
pub fn pod_disruption_budget_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    conditions::validate(&new.at("status").at("conditions"), &mut errs);
    let fields = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    rules::nonnegative_fields(&new.at("status"), &fields, &mut errs);
    errs
}
