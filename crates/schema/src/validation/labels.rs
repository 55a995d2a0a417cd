//! Labels and label selectors.

use super::format;
use crate::cursor::Node;
use crate::field::ErrorList;

/// Keys and values of labels; errors are reported at the map.
pub fn labels(labels: &Node, errs: &mut ErrorList) {
    for (key, value) in labels.entries() {
        errs.extend(format::label_key(key).into_iter().map(|m| labels.invalid_as(key, m)));
        let value = value.str();
        errs.extend(format::label_value(value).into_iter().map(|m| labels.invalid_as(value, m)));
    }
}

/// The text is a label key.
pub fn label_name(name: &Node, errs: &mut ErrorList) {
    errs.extend(format::label_key(name.str()).into_iter().map(|m| name.invalid_str(m)));
}

/// A `LabelSelector`; an absent one is fine.
pub fn selector(selector: &Node, errs: &mut ErrorList) {
    labels(&selector.at("matchLabels"), errs);
    for expression in selector.at("matchExpressions").items() {
        requirement(&expression, errs);
    }
}

fn requirement(requirement: &Node, errs: &mut ErrorList) {
    let (operator, values) = (requirement.at("operator"), requirement.at("values"));
    match operator.str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errs.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errs.push(operator.invalid_str("not a valid selector operator")),
    }
    label_name(&requirement.at("key"), errs);
    for value in values.items() {
        errs.extend(format::label_value(value.str()).into_iter().map(|m| value.invalid_str(m)));
    }
}

/// Whether a selector selects everything: it is there, but says nothing.
pub fn selector_is_empty(selector: &Node) -> bool {
    selector.at("matchLabels").is_empty() && selector.at("matchExpressions").is_empty()
}

/// What a selector does with some labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The selector is empty: it says nothing.
    Everything,
    /// It selects the labels.
    Yes,
    /// It does not, or is absent.
    No,
    /// It is malformed.
    Malformed,
}

/// Whether a `LabelSelector` selects the labels; an absent one selects nothing.
pub fn matches(selector: &Node, labels: &Node) -> Match {
    if !selector.is_set() {
        return Match::No;
    }
    if selector_is_empty(selector) {
        return Match::Everything;
    }
    let mut errs = ErrorList::new();
    self::selector(selector, &mut errs);
    if !errs.is_empty() {
        return Match::Malformed;
    }
    let equal =
        selector.at("matchLabels").entries().all(|(key, value)| labels.key(key).opt_str() == value.opt_str());
    let all =
        equal && selector.at("matchExpressions").items().all(|requirement| satisfied(&requirement, labels));
    if all { Match::Yes } else { Match::No }
}

fn satisfied(requirement: &Node, labels: &Node) -> bool {
    let value = labels.key(requirement.at("key").str()).opt_str();
    let listed = || value.is_some_and(|value| requirement.at("values").strings().contains(&value));
    match requirement.at("operator").str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        _ => value.is_none(),
    }
}
