//! What admission does about nodes: TaintNodesByCondition, PodTopologyLabels and PodResizeValidator.

use api::resource_list::{self as lists, Half, PodOptions};
use serde_json::{Value, json};

use super::lookup::NODES;
use super::{Attributes, Operation};
use crate::object::meta_mut;
use crate::status::ApiError;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const OS: &str = "kubernetes.io/os";
/// Labels that pods get from their node.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Nothing runs on a node before it has said that it is ready.
pub(super) fn taint(attributes: &Attributes<'_>, node: &mut Value) {
    if attributes.operation != Operation::Create || !attributes.is("", "nodes") {
        return;
    }
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        node["spec"]["taints"] = taints.into();
    }
}

/// Bindings, and pods created on a node, get the node's zone and region as labels.
pub(super) fn label(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create || !attributes.is_resource("", "pods") {
        return;
    }
    let node = match attributes.subresource {
        "" => &object["spec"]["nodeName"],
        "binding" if object["target"]["kind"] == "Node" => &object["target"]["name"],
        _ => return,
    };
    let Some(node) = node.as_str().filter(|node| !node.is_empty()) else { return };
    let (Some(node), Some(kind)) = (NODES.cached(attributes.call, "", node), NODES.kind(attributes.call))
    else {
        return;
    };
    let labels = &node.selectable(&kind).labels;
    for key in TOPOLOGY {
        if let Some(value) = labels.get(key) {
            let own = meta_mut(object).entry("labels").or_insert(Value::Null);
            if !own.is_object() {
                *own = json!({});
            }
            own[key] = value.as_str().into();
        }
    }
}

/// A pod can only be resized on a Linux node, and within what that node has.
pub(super) fn check_resize(attributes: &Attributes<'_>, pod: &Value) -> Result<(), ApiError> {
    let Some(old) = attributes.old.filter(|_| attributes.subresource == "resize") else { return Ok(()) };
    if attributes.operation != Operation::Update || !attributes.is_resource("", "pods") {
        return Ok(());
    }
    let Some(name) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    if old["metadata"]["generation"] == pod["metadata"]["generation"] {
        return Ok(());
    }
    let shown = schema::gotext::quote(name);
    let Some(node) = NODES.cached(attributes.call, "", name) else {
        return Err(attributes.forbidden(pod, format!("node {shown} not found")));
    };
    let node = node.try_value()?;
    if let Some(os) = node["metadata"]["labels"][OS].as_str().filter(|os| *os != "linux") {
        let os = schema::gotext::quote(os);
        let why = format!("pod resize is only supported on linux nodes, node {shown} is {os}");
        return Err(attributes.forbidden(pod, why).cause("UnsupportedPlatform", "", ""));
    }
    let options = PodOptions { status: false, overhead: true, huge_pages: true };
    let requests = lists::of_pod(pod, Half::Requests, options);
    let allocatable = lists::read(&node["status"]["allocatable"]);
    let pair = |name: &str| {
        let of = |list: &lists::ResourceList| list.get(name).copied().unwrap_or_default();
        let (requested, there) = (of(&requests), of(&allocatable));
        (requested > there).then_some((requested, there))
    };
    let mut faults = Vec::new();
    if let Some((requested, there)) = pair("cpu") {
        faults.push(format!("cpu, requested: {}, allocatable: {}", requested.milli(), there.milli()));
    }
    if let Some((requested, there)) = pair("memory") {
        faults.push(format!("memory, requested: {}, allocatable: {}", requested.units(), there.units()));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", faults.join("; "));
    Err(attributes.forbidden(pod, why).cause("NodeCapacity", "", ""))
}
