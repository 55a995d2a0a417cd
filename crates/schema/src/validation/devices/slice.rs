//! Slices of devices.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::pod::affinity::node_selector;
use super::super::{format, labels, metadata, resources, rules};
use super::{
    LIST_MAX, TAINT_EFFECTS, at_most, binding_conditions, driver_name, label, pool_name, qualified_name,
    unique,
};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const TAINTS_MAX: usize = 16;
const DEVICES_MAX: usize = 128;
/// If any of the devices has taints or consumes counters.
const ADVANCED_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const CONSUMED_SETS_MAX: usize = 2;
/// Counters of a set, attributes and capacities of a device.
const ENTRIES_MAX: usize = LIST_MAX;
const VALUE_MAX_BYTES: usize = 64;
const POLICY_VALUES_MAX: usize = 10;

/// ResourceSlice.
pub fn slice(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    slice_spec(&object.at("spec"), None, &mut errs);
    errs
}

/// A changed ResourceSlice.
pub fn slice_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    slice_spec(&new.at("spec"), Some(&old.at("spec")), &mut errs);
    errs
}

fn slice_spec(spec: &Node, old: Option<&Node>, errs: &mut ErrorList) {
    driver_name(&spec.at("driver"), errs);
    pool(&spec.at("pool"), errs);
    if let Some(old) = old {
        metadata::immutable(&spec.at("pool").at("name"), &old.at("pool").at("name"), errs);
        metadata::immutable(&spec.at("driver"), &old.at("driver"), errs);
        metadata::immutable(&spec.at("nodeName"), &old.at("nodeName"), errs);
    }
    place_slice(spec, errs);
    let (devices, counters) = (spec.at("devices"), spec.at("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        errs.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let advanced = devices
        .items()
        .any(|device| !device.at("taints").is_empty() || !device.at("consumesCounters").is_empty());
    if at_most(&devices, if advanced { ADVANCED_DEVICES_MAX } else { DEVICES_MAX }, errs) {
        let each = spec.at("perDeviceNodeSelection").bool();
        for device in devices.items() {
            let same_name = |known: &Node| known.at("name").str() == device.at("name").str();
            let before = old.and_then(|old| old.at("devices").items().find(same_name));
            self::device(&device, before.as_ref(), each, errs);
        }
        unique(&devices, |device| device.at("name").str(), errs);
    }
    if at_most(&counters, COUNTER_SETS_MAX, errs) {
        counters.items().for_each(|set| counter_set(&set, "name", errs));
        unique(&counters, |set| set.at("name").str(), errs);
    }
}

/// Exactly one of the fields says where all devices are.
fn place_slice(spec: &Node, errs: &mut ErrorList) {
    let mut set = Vec::new();
    let (name, selector) = (spec.at("nodeName"), spec.at("nodeSelector"));
    node_name(&name, "must be either unset or set to a non-empty string", &mut set, errs);
    if selector.is_set() {
        set.push("`nodeSelector`");
        node_selector(&selector, true, errs);
        let terms = selector.at("nodeSelectorTerms");
        if terms.len() != 1 {
            errs.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    only_true(&spec.at("allNodes"), "`allNodes`", &mut set, errs);
    only_true(&spec.at("perDeviceNodeSelection"), "`perDeviceNodeSelection`", &mut set, errs);
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errs.push(spec.required(one)),
        1 => {}
        _ => errs.push(
            spec.invalid_as(format!("{{{}}}", set.join(", ")), format!("{one}, but multiple fields are set")),
        ),
    }
}

fn node_name(name: &Node, if_empty: &str, set: &mut Vec<&'static str>, errs: &mut ErrorList) {
    match name.opt_str() {
        Some("") => errs.push(name.invalid_str(if_empty)),
        Some(_) => {
            set.push("`nodeName`");
            rules::named(name, format::name_is_subdomain, errs);
        }
        None => {}
    }
}

fn only_true(flag: &Node, shown: &'static str, set: &mut Vec<&'static str>, errs: &mut ErrorList) {
    match flag.opt_bool() {
        Some(true) => set.push(shown),
        Some(false) => errs.push(flag.invalid("must be either unset or set to true")),
        None => {}
    }
}

fn pool(pool: &Node, errs: &mut ErrorList) {
    pool_name(&pool.at("name"), errs);
    rules::positive(&pool.at("resourceSliceCount"), errs);
    let generation = pool.at("generation");
    if generation.i64() < 0 {
        errs.push(generation.invalid_i64("must be greater than or equal to zero"));
    }
}

fn device(device: &Node, before: Option<&Node>, placed: bool, errs: &mut ErrorList) {
    label(&device.at("name"), errs);
    let (attributes, capacity) = (device.at("attributes"), device.at("capacity"));
    let total = attributes.len() + capacity.len();
    if total > ENTRIES_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {ENTRIES_MAX}");
        errs.push(device.invalid_as(total, detail));
    }
    for (name, attribute) in attributes.entries() {
        qualified_name(name, &attributes, errs);
        self::attribute(&attribute, errs);
    }
    let shared = device.at("allowMultipleAllocations").bool();
    for (name, entry) in capacity.entries() {
        qualified_name(name, &capacity, errs);
        let policy = entry.at("requestPolicy");
        if policy.is_set() && shared {
            request_policy(&policy, &entry.at("value"), errs);
        } else if policy.is_set() {
            errs.push(policy.forbidden("allowMultipleAllocations must be true"));
        }
    }
    let taints = device.at("taints");
    let kept = before.is_some_and(|before| before.at("taints").value() == taints.value());
    if !kept && at_most(&taints, TAINTS_MAX, errs) {
        taints.items().for_each(|taint| self::taint(&taint, errs));
    }
    let consumed = device.at("consumesCounters");
    if at_most(&consumed, CONSUMED_SETS_MAX, errs) {
        consumed.items().for_each(|set| counter_set(&set, "counterSet", errs));
        unique(&consumed, |set| set.at("counterSet").str(), errs);
    }
    place_device(device, placed, errs);
    binding_conditions(device, errs);
    mappings(&device.at("nodeAllocatableResourceMappings"), &capacity, errs);
}

fn counter_set(set: &Node, name: &'static str, errs: &mut ErrorList) {
    if rules::not_empty(&set.at(name), errs) {
        label(&set.at(name), errs);
    }
    let counters = set.at("counters");
    if rules::not_empty(&counters, errs) && at_most(&counters, ENTRIES_MAX, errs) {
        for (name, _) in counters.entries() {
            errs.extend(format::dns1123_label(name).into_iter().map(|m| counters.invalid_as(name, m)));
        }
    }
}

fn place_device(device: &Node, placed: bool, errs: &mut ErrorList) {
    if !placed {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.at(field).is_set()) {
            errs.push(device.invalid_as(
                Value::Null,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                 true in the ResourceSlice spec",
            ));
        }
        return;
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
               `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let mut set = Vec::new();
    node_name(&device.at("nodeName"), "must not be empty", &mut set, errs);
    if let Some(selector) = device.at("nodeSelector").opt() {
        set.push("`nodeSelector`");
        node_selector(&selector, true, errs);
    }
    only_true(&device.at("allNodes"), "`allNodes`", &mut set, errs);
    match set.len() {
        0 => errs.push(device.required(one)),
        1 => {}
        _ => errs.push(device.invalid_as(format!("{{{}}}", set.join(", ")), one)),
    }
}

fn attribute(attribute: &Node, errs: &mut ErrorList) {
    let text = |value: &Node, errs: &mut ErrorList| {
        if value.len() > VALUE_MAX_BYTES {
            errs.push(value.too_long(VALUE_MAX_BYTES));
        }
    };
    let version = |value: &Node, errs: &mut ErrorList| {
        if !is_semver(value.str()) {
            errs.push(value.invalid_str("must be a string compatible with semver.org spec 2.0.0"));
        }
        text(value, errs);
    };
    text(&attribute.at("string"), errs);
    if let Some(value) = attribute.at("version").opt() {
        version(&value, errs);
    }
    for list in ["bools", "ints", "strings", "versions"] {
        let values = attribute.at(list);
        if values.is_set() && values.is_empty() {
            errs.push(values.invalid("must not be empty if specified"));
        }
        for value in values.items() {
            match list {
                "strings" => text(&value, errs),
                "versions" => version(&value, errs),
                _ => {}
            }
        }
    }
    let fields = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    match fields.iter().filter(|field| attribute.at(field).is_set()).count() {
        0 => errs.push(attribute.invalid_as("", "exactly one value must be specified")),
        1 => {}
        _ => errs.push(attribute.invalid("exactly one value must be specified")),
    }
}

/// A version by the grammar of semver.org, all of whose parts are there.
fn is_semver(version: &str) -> bool {
    let (rest, build) = version.split_once('+').map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, prerelease) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let identifier =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    core.split('.').count() == 3
        && core.split('.').all(number)
        && prerelease.is_none_or(|all| all.split('.').all(|p| identifier(p) && (!numeric(p) || number(p))))
        && build.is_none_or(|all| all.split('.').all(identifier))
}

/// What may be requested of a capacity that several share.
fn request_policy(policy: &Node, capacity: &Node, errs: &mut ErrorList) {
    let (default, values, range) = (policy.at("default"), policy.at("validValues"), policy.at("validRange"));
    match (values.is_empty(), range.is_set()) {
        (false, true) => errs.push(policy.forbidden(
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same \
             time",
        )),
        (false, false) if !default.is_set() => {
            errs.push(default.required("required when validValues is defined"));
        }
        (false, false) => policy_values(&values, &default, capacity, errs),
        (true, true) if !default.is_set() => {
            errs.push(default.required("required when validRange is defined"));
        }
        (true, true) => policy_range(&range, &default, capacity, errs),
        (true, false) => {}
    }
}

fn policy_values(values: &Node, default: &Node, capacity: &Node, errs: &mut ErrorList) {
    let (default, capacity) = (rules::quantity(default), rules::quantity(capacity));
    let items: Vec<Node> = values.items().collect();
    for pair in items.windows(2) {
        if rules::quantity(&pair[0]) > rules::quantity(&pair[1]) {
            let shown = rules::quantity(&pair[1]).to_string();
            errs.push(pair[1].invalid_as(shown, "values must be sorted in ascending order"));
        }
    }
    let mut found = false;
    if at_most(values, POLICY_VALUES_MAX, errs) {
        for value in &items {
            let quantity = rules::quantity(value);
            if quantity > capacity {
                let detail = format!("option is larger than capacity value: {capacity}");
                errs.push(value.invalid_as(quantity.to_string(), detail));
            }
            found |= quantity == default;
        }
        let mut seen = BTreeSet::new();
        for value in &items {
            let units = rules::quantity(value).units();
            if !seen.insert(units) {
                errs.push(Error::duplicate(value.path(), units.to_string()));
            }
        }
    }
    if !found {
        let detail = "default value is not valid according to the requestPolicy";
        errs.push(values.invalid_as(default.to_string(), detail));
    }
}

fn policy_range(range: &Node, default: &Node, capacity: &Node, errs: &mut ErrorList) {
    let (default, capacity) = (rules::quantity(default), rules::quantity(capacity));
    let (min, max, step) = (range.at("min"), range.at("max"), range.at("step"));
    if !min.is_set() {
        errs.push(min.required("required when validRange is defined"));
        return;
    }
    let least = rules::quantity(&min);
    if least > capacity {
        let detail = format!("min is larger than capacity value: {capacity}");
        errs.push(min.invalid_as(least.to_string(), detail));
    }
    if default < least {
        errs.push(min.invalid_as(default.to_string(), format!("default is less than min: {least}")));
    }
    let most = max.opt().map(|max| rules::quantity(&max));
    if let Some(most) = most {
        if least > most {
            errs.push(max.invalid_as(least.to_string(), format!("min is larger than max: {most}")));
        }
        if most > capacity {
            let detail = format!("max is larger than capacity value: {capacity}");
            errs.push(max.invalid_as(most.to_string(), detail));
        }
        if default > most {
            errs.push(max.invalid_as(default.to_string(), format!("default is more than max: {most}")));
        }
    }
    if !step.is_set() {
        return;
    }
    let size = rules::quantity(&step);
    let first = least.plus(&size);
    if first > capacity {
        let detail = format!("one step {first} is larger than capacity value: {capacity}");
        errs.push(step.invalid_as(size.to_string(), detail));
    }
    for value in std::iter::once(default).chain(most) {
        let distance = value.units().wrapping_sub(least.units());
        // Upstream divides by a step of zero and drops the connection.
        if distance.checked_rem(size.units()) != Some(0) {
            let detail = format!("value is not a multiple of a given step ({size}) from ({least})");
            errs.push(step.invalid_as(value.to_string(), detail));
        }
    }
}

fn taint(taint: &Node, errs: &mut ErrorList) {
    labels::label_name(&taint.at("key"), errs);
    if !taint.at("value").is_empty() {
        rules::formatted(&taint.at("value"), format::label_value, errs);
    }
    rules::required_one_of(&taint.at("effect"), &TAINT_EFFECTS, errs);
}

/// Which resources of a node a device stands for.
fn mappings(mappings: &Node, capacity: &Node, errs: &mut ErrorList) {
    for (name, mapping) in mappings.entries() {
        if !resources::is_native(name) {
            errs.push(mapping.invalid_as(name, "must be a node allocatable resource name"));
        }
        let (key, multiplier) = (mapping.at("capacityKey"), mapping.at("allocationMultiplier"));
        if !key.is_set() && !multiplier.is_set() {
            let detail = "at least one of allocationMultiplier or capacityKey must be set";
            errs.push(mapping.invalid_as("", detail));
            continue;
        }
        let quantity = rules::quantity(&multiplier);
        if multiplier.is_set() && (quantity.is_zero() || quantity.is_negative()) {
            errs.push(multiplier.invalid_as(quantity.to_string(), "must be positive"));
        }
        match key.opt_str() {
            Some("") => errs.push(key.invalid_str("capacityKey must not be an empty string")),
            Some(wanted) if !capacity.key(wanted).is_set() => errs.push(key.not_found()),
            _ => {}
        }
    }
}
