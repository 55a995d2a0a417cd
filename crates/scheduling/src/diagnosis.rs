//! Why a pod fits nowhere: upstream's one-line message, and the details behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::class::PodClass;
use crate::engine::Engine;
use crate::filter::Reason;
use crate::preempt::Preemption;
use crate::snapshot::NodeId;

/// How many different taints are told apart in the details.
const TAINTS_MAX: usize = 8;

/// The result of a failed attempt to place a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unschedulable {
    /// The number of nodes looked at.
    pub nodes: usize,
    /// How many nodes failed for each reason. One node may have several.
    pub reasons: BTreeMap<Reason, Nodes>,
    /// The taints that kept the pod away, as `{key: value}`, with the number of nodes.
    pub taints: BTreeMap<String, u32>,
    /// The node that lacks least, among those that lack nothing but room.
    pub nearest: Option<Nearest>,
    /// What preemption had to say, if it was tried.
    pub preemption: Option<Preemption>,
}

/// The nodes with one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// How many they are.
    pub count: u32,
    /// One of them.
    pub example: Option<Arc<str>>,
}

/// The node on which a pod almost fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The node's name.
    pub node: Arc<str>,
    /// What is missing there: CPU in thousandths of a core,
    pub cpu_milli: i64,
    /// memory in bytes,
    pub memory_bytes: i64,
    /// and places for pods.
    pub pods: i64,
}

impl Unschedulable {
    /// Looks at every node for reasons against the class.
    pub(crate) fn diagnose(engine: &Engine, class: &PodClass) -> Self {
        let snapshot = engine.snapshot();
        let mut result = Self { nodes: snapshot.len(), ..Self::default() };
        let mut least_missing = f64::INFINITY;
        let standing = engine.standing(class);
        for (id, node) in snapshot.nodes() {
            let reasons = engine.reasons_on(class, standing.as_ref(), id);
            if reasons.contains(&Reason::UntoleratedTaint) {
                result.count_taint(class, node);
            }
            if let Some((missing, nearest)) = shortage(engine, class, id, &reasons)
                && missing < least_missing
            {
                least_missing = missing;
                result.nearest = Some(nearest);
            }
            for reason in reasons {
                let nodes = result.reasons.entry(reason).or_default();
                nodes.count += 1;
                nodes.example.get_or_insert_with(|| Arc::clone(&node.name));
            }
        }
        result
    }

    fn count_taint(&mut self, class: &PodClass, node: &crate::node::NodeInfo) {
        let Some(taint) = class.untolerated(node) else { return };
        let text = format!("{{{}: {}}}", taint.key, taint.value);
        if self.taints.len() < TAINTS_MAX || self.taints.contains_key(&text) {
            *self.taints.entry(text).or_default() += 1;
        }
    }

    /// Whether some node failed for nothing but reasons that preemption can remove.
    pub fn is_resolvable(&self) -> bool {
        self.reasons.keys().any(Reason::is_resolvable)
    }

    /// The sum without what preemption says: `0/5 nodes are available: 2 Insufficient cpu.`
    pub fn filter_message(&self) -> String {
        summary(self.nodes, self.reasons.iter().map(|(reason, nodes)| (reason.to_string(), nodes.count)))
    }
}

/// Upstream's `FitError.Error`: reasons with their counts, sorted as texts.
pub(crate) fn summary(nodes: usize, reasons: impl Iterator<Item = (String, u32)>) -> String {
    let mut counts = BTreeMap::<String, u32>::new();
    for (reason, count) in reasons {
        *counts.entry(reason).or_default() += count;
    }
    let mut texts: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort_unstable();
    let list = texts.join(", ");
    if list.is_empty() {
        format!("0/{nodes} nodes are available:")
    } else {
        format!("0/{nodes} nodes are available: {list}.")
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        f.write_str(&self.filter_message())?;
        match self.preemption.as_ref().and_then(Preemption::message) {
            Some(message) => write!(f, " preemption: {message}"),
            None => Ok(()),
        }
    }
}

/// How far the node is from taking the pod, as the sum of missing shares of the request; `None`
/// when more than CPU, memory or places for pods is missing.
#[allow(clippy::cast_precision_loss, reason = "only orders nodes")]
fn shortage(engine: &Engine, class: &PodClass, id: NodeId, reasons: &[Reason]) -> Option<(f64, Nearest)> {
    let only_room = |reason: &Reason| match reason {
        Reason::TooManyPods => true,
        Reason::Insufficient { resource, .. } => matches!(resource.as_ref(), "cpu" | "memory"),
        _ => false,
    };
    if reasons.is_empty() || !reasons.iter().all(only_room) {
        return None;
    }
    let snapshot = engine.snapshot();
    let free = snapshot.free(id);
    let missing = |request: i64, free: i64| if request > 0 { (request - free).max(0) } else { 0 };
    let nearest = Nearest {
        node: Arc::clone(&snapshot.node(id)?.name),
        cpu_milli: missing(class.requests.cpu_milli, free.cpu_milli),
        memory_bytes: missing(class.requests.memory_bytes, free.memory_bytes),
        pods: missing(1, free.pods),
    };
    let share = |missing: i64, request: i64| missing as f64 / request.max(1) as f64;
    let sum = share(nearest.cpu_milli, class.requests.cpu_milli)
        + share(nearest.memory_bytes, class.requests.memory_bytes)
        + nearest.pods as f64;
    Some((sum, nearest))
}
