//! What each node's pods refer to, kept up to date from the stored bytes: upstream's node authorizer graph.
//!
//! ```text
//! secret, configmap, claim, service account, resource claim → pod → node
//! secret → volume → claim → pod → node
//! volume attachment, resource slice → node
//! ```

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use serde::Deserialize;
use serde_json::Value;

/// What a node may reach by way of its pods or of its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vertex {
    /// A pod on the node.
    Pod,
    /// Secret.
    Secret,
    /// ConfigMap.
    ConfigMap,
    /// PersistentVolumeClaim.
    Claim,
    /// PersistentVolume.
    Volume,
    /// ServiceAccount.
    ServiceAccount,
    /// ResourceClaim.
    ResourceClaim,
    /// VolumeAttachment.
    Attachment,
    /// ResourceSlice.
    Slice,
}

/// Namespace and name, `namespace/name`; cluster-scoped objects have an empty namespace.
type Id = String;

fn id(namespace: &str, name: &str) -> Id {
    format!("{namespace}/{name}")
}

/// How often an object is referred to from each node.
type Counts = BTreeMap<String, usize>;

/// The graph.
#[derive(Default)]
pub struct Graph(RwLock<Edges>);

#[derive(Default)]
struct Edges {
    pods: BTreeMap<Id, Pod>,
    /// Nodes from whose pods, or directly, there is a way to an object.
    nodes: BTreeMap<(Vertex, Id), Counts>,
    volumes: BTreeMap<String, Volume>,
    /// Volumes that use a secret.
    volumes_of_secret: BTreeMap<Id, Vec<String>>,
    /// The node of each attachment and slice.
    placed: BTreeMap<(Vertex, String), String>,
}

struct Pod {
    node: String,
    /// What the references follow from: they are read again only when this changes.
    version: (String, usize, String),
    refers: Vec<(Vertex, Id)>,
}

struct Volume {
    claim: Id,
    secrets: Vec<Id>,
}

impl Graph {
    /// Takes over the change of one object; what cannot be read opens no way.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        let Some((dir, place)) = key.strip_prefix("/registry/").and_then(|key| key.split_once('/')) else {
            return;
        };
        match dir {
            "pods" => self.apply_pod(place, value),
            "persistentvolumes" => self.write().set_volume(place, value.and_then(parse_volume)),
            "volumeattachments.storage.k8s.io" => self.write().place(Vertex::Attachment, place, value),
            "resourceslices.resource.k8s.io" => self.write().place(Vertex::Slice, place, value),
            _ => {}
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.write() = Edges::default();
    }

    /// Whether there is a way from the object to the node.
    pub fn leads_to(&self, node: &str, vertex: Vertex, namespace: &str, name: &str) -> bool {
        let edges = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let object = id(namespace, name);
        match vertex {
            Vertex::Volume => edges.volume_leads_to(node, name),
            Vertex::Secret => {
                let volumes = edges.volumes_of_secret.get(&object);
                let by_volume = volumes
                    .is_some_and(|volumes| volumes.iter().any(|volume| edges.volume_leads_to(node, volume)));
                by_volume || edges.counted(node, vertex, object)
            }
            _ => edges.counted(node, vertex, object),
        }
    }

    fn apply_pod(&self, place: &str, value: Option<&[u8]>) {
        let head = value.and_then(|bytes| serde_json::from_slice::<PodHead>(bytes).ok());
        let Some(head) = head.filter(|head| !head.spec.node_name.is_empty()) else {
            // Most writes of pods are of pods that were never here: they need no exclusive lock.
            if self.0.read().unwrap_or_else(PoisonError::into_inner).pods.contains_key(place) {
                self.write().remove_pod(place);
            }
            return;
        };
        let version = head.version();
        let unchanged = |pod: &Pod| pod.node == head.spec.node_name && pod.version == version;
        if self.0.read().unwrap_or_else(PoisonError::into_inner).pods.get(place).is_some_and(unchanged) {
            return;
        }
        let refers = value.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let refers = refers.map(|pod| references(place, &pod)).unwrap_or_default();
        let mut edges = self.write();
        edges.remove_pod(place);
        edges.insert_pod(place, Pod { node: head.spec.node_name, version, refers });
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Edges> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edges {
    fn counted(&self, node: &str, vertex: Vertex, object: Id) -> bool {
        self.nodes.get(&(vertex, object)).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn volume_leads_to(&self, node: &str, volume: &str) -> bool {
        let claim = self.volumes.get(volume).map(|volume| volume.claim.clone());
        claim.is_some_and(|claim| self.counted(node, Vertex::Claim, claim))
    }

    fn add(&mut self, to: (Vertex, Id), node: &str) {
        *self.nodes.entry(to).or_default().entry(node.to_owned()).or_default() += 1;
    }

    fn remove(&mut self, to: &(Vertex, Id), node: &str) {
        let Some(counts) = self.nodes.get_mut(to) else { return };
        if let Some(count) = counts.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                counts.remove(node);
            }
        }
        if counts.is_empty() {
            self.nodes.remove(to);
        }
    }

    fn insert_pod(&mut self, place: &str, pod: Pod) {
        self.add((Vertex::Pod, place.to_owned()), &pod.node);
        for to in &pod.refers {
            self.add(to.clone(), &pod.node);
        }
        self.pods.insert(place.to_owned(), pod);
    }

    fn remove_pod(&mut self, place: &str) {
        let Some(pod) = self.pods.remove(place) else { return };
        self.remove(&(Vertex::Pod, place.to_owned()), &pod.node);
        for to in &pod.refers {
            self.remove(to, &pod.node);
        }
    }

    fn set_volume(&mut self, name: &str, volume: Option<Volume>) {
        if let Some(before) = self.volumes.remove(name) {
            for secret in before.secrets {
                if let Some(volumes) = self.volumes_of_secret.get_mut(&secret) {
                    volumes.retain(|volume| volume != name);
                    if volumes.is_empty() {
                        self.volumes_of_secret.remove(&secret);
                    }
                }
            }
        }
        let Some(volume) = volume else { return };
        for secret in &volume.secrets {
            self.volumes_of_secret.entry(secret.clone()).or_default().push(name.to_owned());
        }
        self.volumes.insert(name.to_owned(), volume);
    }

    /// Takes over an object whose `spec.nodeName` says where it belongs.
    fn place(&mut self, vertex: Vertex, name: &str, value: Option<&[u8]>) {
        let head = value.and_then(|bytes| serde_json::from_slice::<PodHead>(bytes).ok());
        let node = head.unwrap_or_default().spec.node_name;
        let key = (vertex, name.to_owned());
        if let Some(before) = self.placed.remove(&key) {
            self.remove(&(vertex, id("", name)), &before);
        }
        if !node.is_empty() {
            self.add((vertex, id("", name)), &node);
            self.placed.insert(key, node);
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodHead {
    metadata: PodMetadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodMetadata {
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    ephemeral_containers: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    resource_claim_statuses: Option<Value>,
    extended_resource_claim_status: Option<Value>,
}

impl PodHead {
    /// Nothing else that a bound pod's references follow from can change.
    fn version(&self) -> (String, usize, String) {
        let claims = [&self.status.resource_claim_statuses, &self.status.extended_resource_claim_status];
        let claims: String = claims.into_iter().flatten().map(Value::to_string).collect();
        (self.metadata.uid.clone(), self.spec.ephemeral_containers.as_ref().map_or(0, Vec::len), claims)
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Everything that a pod refers to.
fn references(place: &str, pod: &Value) -> Vec<(Vertex, Id)> {
    let (namespace, name) = place.split_once('/').unwrap_or_default();
    // Nobody but its node vouches for a mirror pod, so it opens no way to anything.
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |vertex, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.push((vertex, id(namespace, name)));
        }
    };
    let spec = &pod["spec"];
    add(Vertex::ServiceAccount, &spec["serviceAccountName"]);
    items(&spec["imagePullSecrets"]).for_each(|secret| add(Vertex::Secret, &secret["name"]));
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    for container in lists.into_iter().flat_map(|list| items(&spec[list])) {
        for from in items(&container["envFrom"]) {
            add(Vertex::Secret, &from["secretRef"]["name"]);
            add(Vertex::ConfigMap, &from["configMapRef"]["name"]);
        }
        for from in items(&container["env"]).map(|variable| &variable["valueFrom"]) {
            add(Vertex::Secret, &from["secretKeyRef"]["name"]);
            add(Vertex::ConfigMap, &from["configMapKeyRef"]["name"]);
        }
    }
    for volume in items(&spec["volumes"]) {
        add(Vertex::Secret, &volume["secret"]["secretName"]);
        add(Vertex::Secret, &volume["azureFile"]["secretName"]);
        add(Vertex::Secret, &volume["csi"]["nodePublishSecretRef"]["name"]);
        for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            add(Vertex::Secret, &volume[source]["secretRef"]["name"]);
        }
        add(Vertex::ConfigMap, &volume["configMap"]["name"]);
        for source in items(&volume["projected"]["sources"]) {
            add(Vertex::Secret, &source["secret"]["name"]);
            add(Vertex::ConfigMap, &source["configMap"]["name"]);
        }
        add(Vertex::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if let (false, Some(volume)) = (volume["ephemeral"].is_null(), volume["name"].as_str()) {
            add(Vertex::Claim, &Value::from(format!("{name}-{volume}")));
        }
    }
    let claims = &pod["status"]["resourceClaimStatuses"];
    for claim in items(&spec["resourceClaims"]) {
        add(Vertex::ResourceClaim, &claim["resourceClaimName"]);
        if !claim["resourceClaimTemplateName"].is_null() {
            let made = items(claims).find(|made| made["name"] == claim["name"]);
            add(Vertex::ResourceClaim, made.map_or(&Value::Null, |made| &made["resourceClaimName"]));
        }
    }
    add(Vertex::ResourceClaim, &pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"]);
    found.sort_unstable();
    found.dedup();
    found
}

/// A volume that is claimed, with the secrets a kubelet needs for it.
fn parse_volume(bytes: &[u8]) -> Option<Volume> {
    let volume: Value = serde_json::from_slice(bytes).ok()?;
    let spec = &volume["spec"];
    let (namespace, claim) = (spec["claimRef"]["namespace"].as_str()?, spec["claimRef"]["name"].as_str()?);
    let mut secrets = Vec::new();
    let mut add = |of: &Value, name: &str, its_namespace: &str| {
        let Some(name) = of[name].as_str().filter(|name| !name.is_empty()) else { return };
        let namespace = of[its_namespace].as_str().filter(|of| !of.is_empty()).unwrap_or(namespace);
        secrets.push(id(namespace, name));
    };
    add(&spec["azureFile"], "secretName", "secretNamespace");
    for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
        add(&spec[source]["secretRef"], "name", "namespace");
    }
    for stage in ["nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"] {
        add(&spec["csi"][stage], "name", "namespace");
    }
    secrets.sort_unstable();
    secrets.dedup();
    Some(Volume { claim: id(namespace, claim), secrets })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(graph: &Graph, key: &str, object: &Value) {
        graph.apply(&format!("/registry/{key}"), Some(object.to_string().as_bytes()));
    }

    fn pod(node: &str) -> Value {
        json!({"metadata": {"uid": "u"}, "spec": {"nodeName": node, "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "env"}}}]}],
            "volumes": [{"name": "data", "ephemeral": {}}, {"persistentVolumeClaim": {"claimName": "c"}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}})
    }

    #[test]
    fn objects_lead_to_the_nodes_of_the_pods_that_use_them() {
        let graph = Graph::default();
        put(&graph, "pods/a/p", &pod("n1"));
        let leads = |node, vertex, name| graph.leads_to(node, vertex, "a", name);
        for (vertex, name) in [
            (Vertex::Pod, "p"),
            (Vertex::ServiceAccount, "sa"),
            (Vertex::Secret, "pull"),
            (Vertex::ConfigMap, "env"),
            (Vertex::Claim, "p-data"),
            (Vertex::Claim, "c"),
        ] {
            assert!(leads("n1", vertex, name), "{name}");
            assert!(!leads("n2", vertex, name), "{name}");
            assert!(!graph.leads_to("n1", vertex, "b", name), "{name}");
        }
        assert!(!leads("n1", Vertex::ResourceClaim, "made"));
        let mut with_claim = pod("n1");
        with_claim["status"] =
            json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "made"}]});
        put(&graph, "pods/a/p", &with_claim);
        assert!(leads("n1", Vertex::ResourceClaim, "made"));
        graph.apply("/registry/pods/a/p", None);
        let edges = graph.0.read().unwrap();
        assert!(edges.pods.is_empty() && edges.nodes.is_empty());
    }

    #[test]
    fn volumes_lead_through_their_claims() {
        let graph = Graph::default();
        put(&graph, "pods/a/p", &pod("n1"));
        let volume = json!({"spec": {"claimRef": {"namespace": "a", "name": "c"}, "csi":
            {"nodeStageSecretRef": {"namespace": "s", "name": "stage"}, "controllerExpandSecretRef": {"namespace": "s", "name": "no"}}}});
        put(&graph, "persistentvolumes/pv", &volume);
        assert!(graph.leads_to("n1", Vertex::Volume, "", "pv"));
        assert!(graph.leads_to("n1", Vertex::Secret, "s", "stage"));
        assert!(!graph.leads_to("n1", Vertex::Secret, "s", "no"));
        graph.apply("/registry/persistentvolumes/pv", None);
        assert!(!graph.leads_to("n1", Vertex::Secret, "s", "stage"));
    }

    #[test]
    fn a_mirror_pod_opens_no_way() {
        let graph = Graph::default();
        let mut mirror = pod("n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        put(&graph, "pods/a/p", &mirror);
        assert!(graph.leads_to("n1", Vertex::Pod, "a", "p"));
        assert!(!graph.leads_to("n1", Vertex::Secret, "a", "pull"));
    }
}
