//! Preparing Services: fields that make no sense any more after a change of type are dropped, if
//! the user did not touch them.

use serde_json::{Value, json};

use super::prepare;

/// A new Service: one cluster IP is also the first of several.
pub fn create(service: &mut Value) {
    prepare::clear_status(service);
    let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let first = spec["clusterIP"].clone();
    if !is_empty(&first) && is_empty(&spec["clusterIPs"]) {
        spec["clusterIPs"] = json!([first]);
    }
    drop_internal_policy(spec);
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

/// Upstream does not show it; what is no policy at all is for validation to refuse.
fn drop_internal_policy(spec: &mut Value) {
    let policy = spec["internalTrafficPolicy"].as_str();
    if spec["type"] == "ExternalName" && policy.is_some_and(|policy| ["Cluster", "Local"].contains(&policy)) {
        remove(spec, "internalTrafficPolicy");
    }
}

/// What was allocated stays when an update leaves it out, and the singular and plural of cluster
/// IPs say the same.
fn keep_allocated(is: &mut Value, was: &Value) {
    let balanced_locally =
        |spec: &Value| spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    let has_node_ports = |spec: &Value| {
        let draws = &spec["allocateLoadBalancerNodePorts"];
        spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" && (draws.is_null() || *draws == true)
    };
    if is["type"] != "ExternalName" && was["type"] != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if is_empty(&is[field]) && !is_empty(&was[field]) {
                is[field] = was[field].clone();
            }
        }
    }
    if has_node_ports(is) && has_node_ports(was) {
        let (before, now) = (node_ports(was), node_ports(is));
        let of = |name: &Value| {
            let mut ports = was["ports"].as_array().into_iter().flatten();
            ports.find(|port| port["name"] == *name).and_then(|port| port["nodePort"].as_i64())
        };
        for port in is["ports"].as_array_mut().into_iter().flatten() {
            let old = of(&port["name"]).filter(|old| !(before.contains(old) && now.contains(old)));
            if let (Some(old), 0) = (old, port["nodePort"].as_i64().unwrap_or(0)) {
                port["nodePort"] = old.into();
            }
        }
    }
    if balanced_locally(is) && balanced_locally(was) && is["healthCheckNodePort"].as_i64().unwrap_or(0) == 0 {
        prepare::keep(is, was, "healthCheckNodePort");
    }
    if is["clusterIP"] != was["clusterIP"] && is["clusterIPs"] == was["clusterIPs"] {
        if is_empty(&is["clusterIP"]) {
            remove(is, "clusterIPs");
        } else {
            is["clusterIPs"] = json!([is["clusterIP"]]);
        }
    }
}

/// The status stays; fields that only the old type needed go.
pub fn update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "status");
    let (was, is) = (old["spec"].clone(), &mut new["spec"]);
    if !is.is_object() {
        return;
    }
    keep_allocated(is, &was);
    drop_internal_policy(is);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_type_drops_what_only_the_old_type_needed() {
        let old = json!({"spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "nodePort": 30000}],
        }});
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        update(&mut new, &old);
        let expected = json!({"spec": {
            "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}],
        }});
        assert_eq!(new, expected);
    }
}
