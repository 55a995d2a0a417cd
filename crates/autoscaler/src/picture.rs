//! Nodes and pods as the placement engine sees them, kept in step with the informers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use client::{Event, Informers, key_of};
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::{Cluster, NodeInfo, PodClass, PodKey};

use crate::context::lock;

/// What changed since the last look, newest state only.
type Changes<K> = Arc<Mutex<BTreeMap<String, Option<Arc<K>>>>>;

/// The cluster as of the last [`Picture::update`].
pub(crate) struct Picture {
    cluster: Cluster,
    pods: Changes<Pod>,
    nodes: Changes<Node>,
    /// Pods that nobody can place, with their classes.
    unschedulable: BTreeMap<PodKey, (Arc<Pod>, PodClass)>,
    scheduler_name: String,
}

impl Picture {
    /// Registers with the informers.
    pub(crate) fn new(informers: &Informers, scheduler_name: String) -> Self {
        Self {
            cluster: Cluster::new(base::rng::u64()),
            pods: changes::<Pod>(informers),
            nodes: changes::<Node>(informers),
            unschedulable: BTreeMap::new(),
            scheduler_name,
        }
    }

    /// Takes in what has changed.
    pub(crate) fn update(&mut self) {
        let nodes = std::mem::take(&mut *lock(&self.nodes));
        for (name, node) in nodes {
            match node {
                Some(node) => {
                    self.cluster.set_node(NodeInfo::of(&node));
                }
                None => self.cluster.remove_node(&name),
            }
        }
        let pods = std::mem::take(&mut *lock(&self.pods));
        for (key, pod) in pods {
            let key = PodKey::from(key);
            self.unschedulable.remove(&key);
            let Some(pod) = pod else {
                self.cluster.remove_pod(&key);
                continue;
            };
            match occupied(&pod) {
                Some(node) => {
                    let class = self.cluster.engine_mut().class_of(&pod);
                    self.cluster.set_pod(&key, &class, &Arc::from(node), i64::MAX);
                }
                None => {
                    self.cluster.remove_pod(&key);
                    if is_unschedulable(&pod, &self.scheduler_name) {
                        let class = self.cluster.engine_mut().class_of(&pod);
                        self.unschedulable.insert(key, (pod, class));
                    }
                }
            }
        }
    }

    /// The nodes with their pods.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Pods that wait for a node that does not exist.
    pub(crate) fn unschedulable(&self) -> impl Iterator<Item = (&PodKey, &Arc<Pod>, &PodClass)> {
        self.unschedulable.iter().map(|(key, (pod, class))| (key, pod, class))
    }

    /// The class of a pod.
    pub(crate) fn class_of(&mut self, pod: &Pod) -> PodClass {
        self.cluster.engine_mut().class_of(pod)
    }
}

fn changes<K>(informers: &Informers) -> Changes<K>
where
    K: client::Object,
{
    let changes: Changes<K> = Arc::default();
    let inbox = changes.clone();
    informers.of::<K>().on_event(move |event| {
        let state = match event {
            Event::Applied { new, .. } => Some(Arc::clone(new)),
            Event::Deleted(_) => None,
        };
        lock(&inbox).insert(key_of(event.object().as_ref()), state);
    });
    changes
}

/// The node that a pod is bound to.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// The node that a pod takes room on; finished pods take none.
pub(crate) fn occupied(pod: &Pod) -> Option<&str> {
    if is_finished(pod) { None } else { node_of(pod) }
}

/// Whether a pod has come to its end.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Whether the scheduler has said that the pod fits nowhere.
pub(crate) fn is_unschedulable(pod: &Pod, scheduler_name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let told = pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    told && node_of(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !is_finished(pod)
        && !is_of_daemon_set(pod)
        && spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == scheduler_name
}

/// Whether a pod belongs to its node: it comes and goes with it.
pub(crate) fn is_of_daemon_set(pod: &Pod) -> bool {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node")
}

/// Whether a pod would have to move if its node went away.
pub(crate) fn is_movable(pod: &Pod) -> bool {
    !is_finished(pod) && !is_of_daemon_set(pod)
}
