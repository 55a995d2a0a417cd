//! The placement engine: pods in, decisions out.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use base::map::HashMap;

use crate::class::{Classes, PodClass, PodRequirements};
use crate::diagnosis::Unschedulable;
use crate::filter::{self, Reason};
use crate::index::{self, ClassIndex, Scale, Verdict};
use crate::node::NodeInfo;
use crate::relations::{PodGroup, Standing};
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
    /// Keeps the requirements alive, whose address is the key.
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

    /// The class of a pod. Compile once per pod and keep the handle.
    pub fn class_of(&mut self, pod: &Pod) -> PodClass {
        self.classes.intern(PodRequirements::of_pod(pod), Some(PodGroup::of(pod)))
    }

    /// The class of pods with this spec, without labels and without rules about other pods.
    pub fn class_of_spec(&mut self, spec: &PodSpec) -> PodClass {
        self.classes.intern(PodRequirements::of(spec), None)
    }

    /// The class with these requirements and labels.
    pub fn class(&mut self, requirements: PodRequirements, group: Option<PodGroup>) -> PodClass {
        self.classes.intern(requirements, group)
    }

    /// Whether rules between pods matter to the class.
    pub fn is_related(&self, class: &PodClass) -> bool {
        class.relations.is_some() || class.group().is_some_and(|group| self.snapshot.is_repelled(group))
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
            let nodes = names.into_iter().filter_map(|name| self.snapshot.id(name));
            return self.place_among(class, nodes);
        }
        if self.is_related(class) {
            return self.place_among(class, self.snapshot.nodes().map(|(id, _)| id));
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
        self.has_place(class, id)
            && (!self.is_related(class)
                || self
                    .snapshot
                    .node(id)
                    .is_some_and(|node| Standing::take(&self.snapshot, class).reason(node).is_none()))
    }

    /// Whether a pod of the class can run anywhere now.
    pub fn is_placeable(&mut self, class: &PodClass) -> bool {
        if class.pinned_names().is_some() || self.is_related(class) {
            return self.place(class).is_some();
        }
        self.index(class).1.best().is_some()
    }

    /// Why a pod of the class cannot run on this node; empty when it can.
    pub fn reasons(&self, class: &PodClass, id: NodeId) -> Vec<Reason> {
        self.reasons_on(class, self.standing(class).as_ref(), id)
    }

    /// The state of the rules between pods, if they matter to the class.
    pub(crate) fn standing<'a>(&'a self, class: &'a PodClass) -> Option<Standing<'a>> {
        self.is_related(class).then(|| Standing::take(&self.snapshot, class))
    }

    /// [`Engine::reasons`] for many nodes: the standing is taken once.
    pub(crate) fn reasons_on(
        &self,
        class: &PodClass,
        standing: Option<&Standing<'_>>,
        id: NodeId,
    ) -> Vec<Reason> {
        let Some(node) = self.snapshot.node(id) else { return Vec::new() };
        if class.pinned_names().is_some_and(|names| !names.contains(&node.name.as_ref())) {
            return vec![Reason::NotNamed];
        }
        let reasons = filter::reasons(&self.snapshot, id, class, &[]);
        if reasons.is_empty() {
            standing.and_then(|standing| standing.reason(node)).into_iter().collect()
        } else {
            reasons
        }
    }

    /// Whether the node accepts the class and has room for it, other pods' rules aside.
    fn has_place(&self, class: &PodClass, id: NodeId) -> bool {
        self.snapshot.node(id).is_some_and(|node| filter::check_node(class, node).is_none())
            && filter::has_room(&self.snapshot.columns, id.index(), class)
    }

    /// Placement by looking at each node, for classes that an index does not help.
    fn place_among(&self, class: &PodClass, nodes: impl Iterator<Item = NodeId>) -> Option<Placement> {
        let standing = self.standing(class);
        let mut scale = Scale::default();
        let (mut possible, mut infos) = (Vec::new(), Vec::new());
        for id in nodes.filter(|id| self.has_place(class, *id)) {
            let node = self.snapshot.node(id)?;
            if standing.as_ref().is_some_and(|standing| standing.reason(node).is_some()) {
                continue;
            }
            let verdict = Verdict::of(class, Some(node));
            scale.include(verdict);
            possible.push((id, verdict));
            infos.push(&**node);
        }
        let related = standing.map_or_else(|| vec![(0, 0); infos.len()], |standing| standing.scores(&infos));
        possible
            .into_iter()
            .zip(related)
            .map(|((node, verdict), (topology_spread, pod_affinity))| {
                let scores = index::scores(&self.snapshot, node, class, verdict, scale);
                Placement { node, scores: Scores { topology_spread, pod_affinity, ..scores } }
            })
            .max_by_key(|placement| {
                index::rank(&self.snapshot, placement.node, placement.scores.total(), self.seed)
            })
    }

    /// Why a pod of the class can run nowhere, counted over all nodes.
    pub fn explain(&self, class: &PodClass) -> Unschedulable {
        Unschedulable::diagnose(self, class)
    }

    /// The index of a class, up to date.
    fn index(&mut self, class: &PodClass) -> (&Snapshot, &ClassIndex) {
        self.uses += 1;
        let (snapshot, seed) = (&self.snapshot, self.seed);
        if !self.indexes.contains_key(&class.requirements_id()) {
            let index = ClassIndex::build(class, snapshot, seed);
            make_room(&mut self.indexes, index.size_bytes());
            self.indexes.insert(class.requirements_id(), Kept { index, used: 0, _class: class.clone() });
        }
        let kept = self.indexes.get_mut(&class.requirements_id()).expect("was inserted if it was missing");
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
