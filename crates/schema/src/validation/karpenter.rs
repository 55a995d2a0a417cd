//! The group `karpenter.sh`, with the rules of Karpenter's CRDs in the texts of a CRD's validation.

use super::{cron, format, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const OPERATORS: [&str; 8] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"];

/// NodePool.
pub fn node_pool(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    claim_spec(&spec.at("template").at("spec"), &mut errs);
    let weight = spec.at("weight");
    if let Some(n) = weight.opt_i64() {
        if n < 1 {
            errs.push(weight.invalid("should be greater than or equal to 1"));
        } else if n > 100 {
            errs.push(weight.invalid("should be less than or equal to 100"));
        }
    }
    spec.at("limits").entries().for_each(|(_, limit)| rules::nonnegative_quantity(&limit, &mut errs));
    let disruption = spec.at("disruption");
    if let Some(policy) = disruption.at("consolidationPolicy").opt() {
        rules::one_of(&policy, &["WhenEmpty", "WhenEmptyOrUnderutilized"], &mut errs);
    }
    duration(&disruption.at("consolidateAfter"), true, &mut errs);
    for budget in disruption.at("budgets").items() {
        let nodes = budget.at("nodes");
        let percent = nodes.str().strip_suffix('%');
        let number = percent.unwrap_or(nodes.str()).parse::<u32>();
        if !number.is_ok_and(|n| percent.is_none() || n <= 100) {
            let pattern = "^((100|[0-9]{1,2})%|[0-9]+)$";
            errs.push(nodes.invalid_str(format!("should match '{pattern}'")));
        }
        let schedule = budget.at("schedule");
        if schedule.is_set() != budget.at("duration").is_set() {
            errs.push(budget.invalid("'schedule' must be set with 'duration'"));
        }
        if let Some(Err(problem)) = schedule.opt_str().map(cron::check) {
            errs.push(schedule.invalid_str(problem));
        }
        duration(&budget.at("duration"), false, &mut errs);
    }
    errs
}

/// NodeClaim.
pub fn node_claim(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    claim_spec(&object.at("spec"), &mut errs);
    let requests = object.at("spec").at("resources").at("requests");
    requests.entries().for_each(|(_, request)| rules::nonnegative_quantity(&request, &mut errs));
    errs
}

/// A changed NodeClaim: an order cannot be changed.
pub fn node_claim_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs.extend(node_claim(new));
    if new.at("spec").value() != old.at("spec").value() {
        errs.push(new.at("spec").invalid("spec is immutable"));
    }
    errs
}

fn claim_spec(spec: &Node, errs: &mut ErrorList) {
    spec.at("requirements").items().for_each(|requirement| self::requirement(&requirement, errs));
    for taint in ["taints", "startupTaints"].iter().flat_map(|list| spec.at(list).items()) {
        rules::formatted(&taint.at("key"), format::label_key, errs);
        rules::required_one_of(&taint.at("effect"), &["NoSchedule", "PreferNoSchedule", "NoExecute"], errs);
    }
    duration(&spec.at("expireAfter"), true, errs);
    duration(&spec.at("terminationGracePeriod"), false, errs);
}

fn requirement(requirement: &Node, errs: &mut ErrorList) {
    let (key, operator, values) =
        (requirement.at("key"), requirement.at("operator"), requirement.at("values"));
    if rules::not_empty(&key, errs) {
        rules::formatted(&key, format::label_key, errs);
    }
    rules::one_of(&operator, &OPERATORS, errs);
    match operator.str() {
        "In" if values.is_empty() => {
            errs.push(requirement.invalid("requirements with operator 'In' must have a value defined"));
        }
        "Gt" | "Lt" | "Gte" | "Lte" => {
            let number = |value: &str| value.parse::<i64>().is_ok_and(|n| n >= 0);
            if values.len() != 1 || !number(values.strings()[0]) {
                errs.push(
                    requirement.invalid(
                        "requirements operator 'Gt' or 'Lt' must have a single positive integer value",
                    ),
                );
            }
        }
        _ => {}
    }
    for value in values.items() {
        rules::formatted(&value, format::label_value, errs);
    }
    let min = requirement.at("minValues");
    if let Some(n) = min.opt_i64() {
        if !(1..=50).contains(&n) {
            let bound = if n < 1 { "greater than or equal to 1" } else { "less than or equal to 50" };
            errs.push(min.invalid(format!("should be {bound}")));
        }
        if operator.str() == "In" && values.len() < usize::try_from(n).unwrap_or(0) {
            errs.push(requirement.invalid(
                "requirements with 'minValues' must have at least that many values specified in the 'values' field",
            ));
        }
    }
}

/// A Go duration of whole units, or `Never` where that makes sense.
fn duration(node: &Node, may_be_never: bool, errs: &mut ErrorList) {
    let Some(text) = node.opt_str() else { return };
    if (may_be_never && text == "Never") || (cron::is_duration(text) && !text.starts_with('-')) {
        return;
    }
    let pattern = if may_be_never { "^(([0-9]+(s|m|h))+|Never)$" } else { "^([0-9]+(s|m|h))+$" };
    errs.push(Error::invalid(node.path(), text, format!("should match '{pattern}'")));
}
