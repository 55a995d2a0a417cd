//! The group `resource.k8s.io`: claims, classes and slices of devices.

mod allocation;
mod claim;
mod selector;
mod slice;

use std::collections::BTreeSet;

use super::{format, labels, rules, volume_sources};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

pub use allocation::claim_status_update;
pub use claim::{claim, claim_template, claim_template_update, claim_update, class, class_update};
pub use slice::{slice, slice_update};

/// How many items most lists may have.
const LIST_MAX: usize = 32;
const NAME_MAX_BYTES: usize = 32;
const POOL_NAME_MAX_BYTES: usize = 253;
const RAW_MAX_BYTES: usize = 10 * 1024;
/// How many conditions a binding may wait for, or fail by.
const BINDING_CONDITIONS_MAX: usize = 4;
const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Whether there are no more items than may be; if there are, the items are not looked at.
fn at_most(list: &Node, max: usize, errs: &mut ErrorList) -> bool {
    if list.len() > max {
        errs.push(list.too_many(max));
    }
    list.len() <= max
}

/// Each item's key appears once.
fn unique<'a>(list: &Node<'a>, key: impl Fn(&Node<'a>) -> &'a str, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        if !seen.insert(key(&item)) {
            errs.push(Error::duplicate(item.path(), key(&item)));
        }
    }
}

/// A name that is a DNS label; unlike most names, an empty one is badly formed and not missing.
fn label(name: &Node, errs: &mut ErrorList) {
    rules::formatted(name, format::dns1123_label, errs);
}

fn driver_name(driver: &Node, errs: &mut ErrorList) {
    volume_sources::csi_driver_name(driver, errs);
}

fn pool_name(name: &Node, errs: &mut ErrorList) {
    if !rules::not_empty(name, errs) {
        return;
    }
    if name.len() > POOL_NAME_MAX_BYTES {
        errs.push(name.too_long(POOL_NAME_MAX_BYTES));
    }
    for part in name.str().split('/') {
        errs.extend(format::dns1123_subdomain(part).into_iter().map(|m| name.invalid_as(part, m)));
    }
}

/// Raw JSON that must be an object. What is stored already may be longer than what is new.
fn raw_object(raw: &Node, stored: bool, errs: &mut ErrorList) {
    match raw.value() {
        None => errs.push(raw.required("")),
        Some(value) if !stored && value.to_string().len() > RAW_MAX_BYTES => {
            errs.push(raw.too_long(RAW_MAX_BYTES));
        }
        Some(value) if !value.is_object() => {
            errs.push(raw.invalid_as("<value omitted>", "must be a valid JSON object"));
        }
        Some(_) => {}
    }
}

/// An identifier, in a domain if it is not the driver's own; reported where `at` is.
fn qualified_name(name: &str, at: &Node, errs: &mut ErrorList) {
    let (domain, identifier) = match name.split('/').collect::<Vec<_>>()[..] {
        [identifier] => (None, identifier),
        [domain, identifier] => (Some(domain), identifier),
        // As upstream, which overlooks names with more slashes.
        _ => return,
    };
    match domain {
        Some("") => errs.push(at.invalid_as("", "the domain must not be empty")),
        Some(domain) => {
            if domain.len() > 63 {
                errs.push(at.too_long(63));
            }
            let wrong = format::dns1123_subdomain(&domain.to_lowercase());
            errs.extend(wrong.into_iter().map(|m| at.invalid_as(domain, m)));
        }
        None => {}
    }
    if domain.is_some() && identifier.is_empty() {
        errs.push(at.invalid_as("", "the name must not be empty"));
        return;
    }
    if identifier.len() > NAME_MAX_BYTES {
        errs.push(at.too_long(NAME_MAX_BYTES));
    }
    errs.extend(format::c_identifier(identifier).into_iter().map(|m| at.invalid_as(identifier, m)));
}

/// What a binding waits for and fails by: either both or none, and nothing twice.
fn binding_conditions(holder: &Node, errs: &mut ErrorList) {
    let (waits, fails) = (holder.at("bindingConditions"), holder.at("bindingFailureConditions"));
    for list in [&waits, &fails] {
        if at_most(list, BINDING_CONDITIONS_MAX, errs) {
            list.items().for_each(|condition| labels::label_name(&condition, errs));
        }
    }
    rules::unique(waits.items(), errs);
    let known: BTreeSet<&str> = waits.strings().into_iter().collect();
    let mut seen = BTreeSet::new();
    for condition in fails.items() {
        if !seen.insert(condition.str()) {
            errs.push(condition.duplicate());
        }
        if known.contains(condition.str()) {
            let detail = "bindingFailureConditions must not overlap with bindingConditions";
            errs.push(condition.invalid(detail));
        }
    }
    if waits.is_empty() && !fails.is_empty() {
        errs.push(waits.invalid("bindingConditions are required to use bindingFailureConditions"));
    }
    if fails.is_empty() && !waits.is_empty() {
        errs.push(fails.invalid("bindingFailureConditions are required to use bindingConditions"));
    }
}
