//! NodeRestriction: a kubelet changes its own node and the pods on it, and of those only what is its.

use std::collections::BTreeSet;

use schema::gotext::quote;
use serde_json::Value;

use super::certificates::Subject;
use super::lookup::{CLAIMS, CSI_DRIVERS, NODES, PODS, VOLUMES};
use super::{Attributes, Operation, references};
use crate::authz;
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
/// Signers whose certificates are for the node that asks.
const NODE_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

/// Why a request is refused: in words, or as another error.
enum Refusal {
    Words(String),
    Error(ApiError),
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

type Checked = Result<(), Refusal>;

fn refuse(why: impl Into<String>) -> Checked {
    Err(Refusal::Words(why.into()))
}

/// The node that the request comes from, if it comes from one.
fn node_of(call: &Call) -> Option<&str> {
    call.user.name.strip_prefix("system:node:").filter(|_| call.user.is_in("system:nodes"))
}

/// Refuses what a kubelet may not do although its role allows the verb.
pub(super) fn admit(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let call = attributes.call;
    let Some(node) = node_of(call) else { return Ok(()) };
    if attributes.operation == Operation::Connect {
        return Ok(());
    }
    let request = Request { attributes, node, object };
    let checked = match (call.kind.group.as_ref(), call.kind.plural.as_ref(), attributes.subresource) {
        _ if node.is_empty() => {
            refuse(format!("could not determine node from user {}", quote(&call.user.name)))
        }
        ("", "pods", "") => request.pod(),
        ("", "pods", "status") => request.pod_status(),
        ("", "pods", "eviction") => request.eviction(),
        ("", "pods", subresource) => refuse(format!(
            "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
            quote(subresource)
        )),
        ("", "nodes", _) => request.node(),
        ("", "persistentvolumeclaims", "status") => request.claim_status(),
        ("", "persistentvolumeclaims", _) => refuse("may only update PVC status"),
        ("", "serviceaccounts", "token") => request.token(),
        ("coordination.k8s.io", "leases", _) => request.lease(),
        ("storage.k8s.io", "csinodes", _) if request.name() != node => {
            refuse("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices", _) => request.slice(),
        ("certificates.k8s.io", "certificatesigningrequests", _) => request.certificate(),
        _ => Ok(()),
    };
    checked.map_err(|refusal| match refusal {
        Refusal::Words(why) => attributes.forbidden(object, why),
        Refusal::Error(error) => error,
    })
}

/// A request of a node.
struct Request<'a> {
    attributes: &'a Attributes<'a>,
    node: &'a str,
    object: &'a Value,
}

impl Request<'_> {
    fn name(&self) -> &str {
        if self.attributes.operation == Operation::Create && self.attributes.call.info.name.is_empty() {
            return meta(self.object, "name");
        }
        self.attributes.name
    }

    /// The node's name, quoted.
    fn quoted(&self) -> String {
        quote(self.node)
    }

    /// A pod of the request's namespace, as it is stored.
    fn existing(&self, name: &str) -> Result<Value, Refusal> {
        let entry = PODS.cached(self.attributes.call, self.attributes.namespace, name);
        // Upstream's cache of pods names the resource in the singular.
        Ok(entry.ok_or_else(|| ApiError::not_found("", "pod", name))?.try_value()?)
    }

    fn pod(&self) -> Checked {
        let node = self.quoted();
        match self.attributes.operation {
            Operation::Create => self.new_pod(),
            Operation::Delete => {
                let pod = match self.attributes.old {
                    Some(old) => old.clone(),
                    None => self.existing(self.attributes.name)?,
                };
                if pod["spec"]["nodeName"] == self.node {
                    return Ok(());
                }
                refuse(format!("node {node} can only delete pods with spec.nodeName set to itself"))
            }
            operation => refuse(format!(
                "unexpected operation {}, node {node} can only create and delete mirror pods",
                quote(operation.name())
            )),
        }
    }

    /// Nodes create mirror pods: their own, on themselves, without access to anything else.
    fn new_pod(&self) -> Checked {
        let (pod, node) = (self.object, self.quoted());
        if pod["metadata"]["annotations"].get(MIRROR).is_none() {
            return refuse(format!(
                "pod does not have {} annotation, node {node} can only create mirror pods",
                quote(MIRROR)
            ));
        }
        let only = |what: &str| refuse(format!("node {node} can only create pods with {what} set to itself"));
        if pod["spec"]["nodeName"] != self.node {
            return only("spec.nodeName");
        }
        let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
        let owner = match owners {
            [] => return only("an owner reference"),
            [owner] => owner,
            _ => return only("a single owner reference"),
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != self.node {
            return only("an owner reference");
        }
        if owner["controller"] != true {
            return only("a controller owner reference");
        }
        if owner["blockOwnerDeletion"] == true {
            return refuse(format!("node {node} must not set blockOwnerDeletion on an owner reference"));
        }
        let stored = NODES.cached(self.attributes.call, "", self.node);
        let stored = stored.ok_or_else(|| ApiError::not_found("", "node", self.node))?.try_value()?;
        let (uid, real) = (owner["uid"].as_str().unwrap_or_default(), meta(&stored, "uid"));
        if uid != real {
            return refuse(format!("node {} UID mismatch: expected {uid} got {real}", self.node));
        }
        match references::of_pod(pod) {
            Some(resource) => refuse(format!("node {node} can not create pods that reference {resource}")),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Checked {
        let (Operation::Update, Some(old)) = (self.attributes.operation, self.attributes.old) else {
            return refuse(format!("unexpected operation {}", quote(self.attributes.operation.name())));
        };
        let (new, node) = (self.object, self.quoted());
        if old["spec"]["nodeName"] != self.node {
            return refuse(format!(
                "node {node} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        if !same_map(&old["metadata"]["labels"], &new["metadata"]["labels"]) {
            return refuse(format!("node {node} cannot update labels through pod status"));
        }
        let claims =
            |pod: &Value| pod["status"]["resourceClaimStatuses"].as_array().cloned().unwrap_or_default();
        if claims(old) != claims(new) {
            return refuse(format!("node {node} cannot update resource claim statues"));
        }
        let extended = |pod: &Value| pod["status"]["extendedResourceClaimStatus"].clone();
        if extended(old) != extended(new) {
            return refuse(format!("node {node} cannot update extended resource claim status"));
        }
        Ok(())
    }

    fn eviction(&self) -> Checked {
        if self.attributes.operation != Operation::Create {
            return refuse(format!("unexpected operation {}", self.attributes.operation.name()));
        }
        if self.existing(self.attributes.name)?["spec"]["nodeName"] == self.node {
            return Ok(());
        }
        refuse(format!("node {} can only evict pods with spec.nodeName set to itself", self.node))
    }

    fn node(&self) -> Checked {
        let (name, node) = (self.name(), self.quoted());
        if name != self.node {
            return refuse(format!("node {node} is not allowed to modify node {}", quote(name)));
        }
        let new = self.object;
        match (self.attributes.operation, self.attributes.old) {
            (Operation::Create, _) => {
                if new["spec"]["configSource"].is_object() {
                    return refuse(format!(
                        "node {node} is not allowed to create pods with a non-nil configSource"
                    ));
                }
                let forbidden = forbidden_labels(new, &Value::Null);
                if !forbidden.is_empty() {
                    return refuse(format!(
                        "node {node} is not allowed to set the following labels: {}",
                        forbidden.join(", ")
                    ));
                }
            }
            (Operation::Update, Some(old)) => {
                let source = |node: &Value| node["spec"]["configSource"].clone();
                if source(new).is_object() && source(new) != source(old) {
                    return refuse(format!(
                        "node {node} is not allowed to update configSource to a new non-nil configSource"
                    ));
                }
                let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
                if list(&new["spec"]["taints"]) != list(&old["spec"]["taints"]) {
                    return refuse(format!("node {node} is not allowed to modify taints"));
                }
                let owners = |node: &Value| list(&node["metadata"]["ownerReferences"]);
                if owners(new) != owners(old) {
                    return refuse(format!("node {node} is not allowed to modify ownerReferences"));
                }
                let forbidden = forbidden_labels(new, old);
                if !forbidden.is_empty() {
                    return refuse(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn claim_status(&self) -> Checked {
        let (Operation::Update, Some(old)) = (self.attributes.operation, self.attributes.old) else {
            return refuse(format!("unexpected operation {}", quote(self.attributes.operation.name())));
        };
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            for field in ["resourceVersion", "managedFields"] {
                claim["metadata"][field] = Value::Null;
            }
            for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                claim["status"][field] = Value::Null;
            }
            claim
        };
        if rest(old) == rest(self.object) {
            return Ok(());
        }
        refuse(format!(
            "node {} is not allowed to update fields other than status.quantity and status.conditions",
            self.quoted()
        ))
    }

    /// A kubelet gets tokens for the pods that run on it, and for nothing else.
    fn token(&self) -> Checked {
        if self.attributes.operation != Operation::Create {
            return Ok(());
        }
        let bound = &self.object["spec"]["boundObjectRef"];
        let text = |field: &str| bound[field].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        let uid = text("uid");
        if uid.is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.existing(text("name"))?;
        if uid != meta(&pod, "uid") {
            return refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if pod["spec"]["nodeName"] != self.node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(&pod)
    }

    /// The audience is one that the pod asks for, or one that the node has a right to.
    fn audience(&self, pod: &Value) -> Checked {
        let audiences = self.object["spec"]["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
        let audience = match audiences {
            [] => "",
            [audience] => audience.as_str().unwrap_or_default(),
            _ => return refuse("node may only request 0 or 1 audiences"),
        };
        let (attributes, call) = (self.attributes, self.attributes.call);
        match asks_for(call, pod, attributes.namespace, audience) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(why) => {
                let audience = schema::gotext::quote(audience);
                return refuse(format!("error validating audience {audience}: {why}"));
            }
        }
        let wanted = authz::Attributes {
            verb: "request-serviceaccounts-token-audience",
            is_resource: true,
            namespace: attributes.namespace,
            resource: audience,
            name: attributes.name,
            ..authz::Attributes::default()
        };
        if call.server.authorizer.check(&call.user, &wanted).is_ok() {
            return Ok(());
        }
        refuse(format!(
            "audience {} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            quote(audience),
            call.user.name
        ))
    }

    fn lease(&self) -> Checked {
        if self.attributes.namespace != "kube-node-lease" {
            return refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        if self.name() != self.node {
            return refuse("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn slice(&self) -> Checked {
        let (slice, verb) = match self.attributes.operation {
            Operation::Create => (self.object, "create"),
            Operation::Delete => (self.attributes.old.unwrap_or(&Value::Null), "delete"),
            _ => return Ok(()),
        };
        if slice["spec"]["nodeName"] == self.node {
            return Ok(());
        }
        refuse(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
    }

    fn certificate(&self) -> Checked {
        let signer = self.object["spec"]["signerName"].as_str().unwrap_or_default();
        if self.attributes.operation != Operation::Create || !NODE_SIGNERS.contains(&signer) {
            return Ok(());
        }
        let subject = Subject::of(self.object).map_err(|why| format!("unable to parse csr: {why}"))?;
        if subject.common_name == format!("system:node:{}", self.node) {
            return Ok(());
        }
        refuse(format!("can only create a node CSR with CN=system:node:{}", self.node))
    }
}

/// Whether a volume of the pod comes with a token for the audience: projected, or by its CSI driver.
///
/// # Errors
/// What is missing on the way, where no volume does.
fn asks_for(call: &Call, pod: &Value, namespace: &str, audience: &str) -> Result<bool, String> {
    let is_it = |request: &Value| request["audience"].as_str().unwrap_or_default() == audience;
    let missing = |what: &str, name: &str| format!("{what} {} not found", schema::gotext::quote(name));
    let claimed = |name: &str| -> Result<Option<String>, String> {
        let claim = CLAIMS.cached(call, namespace, name);
        let claim = claim.ok_or_else(|| missing("persistentvolumeclaim", name))?.to_value();
        let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
        let found = VOLUMES.cached(call, "", volume);
        let volume = found.ok_or_else(|| missing("persistentvolume", volume))?.to_value();
        Ok(volume["spec"]["csi"]["driver"].as_str().map(str::to_owned))
    };
    let mut errors = Vec::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let mut sources = volume["projected"]["sources"].as_array().into_iter().flatten();
        if sources
            .any(|source| source["serviceAccountToken"].is_object() && is_it(&source["serviceAccountToken"]))
        {
            return Ok(true);
        }
        let driver = if volume["ephemeral"]["volumeClaimTemplate"].is_object() {
            let name = volume["name"].as_str().unwrap_or_default();
            claimed(&format!("{}-{name}", meta(pod, "name")))
        } else if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            claimed(claim)
        } else {
            Ok(volume["csi"]["driver"].as_str().map(str::to_owned))
        };
        match driver {
            Ok(Some(name)) => match CSI_DRIVERS.cached(call, "", &name) {
                Some(driver) => {
                    let requests = driver.to_value()["spec"]["tokenRequests"].take();
                    if requests.as_array().into_iter().flatten().any(is_it) {
                        return Ok(true);
                    }
                }
                None => errors.push(missing("csidriver.storage.k8s.io", &name)),
            },
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    errors.dedup();
    match errors.as_slice() {
        [] => Ok(false),
        [one] => Err(one.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

fn same_map(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    a == b || (empty(a) && empty(b))
}

/// The labels that differ and that a node may not touch.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let labels = |object: &Value| object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (new, old) = (labels(new), labels(old));
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter().filter(|key| new.get(*key) != old.get(*key) && is_forbidden(key)).cloned().collect()
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
