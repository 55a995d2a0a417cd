//! The scheduler as a state machine: what is observed goes in, what is to be done comes out. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::backoff::Policy;
use base::map::HashMap;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::{Cluster, NodeId, NodeInfo, PodClass, PodKey, Preemption, Scores};
use tokio::time::Instant;

use crate::pod::{self, Identity, Stage};
use crate::queue::{Queue, Refusal, Sequence, Slot};

/// Delays between attempts to bind a pod: upstream's `podInitialBackoffSeconds` and
/// `podMaxBackoffSeconds`.
const BIND_BACKOFF: Policy =
    Policy { initial: Duration::from_secs(1), max: Duration::from_secs(10), factor: 2.0, jitter: 0.0 };

/// When the picture of the cluster has changed, pods whose message is out of date get a new one, at
/// most this many per class and round.
const RESTATED_PER_ROUND: usize = 64;

/// At most this many parked classes are looked at per round.
const CLASSES_PER_ROUND: usize = 32;

/// How long a pod waits for room on its nominated node before it tries everything again. Longer than
/// the usual grace period of those who make room.
const NOMINATION_MAX: Duration = Duration::from_secs(60);

/// Rules between pods can be satisfied by a change anywhere. Parked classes that have such rules are
/// looked at after changes, at most this often, as each look costs a walk over all nodes.
const RELATED_EVERY: Duration = Duration::from_millis(100);

/// Something to be done outside.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Bind the pod to the node. The outcome comes back through [`State::bound`].
    Bind(Binding),
    /// Tell why the pod is not placed.
    Report(Report),
    /// Remove these pods to make room for the pod.
    Evict { victims: Vec<PodKey>, preemptor: Identity, node: Arc<str> },
}

/// A pod on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) pod: Identity,
    pub(crate) node: Arc<str>,
    /// The node's scores; `None` where there was no choice.
    pub(crate) scores: Option<Scores>,
    /// Whether the pod had been told that it cannot be placed.
    pub(crate) told: bool,
}

/// Why a pod is not placed.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) pod: Identity,
    /// The value of `observedGeneration` of the condition.
    pub(crate) generation: Option<i64>,
    /// Since when the condition has been false (`metav1.Time`), if it has.
    pub(crate) transition: Option<Arc<str>>,
    pub(crate) refusal: Refusal,
    /// The node on which room is being made for the pod.
    pub(crate) nominated: Option<Arc<str>>,
}

/// What became of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindOutcome {
    /// The API server has bound the pod.
    Done,
    /// The pod is gone.
    Gone,
    /// It did not work; worth another try.
    Failed,
}

#[derive(Debug)]
struct Pending {
    pod: Identity,
    class: PodClass,
    sequence: Sequence,
    generation: Option<i64>,
    /// The message in the pod's condition.
    told: Option<Arc<str>>,
    /// Since when that condition has been false.
    transition: Option<Arc<str>>,
    /// Failed bindings so far.
    failures: u32,
    place: Place,
}

/// Where a pending pod is.
#[derive(Debug)]
enum Place {
    /// In the queue.
    Queued,
    /// Waits out a failed binding.
    BackingOff(Instant),
    /// Being bound; the cluster already counts it on its node.
    Assumed,
    /// Room is being made for it on this node until then; a stand-in holds it there.
    Nominated(Arc<str>, Instant),
}

/// The scheduler's view of the world.
#[derive(Debug)]
pub(crate) struct State {
    scheduler_name: String,
    cluster: Cluster,
    queue: Queue,
    pending: HashMap<PodKey, Pending>,
    back_off: BTreeMap<(Instant, Sequence), PodKey>,
    /// Nodes that may have become more attractive since classes were parked.
    freed: BTreeSet<NodeId>,
    nominated: BTreeSet<PodKey>,
    /// Whether reasons given earlier may be out of date.
    outdated: bool,
    /// Whether anything has moved since parked classes with rules about other pods were looked at.
    related_outdated: bool,
    /// When they were last looked at.
    related_looked_at: Option<Instant>,
    /// The class with which the next round of restating begins.
    restate_from: Slot,
    next_sequence: Sequence,
    actions: Vec<Action>,
}

impl State {
    pub(crate) fn new(scheduler_name: String, seed: u64) -> Self {
        Self {
            scheduler_name,
            cluster: Cluster::new(seed),
            queue: Queue::default(),
            pending: HashMap::default(),
            back_off: BTreeMap::new(),
            freed: BTreeSet::new(),
            nominated: BTreeSet::new(),
            outdated: false,
            related_outdated: false,
            related_looked_at: None,
            restate_from: 0,
            next_sequence: 0,
            actions: Vec::new(),
        }
    }

    /// What is to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// A node appeared or changed.
    pub(crate) fn node_applied(&mut self, node: &Node) {
        if let Some(id) = self.cluster.set_node(NodeInfo::of(node)) {
            self.freed.insert(id);
            self.outdated = true;
            self.related_outdated = true;
        }
    }

    /// A node is gone.
    pub(crate) fn node_deleted(&mut self, name: &str) {
        if let Some(id) = self.cluster.engine().snapshot().id(name) {
            self.freed.remove(&id);
        }
        self.cluster.remove_node(name);
        self.outdated = true;
        self.related_outdated = true;
        let on_it = |key: &&PodKey| matches!(self.pending.get(*key).map(|pending| &pending.place), Some(Place::Nominated(node, _)) if **node == *name);
        let orphans: Vec<PodKey> = self.nominated.iter().filter(on_it).cloned().collect();
        for key in orphans {
            self.requeue(&key);
        }
    }

    /// A pod appeared or changed.
    pub(crate) fn pod_applied(&mut self, pod: &Pod) {
        let identity = Identity::of(pod);
        if self.pending.get(&identity.key).is_some_and(|known| known.pod.uid != identity.uid) {
            self.pod_deleted(&identity.key);
        }
        match pod::stage(pod, &self.scheduler_name) {
            Stage::Bound(node) => self.settle(pod, &identity.key, node),
            Stage::Pending => self.enqueue(pod, identity),
            Stage::Idle => self.pod_deleted(&identity.key),
        }
    }

    /// A pod is gone, or does not occupy anything any more.
    pub(crate) fn pod_deleted(&mut self, key: &PodKey) {
        if let Some(pending) = self.pending.remove(key) {
            self.leave(&pending);
        }
        self.free(key);
    }

    /// A binding has come to its end.
    pub(crate) fn bound(&mut self, pod: &Identity, outcome: BindOutcome, now: Instant) {
        // The watch may have been faster, or the pod may have been replaced meanwhile.
        let Some(pending) = self.pending.get_mut(&pod.key).filter(|pending| pending.pod.uid == pod.uid)
        else {
            return;
        };
        if !matches!(pending.place, Place::Assumed) || outcome == BindOutcome::Done {
            return;
        }
        if outcome == BindOutcome::Gone {
            self.pod_deleted(&pod.key);
            return;
        }
        let until = now + BIND_BACKOFF.delay(pending.failures);
        pending.failures += 1;
        pending.place = Place::BackingOff(until);
        self.back_off.insert((until, pending.sequence), Arc::clone(&pod.key));
        self.free(&pod.key);
    }

    /// When something is due without anything happening.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let back_off = self.back_off.first_key_value().map(|((until, _), _)| *until);
        let engine = self.cluster.engine();
        let has_related = || self.queue.parked(0).any(|(_, class, _)| engine.is_related(class));
        let related = (self.related_outdated && has_related()).then_some(self.related_looked_at).flatten();
        back_off.into_iter().chain(related.map(|at| at + RELATED_EVERY)).min()
    }

    /// Whether calling [`State::schedule`] would achieve anything now.
    pub(crate) fn has_work(&self) -> bool {
        self.queue.has_ready()
            || (!self.freed.is_empty() && (self.queue.has_parked() || !self.nominated.is_empty()))
    }

    /// Whether reasons given earlier may be out of date: see [`State::restate`].
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated && self.queue.has_parked()
    }

    /// Places up to `limit` pods.
    pub(crate) fn schedule(&mut self, limit: usize, now: Instant) {
        self.end_back_off(now);
        self.wake_parked();
        self.wake_related(now);
        for _ in 0..limit {
            let Some((slot, class, key)) = self.queue.first() else { break };
            let (class, key) = (class.clone(), Arc::clone(key));
            match self.cluster.engine_mut().place(&class) {
                Some(placement) => self.assume(&key, placement.node, Some(placement.scores)),
                None => self.refuse(slot, &class, &key, now),
            }
        }
    }

    /// Brings messages of waiting pods up to date, a bounded number at a time.
    pub(crate) fn restate(&mut self) {
        let mut round = Vec::new();
        for (slot, class, refusal) in self.queue.parked(self.restate_from).take(CLASSES_PER_ROUND) {
            let mut details = self.cluster.engine().explain(class);
            details.preemption = Some(scheduling::preempt(&self.cluster, class, &|_| false));
            round.push((
                slot,
                if details == *refusal.details { refusal.clone() } else { refusal_of(details) },
            ));
        }
        let complete = round.len() < CLASSES_PER_ROUND;
        self.restate_from = round.last().filter(|_| !complete).map_or(0, |(slot, _)| slot + 1);
        self.outdated = !complete;
        for (slot, refusal) in round {
            let differs = |key: &&PodKey| {
                self.pending.get(*key).is_some_and(|pending| pending.told.as_ref() != Some(&refusal.message))
            };
            let keys: Vec<PodKey> = self
                .queue
                .restate(slot, refusal.clone())
                .filter(differs)
                .take(RESTATED_PER_ROUND + 1)
                .cloned()
                .collect();
            self.outdated |= keys.len() > RESTATED_PER_ROUND;
            for key in keys.iter().take(RESTATED_PER_ROUND) {
                self.tell(key, &refusal, None);
            }
        }
    }

    fn enqueue(&mut self, pod: &Pod, identity: Identity) {
        let class = self.cluster.engine_mut().class_of(pod);
        let condition = pod::scheduled_condition(pod).filter(|condition| condition.status == "False");
        let told = condition.and_then(|condition| condition.message.as_deref());
        let transition = condition
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map(|time| Arc::from(base::clock::rfc3339(time.0)));
        if let Some(known) = self.pending.get_mut(&identity.key) {
            known.generation = pod.metadata.generation;
            known.transition.clone_from(&transition);
            // A pod that is on its way stays on its way; its changes arrive with the next event.
            if known.class == class || matches!(known.place, Place::Assumed) {
                return;
            }
            self.pod_deleted(&identity.key);
        }
        // A former pod of this name may still be counted if its end was not seen.
        self.free(&identity.key);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let key = Arc::clone(&identity.key);
        let nominated = pod::nominated_node(pod).map(Arc::<str>::from);
        let pending = Pending {
            pod: identity,
            class: class.clone(),
            sequence,
            generation: pod.metadata.generation,
            told: told.map(Arc::from),
            transition,
            failures: 0,
            place: Place::Queued,
        };
        self.pending.insert(Arc::clone(&key), pending);
        if let Some(node) = nominated
            && let Some(id) = self.cluster.engine().snapshot().id(&node)
            && self.cluster.engine().is_feasible(&class, id)
        {
            self.assume(&key, id, None);
            return;
        }
        if let Some(refusal) = self.queue.push(&class, sequence, &key) {
            self.tell(&key, &refusal, None);
        }
    }

    /// The API server says that the pod runs on this node.
    fn settle(&mut self, pod: &Pod, key: &PodKey, node: &str) {
        if let Some(pending) = self.pending.remove(key)
            && !matches!(pending.place, Place::Assumed)
        {
            self.leave(&pending);
        }
        let class = self.cluster.engine_mut().class_of(pod);
        let node = match self.cluster.pod(key) {
            Some(known) if *known.node == *node => Arc::clone(&known.node),
            _ => Arc::from(node),
        };
        self.related_outdated |= self.cluster.pod(key).is_none();
        if let Some(freed) = self.cluster.set_pod(key, &class, &node, pod::started(pod)) {
            self.freed.insert(freed);
        }
    }

    /// Takes a pod out of wherever it waits.
    fn leave(&mut self, pending: &Pending) {
        match &pending.place {
            Place::Queued => self.queue.remove(&pending.class, pending.sequence),
            Place::BackingOff(until) => drop(self.back_off.remove(&(*until, pending.sequence))),
            Place::Assumed => self.free(&pending.pod.key),
            Place::Nominated(_, until) => {
                self.back_off.remove(&(*until, pending.sequence));
                self.nominated.remove(&pending.pod.key);
                self.free(&stand_in(&pending.pod.key));
            }
        }
    }

    /// Removes a pod from the node that it occupies.
    fn free(&mut self, key: &str) {
        if let Some(node) = self.cluster.remove_pod(key) {
            self.freed.insert(node);
            self.outdated = true;
            self.related_outdated = true;
        }
    }

    fn assume(&mut self, key: &PodKey, node: NodeId, scores: Option<Scores>) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        let Some(info) = self.cluster.engine().snapshot().node(node) else { return };
        let name = Arc::clone(&info.name);
        self.queue.remove(&pending.class, pending.sequence);
        pending.place = Place::Assumed;
        self.related_outdated = true;
        self.cluster.set_pod(key, &pending.class, &name, i64::MAX);
        let told = pending.told.is_some();
        self.actions.push(Action::Bind(Binding { pod: pending.pod.clone(), node: name, scores, told }));
    }

    /// The class fits nowhere: preempt for this pod, or park the class.
    fn refuse(&mut self, slot: Slot, class: &PodClass, key: &PodKey, now: Instant) {
        let mut details = self.cluster.engine().explain(class);
        match scheduling::preempt(&self.cluster, class, &|_| false) {
            Preemption::Nominated { node, victims, .. } => {
                let refusal = refusal_of(details);
                self.nominate(key, &node, victims, now);
                self.tell(key, &refusal, Some(node));
            }
            answer => {
                details.preemption = Some(answer);
                let refusal = refusal_of(details);
                for key in self.queue.park(slot, refusal.clone()) {
                    self.tell_if_untold(&key, &refusal);
                }
            }
        }
    }

    fn nominate(&mut self, key: &PodKey, node: &Arc<str>, victims: Vec<PodKey>, now: Instant) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        self.queue.remove(&pending.class, pending.sequence);
        let until = now + NOMINATION_MAX;
        pending.place = Place::Nominated(Arc::clone(node), until);
        self.back_off.insert((until, pending.sequence), Arc::clone(key));
        self.nominated.insert(Arc::clone(key));
        let (class, preemptor) = (pending.class.clone(), pending.pod.clone());
        self.cluster.set_pod(&stand_in(key), &class, node, i64::MAX);
        // A stand-in among the victims is a less important pod's nomination: it goes back to the queue.
        let (stand_ins, victims): (Vec<_>, Vec<_>) =
            victims.into_iter().partition(|victim| victim.starts_with(STAND_IN));
        for stand_in in stand_ins {
            self.requeue(&PodKey::from(&stand_in[STAND_IN.len()..]));
        }
        self.actions.push(Action::Evict { victims, preemptor, node: Arc::clone(node) });
    }

    /// Puts a pod that waited elsewhere back into the queue.
    fn requeue(&mut self, key: &PodKey) {
        let Some(mut pending) = self.pending.remove(key) else { return };
        self.leave(&pending);
        pending.place = Place::Queued;
        let (class, sequence) = (pending.class.clone(), pending.sequence);
        self.pending.insert(Arc::clone(key), pending);
        if let Some(refusal) = self.queue.push(&class, sequence, key) {
            self.tell(key, &refusal, None);
        }
    }

    /// Tells a pod that has not been told anything. The others hear of changes in [`State::restate`].
    fn tell_if_untold(&mut self, key: &PodKey, refusal: &Refusal) {
        match self.pending.get(key) {
            Some(pending) if pending.told.is_none() => self.tell(key, refusal, None),
            Some(pending) => self.outdated |= pending.told.as_ref() != Some(&refusal.message),
            None => {}
        }
    }

    /// Tells a pod why it is not placed, unless it knows.
    fn tell(&mut self, key: &PodKey, refusal: &Refusal, nominated: Option<Arc<str>>) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        if pending.told.as_ref() == Some(&refusal.message) && nominated.is_none() {
            return;
        }
        pending.told = Some(Arc::clone(&refusal.message));
        self.actions.push(Action::Report(Report {
            pod: pending.pod.clone(),
            generation: pending.generation,
            transition: pending.transition.clone(),
            refusal: refusal.clone(),
            nominated,
        }));
    }

    fn end_back_off(&mut self, now: Instant) {
        while let Some((&(until, _), key)) = self.back_off.first_key_value()
            && until <= now
        {
            let key = Arc::clone(key);
            self.requeue(&key);
        }
    }

    /// Wakes the classes that one of the freed nodes could take, and the pods that room was made for.
    fn wake_parked(&mut self) {
        let freed = std::mem::take(&mut self.freed);
        if freed.is_empty() {
            return;
        }
        self.place_nominated(&freed);
        let engine = self.cluster.engine();
        let woken: Vec<_> = self
            .queue
            .parked(0)
            .filter(|(_, class, _)| {
                !engine.is_related(class) && freed.iter().any(|node| engine.is_feasible(class, *node))
            })
            .map(|(slot, _, _)| slot)
            .collect();
        for slot in woken {
            self.queue.wake(slot);
        }
    }

    /// Wakes the classes with rules about other pods that have a place now.
    fn wake_related(&mut self, now: Instant) {
        if !self.related_outdated || self.related_looked_at.is_some_and(|at| now < at + RELATED_EVERY) {
            return;
        }
        self.related_outdated = false;
        self.related_looked_at = Some(now);
        let engine = self.cluster.engine();
        let related: Vec<(Slot, PodClass)> = self
            .queue
            .parked(0)
            .filter(|(_, class, _)| engine.is_related(class))
            .map(|(slot, class, _)| (slot, class.clone()))
            .collect();
        for (slot, class) in related {
            if self.cluster.engine_mut().is_placeable(&class) {
                self.queue.wake(slot);
            }
        }
    }

    /// Binds nominated pods to freed nodes, their own or others, that have room for them besides what
    /// still runs there.
    fn place_nominated(&mut self, freed: &BTreeSet<NodeId>) {
        let nominated: Vec<PodKey> = self.nominated.iter().cloned().collect();
        for key in nominated {
            let Some(Pending { class, sequence, place: Place::Nominated(node, until), .. }) =
                self.pending.get(&key)
            else {
                continue;
            };
            let (class, sequence, node, until) = (class.clone(), *sequence, Arc::clone(node), *until);
            self.cluster.remove_pod(&stand_in(&key));
            match freed.iter().find(|id| self.cluster.engine().is_feasible(&class, **id)) {
                Some(id) => {
                    self.back_off.remove(&(until, sequence));
                    self.nominated.remove(&key);
                    self.assume(&key, *id, None);
                }
                None => drop(self.cluster.set_pod(&stand_in(&key), &class, &node, i64::MAX)),
            }
        }
    }
}

/// Marks the key of a stand-in; no namespace begins like this.
const STAND_IN: &str = "~";

/// The key under which the room for a nominated pod is held.
fn stand_in(key: &str) -> PodKey {
    PodKey::from(format!("{STAND_IN}{key}"))
}

fn refusal_of(details: scheduling::Unschedulable) -> Refusal {
    let message = Arc::from(details.to_string());
    Refusal { details: Arc::new(details), message }
}

#[cfg(test)]
mod tests;
