//! The engine together with the pods that are placed: what a scheduler or an autoscaler keeps in
//! step with the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::map::HashMap;

use crate::class::PodClass;
use crate::engine::Engine;
use crate::node::NodeInfo;
use crate::snapshot::NodeId;

/// `namespace/name` of a pod.
pub type PodKey = Arc<str>;

/// A pod that occupies a node, whether bound or only about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPod {
    /// What it takes there.
    pub class: PodClass,
    /// The node's name; the node itself may not be known (yet).
    pub node: Arc<str>,
    /// When it started, in seconds since the epoch; `i64::MAX` when it has not.
    pub started: i64,
    /// The index under which it is counted; `None` while its node is unknown.
    counted: Option<NodeId>,
}

/// Nodes, placed pods and the engine.
#[derive(Debug, Default)]
pub struct Cluster {
    engine: Engine,
    pods: HashMap<PodKey, PlacedPod>,
    on_node: HashMap<Arc<str>, Vec<PodKey>>,
    /// How many placed pods have each priority: tells at once that nobody can be preempted.
    priorities: BTreeMap<i32, usize>,
}

impl Cluster {
    /// An empty cluster; see [`Engine::new`] for the seed.
    pub fn new(seed: u64) -> Self {
        Self { engine: Engine::new(seed), ..Self::default() }
    }

    /// The engine, for placing, explaining and forking.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for placing. Pods are counted through [`Cluster::set_pod`], not here.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Adds a node or replaces what is known of it; pods that waited for it are counted. Returns its
    /// index if anything changed.
    pub fn set_node(&mut self, info: NodeInfo) -> Option<NodeId> {
        let name = Arc::clone(&info.name);
        let is_new = self.engine.snapshot().id(&name).is_none();
        let (id, changed) = self.engine.set_node(info);
        if is_new {
            for key in self.on_node.get(&name).into_iter().flatten() {
                if let Some(pod) = self.pods.get_mut(key) {
                    self.engine.add_pod(id, &pod.class);
                    pod.counted = Some(id);
                }
            }
        }
        changed.then_some(id)
    }

    /// Removes a node. Its pods stay known until they are removed too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(id) = self.engine.snapshot().id(name) else { return };
        for key in self.on_node.get(name).into_iter().flatten() {
            if let Some(pod) = self.pods.get_mut(key) {
                pod.counted = None;
            }
        }
        self.engine.remove_node(id);
    }

    /// Puts a pod on a node, or corrects what is known of it. Returns the node whose free room grew
    /// by that, if any.
    pub fn set_pod(
        &mut self,
        key: &PodKey,
        class: &PodClass,
        node: &Arc<str>,
        started: i64,
    ) -> Option<NodeId> {
        if let Some(known) = self.pods.get_mut(key)
            && known.class == *class
            && known.node == *node
        {
            known.started = started;
            return None;
        }
        let freed = self.remove_pod(key);
        let counted = self.engine.snapshot().id(node);
        if let Some(id) = counted {
            self.engine.add_pod(id, class);
        }
        *self.priorities.entry(class.priority).or_default() += 1;
        self.on_node.entry(Arc::clone(node)).or_default().push(Arc::clone(key));
        self.pods.insert(
            Arc::clone(key),
            PlacedPod { class: class.clone(), node: Arc::clone(node), started, counted },
        );
        freed
    }

    /// Removes a pod from its node. Returns the node, if it is known.
    pub fn remove_pod(&mut self, key: &str) -> Option<NodeId> {
        let pod = self.pods.remove(key)?;
        if let Some(count) = self.priorities.get_mut(&pod.class.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&pod.class.priority);
            }
        }
        if let Some(keys) = self.on_node.get_mut(&pod.node) {
            keys.retain(|known| known.as_ref() != key);
            if keys.is_empty() {
                self.on_node.remove(&pod.node);
            }
        }
        let id = pod.counted?;
        self.engine.remove_pod(id, &pod.class);
        Some(id)
    }

    /// A placed pod.
    pub fn pod(&self, key: &str) -> Option<&PlacedPod> {
        self.pods.get(key)
    }

    /// The number of placed pods.
    pub fn pods_len(&self) -> usize {
        self.pods.len()
    }

    /// The pods on a node, in no particular order.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = (&PodKey, &PlacedPod)> {
        self.on_node.get(node).into_iter().flatten().filter_map(|key| Some((key, self.pods.get(key)?)))
    }

    /// The lowest priority of any placed pod.
    pub(crate) fn lowest_priority(&self) -> Option<i32> {
        self.priorities.first_key_value().map(|(priority, _)| *priority)
    }
}
