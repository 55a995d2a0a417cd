//! What a node may do: report itself and its pods, and read what its pods refer to.

use api::user::UserInfo;
use serde_json::Value;

use super::Attributes;

/// Gives access to the pods that are bound to a node.
pub trait NodePods: Send + Sync {
    /// All pods whose `spec.nodeName` is `node`.
    fn pods_on(&self, node: &str) -> Vec<Value>;
}

const READ: &[&str] = &["get", "list", "watch"];

/// `None` if the user is no node or the resource is not the node authorizer's business; else whether it
/// is allowed, or why not.
pub(super) fn authorize(
    user: &UserInfo,
    wanted: &Attributes<'_>,
    pods: Option<&dyn NodePods>,
) -> Option<Result<(), String>> {
    let node = user.name.strip_prefix("system:node:")?;
    if !user.is_in("system:nodes") {
        return None;
    }
    if !wanted.is_resource {
        return Some(Err(String::new()));
    }
    let verb_in = |verbs: &[&str]| verbs.contains(&wanted.verb);
    let allowed_if = |holds: bool| if holds { Ok(()) } else { Err(String::new()) };
    Some(match (wanted.group, wanted.resource, wanted.subresource) {
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") => referenced(node, wanted, pods),
        ("", "persistentvolumeclaims", "status") => referenced(node, wanted, pods),
        ("", "persistentvolumes", "") => allowed_if(wanted.verb == "get" && !wanted.name.is_empty()),
        ("", "serviceaccounts", "token") => service_account(node, wanted, pods),
        ("", "pods", "") => pod(node, wanted, pods),
        ("", "pods", "status") => allowed_if(verb_in(&["patch", "update", "get"])),
        ("", "pods", "eviction") => allowed_if(wanted.verb == "create"),
        ("", "nodes", "") => self_only(node, wanted, &["get", "list", "watch", "create", "patch", "update"]),
        ("", "nodes", "status") => allowed_if(verb_in(&["patch", "update"])),
        ("", "services", "") => allowed_if(verb_in(READ)),
        ("", "endpoints", "") => allowed_if(wanted.verb == "get"),
        ("" | "events.k8s.io", "events", "") => allowed_if(verb_in(&["create", "patch", "update"])),
        ("coordination.k8s.io", "leases", "") => lease(node, wanted),
        ("storage.k8s.io", "csinodes", "") => {
            self_only(node, wanted, &["create", "delete", "get", "patch", "update"])
        }
        ("storage.k8s.io", "csidrivers", "") | ("node.k8s.io", "runtimeclasses", "") => {
            allowed_if(verb_in(READ))
        }
        ("storage.k8s.io", "volumeattachments", "") => {
            allowed_if(wanted.verb == "get" && !wanted.name.is_empty())
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            allowed_if(verb_in(&["create", "get", "list", "watch"]))
        }
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            allowed_if(wanted.verb == "create")
        }
        ("metrics.kobune.dev", "nodeusages", "") => {
            self_only(node, wanted, &["create", "delete", "get", "patch", "update"])
        }
        _ => Err(String::new()),
    })
}

/// Objects that carry the node's own name.
fn self_only(node: &str, wanted: &Attributes<'_>, verbs: &[&str]) -> Result<(), String> {
    if !verbs.contains(&wanted.verb) {
        return Err(String::new());
    }
    // A node is created under a name that the path does not say: admission checks it.
    let named = if wanted.verb == "create" {
        wanted.name.is_empty() || wanted.name == node
    } else {
        wanted.name == node
    };
    if named || wanted.selected_node == node {
        return Ok(());
    }
    Err(format!(
        "node {node:?} cannot read {:?}, only its own {} object",
        wanted.name,
        kind_of(wanted.resource)
    ))
}

fn kind_of(resource: &str) -> &str {
    match resource {
        "nodes" => "Node",
        "csinodes" => "CSINode",
        _ => "NodeUsage",
    }
}

fn lease(node: &str, wanted: &Attributes<'_>) -> Result<(), String> {
    if !["get", "create", "update", "patch", "delete"].contains(&wanted.verb) {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if wanted.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if wanted.verb != "create" && wanted.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn pod(node: &str, wanted: &Attributes<'_>, pods: Option<&dyn NodePods>) -> Result<(), String> {
    match wanted.verb {
        "create" | "delete" => Ok(()),
        "list" | "watch" if wanted.selected_node == node => Ok(()),
        "list" | "watch" if wanted.name.is_empty() => {
            Err("can only list/watch pods with spec.nodeName field selector".to_owned())
        }
        "get" | "list" | "watch" => match wanted.name {
            "" => Err("No Object name found".to_owned()),
            name => related(node, pods, |pod| {
                pod["metadata"]["namespace"] == wanted.namespace && pod["metadata"]["name"] == name
            }),
        },
        _ => Err(String::new()),
    }
}

/// Single objects that pods on the node refer to.
fn referenced(node: &str, wanted: &Attributes<'_>, pods: Option<&dyn NodePods>) -> Result<(), String> {
    let verbs: &[&str] = match (wanted.resource, wanted.subresource) {
        (_, "status") => &["get", "patch", "update"],
        ("persistentvolumeclaims", _) => &["get"],
        _ => READ,
    };
    if !verbs.contains(&wanted.verb) {
        return Err("can only read resources of this type".to_owned());
    }
    if wanted.name.is_empty() {
        return Err("No Object name found".to_owned());
    }
    related(node, pods, |pod| pod["metadata"]["namespace"] == wanted.namespace && mentions(pod, wanted))
}

fn service_account(node: &str, wanted: &Attributes<'_>, pods: Option<&dyn NodePods>) -> Result<(), String> {
    if wanted.verb != "create" {
        return Err("can only create tokens for individual service accounts".to_owned());
    }
    related(node, pods, |pod| {
        pod["metadata"]["namespace"] == wanted.namespace && pod["spec"]["serviceAccountName"] == wanted.name
    })
}

fn related(node: &str, pods: Option<&dyn NodePods>, relates: impl Fn(&Value) -> bool) -> Result<(), String> {
    if pods.is_some_and(|pods| pods.pods_on(node).iter().any(relates)) {
        return Ok(());
    }
    Err(format!("no relationship found between node '{node}' and this object"))
}

/// Whether a pod refers to the secret, config map or claim.
fn mentions(pod: &Value, wanted: &Attributes<'_>) -> bool {
    let spec = &pod["spec"];
    if wanted.resource == "secrets" && names(&spec["imagePullSecrets"], "name", wanted.name) {
        return true;
    }
    let (volume, field) = match wanted.resource {
        "secrets" => ("secret", "secretName"),
        "configmaps" => ("configMap", "name"),
        _ => ("persistentVolumeClaim", "claimName"),
    };
    let in_volumes = items(&spec["volumes"]).any(|source| {
        source[volume][field] == wanted.name
            || items(&source["projected"]["sources"])
                .any(|projected| projected[volume]["name"] == wanted.name)
    });
    let (env_from, key_ref) = match wanted.resource {
        "secrets" => ("secretRef", "secretKeyRef"),
        "configmaps" => ("configMapRef", "configMapKeyRef"),
        _ => return in_volumes,
    };
    let containers = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| items(&spec[list]));
    let in_env = |container: &Value| {
        items(&container["envFrom"]).any(|from| from[env_from]["name"] == wanted.name)
            || items(&container["env"]).any(|env| env["valueFrom"][key_ref]["name"] == wanted.name)
    };
    in_volumes || containers.into_iter().any(in_env)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn names(list: &Value, field: &str, name: &str) -> bool {
    items(list).any(|item| item[field] == name)
}
