//! Fields behind feature gates that are off in 1.36: dropped from what is new, kept where they were
//! already in use.
//!
//! Source: `dropDisabledFields` of `pkg/api/pod` and of the strategies.

use serde_json::Value;

/// The kinds of sources of a projected volume that are off.
const PROJECTIONS: [&str; 2] = ["clusterTrustBundle", "podCertificate"];
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Drops what a pod's spec may not say; `old` is the spec that it replaces.
pub fn pod_spec(spec: &mut Value, old: &Value) {
    for kind in PROJECTIONS {
        if !projections(old).any(|source| source.get(kind).is_some()) {
            drop_projections(spec, kind);
        }
    }
    if old["schedulingGroup"].is_null() {
        remove(spec, "schedulingGroup");
    }
    if !containers(old).any(|container| !container["lifecycle"]["stopSignal"].is_null()) {
        drop_stop_signals(spec);
    }
}

/// Drops what the pod template at `pointer` may not say.
pub fn template(object: &mut Value, old: &Value, pointer: &str) {
    let old = old.pointer(pointer).unwrap_or(&Value::Null);
    if let Some(spec) = object.pointer_mut(pointer).and_then(|template| template.get_mut("spec")) {
        pod_spec(spec, &old["spec"]);
    }
}

/// Drops what a pod's status may not say.
pub fn pod_status(status: &mut Value, old: &Value) {
    if old["nodeAllocatableResourceClaimStatuses"].is_null() {
        remove(status, "nodeAllocatableResourceClaimStatuses");
    }
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let in_use = lists
        .iter()
        .flat_map(|list| items(&old[*list]))
        .any(|container| items(&container["volumeMounts"]).any(|mount| !mount["volumeStatus"].is_null()));
    if in_use {
        return;
    }
    for list in lists {
        for container in items_mut(status.get_mut(list)) {
            items_mut(container.get_mut("volumeMounts")).for_each(|mount| remove(mount, "volumeStatus"));
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn items_mut(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

fn projections(spec: &Value) -> impl Iterator<Item = &Value> {
    items(&spec["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]))
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.iter().flat_map(|list| items(&spec[*list]))
}

fn drop_projections(spec: &mut Value, kind: &str) {
    for volume in items_mut(spec.get_mut("volumes")) {
        let sources = volume.get_mut("projected").and_then(|projected| projected.get_mut("sources"));
        items_mut(sources).for_each(|source| remove(source, kind));
    }
}

/// A life cycle that says nothing else goes with the signal.
fn drop_stop_signals(spec: &mut Value) {
    for list in CONTAINERS {
        for container in items_mut(spec.get_mut(list)) {
            let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) else {
                continue;
            };
            if lifecycle.remove("stopSignal").is_some() && lifecycle.is_empty() {
                remove(container, "lifecycle");
            }
        }
    }
}

/// Removes a field, if there is one.
pub fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_off_is_dropped_unless_in_use() {
        let wanted = json!({
            "schedulingGroup": {"podGroupName": "g"},
            "containers": [
                {"lifecycle": {"stopSignal": "SIGTERM"}},
                {"lifecycle": {"stopSignal": "SIGTERM", "preStop": {}}},
            ],
            "volumes": [{"projected": {"sources": [{"podCertificate": {}}, {"secret": {}}]}}],
        });
        let mut spec = wanted.clone();
        pod_spec(&mut spec, &Value::Null);
        let left = json!({
            "containers": [{}, {"lifecycle": {"preStop": {}}}],
            "volumes": [{"projected": {"sources": [{}, {"secret": {}}]}}],
        });
        assert_eq!(spec, left);
        let mut spec = wanted.clone();
        pod_spec(&mut spec, &wanted);
        assert_eq!(spec, wanted);
    }
}
