//! Pod classes: pods that placement cannot tell apart share one compiled set of requirements.

use std::ops::Deref;
use std::sync::Arc;

use base::map::HashSet;
use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};

use crate::node::{Effect, NodeInfo, Taint};
use crate::relations::{PodGroup, Relations};
use crate::resources::{self, Resources};
use crate::selector::{Term, Toleration};

/// Everything about a pod that decides where it may run and where it runs best.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodRequirements {
    /// What the pod asks for.
    pub requests: Resources,
    /// CPU (milli) and memory (bytes) that the pod counts for in `LeastAllocated`, where missing
    /// requests count a little.
    pub non_zero: (i64, i64),
    /// The pod's priority: it orders the queue and decides who may preempt whom.
    pub priority: i32,
    /// Whether the pod may preempt others (`preemptionPolicy` is not `Never`).
    pub may_preempt: bool,
    /// `spec.nodeSelector`, sorted.
    node_selector: Vec<(String, String)>,
    /// Alternatives of the required node affinity; `None` when there is none.
    required: Option<Vec<Term>>,
    /// Preferred node affinity as weights and terms.
    preferred: Vec<(u32, Term)>,
    tolerations: Vec<Toleration>,
    /// Ports taken on the node itself.
    pub host_ports: Vec<HostPort>,
    /// Rules about other pods.
    pub(crate) relations: Option<Relations>,
}

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Port number.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The node's address; `0.0.0.0` for all.
    pub ip: String,
}

const ALL_ADDRESSES: &str = "0.0.0.0";

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ALL_ADDRESSES || other.ip == ALL_ADDRESSES)
    }
}

impl PodRequirements {
    /// Compiles a pod: its spec, and its rules about other pods, which depend on its namespace and labels.
    pub fn of_pod(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        Self { relations: Relations::compile(spec, &PodGroup::of(pod)), ..Self::of(spec) }
    }

    /// Compiles a spec without rules about other pods.
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = affinity
            .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
        let mut tolerations: Vec<_> =
            spec.tolerations.iter().flatten().filter_map(Toleration::compile).collect();
        tolerations.sort_unstable();
        tolerations.dedup();
        Self {
            requests: resources::pod_requests(spec),
            non_zero: resources::non_zero_requests(spec),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            node_selector: spec
                .node_selector
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            required: required
                .map(|selector| selector.node_selector_terms.iter().filter_map(Term::compile).collect()),
            preferred: preferred.into_iter().flatten().filter_map(preferred_term).collect(),
            tolerations,
            host_ports: host_ports(spec),
            relations: None,
        }
    }

    /// Whether the node's labels and name satisfy the node selector and the required affinity.
    pub fn selects(&self, node: &NodeInfo) -> bool {
        self.node_selector.iter().all(|(key, value)| node.label(key) == Some(value))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// Whether the pod tolerates this taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }

    /// The first taint that keeps the pod away from the node.
    pub fn untolerated<'node>(&self, node: &'node NodeInfo) -> Option<&'node Taint> {
        node.taints.iter().find(|taint| taint.effect != Effect::PreferNoSchedule && !self.tolerates(taint))
    }

    /// How many `PreferNoSchedule` taints of the node the pod does not tolerate.
    pub(crate) fn intolerable(&self, node: &NodeInfo) -> u32 {
        let count = node
            .taints
            .iter()
            .filter(|taint| taint.effect == Effect::PreferNoSchedule && !self.tolerates(taint))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The sum of the weights of the preferred terms that the node matches.
    pub(crate) fn preference(&self, node: &NodeInfo) -> u32 {
        self.preferred.iter().filter(|(_, term)| term.matches(node)).map(|(weight, _)| *weight).sum()
    }

    /// Whether there are preferred terms at all.
    pub(crate) fn has_preferences(&self) -> bool {
        !self.preferred.is_empty()
    }

    /// The only nodes that come into question, where the affinity pins the pod by name as
    /// DaemonSets do. Empty when the pins contradict each other.
    pub(crate) fn pinned_names(&self) -> Option<Vec<&str>> {
        let terms = self.required.as_ref()?;
        if terms.is_empty() {
            return None;
        }
        let mut names = Vec::new();
        for term in terms {
            if let Some(name) = term.pinned_name()? {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

fn preferred_term(term: &core::PreferredSchedulingTerm) -> Option<(u32, Term)> {
    let weight = u32::try_from(term.weight).ok().filter(|weight| *weight > 0)?;
    Some((weight, Term::compile(&term.preference)?))
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports: Vec<HostPort> = sidecars
        .chain(&spec.containers)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let or = |text: &Option<String>, default: &str| {
                text.as_deref().filter(|text| !text.is_empty()).unwrap_or(default).to_owned()
            };
            Some(HostPort {
                port: number,
                protocol: or(&port.protocol, "TCP"),
                ip: or(&port.host_ip, ALL_ADDRESSES),
            })
        })
        .collect();
    ports.sort_unstable();
    ports
}

/// A handle to interned requirements and to what other pods' rules see of the pod. Clones are cheap;
/// equal pods of one [`Classes`] are the same class.
#[derive(Clone, Debug)]
pub struct PodClass {
    requirements: Arc<PodRequirements>,
    group: Option<Arc<PodGroup>>,
}

impl PodClass {
    /// Identifies the requirements as long as a handle to them lives.
    pub(crate) fn requirements_id(&self) -> usize {
        Arc::as_ptr(&self.requirements).addr()
    }

    /// Namespace and labels, if known.
    pub(crate) fn group(&self) -> Option<&Arc<PodGroup>> {
        self.group.as_ref()
    }

    fn group_id(&self) -> usize {
        self.group.as_ref().map_or(0, |group| Arc::as_ptr(group).addr())
    }
}

impl Deref for PodClass {
    type Target = PodRequirements;

    fn deref(&self) -> &PodRequirements {
        &self.requirements
    }
}

impl PartialEq for PodClass {
    fn eq(&self, other: &Self) -> bool {
        self.requirements_id() == other.requirements_id() && self.group_id() == other.group_id()
    }
}

impl Eq for PodClass {}

impl std::hash::Hash for PodClass {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.requirements_id(), self.group_id()).hash(state);
    }
}

/// The classes in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    requirements: Interned<PodRequirements>,
    groups: Interned<PodGroup>,
}

impl Classes {
    /// The class of these requirements.
    pub(crate) fn intern(&mut self, requirements: PodRequirements, group: Option<PodGroup>) -> PodClass {
        PodClass {
            requirements: self.requirements.intern(requirements),
            group: group.map(|group| self.groups.intern(group)),
        }
    }
}

/// Equal values as one. Those that nobody holds any more are dropped from time to time.
#[derive(Clone, Debug)]
struct Interned<T> {
    known: HashSet<Arc<T>>,
    /// Sweep when there are this many, so that sweeping costs a constant share.
    sweep_at: usize,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { known: HashSet::default(), sweep_at: 64 }
    }
}

impl<T: Eq + std::hash::Hash> Interned<T> {
    fn intern(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.known.get(&value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.known.len() * 2).max(64);
        }
        let value = Arc::new(value);
        self.known.insert(Arc::clone(&value));
        value
    }
}
