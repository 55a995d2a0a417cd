//! The columnar picture of a cluster: one dense index per node, one column per amount.

use std::sync::Arc;

use base::invariant;
use base::map::HashMap;

use crate::class::{HostPort, PodClass, PodRequirements};
use crate::node::NodeInfo;
use crate::relations::{PodGroup, Relations};

/// The dense index of a node in a snapshot. Indices of removed nodes are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Nodes and what is used on them. Cloning copies the columns and shares everything else.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    infos: Arc<Vec<Option<Arc<NodeInfo>>>>,
    by_name: Arc<HashMap<Arc<str>, NodeId>>,
    /// Indices without a node.
    holes: Vec<NodeId>,
    pub(crate) columns: Columns,
    pub(crate) log: ChangeLog,
    /// Counts placements; the column `recency` remembers it per node.
    sequence: u32,
    /// The classes of the pods on each node, with their numbers.
    members: Vec<Option<Members>>,
    /// The classes that keep others away, with the number of their pods.
    repelling: HashMap<PodClass, u32>,
}

/// Classes with numbers of pods, shared until changed.
type Members = Arc<Vec<(PodClass, u32)>>;

/// The amounts, one entry per node index; zero where there is no node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) cpu_allocatable: Vec<i64>,
    pub(crate) cpu_requested: Vec<i64>,
    /// Requests where missing ones count a little, for `LeastAllocated`.
    pub(crate) cpu_non_zero: Vec<i64>,
    pub(crate) memory_allocatable: Vec<i64>,
    pub(crate) memory_requested: Vec<i64>,
    pub(crate) memory_non_zero: Vec<i64>,
    pub(crate) ephemeral_allocatable: Vec<i64>,
    pub(crate) ephemeral_requested: Vec<i64>,
    pub(crate) pods_max: Vec<i64>,
    pub(crate) pods: Vec<i64>,
    /// When a pod was last put here, as a count of placements; ties go to the longest untouched.
    pub(crate) recency: Vec<u32>,
    /// Host ports in use, with repetitions.
    pub(crate) ports: Vec<Option<Arc<Vec<HostPort>>>>,
    pub(crate) extended: Vec<ExtendedColumn>,
}

/// The column of one extended resource.
#[derive(Clone, Debug)]
pub(crate) struct ExtendedColumn {
    pub(crate) name: Arc<str>,
    pub(crate) allocatable: Vec<i64>,
    pub(crate) requested: Vec<i64>,
}

/// Which nodes changed, in order, so that class indexes catch up instead of starting over.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangeLog {
    entries: Vec<Change>,
    /// The position of `entries[0]` since the beginning.
    base: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) node: NodeId,
    /// Whether the node itself changed and not only what runs on it.
    pub(crate) is_node: bool,
}

impl ChangeLog {
    /// The position after the newest change.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// The changes from a position on; `None` when they are not kept any more.
    pub(crate) fn since(&self, position: u64) -> Option<&[Change]> {
        let skip = usize::try_from(position.checked_sub(self.base)?).ok()?;
        self.entries.get(skip..)
    }

    fn push(&mut self, change: Change, keep: usize) {
        if self.entries.len() >= keep {
            // Half at a time keeps the cost per push constant.
            let drop = keep / 2;
            self.entries.drain(..drop);
            self.base += drop as u64;
        }
        self.entries.push(change);
    }
}

impl Snapshot {
    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// One more than the greatest index in use.
    pub(crate) fn capacity(&self) -> usize {
        self.infos.len()
    }

    /// The node of this name.
    pub fn id(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The node at an index; `None` when it was removed.
    pub fn node(&self, id: NodeId) -> Option<&Arc<NodeInfo>> {
        self.infos.get(id.index())?.as_ref()
    }

    /// All nodes in the order of their indices.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Arc<NodeInfo>)> {
        (0u32..).zip(self.infos.iter()).filter_map(|(index, info)| Some((NodeId(index), info.as_ref()?)))
    }

    /// The number of pods on a node.
    pub fn pods_on(&self, id: NodeId) -> i64 {
        self.columns.pods[id.index()]
    }

    /// CPU in thousandths, memory in bytes and pods that are still free on a node. Negative where
    /// the node is overcommitted.
    pub fn free(&self, id: NodeId) -> Free {
        self.columns.free(id.index())
    }

    /// Adds a node or replaces what is known of the node of this name; what runs on it stays.
    /// Returns its index and whether anything changed.
    pub fn set_node(&mut self, info: NodeInfo) -> (NodeId, bool) {
        if let Some(id) = self.id(&info.name) {
            if self.node(id).is_some_and(|known| **known == info) {
                return (id, false);
            }
            self.columns.set_allocatable(id.index(), &info);
            Arc::make_mut(&mut self.infos)[id.index()] = Some(Arc::new(info));
            self.changed(id, true);
            return (id, true);
        }
        let id = self.holes.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.infos.len()).expect("fewer than 2^32 nodes");
            Arc::make_mut(&mut self.infos).push(None);
            self.members.push(None);
            self.columns.grow();
            NodeId(index)
        });
        self.columns.set_allocatable(id.index(), &info);
        Arc::make_mut(&mut self.by_name).insert(Arc::clone(&info.name), id);
        Arc::make_mut(&mut self.infos)[id.index()] = Some(Arc::new(info));
        self.changed(id, true);
        (id, true)
    }

    /// Removes a node together with what was counted on it.
    pub fn remove_node(&mut self, id: NodeId) {
        let Some(info) = Arc::make_mut(&mut self.infos)[id.index()].take() else { return };
        Arc::make_mut(&mut self.by_name).remove(&info.name);
        self.columns.clear(id.index());
        for (class, count) in self.members[id.index()].take().iter().flat_map(|members| members.iter()) {
            self.repel(class, |pods| pods.saturating_sub(*count));
        }
        self.holes.push(id);
        self.changed(id, true);
    }

    /// Counts a pod on a node.
    pub fn add_pod(&mut self, id: NodeId, pod: &PodClass) {
        self.sequence = self.sequence.wrapping_add(1);
        self.columns.recency[id.index()] = self.sequence;
        self.columns.apply(id.index(), pod, 1);
        self.join(id, pod);
        self.changed(id, false);
    }

    /// Stops counting a pod on a node.
    pub fn remove_pod(&mut self, id: NodeId, pod: &PodClass) {
        self.columns.apply(id.index(), pod, -1);
        self.part(id, pod);
        invariant!(self.columns.pods[id.index()] >= 0, "no more pods leave a node than came");
        self.changed(id, false);
    }

    /// The classes of the pods on a node, with their numbers.
    pub(crate) fn members(&self, id: NodeId) -> &[(PodClass, u32)] {
        self.members.get(id.index()).and_then(|members| members.as_deref()).map_or(&[], |members| members)
    }

    /// Whether some pod keeps this group away from somewhere.
    pub(crate) fn is_repelled(&self, group: &PodGroup) -> bool {
        self.repelling
            .keys()
            .any(|class| class.relations.as_ref().is_some_and(|relations| relations.repels_group(group)))
    }

    fn join(&mut self, id: NodeId, class: &PodClass) {
        let members = Arc::make_mut(self.members[id.index()].get_or_insert_default());
        match members.iter_mut().find(|(known, _)| known == class) {
            Some((_, count)) => *count += 1,
            None => members.push((class.clone(), 1)),
        }
        self.repel(class, |pods| pods + 1);
    }

    fn part(&mut self, id: NodeId, class: &PodClass) {
        let Some(members) = &mut self.members[id.index()] else { return };
        let members = Arc::make_mut(members);
        if let Some(position) = members.iter().position(|(known, _)| known == class) {
            members[position].1 -= 1;
            if members[position].1 == 0 {
                members.swap_remove(position);
            }
        }
        self.repel(class, |pods| pods.saturating_sub(1));
    }

    fn repel(&mut self, class: &PodClass, change: impl Fn(u32) -> u32) {
        if class.relations.as_ref().is_some_and(Relations::repels) {
            let pods = self.repelling.entry(class.clone()).or_default();
            *pods = change(*pods);
            if *pods == 0 {
                self.repelling.remove(class);
            }
        }
    }

    fn changed(&mut self, node: NodeId, is_node: bool) {
        let keep = (self.infos.len() / 2).max(1024);
        self.log.push(Change { node, is_node }, keep);
    }
}

/// What is left on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral_bytes: i64,
    /// Pods.
    pub pods: i64,
}

impl Columns {
    pub(crate) fn free(&self, index: usize) -> Free {
        Free {
            cpu_milli: self.cpu_allocatable[index] - self.cpu_requested[index],
            memory_bytes: self.memory_allocatable[index] - self.memory_requested[index],
            ephemeral_bytes: self.ephemeral_allocatable[index] - self.ephemeral_requested[index],
            pods: self.pods_max[index] - self.pods[index],
        }
    }

    /// The column of an extended resource, if any node has it or any pod asked for it.
    pub(crate) fn extended(&self, name: &str) -> Option<&ExtendedColumn> {
        self.extended.iter().find(|column| column.name.as_ref() == name)
    }

    fn amounts_mut(&mut self) -> [&mut Vec<i64>; 10] {
        [
            &mut self.cpu_allocatable,
            &mut self.cpu_requested,
            &mut self.cpu_non_zero,
            &mut self.memory_allocatable,
            &mut self.memory_requested,
            &mut self.memory_non_zero,
            &mut self.ephemeral_allocatable,
            &mut self.ephemeral_requested,
            &mut self.pods_max,
            &mut self.pods,
        ]
    }

    fn grow(&mut self) {
        for column in self.amounts_mut() {
            column.push(0);
        }
        for column in &mut self.extended {
            column.allocatable.push(0);
            column.requested.push(0);
        }
        self.recency.push(0);
        self.ports.push(None);
    }

    fn clear(&mut self, index: usize) {
        for column in self.amounts_mut() {
            column[index] = 0;
        }
        for column in &mut self.extended {
            column.allocatable[index] = 0;
            column.requested[index] = 0;
        }
        self.recency[index] = 0;
        self.ports[index] = None;
    }

    fn set_allocatable(&mut self, index: usize, info: &NodeInfo) {
        self.cpu_allocatable[index] = info.allocatable.cpu_milli;
        self.memory_allocatable[index] = info.allocatable.memory_bytes;
        self.ephemeral_allocatable[index] = info.allocatable.ephemeral_bytes;
        self.pods_max[index] = info.pods_max;
        for column in &mut self.extended {
            column.allocatable[index] = 0;
        }
        for (name, amount) in &info.allocatable.extended {
            self.extended_mut(name).allocatable[index] = *amount;
        }
    }

    fn extended_mut(&mut self, name: &Arc<str>) -> &mut ExtendedColumn {
        let position = self.extended.iter().position(|column| column.name == *name).unwrap_or_else(|| {
            let rows = self.pods.len();
            self.extended.push(ExtendedColumn {
                name: Arc::clone(name),
                allocatable: vec![0; rows],
                requested: vec![0; rows],
            });
            self.extended.len() - 1
        });
        &mut self.extended[position]
    }

    fn apply(&mut self, index: usize, pod: &PodRequirements, sign: i64) {
        self.cpu_requested[index] += sign * pod.requests.cpu_milli;
        self.cpu_non_zero[index] += sign * pod.non_zero.0;
        self.memory_requested[index] += sign * pod.requests.memory_bytes;
        self.memory_non_zero[index] += sign * pod.non_zero.1;
        self.ephemeral_requested[index] += sign * pod.requests.ephemeral_bytes;
        self.pods[index] += sign;
        for (name, amount) in &pod.requests.extended {
            self.extended_mut(name).requested[index] += sign * amount;
        }
        if !pod.host_ports.is_empty() {
            self.apply_ports(index, &pod.host_ports, sign > 0);
        }
    }

    fn apply_ports(&mut self, index: usize, ports: &[HostPort], add: bool) {
        let used = Arc::make_mut(self.ports[index].get_or_insert_default());
        for port in ports {
            if add {
                used.push(port.clone());
            } else if let Some(position) = used.iter().position(|known| known == port) {
                used.swap_remove(position);
            }
        }
        if used.is_empty() {
            self.ports[index] = None;
        }
    }
}
