//! The standing order of all nodes for one pod class.
//!
//! Filtering and scoring every node for every pod is what makes schedulers slow. Pods of one class
//! see the same nodes the same way, and between two of them only a few nodes change. So each class
//! keeps, per node, the verdict of the filters that look at the node alone, and a tournament tree of
//! ranks; before use it catches up with the snapshot's change log. Placing a pod then costs a
//! few tree updates, whatever the number of nodes, and still considers all of them: there is no
//! sampling.

use std::collections::BTreeMap;

use crate::class::{PodClass, PodRequirements};
use crate::filter;
use crate::node::NodeInfo;
use crate::score::{self, Scores};
use crate::snapshot::{NodeId, Snapshot};
use crate::tree::MaxTree;

/// What a node is to a class apart from what runs on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the node itself accepts the class.
    accepted: bool,
    /// Raw score of `NodeAffinity`.
    preference: u32,
    /// Raw score of `TaintToleration`.
    intolerable: u32,
}

impl Verdict {
    pub(crate) fn of(pod: &PodRequirements, node: Option<&NodeInfo>) -> Self {
        match node {
            Some(node) if filter::check_node(pod, node).is_none() => Self {
                accepted: true,
                preference: if pod.has_preferences() { pod.preference(node) } else { 0 },
                intolerable: if node.taints.is_empty() { 0 } else { pod.intolerable(node) },
            },
            _ => Self::default(),
        }
    }
}

/// The greatest raw scores among the possible nodes, by which raw scores are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) preference: u32,
    pub(crate) intolerable: u32,
}

impl Scale {
    pub(crate) fn include(&mut self, verdict: Verdict) {
        self.preference = self.preference.max(verdict.preference);
        self.intolerable = self.intolerable.max(verdict.intolerable);
    }
}

/// The scores of a possible node.
pub(crate) fn scores(
    snapshot: &Snapshot,
    id: NodeId,
    pod: &PodRequirements,
    verdict: Verdict,
    scale: Scale,
) -> Scores {
    Scores {
        taint_toleration: score::normalize(verdict.intolerable, scale.intolerable, true),
        node_affinity: score::normalize(verdict.preference, scale.preference, false),
        least_allocated: score::least_allocated(&snapshot.columns, id.index(), pod),
        balanced_allocation: score::balanced_allocation(&snapshot.columns, id.index(), pod),
        ..Scores::default()
    }
}

/// Orders possible nodes: by score; then the node that has gone longest without a new pod, so that
/// pods too small to move the score still spread; then a fixed shuffle. Never zero.
pub(crate) fn rank(snapshot: &Snapshot, id: NodeId, total: i64, seed: u64) -> u64 {
    let score = u64::try_from(total).unwrap_or(0) + 1;
    let untouched = u64::from(u32::MAX - snapshot.columns.recency[id.index()]);
    // Fibonacci hashing: a cheap permutation of indices.
    let shuffle = (u64::from(id.0) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
    score << 52 | untouched << 20 | shuffle
}

/// The standing order of one class.
#[derive(Clone, Debug)]
pub(crate) struct ClassIndex {
    class: PodClass,
    verdicts: Vec<Verdict>,
    ranks: MaxTree,
    /// How many possible nodes have each raw score; only kept where raw scores differ at all.
    preferences: BTreeMap<u32, u32>,
    intolerables: BTreeMap<u32, u32>,
    scale: Scale,
    /// How far into the change log this has come.
    position: u64,
}

impl ClassIndex {
    pub(crate) fn build(class: &PodClass, snapshot: &Snapshot, seed: u64) -> Self {
        let verdicts = (0..snapshot.capacity())
            .map(|index| Verdict::of(class, snapshot.node(node_id(index)).map(|node| &**node)))
            .collect();
        let mut index = Self {
            class: class.clone(),
            verdicts,
            ranks: MaxTree::build(&[]),
            preferences: BTreeMap::new(),
            intolerables: BTreeMap::new(),
            scale: Scale::default(),
            position: snapshot.log.end(),
        };
        index.rank_all(snapshot, seed);
        index
    }

    /// The bytes that this index holds, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.verdicts.len() * size_of::<Verdict>() + self.ranks.capacity() * 16
    }

    /// Takes in what has changed since the last time.
    pub(crate) fn catch_up(&mut self, snapshot: &Snapshot, seed: u64) {
        let changes = snapshot.log.since(self.position);
        let (Some(changes), true) = (changes, snapshot.capacity() <= self.ranks.capacity()) else {
            *self = Self::build(&self.class, snapshot, seed);
            return;
        };
        self.position = snapshot.log.end();
        self.verdicts.resize(snapshot.capacity(), Verdict::default());
        for change in changes {
            let index = change.node.index();
            let before = self.verdicts[index];
            if change.is_node {
                self.verdicts[index] =
                    Verdict::of(&self.class, snapshot.node(change.node).map(|node| &**node));
            }
            let was_possible = self.ranks.get(index) != 0;
            let possible = self.is_possible(snapshot, index);
            if was_possible {
                self.count(before, false);
            }
            if possible {
                self.count(self.verdicts[index], true);
            }
            let rank = if possible { self.rank_of(snapshot, index, seed) } else { 0 };
            self.ranks.set(index, rank);
        }
        if self.current_scale() != self.scale {
            self.rank_all(snapshot, seed);
        }
    }

    /// The best node, if any is possible.
    pub(crate) fn best(&self) -> Option<NodeId> {
        self.ranks.best().map(node_id)
    }

    /// The scores of a possible node.
    pub(crate) fn scores(&self, snapshot: &Snapshot, id: NodeId) -> Scores {
        scores(snapshot, id, &self.class, self.verdicts[id.index()], self.scale)
    }

    fn is_possible(&self, snapshot: &Snapshot, index: usize) -> bool {
        self.verdicts[index].accepted && filter::has_room(&snapshot.columns, index, &self.class)
    }

    fn rank_of(&self, snapshot: &Snapshot, index: usize, seed: u64) -> u64 {
        let id = node_id(index);
        rank(snapshot, id, self.scores(snapshot, id).total(), seed)
    }

    fn rank_all(&mut self, snapshot: &Snapshot, seed: u64) {
        self.preferences.clear();
        self.intolerables.clear();
        let possible: Vec<bool> =
            (0..self.verdicts.len()).map(|index| self.is_possible(snapshot, index)).collect();
        for (index, _) in possible.iter().enumerate().filter(|(_, possible)| **possible) {
            self.count(self.verdicts[index], true);
        }
        self.scale = self.current_scale();
        let ranks: Vec<u64> = possible
            .iter()
            .enumerate()
            .map(|(index, possible)| if *possible { self.rank_of(snapshot, index, seed) } else { 0 })
            .collect();
        self.ranks = MaxTree::build(&ranks);
    }

    fn count(&mut self, verdict: Verdict, add: bool) {
        // Zeros never decide a maximum, and in most clusters there is nothing else.
        for (counts, raw) in
            [(&mut self.preferences, verdict.preference), (&mut self.intolerables, verdict.intolerable)]
        {
            if raw == 0 {
                continue;
            }
            let count = counts.entry(raw).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                counts.remove(&raw);
            }
        }
    }

    fn current_scale(&self) -> Scale {
        let greatest = |counts: &BTreeMap<u32, u32>| counts.last_key_value().map_or(0, |(raw, _)| *raw);
        Scale { preference: greatest(&self.preferences), intolerable: greatest(&self.intolerables) }
    }
}

pub(crate) fn node_id(index: usize) -> NodeId {
    NodeId(u32::try_from(index).unwrap_or(u32::MAX))
}
