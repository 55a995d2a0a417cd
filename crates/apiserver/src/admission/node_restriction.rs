//! NodeRestriction: a kubelet changes its own node and the pods on it, and of those only what is its.

use serde_json::Value;

use super::{Attributes, Operation};
use crate::call::Call;
use crate::object::meta;
use crate::status::ApiError;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels below these domains are the administrators'…
const RESTRICTED: &[&str] = &["kubernetes.io", "k8s.io"];
/// …but for those that kubelets report themselves.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The node that the request comes from, if it comes from one.
fn node_of(call: &Call) -> Option<&str> {
    call.user.name.strip_prefix("system:node:").filter(|_| call.user.is_in("system:nodes"))
}

/// A kubelet gets tokens for the pods that run on it, and for nothing else.
pub(crate) fn check_token(call: &Call, bound: &Value) -> Result<(), ApiError> {
    let Some(node) = node_of(call) else { return Ok(()) };
    let refuse =
        |why: String| Err(ApiError::forbidden(&call.kind.group, &call.kind.plural, &call.info.name, why));
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
        return refuse("node requested token not bound to a pod".to_owned());
    }
    let uid = text("uid");
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid".to_owned());
    }
    let registry = call.server.registry();
    let pods = registry.resource("", "v1", "pods").ok_or_else(ApiError::no_such_path)?;
    let pod = call.server.cached(pods, &call.info.namespace, text("name"));
    let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", text("name")))?.try_value()?;
    if uid != meta(&pod, "uid") {
        return refuse(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return refuse("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    Ok(())
}

/// Refuses what a kubelet may not do although its role allows the verb.
pub(super) fn admit(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let (call, operation, old) = (attributes.call, attributes.operation, attributes.old);
    let Some(node) = node_of(call) else { return Ok(()) };
    let name = if call.info.name.is_empty() { meta(object, "name") } else { &call.info.name };
    let refuse = |why: String| Err(ApiError::forbidden(&call.kind.group, &call.kind.plural, name, why));
    match (call.kind.group.as_ref(), call.kind.plural.as_ref(), attributes.subresource) {
        ("", "nodes", _) if name != node => {
            refuse(format!("node {node:?} is not allowed to modify node {name:?}"))
        }
        // Labels can be changed together with the status.
        ("", "nodes", "" | "status") => match check_node(node, operation, object, old) {
            Some(why) => refuse(why),
            None => Ok(()),
        },
        ("", "pods", "eviction") => match check_pod(call, node, Operation::Delete, object) {
            Some(why) => refuse(why),
            None => Ok(()),
        },
        ("", "pods", "") => match check_pod(call, node, operation, object) {
            Some(why) => refuse(why),
            None => Ok(()),
        },
        ("", "pods", "status") => match old.and_then(|old| old["spec"]["nodeName"].as_str()) {
            Some(host) if host == node => Ok(()),
            _ => refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            )),
        },
        ("coordination.k8s.io", "leases", _) if call.info.namespace != "kube-node-lease" => {
            refuse("can only access leases in the \"kube-node-lease\" system namespace".to_owned())
        }
        ("coordination.k8s.io", "leases", _) if name != node => {
            refuse("can only access node lease with the same name as the requesting node".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_node(node: &str, operation: Operation, object: &Value, old: Option<&Value>) -> Option<String> {
    let labels = |object: Option<&Value>| {
        object.and_then(|object| object["metadata"]["labels"].as_object()).cloned().unwrap_or_default()
    };
    let (new, before) = (labels(Some(object)), labels(old));
    let mut changed: Vec<&str> = new
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .map(|(key, _)| key)
        .chain(before.keys().filter(|key| !new.contains_key(*key)))
        .map(String::as_str)
        .collect();
    changed.sort_unstable();
    if operation == Operation::Create {
        let forbidden: Vec<&str> = changed.into_iter().filter(|label| is_forbidden(label)).collect();
        return (!forbidden.is_empty()).then(|| {
            format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", "))
        });
    }
    let old = old?;
    if object["spec"]["taints"] != old["spec"]["taints"] {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    let forbidden: Vec<&str> = changed.into_iter().filter(|label| is_forbidden(label)).collect();
    (!forbidden.is_empty()).then(|| format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &str| {
        domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    };
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    if OWN_LABELS.contains(&label) || below("kubelet.kubernetes.io") || below("node.kubernetes.io") {
        return false;
    }
    RESTRICTED.iter().any(|parent| below(parent))
}

fn check_pod(call: &Call, node: &str, operation: Operation, pod: &Value) -> Option<String> {
    match operation {
        Operation::Create => {
            if pod["metadata"]["annotations"].get(MIRROR).is_none() {
                return Some(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if pod["spec"]["nodeName"] != node {
                return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
            }
            let owners = pod["metadata"]["ownerReferences"].as_array();
            let own = owners.is_some_and(|owners| {
                owners.len() == 1
                    && owners[0]["kind"] == "Node"
                    && owners[0]["apiVersion"] == "v1"
                    && owners[0]["name"] == node
            });
            (!own)
                .then(|| format!("node {node:?} can only create pods with an owner reference set to itself"))
        }
        Operation::Update => Some(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            "UPDATE"
        )),
        Operation::Delete => {
            let entry = call.server.cached(&call.kind, &call.info.namespace, &call.info.name)?;
            (entry.to_value()["spec"]["nodeName"] != node)
                .then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        Operation::Connect => None,
    }
}
