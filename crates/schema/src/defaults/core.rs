//! Kinds of the core group other than Pod.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::fill::Fill;
use super::{pod, resources};

/// Client IP affinity holds for three hours.
const CLIENT_IP_AFFINITY_SECONDS: i64 = 10800;

/// ReplicationController: labels and selector come from the template.
pub fn replication_controller(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let spec = object.filled("spec");
    if labels.is_object() {
        fill_empty_map(spec, "selector", &labels);
    }
    spec.fill_nil("replicas", 1);
    if let Some(template) = spec.field("template") {
        pod::template(template);
    }
    if labels.is_object() {
        fill_empty_map(object.filled("metadata"), "labels", &labels);
    }
}

/// Sets a map that is absent or empty.
pub fn fill_empty_map(object: &mut Value, name: &str, map: &Value) {
    if object.get(name).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        object[name] = map.clone();
    }
}

/// PodTemplate.
pub fn pod_template(object: &mut Value) {
    pod::template(object.filled("template"));
}

/// Service.
pub fn service(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill("sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => {
            if let Some(spec) = spec.as_object_mut() {
                spec.remove("sessionAffinityConfig");
            }
        }
        "ClientIP" if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() => {
            spec["sessionAffinityConfig"] =
                json!({"clientIP": {"timeoutSeconds": CLIENT_IP_AFFINITY_SECONDS}});
        }
        _ => {}
    }
    spec.fill("type", "ClusterIP");
    for port in spec.items("ports") {
        port.fill("protocol", "TCP");
        let number = port["port"].clone();
        port.fill("targetPort", number);
    }
    let kind = spec.text("type").to_owned();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if kind == "NodePort" || kind == "LoadBalancer" || kind == "ClusterIP" && external_ips {
        spec.fill("externalTrafficPolicy", "Cluster");
    }
    if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind.as_str()) {
        spec.fill_nil("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.fill_nil("allocateLoadBalancerNodePorts", true);
        let balancer = object.field("status").and_then(|status| status.field("loadBalancer"));
        for ingress in balancer.into_iter().flat_map(|b| b.items("ingress")) {
            if !ingress.text("ip").is_empty() {
                ingress.fill_nil("ipMode", "VIP");
            }
        }
    }
}

/// Secret. Plain strings are a way to write data; they are never stored.
pub fn secret(object: &mut Value) {
    let plain = object.as_object_mut().and_then(|secret| secret.remove("stringData"));
    for (key, text) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        object.filled("data")[key] = json!(BASE64.encode(text.as_str().unwrap_or_default()));
    }
    object.fill("type", "Opaque");
}

/// Namespace: its name is also a label.
pub fn namespace(object: &mut Value) {
    let name = object["metadata"].text("name").to_owned();
    if !name.is_empty() {
        object.filled("metadata").filled("labels")["kubernetes.io/metadata.name"] = json!(name);
    }
    object.filled("status").fill("phase", "Active");
}

/// Node: all of it can be used unless somebody says otherwise.
pub fn node(object: &mut Value) {
    same_first(object.filled("spec"), "podCIDR", "podCIDRs", None);
    let status = object.filled("status");
    if status.lacks("allocatable") && !status.lacks("capacity") {
        status["allocatable"] = status["capacity"].clone();
    }
    resources::round_up(status.field("capacity"));
    resources::round_up(status.field("allocatable"));
}

/// A field from before there could be several, and its successor: the old one decides.
pub fn same_first(object: &mut Value, one: &str, several: &str, item_field: Option<&str>) {
    let first = match (object[several].get(0), item_field) {
        (Some(item), Some(field)) => item[field].clone(),
        (Some(item), None) => item.clone(),
        (None, _) => Value::Null,
    };
    let single = object.text(one).to_owned();
    if single.is_empty() {
        if !first.is_null() {
            object[one] = first;
        }
    } else if first != single.as_str() {
        object[several] = match item_field {
            Some(field) => json!([{ field: single }]),
            None => json!([single]),
        };
    }
}

/// PersistentVolume.
pub fn persistent_volume(object: &mut Value) {
    object.filled("status").fill("phase", "Pending");
    let spec = object.filled("spec");
    spec.fill("persistentVolumeReclaimPolicy", "Retain");
    spec.fill_nil("volumeMode", "Filesystem");
    pod::volume_source(spec);
    resources::round_up(spec.field("capacity"));
}

/// PersistentVolumeClaim, also as a template of StatefulSets.
pub fn persistent_volume_claim(object: &mut Value) {
    object.filled("status").fill("phase", "Pending");
    claim_spec(object.filled("spec"));
    let status = object.filled("status");
    resources::round_up(status.field("capacity"));
    resources::round_up(status.field("allocatedResources"));
}

/// The spec of a claim, wherever it is.
pub fn claim_spec(spec: &mut Value) {
    spec.fill_nil("volumeMode", "Filesystem");
    resources::round_up_requirements(spec.field("resources"));
}

/// Endpoints.
pub fn endpoints(object: &mut Value) {
    let ports = object.items("subsets").flat_map(|subset| subset.items("ports"));
    ports.for_each(|port| port.fill("protocol", "TCP"));
}

/// LimitRange: for containers, limits default to the maximum, requests to limits, then to the minimum.
pub fn limit_range(object: &mut Value) {
    for item in object.filled("spec").items("limits") {
        if item.text("type") == "Container" {
            inherit(item, "default", "max");
            inherit(item, "defaultRequest", "default");
            inherit(item, "defaultRequest", "min");
        }
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            resources::round_up(item.field(list));
        }
    }
}

fn inherit(item: &mut Value, to: &str, from: &str) {
    let Some(from) = item.get(from).and_then(Value::as_object).filter(|m| !m.is_empty()).cloned() else {
        return;
    };
    if let Some(to) = item.filled(to).as_object_mut() {
        for (name, quantity) in from {
            to.entry(name).or_insert(quantity);
        }
    }
}

/// ResourceQuota.
pub fn resource_quota(object: &mut Value) {
    resources::round_up(object.filled("spec").field("hard"));
    if let Some(status) = object.field("status") {
        resources::round_up(status.field("hard"));
        resources::round_up(status.field("used"));
    }
}
