//! Claims, their templates, and classes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{format, labels, metadata, resources, rules};
use super::{
    LIST_MAX, TAINT_EFFECTS, at_most, driver_name, label, qualified_name, raw_object, selector, unique,
};
use crate::cursor::Node;
use crate::field::ErrorList;

const FIRST_AVAILABLE_MAX: usize = 8;
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// ResourceClaim.
pub fn claim(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    claim_spec(&object.at("spec"), &mut errs);
    errs
}

/// A changed ResourceClaim: only metadata.
pub fn claim_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&new.at("metadata"), format::name_is_subdomain, &mut errs);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata::immutable(&new.at("spec"), &old.at("spec"), &mut errs);
    errs
}

/// ResourceClaimTemplate.
pub fn claim_template(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    metadata::template(&object.at("spec").at("metadata"), &mut errs);
    claim_spec(&object.at("spec").at("spec"), &mut errs);
    errs
}

/// A changed ResourceClaimTemplate: only metadata. As upstream, what it is now is checked as well.
pub fn claim_template_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = claim_template(new);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata::immutable(&new.at("spec"), &old.at("spec"), &mut errs);
    errs
}

/// The names of requests and, where there are alternatives, theirs.
pub(super) type Names<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The names of a claim's requests.
pub(super) fn request_names<'a>(devices: &Node<'a>) -> Names<'a> {
    let of = |request: &Node<'a>| {
        let alternatives = request.at("firstAvailable").items().map(|sub| sub.at("name").str()).collect();
        (request.at("name").str(), alternatives)
    };
    devices.at("requests").items().map(|request| of(&request)).collect()
}

fn claim_spec(spec: &Node, errs: &mut ErrorList) {
    let devices = spec.at("devices");
    let requests = devices.at("requests");
    let names = request_names(&devices);
    if at_most(&requests, LIST_MAX, errs) {
        requests.items().for_each(|request| device_request(&request, errs));
        unique(&requests, |request| request.at("name").str(), errs);
    }
    let constraints = devices.at("constraints");
    if at_most(&constraints, LIST_MAX, errs) {
        constraints.items().for_each(|constraint| self::constraint(&constraint, &names, errs));
    }
    let config = devices.at("config");
    if at_most(&config, LIST_MAX, errs) {
        for item in config.items() {
            references(&item.at("requests"), &names, errs);
            configuration(&item, false, errs);
        }
    }
}

fn device_request(request: &Node, errs: &mut ErrorList) {
    label(&request.at("name"), errs);
    let (exactly, first) = (request.at("exactly"), request.at("firstAvailable"));
    match (exactly.is_set(), !first.is_empty()) {
        (false, false) => {
            errs.push(request.required("exactly one of `exactly` or `firstAvailable` is required"));
        }
        (true, true) => errs.push(request.invalid_as(
            serde_json::Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (true, false) => exact_request(&exactly, errs),
        (false, true) if at_most(&first, FIRST_AVAILABLE_MAX, errs) => {
            for sub in first.items() {
                label(&sub.at("name"), errs);
                exact_request(&sub, errs);
            }
            unique(&first, |sub| sub.at("name").str(), errs);
        }
        (false, true) => {}
    }
}

fn exact_request(request: &Node, errs: &mut ErrorList) {
    let class = request.at("deviceClassName");
    if rules::not_empty(&class, errs) {
        rules::named(&class, format::name_is_subdomain, errs);
    }
    selector::selectors(&request.at("selectors"), errs);
    let (mode, count) = (request.at("allocationMode"), request.at("count"));
    match mode.str() {
        "All" if count.i64() != 0 => {
            errs.push(count.invalid_i64("must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" => rules::positive(&count, errs),
        "All" => {}
        _ => errs.push(mode.not_supported(&["All", "ExactCount"])),
    }
    request.at("tolerations").items().for_each(|toleration| self::toleration(&toleration, errs));
}

fn toleration(toleration: &Node, errs: &mut ErrorList) {
    let (key, value, operator) = (toleration.at("key"), toleration.at("value"), toleration.at("operator"));
    if !key.is_empty() {
        labels::label_name(&key, errs);
    }
    match operator.str() {
        "Exists" if !value.is_empty() => {
            errs.push(value.invalid_str("must be empty for operator `Exists`"));
        }
        "Equal" => rules::formatted(&value, format::label_value, errs),
        "Exists" => {}
        "" => errs.push(operator.required("")),
        _ => errs.push(operator.not_supported(&["Equal", "Exists"])),
    }
    let effect = toleration.at("effect");
    if !effect.is_empty() {
        rules::one_of(&effect, &TAINT_EFFECTS, errs);
    }
}

fn constraint(constraint: &Node, names: &Names, errs: &mut ErrorList) {
    references(&constraint.at("requests"), names, errs);
    let (same, distinct) = (constraint.at("matchAttribute"), constraint.at("distinctAttribute"));
    if same.is_set() {
        fully_qualified_name(&same, errs);
    } else if distinct.is_set() {
        fully_qualified_name(&distinct, errs);
    } else {
        errs.push(constraint.required(
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        ));
    }
}

fn fully_qualified_name(name: &Node, errs: &mut ErrorList) {
    qualified_name(name.str(), name, errs);
    if !name.str().contains('/') {
        errs.push(
            name.invalid_str("a fully qualified name must be a domain and a name separated by a slash"),
        );
    }
}

/// References to requests, each once.
pub(super) fn references(list: &Node, names: &Names, errs: &mut ErrorList) {
    if at_most(list, LIST_MAX, errs) {
        list.items().for_each(|reference| self::reference(&reference, names, errs));
        unique(list, |reference| reference.str(), errs);
    }
}

/// A reference to a request, or to one of its alternatives.
pub(super) fn reference(reference: &Node, names: &Names, errs: &mut ErrorList) {
    let parts: Vec<&str> = reference.str().split('/').collect();
    if parts.len() > 2 {
        errs.push(reference.invalid_str(REFERENCE));
        return;
    }
    for part in &parts {
        errs.extend(format::dns1123_label(part).into_iter().map(|m| reference.invalid_as(*part, m)));
    }
    let alternatives = parts.first().and_then(|name| names.get(name));
    let known = alternatives.is_some_and(|all| parts.get(1).is_none_or(|name| all.contains(name)));
    if !known {
        errs.push(reference.invalid_str(REFERENCE));
    }
}

/// What a driver is to be told.
pub(super) fn configuration(config: &Node, stored: bool, errs: &mut ErrorList) {
    let opaque = config.at("opaque");
    if !opaque.is_set() {
        errs.push(opaque.required(""));
        return;
    }
    driver_name(&opaque.at("driver"), errs);
    raw_object(&opaque.at("parameters"), stored, errs);
}

/// DeviceClass.
pub fn class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), class_name, &mut errs);
    class_spec(&object.at("spec"), None, &mut errs);
    errs
}

/// A changed DeviceClass.
pub fn class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&new.at("metadata"), class_name, &mut errs);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    class_spec(&new.at("spec"), Some(&old.at("spec")), &mut errs);
    errs
}

/// Upstream checks this name by a newer rule, which counts bytes and ends at the first fault.
fn class_name(name: &str, prefix: bool) -> Vec<String> {
    if name.len() > 253 {
        return vec!["must be no more than 253 bytes".to_owned()];
    }
    format::name_is_subdomain(name, prefix)
}

fn class_spec(spec: &Node, old: Option<&Node>, errs: &mut ErrorList) {
    // What has not changed is not compiled again, and may be longer than what is new.
    let stored = |list: &str| old.is_some_and(|old| old.at(list).value() == spec.at(list).value());
    if !stored("selectors") {
        selector::selectors(&spec.at("selectors"), errs);
    }
    let config = spec.at("config");
    if at_most(&config, LIST_MAX, errs) {
        config.items().for_each(|item| configuration(&item, stored("config"), errs));
    }
    let extended = spec.at("extendedResourceName");
    if extended.is_set() && !resources::is_extended(extended.str()) {
        errs.push(extended.invalid_str("must be a valid extended resource name"));
    }
}
