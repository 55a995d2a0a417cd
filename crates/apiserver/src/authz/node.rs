//! What a node may do: report itself and its pods, and read what its pods refer to.
//!
//! After `k8s.io/kubernetes/plugin/pkg/auth/authorizer/node`, texts included. What a node may write
//! is narrowed down further by the NodeRestriction admission plugin.

use std::sync::LazyLock;

use api::user::UserInfo;
use serde::Deserialize;

use super::graph::{Graph, Vertex};
use super::{Attributes, Rule, bootstrap};

/// The rules of the role `system:node`, for everything that is not subdivided here.
static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let objects = bootstrap::objects();
    let role = objects.iter().find(|(resource, object)| {
        *resource == "clusterroles" && object["metadata"]["name"] == "system:node"
    });
    role.and_then(|(_, role)| Vec::deserialize(&role["rules"]).ok()).unwrap_or_default()
});

/// The node that a user is.
pub(super) fn node_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.is_in("system:nodes"))
}

/// `None` if the user is no node; else whether it is allowed, or why this authorizer does not allow it.
pub(super) fn authorize(
    user: &UserInfo,
    wanted: &Attributes<'_>,
    graph: &Graph,
) -> Option<Result<(), String>> {
    let name = node_of(user)?;
    if name.is_empty() {
        return Some(Err(format!("unknown node for user {:?}", user.name)));
    }
    let node = Node { name, wanted, graph };
    Some(if wanted.is_resource { node.resource() } else { node.by_rules() })
}

struct Node<'a> {
    name: &'a str,
    wanted: &'a Attributes<'a>,
    graph: &'a Graph,
}

fn refuse<T>(why: &str) -> Result<T, String> {
    Err(why.to_owned())
}

impl Node<'_> {
    fn resource(&self) -> Result<(), String> {
        let wanted = self.wanted;
        match (wanted.group, wanted.resource) {
            ("", "secrets") => self.read(Vertex::Secret),
            ("", "configmaps") => self.read(Vertex::ConfigMap),
            ("", "persistentvolumeclaims") if wanted.subresource == "status" => self.claim_status(),
            ("", "persistentvolumeclaims") => self.get(Vertex::Claim),
            ("", "persistentvolumes") => self.get(Vertex::Volume),
            ("resource.k8s.io", "resourceclaims") => self.get(Vertex::ResourceClaim),
            ("storage.k8s.io", "volumeattachments") => self.get(Vertex::Attachment),
            ("", "serviceaccounts") => self.service_account(),
            ("coordination.k8s.io", "leases") => self.lease(),
            ("storage.k8s.io", "csinodes") => self.csi_node(),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(),
            ("", "nodes") => self.node(),
            ("", "pods") => self.pod(),
            ("certificates.k8s.io", "podcertificaterequests") => refuse(""),
            ("metrics.kobune.dev", "nodeusages") => self.usage(),
            _ => self.by_rules(),
        }
    }

    fn by_rules(&self) -> Result<(), String> {
        if NODE_RULES.iter().any(|rule| rule.allows(self.wanted)) { Ok(()) } else { refuse("") }
    }

    fn is(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.wanted.verb)
    }

    /// The object that the path names, if a pod on the node leads to it.
    fn related(&self, vertex: Vertex) -> Result<(), String> {
        let wanted = self.wanted;
        if wanted.name.is_empty() {
            return refuse("No Object name found");
        }
        if self.graph.leads_to(self.name, vertex, wanted.namespace, wanted.name) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{}' and this object", self.name))
    }

    fn get(&self, vertex: Vertex) -> Result<(), String> {
        if self.wanted.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !self.wanted.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related(vertex)
    }

    fn read(&self, vertex: Vertex) -> Result<(), String> {
        if !self.is(&["get", "list", "watch"]) {
            return refuse("can only read resources of this type");
        }
        if !self.wanted.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if self.wanted.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(vertex)
    }

    fn claim_status(&self) -> Result<(), String> {
        if !self.is(&["update", "patch"]) {
            return refuse("can only get/update/patch this type");
        }
        self.related(Vertex::Claim)
    }

    fn service_account(&self) -> Result<(), String> {
        let wanted = self.wanted;
        if wanted.verb == "get" && wanted.subresource.is_empty() {
            return self.read(Vertex::ServiceAccount);
        }
        if wanted.verb != "create" || wanted.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if wanted.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related(Vertex::ServiceAccount)
    }

    fn lease(&self) -> Result<(), String> {
        if !self.is(&["get", "create", "update", "patch", "delete"]) {
            return refuse("can only get, create, update, patch, or delete a node lease");
        }
        if self.wanted.namespace != "kube-node-lease" {
            return refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        // The path of a create does not say the name: admission checks it.
        if self.wanted.verb != "create" && self.wanted.name != self.name {
            return refuse("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn csi_node(&self) -> Result<(), String> {
        if !self.is(&["get", "create", "update", "patch", "delete"]) {
            return refuse("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.wanted.subresource.is_empty() {
            return refuse("cannot authorize CSINode subresources");
        }
        if self.wanted.verb != "create" && self.wanted.name != self.name {
            return refuse("can only access CSINode with the same name as the requesting node");
        }
        Ok(())
    }

    fn resource_slice(&self) -> Result<(), String> {
        if !self.wanted.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match self.wanted.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(Vertex::Slice),
            "watch" | "list" | "deletecollection" if self.wanted.selected_node == self.name => Ok(()),
            "watch" | "list" | "deletecollection" => {
                refuse("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn node(&self) -> Result<(), String> {
        match (self.wanted.subresource, self.wanted.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match self.wanted.name {
                name if name == self.name => Ok(()),
                "" => Err(format!("node '{}' cannot read all nodes, only its own Node object", self.name)),
                name => Err(format!("node '{}' cannot read '{name}', only its own Node object", self.name)),
            },
            _ => refuse(""),
        }
    }

    fn pod(&self) -> Result<(), String> {
        match (self.wanted.subresource, self.wanted.verb) {
            ("", "get") => self.get(Vertex::Pod),
            ("", "list" | "watch") if self.wanted.selected_node == self.name => Ok(()),
            ("", "list" | "watch") if !self.wanted.name.is_empty() => self.related(Vertex::Pod),
            ("", "list" | "watch") => refuse("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => refuse(""),
        }
    }

    /// Our own kind: a node writes the usage that carries its name.
    fn usage(&self) -> Result<(), String> {
        if !self.is(&["create", "delete", "get", "patch", "update"]) {
            return refuse("");
        }
        let unnamed = self.wanted.verb == "create" && self.wanted.name.is_empty();
        if unnamed || self.wanted.name == self.name {
            return Ok(());
        }
        Err(format!("node '{}' cannot access '{}', only its own NodeUsage", self.name, self.wanted.name))
    }
}
