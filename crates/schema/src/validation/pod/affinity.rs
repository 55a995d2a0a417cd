//! Affinity of pods to nodes and to one another.

use super::super::{format, labels, rules};
use super::spread::label_keys_and_mismatches;
use crate::cursor::Node;
use crate::field::ErrorList;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `affinity`.
pub fn validate(affinity: &Node, errs: &mut ErrorList) {
    let nodes = affinity.at("nodeAffinity");
    if let Some(required) = nodes.at(REQUIRED).opt() {
        node_selector(&required, true, errs);
    }
    for term in nodes.at(PREFERRED).items() {
        weight(&term, errs);
        node_selector_term(&term.at("preference"), false, errs);
    }
    for pods in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(pods);
        pods.at(REQUIRED).items().for_each(|term| pod_term(&term, errs));
        for term in pods.at(PREFERRED).items() {
            weight(&term, errs);
            pod_term(&term.at("podAffinityTerm"), errs);
        }
    }
}

fn weight(term: &Node, errs: &mut ErrorList) {
    if !(1..=100).contains(&term.at("weight").i64()) {
        errs.push(term.at("weight").invalid_i64("must be in the range 1-100"));
    }
}

/// A `NodeSelector`; `check_values` says whether values must be label values.
pub fn node_selector(selector: &Node, check_values: bool, errs: &mut ErrorList) {
    let terms = selector.at("nodeSelectorTerms");
    if terms.is_empty() {
        errs.push(terms.required("must have at least one node selector term"));
    }
    terms.items().for_each(|term| node_selector_term(&term, check_values, errs));
}

/// A `NodeSelectorTerm`.
pub fn node_selector_term(term: &Node, check_values: bool, errs: &mut ErrorList) {
    term.at("matchExpressions")
        .items()
        .for_each(|expression| label_requirement(&expression, check_values, errs));
    term.at("matchFields").items().for_each(|field| field_requirement(&field, errs));
}

fn label_requirement(requirement: &Node, check_values: bool, errs: &mut ErrorList) {
    let (operator, values) = (requirement.at("operator"), requirement.at("values"));
    match operator.str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                errs.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errs.push(values.forbidden(detail));
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                errs.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
        }
        _ => errs.push(operator.invalid_str("not a valid selector operator")),
    }
    labels::label_name(&requirement.at("key"), errs);
    if check_values {
        values.items().for_each(|value| rules::formatted(&value, format::label_value, errs));
    }
}

fn field_requirement(requirement: &Node, errs: &mut ErrorList) {
    let (key, operator, values) =
        (requirement.at("key"), requirement.at("operator"), requirement.at("values"));
    match operator.str() {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errs.push(values.required(detail));
            }
        }
        _ => errs.push(operator.invalid_str("not a valid selector operator")),
    }
    if key.str() == "metadata.name" {
        values.items().for_each(|value| rules::named(&value, format::name_is_subdomain, errs));
    } else {
        errs.push(key.invalid_str("not a valid field selector key"));
    }
}

fn pod_term(term: &Node, errs: &mut ErrorList) {
    labels::selector(&term.at("labelSelector"), errs);
    labels::selector(&term.at("namespaceSelector"), errs);
    for name in term.at("namespaces").items() {
        rules::formatted(&name.reported_at(term.at("namespace").path()), format::dns1123_label, errs);
    }
    label_keys_and_mismatches(term, errs);
    let key = term.at("topologyKey");
    if key.is_empty() {
        errs.push(key.required("can not be empty"));
    }
    labels::label_name(&key, errs);
}
