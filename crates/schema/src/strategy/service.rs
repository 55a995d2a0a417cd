//! Preparing Services: fields that make no sense any more after a change of type are dropped, if
//! the user did not touch them.

use serde_json::{Value, json};

use super::prepare;

/// The status stays; fields that only the old type needed go.
pub fn update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "status");
    let (was, is) = (old["spec"].clone(), &mut new["spec"]);
    if !is.is_object() {
        return;
    }
    let loses = |is: &Value, needs: fn(&Value) -> bool| needs(&was) && !needs(is);
    let same = |is: &Value, field: &str| is[field] == was[field];
    let kind = |spec: &Value| spec["type"].as_str().unwrap_or_default().to_owned();

    if loses(is, |spec| spec["type"] != "ExternalName") {
        if same(is, "clusterIP") && same(is, "clusterIPs") {
            remove(is, "clusterIP");
            remove(is, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(is, field) {
                remove(is, field);
            }
        }
    }
    if loses(is, |spec| spec["type"] == "NodePort" || spec["type"] == "LoadBalancer") {
        let old_ports = node_ports(&was);
        if node_ports(is).iter().all(|port| old_ports.contains(port)) {
            is["ports"].as_array_mut().into_iter().flatten().for_each(|port| remove(port, "nodePort"));
        }
    }
    let checks_health =
        |spec: &Value| spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    if loses(is, checks_health) && same(is, "healthCheckNodePort") {
        remove(is, "healthCheckNodePort");
    }
    if loses(is, |spec| spec["type"] == "LoadBalancer") {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(is, field) {
                remove(is, field);
            }
        }
    }
    if loses(is, externally_accessible) && same(is, "externalTrafficPolicy") {
        remove(is, "externalTrafficPolicy");
    }
    if kind(is) != "LoadBalancer" && new["status"].is_object() {
        new["status"]["loadBalancer"] = json!({});
    }
}

fn externally_accessible(spec: &Value) -> bool {
    let external_ips = spec["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty());
    matches!(spec["type"].as_str(), Some("LoadBalancer" | "NodePort"))
        || spec["type"] == "ClusterIP" && external_ips
}

fn node_ports(spec: &Value) -> Vec<i64> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| port["nodePort"].as_i64()).filter(|port| *port != 0).collect()
}

fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}
