//! Filters: which nodes a pod may run on, and the reasons why not, in upstream's words.

use std::fmt;
use std::sync::Arc;

use crate::class::PodRequirements;
use crate::node::{Effect, NodeInfo, Taint};
use crate::snapshot::{Columns, NodeId, Snapshot};

/// Why a pod cannot run on a node. The texts are those of upstream's scheduler plugins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The node is cordoned.
    Unschedulable,
    /// The node has a taint that the pod does not tolerate.
    UntoleratedTaint,
    /// Node selector or required node affinity do not match.
    NodeAffinity,
    /// The pod's affinity names other nodes.
    NotNamed,
    /// A host port is taken.
    HostPorts,
    /// The node is full by number of pods.
    TooManyPods,
    /// Not enough of a resource is free.
    Insufficient {
        /// The resource.
        resource: Arc<str>,
        /// Whether even the empty node has too little.
        on_empty_node: bool,
    },
    /// A topology spread constraint would be violated.
    Spread,
    /// The node lacks the label of a topology spread constraint.
    SpreadLabelMissing,
    /// The pods that the pod wants to be with are elsewhere.
    PodAffinity,
    /// Pods that the pod wants to stay away from are near.
    PodAntiAffinity,
    /// Pods that want to stay away from the pod are near.
    ExistingAntiAffinity,
}

impl Reason {
    /// Whether removing pods from the node could help. Where one reason of a node says no, preemption
    /// does not help there.
    pub fn is_resolvable(&self) -> bool {
        matches!(
            self,
            Self::HostPorts
                | Self::TooManyPods
                | Self::Insufficient { on_empty_node: false, .. }
                | Self::Spread
                | Self::PodAntiAffinity
                | Self::ExistingAntiAffinity
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::UntoleratedTaint => f.write_str("node(s) had untolerated taint(s)"),
            Self::NodeAffinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::NotNamed => f.write_str("node(s) didn't satisfy plugin(s) [NodeAffinity]"),
            Self::HostPorts => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Insufficient { resource, .. } => write!(f, "Insufficient {resource}"),
            Self::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::SpreadLabelMissing => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
            Self::PodAffinity => f.write_str("node(s) didn't match pod affinity rules"),
            Self::PodAntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::ExistingAntiAffinity => {
                f.write_str("node(s) didn't satisfy existing pods anti-affinity rules")
            }
        }
    }
}

/// What the node itself says to a pod, whatever runs there; in the order of upstream's plugins.
pub(crate) fn check_node(pod: &PodRequirements, node: &NodeInfo) -> Option<Reason> {
    if node.unschedulable && !tolerates_unschedulable(pod) {
        Some(Reason::Unschedulable)
    } else if pod.untolerated(node).is_some() {
        Some(Reason::UntoleratedTaint)
    } else if !pod.selects(node) {
        Some(Reason::NodeAffinity)
    } else {
        None
    }
}

fn tolerates_unschedulable(pod: &PodRequirements) -> bool {
    let taint = Taint {
        key: Arc::from(api::names::UNSCHEDULABLE_TAINT),
        value: Arc::from(""),
        effect: Effect::NoSchedule,
    };
    pod.tolerates(&taint)
}

/// Whether what runs on the node leaves room for the pod.
pub(crate) fn has_room(columns: &Columns, index: usize, pod: &PodRequirements) -> bool {
    let free = columns.free(index);
    let requests = &pod.requests;
    free.pods >= 1
        && fits(requests.cpu_milli, free.cpu_milli)
        && fits(requests.memory_bytes, free.memory_bytes)
        && fits(requests.ephemeral_bytes, free.ephemeral_bytes)
        && (requests.extended.is_empty() || has_extended(columns, index, pod))
        && (pod.host_ports.is_empty() || ports_free(columns, index, pod, &[]))
}

/// A request of nothing always fits, even on an overcommitted node.
fn fits(request: i64, free: i64) -> bool {
    request <= 0 || request <= free
}

fn has_extended(columns: &Columns, index: usize, pod: &PodRequirements) -> bool {
    pod.requests.extended.iter().all(|(name, amount)| {
        let free =
            columns.extended(name).map_or(0, |column| column.allocatable[index] - column.requested[index]);
        fits(*amount, free)
    })
}

fn ports_free(columns: &Columns, index: usize, pod: &PodRequirements, removed: &[&PodRequirements]) -> bool {
    let Some(used) = &columns.ports[index] else { return true };
    let mut used: Vec<_> = used.iter().collect();
    for port in removed.iter().flat_map(|pod| &pod.host_ports) {
        if let Some(position) = used.iter().position(|known| *known == port) {
            used.swap_remove(position);
        }
    }
    !pod.host_ports.iter().any(|wanted| used.iter().any(|port| wanted.conflicts(port)))
}

/// All reasons against the node as upstream would report them: those of the first plugin that says
/// no. `removed` are pods of the node to be thought away.
pub(crate) fn reasons(
    snapshot: &Snapshot,
    id: NodeId,
    pod: &PodRequirements,
    removed: &[&PodRequirements],
) -> Vec<Reason> {
    let Some(node) = snapshot.node(id) else { return Vec::new() };
    if let Some(reason) = check_node(pod, node) {
        return vec![reason];
    }
    let columns = &snapshot.columns;
    if !pod.host_ports.is_empty() && !ports_free(columns, id.index(), pod, removed) {
        return vec![Reason::HostPorts];
    }
    insufficient(columns, id.index(), pod, removed)
}

fn insufficient(
    columns: &Columns,
    index: usize,
    pod: &PodRequirements,
    removed: &[&PodRequirements],
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let free = columns.free(index);
    let regained = |amount: fn(&PodRequirements) -> i64| removed.iter().map(|pod| amount(pod)).sum::<i64>();
    if free.pods + regained(|_| 1) < 1 {
        reasons.push(Reason::TooManyPods);
    }
    let mut check = |resource: &str, request: i64, free: i64, allocatable: i64| {
        if !fits(request, free) {
            reasons.push(Reason::Insufficient {
                resource: Arc::from(resource),
                on_empty_node: request > allocatable,
            });
        }
    };
    let requests = &pod.requests;
    check(
        "cpu",
        requests.cpu_milli,
        free.cpu_milli + regained(|pod| pod.requests.cpu_milli),
        columns.cpu_allocatable[index],
    );
    check(
        "memory",
        requests.memory_bytes,
        free.memory_bytes + regained(|pod| pod.requests.memory_bytes),
        columns.memory_allocatable[index],
    );
    check(
        "ephemeral-storage",
        requests.ephemeral_bytes,
        free.ephemeral_bytes + regained(|pod| pod.requests.ephemeral_bytes),
        columns.ephemeral_allocatable[index],
    );
    for (name, amount) in &requests.extended {
        let (allocatable, requested) = columns
            .extended(name)
            .map_or((0, 0), |column| (column.allocatable[index], column.requested[index]));
        let regained: i64 = removed.iter().map(|pod| pod.requests.extended(name)).sum();
        check(name, *amount, allocatable - requested + regained, allocatable);
    }
    reasons
}
