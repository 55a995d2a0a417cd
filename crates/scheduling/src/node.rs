//! What placement needs to know about a node besides what runs on it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::resources::{self, Resources};

/// A node, real or hypothetical, without its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node's name, unique in a snapshot.
    pub name: Arc<str>,
    /// Labels, sorted by key.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Taints in the node's order.
    pub taints: Vec<Taint>,
    /// Whether the node is cordoned (`spec.unschedulable`).
    pub unschedulable: bool,
    /// What pods may use.
    pub allocatable: Resources,
    /// How many pods the node takes.
    pub pods_max: i64,
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Taint key.
    pub key: Arc<str>,
    /// Taint value, possibly empty.
    pub value: Arc<str>,
    /// What it does to pods that do not tolerate it.
    pub effect: Effect,
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Keeps new pods away.
    NoSchedule,
    /// Makes the node a second choice.
    PreferNoSchedule,
    /// Keeps new pods away and evicts running ones.
    NoExecute,
}

impl Effect {
    /// Reads the API's spelling; `None` for anything unknown.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

impl NodeInfo {
    /// Reads a Node object.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let allocatable =
            node.status.as_ref().and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        Self {
            name: Arc::from(node.metadata.name.as_deref().unwrap_or_default()),
            labels: node
                .metadata
                .labels
                .iter()
                .flatten()
                .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())))
                .collect(),
            taints: spec
                .and_then(|spec| spec.taints.as_ref())
                .into_iter()
                .flatten()
                .filter_map(|taint| {
                    Some(Taint {
                        key: Arc::from(taint.key.as_str()),
                        value: Arc::from(taint.value.as_deref().unwrap_or_default()),
                        effect: Effect::parse(&taint.effect)?,
                    })
                })
                .collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: allocatable.map_or_else(Resources::default, Resources::from_list),
            pods_max: allocatable.and_then(|list| list.get("pods")).map_or(0, resources::value),
        }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let index = self.labels.binary_search_by(|(known, _)| known.as_ref().cmp(key)).ok()?;
        Some(self.labels[index].1.as_ref())
    }

    /// Sets a label, keeping the order. For hypothetical nodes.
    pub fn set_label(&mut self, key: &str, value: &str) {
        match self.labels.binary_search_by(|(known, _)| known.as_ref().cmp(key)) {
            Ok(index) => self.labels[index].1 = Arc::from(value),
            Err(index) => self.labels.insert(index, (Arc::from(key), Arc::from(value))),
        }
    }
}
