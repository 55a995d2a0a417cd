//! Pending pods, grouped by class.
//!
//! Pods of one class fail and succeed alike, so a class waits as a whole: when its first pod fits
//! nowhere, the rest need not be tried, and when some node could take it again, the whole class is
//! ready again. Ten thousand pods that wait for a node cost as much as one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::map::HashMap;
use scheduling::{PodClass, PodKey, Unschedulable};

/// Arrival order of a pod.
pub(crate) type Sequence = u64;
/// Names a class within the queue.
pub(crate) type Slot = u64;

/// Why a class is not tried at present.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) details: Arc<Unschedulable>,
    /// `details` as a message.
    pub(crate) message: Arc<str>,
}

/// The pods of one class in the order of their arrival.
#[derive(Debug)]
struct Group {
    class: PodClass,
    pods: BTreeMap<Sequence, PodKey>,
    /// Set while the class is parked.
    refusal: Option<Refusal>,
    /// Pods that came since the class was last parked, and so have not been told anything.
    fresh: Vec<PodKey>,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    groups: BTreeMap<Slot, Group>,
    slots: HashMap<PodClass, Slot>,
    /// The classes to be tried: by priority, then by the arrival of their first pod.
    ready: BTreeSet<(Reverse<i32>, Sequence, Slot)>,
    parked: BTreeSet<Slot>,
    next_slot: Slot,
}

impl Queue {
    /// Adds a pod. A class that is parked stays so, since a newcomer changes nothing for it; its
    /// refusal is returned. Otherwise [`Queue::park`] will name the pod.
    pub(crate) fn push(&mut self, class: &PodClass, sequence: Sequence, key: &PodKey) -> Option<Refusal> {
        let slot = match self.slots.get(class) {
            Some(slot) => *slot,
            None => self.open(class),
        };
        self.unready(slot);
        let group = self.groups.get_mut(&slot)?;
        group.pods.insert(sequence, Arc::clone(key));
        let refusal = group.refusal.clone();
        if refusal.is_none() {
            group.fresh.push(Arc::clone(key));
        }
        self.ready_if_unrefused(slot);
        refusal
    }

    /// Takes a pod out.
    pub(crate) fn remove(&mut self, class: &PodClass, sequence: Sequence) {
        let Some(&slot) = self.slots.get(class) else { return };
        self.unready(slot);
        let Some(group) = self.groups.get_mut(&slot) else { return };
        group.pods.remove(&sequence);
        if group.pods.is_empty() {
            self.groups.remove(&slot);
            self.slots.remove(class);
            self.parked.remove(&slot);
        } else {
            self.ready_if_unrefused(slot);
        }
    }

    /// The pod to be tried next.
    pub(crate) fn first(&self) -> Option<(Slot, &PodClass, &PodKey)> {
        let (_, _, slot) = self.ready.first()?;
        let group = self.groups.get(slot)?;
        let (_, key) = group.pods.first_key_value()?;
        Some((*slot, &group.class, key))
    }

    /// Whether anything is to be tried.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Parks a class until [`Queue::wake`]. Returns the pods that came since it was last parked.
    pub(crate) fn park(&mut self, slot: Slot, refusal: Refusal) -> Vec<PodKey> {
        self.unready(slot);
        let Some(group) = self.groups.get_mut(&slot) else { return Vec::new() };
        group.refusal = Some(refusal);
        self.parked.insert(slot);
        std::mem::take(&mut group.fresh)
    }

    /// Replaces the reason why a class is parked. Returns its pods.
    pub(crate) fn restate(&mut self, slot: Slot, refusal: Refusal) -> impl Iterator<Item = &PodKey> {
        let group = self.groups.get_mut(&slot).filter(|group| group.refusal.is_some());
        group
            .map(|group| {
                group.refusal = Some(refusal);
                &*group
            })
            .into_iter()
            .flat_map(|group| group.pods.values())
    }

    /// Makes a parked class ready.
    pub(crate) fn wake(&mut self, slot: Slot) {
        if self.parked.remove(&slot)
            && let Some(group) = self.groups.get_mut(&slot)
        {
            group.refusal = None;
            self.ready_if_unrefused(slot);
        }
    }

    /// Whether any class is parked.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// The parked classes from a slot on.
    pub(crate) fn parked(&self, from: Slot) -> impl Iterator<Item = (Slot, &PodClass, &Refusal)> {
        self.parked.range(from..).filter_map(|slot| {
            let group = self.groups.get(slot)?;
            Some((*slot, &group.class, group.refusal.as_ref()?))
        })
    }

    fn open(&mut self, class: &PodClass) -> Slot {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.slots.insert(class.clone(), slot);
        self.groups.insert(
            slot,
            Group { class: class.clone(), pods: BTreeMap::new(), refusal: None, fresh: Vec::new() },
        );
        slot
    }

    fn rank(&self, slot: Slot) -> Option<(Reverse<i32>, Sequence, Slot)> {
        let group = self.groups.get(&slot)?;
        let (sequence, _) = group.pods.first_key_value()?;
        Some((Reverse(group.class.priority), *sequence, slot))
    }

    fn unready(&mut self, slot: Slot) {
        if let Some(rank) = self.rank(slot) {
            self.ready.remove(&rank);
        }
    }

    fn ready_if_unrefused(&mut self, slot: Slot) {
        let refused = self.groups.get(&slot).is_none_or(|group| group.refusal.is_some());
        if !refused && let Some(rank) = self.rank(slot) {
            self.ready.insert(rank);
        }
    }
}
