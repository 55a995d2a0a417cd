//! Namespaces and nodes.

use std::collections::BTreeSet;

use super::super::{format, internal, labels, metadata, pod, resources, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// Namespace.
pub fn namespace(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_label, &mut errs);
    let finalizers = object.at("spec").at("finalizers");
    finalizers.items().for_each(|f| finalizer(&f.reported_at(finalizers.path()), &mut errs));
    errs
}

fn finalizer(name: &Node, errs: &mut ErrorList) {
    rules::formatted(name, format::label_key, errs);
    metadata::known_finalizer(name, errs);
}

/// A changed Namespace.
pub fn namespace_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = namespace(new);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs
}

/// A changed status of a namespace: the phase follows the deletion.
pub fn namespace_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let deleted = new.at("metadata").at("deletionTimestamp").is_set();
    let phase = new.at("status").at("phase").reported_at(new.at("status").at("Phase").path());
    let (wanted, not) = if deleted { ("Terminating", "not ") } else { ("Active", "") };
    if phase.str() != wanted {
        errs.push(phase.invalid_str(format!("may only be '{wanted}' if `deletionTimestamp` is {not}empty")));
    }
    errs
}

/// Changed finalizers of a namespace.
pub fn namespace_finalize_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    new.at("spec").at("finalizers").items().for_each(|f| finalizer(&f, &mut errs));
    errs
}

/// Node.
pub fn node(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    taints(object, &mut errs);
    node_resources(object, &mut errs);
    declared_features(&object.at("status").at("declaredFeatures"), &mut errs);
    let blocks = object.at("spec").at("podCIDRs");
    blocks.items().for_each(|block| {
        rules::cidr(&block, &mut errs);
    });
    let v6 = blocks.items().filter(|block| block.str().contains(':')).count();
    if blocks.len() > 1 && (blocks.len() > 2 || v6 != 1) {
        errs.push(blocks.invalid("may specify no more than one CIDR for each IP family"));
    }
    errs
}

/// A changed Node.
pub fn node_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = node(new);
    errs.extend(node_status_update(new, old));
    errs
}

/// A changed status of a Node.
pub fn node_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    node_resources(new, &mut errs);
    declared_features(&new.at("status").at("declaredFeatures"), &mut errs);
    let mut addresses = BTreeSet::new();
    for address in new.at("status").at("addresses").items() {
        if !addresses.insert((address.at("type").str(), address.at("address").str())) {
            let shown = internal::compact("NodeAddress", &address.to_value());
            errs.push(Error::duplicate_internal(address.path(), &shown, ""));
        }
    }
    let (blocks, old_blocks) = (new.at("spec").at("podCIDRs"), old.at("spec").at("podCIDRs"));
    let fixed = "node updates may not change podCIDR except from \"\" to valid";
    if old_blocks.len() != blocks.len() && !old_blocks.is_empty() {
        errs.push(blocks.forbidden(fixed));
    } else {
        let changed =
            old_blocks.strings().iter().zip(blocks.strings()).filter(|(old, new)| *old != new).count();
        errs.extend((0..changed).map(|_| blocks.forbidden(fixed)));
    }
    let (provider, old_provider) = (new.at("spec").at("providerID"), old.at("spec").at("providerID"));
    if !old_provider.is_empty() && old_provider.str() != provider.str() {
        errs.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
    }
    taints(new, &mut errs);
    if new.at("spec").at("externalID").str() != old.at("spec").at("externalID").str() {
        errs.push(new.at("spec").at("externalID").forbidden("may not be updated"));
    }
    errs
}

/// What a kubelet says it can do: names like `MyFeature/part`, in order.
fn declared_features(list: &Node, errs: &mut ErrorList) {
    let mut before: Option<&str> = None;
    for feature in list.items() {
        let name = feature.str();
        match before.map(|before| before.cmp(name)) {
            Some(std::cmp::Ordering::Equal) => errs.push(feature.duplicate()),
            Some(std::cmp::Ordering::Greater) => {
                errs.push(feature.invalid_str("list must be sorted alphabetically"));
            }
            _ => {}
        }
        before = Some(name);
        let quoted = crate::field::quote(name);
        if name.len() > 253 {
            errs.push(
                feature.invalid_str(format!(
                    "invalid feature name {quoted}: must be no more than 253 characters"
                )),
            );
        } else if !is_feature_name(name) {
            errs.push(feature.invalid_str(format!(
                "invalid feature name {quoted}: must start with an UpperCamelCase segment, with subsequent \
                 segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only \
                 alphanumeric characters and slashes"
            )));
        }
    }
}

fn is_feature_name(name: &str) -> bool {
    let segment = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(segment)
}

fn taints(object: &Node, errs: &mut ErrorList) {
    // Upstream reports taints below metadata.
    let list = object.at("spec").at("taints").reported_at(object.at("metadata").at("taints").path());
    let mut seen = BTreeSet::new();
    for taint in list.items() {
        labels::label_name(&taint.at("key"), errs);
        let wrong = format::label_value(taint.at("value").str());
        if !wrong.is_empty() {
            errs.push(taint.at("value").invalid_str(wrong.join(";")));
        }
        if rules::not_empty(&taint.at("effect"), errs) {
            pod::taint_effect(&taint.at("effect"), errs);
        }
        if !seen.insert((taint.at("effect").str(), taint.at("key").str())) {
            let shown = internal::compact("Taint", &taint.to_value());
            let detail = "taints must be unique by key and effect pair";
            errs.push(Error::duplicate_internal(taint.path(), &shown, detail));
        }
    }
}

fn node_resources(object: &Node, errs: &mut ErrorList) {
    for list in ["capacity", "allocatable"] {
        let list = object.at("status").at(list);
        for (name, quantity) in list.entries() {
            resources::value(name, &quantity.reported_at(&list.path().child(name)), errs);
        }
    }
}
