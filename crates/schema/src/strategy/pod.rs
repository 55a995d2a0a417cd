//! Preparing pods.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use serde_json::{Value, json};

use super::{app_armor, disabled, prepare};

/// A new pod is pending, knows its quality of service, and has its label keys resolved.
pub fn create(pod: &mut Value) {
    prepare::start_generation(pod);
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": null,
        }]);
    }
    pod["status"] = status;
    if let Some(spec) = pod.get_mut("spec") {
        disabled::pod_spec(spec, &Value::Null);
    }
    resolve_label_keys(pod);
    app_armor::apply_annotations(pod);
}

/// A changed pod: its status stays, its spec counts.
pub fn update(new: &mut Value, old: &Value) {
    if let Some(spec) = new.get_mut("spec") {
        disabled::pod_spec(spec, &old["spec"]);
    }
    prepare::update(new, old);
}

/// The status may not change deletion, owners or the quality of service.
pub fn status_update(new: &mut Value, old: &Value) {
    prepare::keep_all_but_status(new, old);
    if let Some(metadata) = new.get_mut("metadata") {
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("deletionTimestamp");
        }
        prepare::keep(metadata, &old["metadata"], "ownerReferences");
    }
    let Some(status) = new.get_mut("status").filter(|s| s.is_object()) else { return };
    for field in ["qosClass", "observedGeneration"] {
        if status[field].is_null() && !old["status"][field].is_null() {
            status[field] = old["status"][field].clone();
        }
    }
    keep_observed_generations(status, &old["status"]);
    disabled::pod_status(status, &old["status"]);
}

/// Through `ephemeralcontainers`, only ephemeral containers are added.
pub fn ephemeral_containers_update(new: &mut Value, old: &Value) {
    let wanted = new["spec"]["ephemeralContainers"].clone();
    prepare::keep(new, old, "spec");
    prepare::keep(new, old, "status");
    if wanted.is_null() {
        disabled::remove(&mut new["spec"], "ephemeralContainers");
    } else {
        new["spec"]["ephemeralContainers"] = wanted;
        disabled::pod_spec(&mut new["spec"], &old["spec"]);
    }
    keep_metadata_but_version(new, old);
    prepare::count_spec(new, old);
}

/// Through `resize`, only resources and resize policies of containers change. Containers that were
/// added, removed, renamed or moved are left for validation to find.
pub fn resize_update(new: &mut Value, old: &Value) {
    let count = |pod: &Value, list: &str| pod["spec"][list].as_array().map_or(0, Vec::len);
    if ["containers", "initContainers"].iter().any(|list| count(new, list) != count(old, list)) {
        return;
    }
    let wanted = new["spec"].clone();
    prepare::keep(new, old, "spec");
    prepare::keep(new, old, "status");
    for list in ["containers", "initContainers"] {
        let Some(wishes) = wanted[list].as_array() else { continue };
        let Some(containers) = new["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        if containers.iter().zip(wishes).any(|(container, wish)| container["name"] != wish["name"]) {
            containers.clone_from(wishes);
            continue;
        }
        for (container, wish) in containers.iter_mut().zip(wishes) {
            for field in ["resources", "resizePolicy"] {
                prepare::keep(container, wish, field);
            }
        }
    }
    if let (Some(spec), true) = (new.get_mut("spec"), wanted.is_object()) {
        prepare::keep(spec, &wanted, "resources");
    }
    keep_metadata_but_version(new, old);
    prepare::count_spec(new, old);
}

fn keep_metadata_but_version(new: &mut Value, old: &Value) {
    let version = new["metadata"]["resourceVersion"].clone();
    let managed = new["metadata"]["managedFields"].clone();
    prepare::keep(new, old, "metadata");
    for (field, value) in [("resourceVersion", version), ("managedFields", managed)] {
        if !value.is_null() {
            new["metadata"][field] = value;
        }
    }
}

/// Conditions that do not say which generation they observed keep what they said before.
fn keep_observed_generations(status: &mut Value, old: &Value) {
    let mut before: BTreeMap<&str, std::collections::VecDeque<&Value>> = BTreeMap::new();
    for condition in old["conditions"].as_array().into_iter().flatten() {
        before
            .entry(condition["type"].as_str().unwrap_or_default())
            .or_default()
            .push_back(&condition["observedGeneration"]);
    }
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let seen = before.get_mut(condition["type"].as_str().unwrap_or_default()).and_then(|g| g.pop_front());
        if let (Some(generation), None) =
            (seen.and_then(Value::as_i64), condition["observedGeneration"].as_i64())
        {
            condition["observedGeneration"] = generation.into();
        }
    }
}

/// Turns `matchLabelKeys` and `mismatchLabelKeys` into requirements with the pod's own values.
fn resolve_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|a| a.get_mut(affinity)) else { continue };
        for list in [
            "preferredDuringSchedulingIgnoredDuringExecution",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ] {
            for item in affinity.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let term =
                    if item.get("podAffinityTerm").is_some() { &mut item["podAffinityTerm"] } else { item };
                add_requirements(term, "matchLabelKeys", "In", &labels);
                add_requirements(term, "mismatchLabelKeys", "NotIn", &labels);
            }
        }
    }
    for constraint in
        spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut).into_iter().flatten()
    {
        add_requirements(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn add_requirements(term: &mut Value, keys: &str, operator: &str, labels: &Value) {
    let keys = term[keys].as_array().cloned().unwrap_or_default();
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(value) = labels.get(key) else { continue };
        let requirement = json!({"key": key, "operator": operator, "values": [value]});
        if let Some(list) = selector.entry("matchExpressions").or_insert_with(|| json!([])).as_array_mut() {
            list.push(requirement);
        }
    }
}

/// The quality of service: what is promised when memory runs out.
/// Source: `pkg/apis/core/v1/helper/qos`.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let lists: Vec<&Value> = if spec["resources"].is_object() {
        vec![&spec["resources"]]
    } else {
        let containers =
            ["containers", "initContainers"].into_iter().filter_map(|list| spec[list].as_array());
        containers.flatten().map(|container| &container["resources"]).collect()
    };
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut guaranteed = true;
    for resources in lists {
        add_compute(&mut requests, &resources["requests"]);
        // A pod-level list without any limits does not count against the guarantee by itself.
        let limited = add_compute(&mut limits, &resources["limits"]);
        guaranteed &= limited == 2;
    }
    match () {
        () if requests.is_empty() && limits.is_empty() => "BestEffort",
        () if guaranteed && requests == limits => "Guaranteed",
        () => "Burstable",
    }
}

/// Adds the CPU and memory that are more than zero; says how many of the two there were.
fn add_compute<'a>(sums: &mut BTreeMap<&'a str, Quantity>, list: &'a Value) -> usize {
    let mut found = 0;
    for (name, quantity) in list.as_object().into_iter().flatten() {
        let quantity = quantity.as_str().and_then(|q| Quantity::parse(q).ok()).unwrap_or(Quantity::ZERO);
        if ["cpu", "memory"].contains(&name.as_str()) && quantity > Quantity::ZERO {
            found += 1;
            let sum = sums.entry(name).or_insert(Quantity::ZERO);
            *sum = sum.plus(&quantity);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service() {
        let class =
            |resources: Value| qos_class(&json!({"spec": {"containers": [{"resources": resources}]}}));
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": both, "limits": both})), "Guaranteed");
        assert_eq!(class(json!({"requests": {"cpu": "0"}})), "BestEffort");
    }
}
