//! The placement engine: pods in, decisions out.

use k8s_openapi::api::core::v1::PodSpec;

use base::map::HashMap;

use crate::class::{Classes, PodClass, PodRequirements};
use crate::diagnosis::Unschedulable;
use crate::filter::{self, Reason};
use crate::index::{self, ClassIndex, Scale, Verdict};
use crate::node::NodeInfo;
use crate::score::Scores;
use crate::snapshot::{NodeId, Snapshot};

/// Class indexes may hold this many bytes together; the least recently used ones go first.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// A snapshot with the standing orders that make placing on it quick.
///
/// The scheduler keeps one in step with the cluster. Whoever wants to know "what if" takes a
/// [`fork`](Engine::fork), adds or removes nodes and places pods there: same code, same answers.
#[derive(Debug, Default)]
pub struct Engine {
    snapshot: Snapshot,
    classes: Classes,
    indexes: HashMap<usize, Kept>,
    /// Counts uses of indexes, for finding the least recent.
    uses: u64,
    seed: u64,
}

#[derive(Debug)]
struct Kept {
    index: ClassIndex,
    used: u64,
    /// Keeps the class alive, whose address is the key.
    _class: PodClass,
}

/// Where a pod should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// Its scores per plugin.
    pub scores: Scores,
}

impl Engine {
    /// An engine without nodes. `seed` shuffles nodes between which nothing else decides.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A copy to play with. Costs a copy of the columns; indexes are built again on use.
    pub fn fork(&self) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            classes: self.classes.clone(),
            indexes: HashMap::default(),
            uses: 0,
            seed: self.seed,
        }
    }

    /// The nodes and what is used on them.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The class of pods with this spec. Compile once per pod and keep the handle.
    pub fn class_of(&mut self, spec: &PodSpec) -> PodClass {
        self.class(PodRequirements::of(spec))
    }

    /// The class with these requirements.
    pub fn class(&mut self, requirements: PodRequirements) -> PodClass {
        self.classes.intern(requirements)
    }

    /// Adds a node or replaces what is known of it. Returns its index and whether anything changed.
    pub fn set_node(&mut self, info: NodeInfo) -> (NodeId, bool) {
        self.snapshot.set_node(info)
    }

    /// Removes a node and forgets what was counted on it.
    pub fn remove_node(&mut self, id: NodeId) {
        self.snapshot.remove_node(id);
    }

    /// Counts a pod on a node, whether it fits or not.
    pub fn add_pod(&mut self, id: NodeId, class: &PodClass) {
        self.snapshot.add_pod(id, class);
    }

    /// Stops counting a pod on a node.
    pub fn remove_pod(&mut self, id: NodeId, class: &PodClass) {
        self.snapshot.remove_pod(id, class);
    }

    /// The best node for a pod of the class. Does not count the pod there: see [`Engine::add_pod`].
    pub fn place(&mut self, class: &PodClass) -> Option<Placement> {
        if let Some(names) = class.pinned_names() {
            return place_among(&self.snapshot, class, &names, self.seed);
        }
        let (snapshot, index) = self.index(class);
        let node = index.best()?;
        Some(Placement { node, scores: index.scores(snapshot, node) })
    }

    /// [`place`](Engine::place) and, on success, [`add_pod`](Engine::add_pod).
    pub fn place_and_add(&mut self, class: &PodClass) -> Option<Placement> {
        let placement = self.place(class)?;
        self.add_pod(placement.node, class);
        Some(placement)
    }

    /// Whether a pod of the class can run on this very node now.
    pub fn is_feasible(&self, class: &PodClass, id: NodeId) -> bool {
        self.snapshot.node(id).is_some_and(|node| filter::check_node(class, node).is_none())
            && filter::has_room(&self.snapshot.columns, id.index(), class)
    }

    /// Whether a pod of the class can run anywhere now.
    pub fn is_placeable(&mut self, class: &PodClass) -> bool {
        match class.pinned_names() {
            Some(names) => {
                names.iter().any(|name| self.snapshot.id(name).is_some_and(|id| self.is_feasible(class, id)))
            }
            None => self.index(class).1.best().is_some(),
        }
    }

    /// Why a pod of the class cannot run on this node; empty when it can.
    pub fn reasons(&self, class: &PodClass, id: NodeId) -> Vec<Reason> {
        if let (Some(names), Some(node)) = (class.pinned_names(), self.snapshot.node(id))
            && !names.contains(&node.name.as_ref())
        {
            return vec![Reason::NotNamed];
        }
        index::reasons_on(&self.snapshot, id, class)
    }

    /// Why a pod of the class can run nowhere, counted over all nodes.
    pub fn explain(&self, class: &PodClass) -> Unschedulable {
        Unschedulable::diagnose(self, class)
    }

    /// The index of a class, up to date.
    fn index(&mut self, class: &PodClass) -> (&Snapshot, &ClassIndex) {
        self.uses += 1;
        let (snapshot, seed) = (&self.snapshot, self.seed);
        if !self.indexes.contains_key(&class.id()) {
            let index = ClassIndex::build(class, snapshot, seed);
            make_room(&mut self.indexes, index.size_bytes());
            self.indexes.insert(class.id(), Kept { index, used: 0, _class: class.clone() });
        }
        let kept = self.indexes.get_mut(&class.id()).expect("was inserted if it was missing");
        kept.used = self.uses;
        kept.index.catch_up(snapshot, seed);
        (snapshot, &kept.index)
    }
}

/// Drops the least recently used indexes until one of `bytes` more fits.
fn make_room(indexes: &mut HashMap<usize, Kept>, bytes: usize) {
    let mut total: usize = indexes.values().map(|kept| kept.index.size_bytes()).sum::<usize>() + bytes;
    while total > INDEX_BYTES_MAX {
        let Some((&id, _)) = indexes.iter().min_by_key(|(_, kept)| kept.used) else { return };
        if let Some(kept) = indexes.remove(&id) {
            total -= kept.index.size_bytes();
        }
    }
}

/// Placement for pods that name their nodes: too few to keep an index for.
fn place_among(snapshot: &Snapshot, class: &PodClass, names: &[&str], seed: u64) -> Option<Placement> {
    let mut scale = Scale::default();
    let mut possible = Vec::new();
    for name in names {
        let Some(id) = snapshot.id(name) else { continue };
        let node = snapshot.node(id)?;
        if filter::check_node(class, node).is_none() && filter::has_room(&snapshot.columns, id.index(), class)
        {
            let verdict = Verdict::of(class, Some(node));
            scale.include(verdict);
            possible.push((id, verdict));
        }
    }
    possible
        .into_iter()
        .map(|(node, verdict)| Placement {
            node,
            scores: index::scores(snapshot, node, class, verdict, scale),
        })
        .max_by_key(|placement| index::rank(snapshot, placement.node, placement.scores.total(), seed))
}
