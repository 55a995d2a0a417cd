//! Preparing the kinds of `resource.k8s.io`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::prepare;

/// A new ResourceSlice.
pub fn slice_create(object: &mut Value) {
    prepare::start_generation(object);
    drop_disabled(object);
}

/// A changed ResourceSlice. As upstream, fields that are dropped have counted before.
pub fn slice_update(new: &mut Value, old: &Value) {
    prepare::count_spec(new, old);
    drop_disabled(new);
}

/// Fields of features that are off by default: DRANodeAllocatableResources and DRAListTypeAttributes.
fn drop_disabled(slice: &mut Value) {
    let devices = slice.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten().filter_map(Value::as_object_mut) {
        device.remove("nodeAllocatableResourceMappings");
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        let attributes = attributes.into_iter().flatten().map(|(_, attribute)| attribute);
        for attribute in attributes.filter_map(Value::as_object_mut) {
            for list in ["bools", "ints", "strings", "versions"] {
                attribute.remove(list);
            }
        }
    }
}

/// A changed status of a claim: what is said about a device goes with its allocation.
pub fn claim_status_update(new: &mut Value, old: &Value) {
    prepare::keep_all_but_status_and_metadata(new, old);
    let allocated = |claim: &Value| -> BTreeSet<[String; 4]> {
        let results = claim.pointer("/status/allocation/devices/results").and_then(Value::as_array);
        results.into_iter().flatten().map(device_id).collect()
    };
    let gone: BTreeSet<_> = allocated(old).difference(&allocated(new)).cloned().collect();
    let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|device| !gone.contains(&device_id(device)));
    if devices.is_empty() {
        status.remove("devices");
    }
}

/// Driver, pool, device and share.
fn device_id(of: &Value) -> [String; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| of[field].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_about_a_device_goes_with_its_allocation() {
        let status = |results: &[&str], devices: &[&str]| {
            let of = |names: &[&str]| -> Vec<Value> {
                names.iter().map(|name| json!({"driver": "d", "pool": "p", "device": name})).collect()
            };
            json!({"metadata": {}, "status": {
                "allocation": {"devices": {"results": of(results)}}, "devices": of(devices)}})
        };
        let old = status(&["a", "b"], &["a", "b"]);
        let mut new = status(&["b"], &["a", "b", "c"]);
        claim_status_update(&mut new, &old);
        // `c` was never allocated; validation says so.
        assert_eq!(new["status"]["devices"], status(&[], &["b", "c"])["status"]["devices"]);
        let mut new = status(&[], &["a"]);
        claim_status_update(&mut new, &old);
        assert_eq!(new["status"].get("devices"), None);
    }

    #[test]
    fn fields_of_features_that_are_off_are_dropped() {
        let mut slice = json!({"metadata": {}, "spec": {"devices": [{"name": "d",
            "attributes": {"a": {"ints": [1]}, "b": {"int": 1}}, "nodeAllocatableResourceMappings": {"cpu": {}}}]}});
        slice_create(&mut slice);
        let device = json!({"name": "d", "attributes": {"a": {}, "b": {"int": 1}}});
        assert_eq!(slice["spec"]["devices"][0], device);
    }
}
