//! Topology spread constraints, and the label keys that they share with affinity.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{labels, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// `topologySpreadConstraints`.
pub fn validate(list: &Node, errs: &mut ErrorList) {
    let pair = |c: &Node| (c.at("topologyKey").str().to_owned(), c.at("whenUnsatisfiable").str().to_owned());
    for (i, constraint) in list.items().enumerate() {
        rules::positive(&constraint.at("maxSkew"), errs);
        if constraint.at("topologyKey").is_empty() {
            errs.push(constraint.at("topologyKey").required("can not be empty"));
        }
        let action = constraint.at("whenUnsatisfiable");
        rules::one_of(&action, &["DoNotSchedule", "ScheduleAnyway"], errs);
        if list.items().skip(i + 1).any(|other| pair(&other) == pair(&constraint)) {
            let at = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            let (key, action) = pair(&constraint);
            errs.push(Error::duplicate(&at, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = constraint.at("minDomains").opt() {
            rules::positive(&domains, errs);
            if action.str() != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    action.str()
                );
                errs.push(domains.invalid(detail));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.at(policy).opt() {
                rules::one_of(&policy, &["Honor", "Ignore"], errs);
            }
        }
        label_keys_and_mismatches(&constraint, errs);
        labels::selector(&constraint.at("labelSelector"), errs);
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys`, which go with `labelSelector`.
pub fn label_keys_and_mismatches(term: &Node, errs: &mut ErrorList) {
    let selector = term.at("labelSelector");
    let (matching, mismatching) = (term.at("matchLabelKeys"), term.at("mismatchLabelKeys"));
    for keys in [&matching, &mismatching] {
        if keys.is_empty() {
            continue;
        }
        if !selector.is_set() {
            errs.push(keys.forbidden("must not be specified when labelSelector is not set"));
            continue;
        }
        keys.items().for_each(|key| labels::label_name(&key, errs));
    }
    let mut selected: BTreeSet<&str> = selector.at("matchLabels").entries().map(|(key, _)| key).collect();
    let places: BTreeMap<&str, usize> =
        matching.strings().into_iter().enumerate().map(|(place, key)| (key, place)).collect();
    for key in selector.at("matchExpressions").items().map(|expression| expression.at("key").str()) {
        if let (Some(i), true) = (places.get(key).copied(), selected.contains(key)) {
            let at = term.path().index(i);
            errs.push(Error::invalid(&at, key, "exists in both matchLabelKeys and labelSelector"));
        }
        selected.insert(key);
    }
    let mismatches: BTreeSet<&str> = mismatching.strings().into_iter().collect();
    for key in matching.items().filter(|key| mismatches.contains(key.str())) {
        errs.push(key.invalid_str("exists in both matchLabelKeys and mismatchLabelKeys"));
    }
}
