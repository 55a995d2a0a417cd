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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(rule: fn(&Node) -> ErrorList, spec: Value, expected: Expect) {
        let object = json!({"metadata": {"name": "x", "namespace": "n"}, "spec": spec});
        let lines: Vec<String> = rule(&Node::root(&object)).iter().map(ToString::to_string).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn expressions_must_be_of_a_device_and_cheap() {
        let claim_with = |expressions: &[&str]| {
            let selectors: Vec<Value> =
                expressions.iter().map(|text| json!({"cel": {"expression": text}})).collect();
            let exactly = json!({"deviceClassName": "c", "allocationMode": "All", "selectors": selectors});
            json!({"devices": {"requests": [{"name": "r", "exactly": exactly}]}})
        };
        let expressions = [
            "device.attributes['a'].b",
            "device.attributes['a']",
            "device.foo == 1",
            "device.attributes['a'].b.all(x, x)",
            "type(device.driver) == string",
            "cel.bind(x, device.attributes['a'], x.b == 's')",
            "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, a + b + c == '')))",
        ];
        check(
            claim,
            claim_with(&expressions),
            expect![[r#"
                spec.devices.requests[0].exactly.selectors[1].cel.expression: Invalid value: "device.attributes['a']": must evaluate to bool or the unknown type, not map(string, google.protobuf.Any)
                spec.devices.requests[0].exactly.selectors[2].cel.expression: Invalid value: "device.foo == 1": compilation failed: ERROR: <input>:1:7: undefined field 'foo'
                 | device.foo == 1
                 | ......^
                spec.devices.requests[0].exactly.selectors[3].cel.expression: Invalid value: "device.attributes['a'].b.all(x, x)": compilation failed: ERROR: <input>:1:23: expression of type 'any' cannot be range of a comprehension (must be list, map, or dynamic)
                 | device.attributes['a'].b.all(x, x)
                 | ......................^
                spec.devices.requests[0].exactly.selectors[4].cel.expression: Forbidden: too complex, exceeds cost limit
                spec.devices.requests[0].exactly.selectors[6].cel.expression: Forbidden: too complex, exceeds cost limit"#]],
        );
    }

    #[test]
    fn shared_capacity_is_requested_by_a_policy_that_fits_it() {
        let policy = |policy: Value| json!({"value": "10", "requestPolicy": policy});
        let device = json!({"name": "d", "allowMultipleAllocations": true, "capacity": {
            "a": policy(json!({"default": "3", "validValues": ["2", "1", "1", "20"]})),
            "b": policy(json!({"default": "5", "validRange": {"min": "2", "max": "4", "step": "3"}})),
            "c": policy(json!({"validRange": {"min": "1"}})),
        }, "attributes": {"v": {"version": "1.0"}}, "bindingConditions": ["x"]});
        let spec = json!({"driver": "d.example.com", "pool": {"name": "p", "resourceSliceCount": 1},
            "allNodes": true, "devices": [device, {"name": "", "nodeName": "n",
            "capacity": {"d": policy(json!({}))}}]});
        check(
            slice,
            spec,
            expect![[r#"
                spec.devices[0].attributes[v].version: Invalid value: "1.0": must be a string compatible with semver.org spec 2.0.0
                spec.devices[0].capacity[a].requestPolicy.validValues[1]: Invalid value: "1": values must be sorted in ascending order
                spec.devices[0].capacity[a].requestPolicy.validValues[3]: Invalid value: "20": option is larger than capacity value: 10
                spec.devices[0].capacity[a].requestPolicy.validValues[2]: Duplicate value: "1"
                spec.devices[0].capacity[a].requestPolicy.validValues: Invalid value: "3": default value is not valid according to the requestPolicy
                spec.devices[0].capacity[b].requestPolicy.validRange.max: Invalid value: "5": default is more than max: 4
                spec.devices[0].capacity[b].requestPolicy.validRange.step: Invalid value: "4": value is not a multiple of a given step (3) from (2)
                spec.devices[0].capacity[c].requestPolicy.default: Required value: required when validRange is defined
                spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions
                spec.devices[1].name: Invalid value: "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.devices[1].capacity[d].requestPolicy: Forbidden: allowMultipleAllocations must be true
                spec.devices[1]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"#]],
        );
    }

    #[test]
    fn what_is_said_about_devices_is_about_allocated_ones() {
        let object = |status: Value| {
            json!({"metadata": {"name": "x", "namespace": "n"}, "status": status, "spec": {"devices": {
                "requests": [{"name": "r", "exactly": {}}]}}})
        };
        let device = json!({"driver": "d.io", "pool": "p", "device": "a", "shareID": "X",
            "networkData": {"ips": ["10.0.0.01/24", "x"]}});
        let result = json!({"request": "q", "driver": "d.io", "pool": "p", "device": "b"});
        let status = json!({"allocation": {"devices": {"results": [result]}}, "devices": [device, device]});
        let (new, old) = (object(status), object(json!({})));
        let errs = claim_status_update(&Node::root(&new), &Node::root(&old));
        let lines: Vec<String> =
            errs.iter().map(ToString::to_string).filter(|l| !l.contains("[1]")).collect();
        expect![[r#"
            status.devices[0].shareID: Invalid value: "X": error validating uid: invalid UUID length: 1
            status.devices[0]: Invalid value: {"Driver":"d.io","Pool":"p","Device":"a","ShareID":"X"}: must be an allocated device in the claim
            status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.01/24": must be in canonical form ("10.0.0.1/24")
            status.allocation.devices.results[0].request: Invalid value: "q": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"#]]
        .assert_eq(&lines.join("\n"));
    }
}
