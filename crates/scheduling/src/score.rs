//! Scores: which of the possible nodes is best. Formulas and weights are those of upstream's
//! default profile (`pkg/scheduler/apis/config/v1/default_plugins.go`).

use crate::class::PodRequirements;
use crate::snapshot::Columns;

/// The best score of one plugin before its weight.
pub const MAX_NODE_SCORE: i64 = 100;
/// Weight of `TaintToleration`.
pub const TAINT_TOLERATION_WEIGHT: i64 = 3;
/// Weight of `NodeAffinity`.
pub const NODE_AFFINITY_WEIGHT: i64 = 2;
/// Weight of `NodeResourcesFit` (`LeastAllocated`).
pub const LEAST_ALLOCATED_WEIGHT: i64 = 1;
/// Weight of `NodeResourcesBalancedAllocation`.
pub const BALANCED_ALLOCATION_WEIGHT: i64 = 1;
/// Weight of `PodTopologySpread`.
pub const TOPOLOGY_SPREAD_WEIGHT: i64 = 2;
/// Weight of `InterPodAffinity`.
pub const POD_AFFINITY_WEIGHT: i64 = 2;

/// The scores of a node for a pod, each from 0 to [`MAX_NODE_SCORE`] before its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// `TaintToleration`: fewer intolerable `PreferNoSchedule` taints are better.
    pub taint_toleration: i64,
    /// `NodeAffinity`: preferred terms.
    pub node_affinity: i64,
    /// `NodeResourcesFit` with `LeastAllocated`.
    pub least_allocated: i64,
    /// `NodeResourcesBalancedAllocation`.
    pub balanced_allocation: i64,
    /// `PodTopologySpread` with `ScheduleAnyway`; 0 for pods without such constraints.
    pub topology_spread: i64,
    /// `InterPodAffinity`: preferred terms of the pod; 0 without any.
    pub pod_affinity: i64,
}

impl Scores {
    /// The weighted sum by which nodes are compared.
    pub fn total(&self) -> i64 {
        self.taint_toleration * TAINT_TOLERATION_WEIGHT
            + self.node_affinity * NODE_AFFINITY_WEIGHT
            + self.least_allocated * LEAST_ALLOCATED_WEIGHT
            + self.balanced_allocation * BALANCED_ALLOCATION_WEIGHT
            + self.topology_spread * TOPOLOGY_SPREAD_WEIGHT
            + self.pod_affinity * POD_AFFINITY_WEIGHT
    }
}

/// Upstream's `DefaultNormalizeScore`: scales to [`MAX_NODE_SCORE`] by the greatest raw value among
/// the possible nodes.
pub(crate) fn normalize(raw: u32, max: u32, reverse: bool) -> i64 {
    if max == 0 {
        return if reverse { MAX_NODE_SCORE } else { 0 };
    }
    let score = MAX_NODE_SCORE * i64::from(raw) / i64::from(max);
    if reverse { MAX_NODE_SCORE - score } else { score }
}

/// The mean over CPU and memory of the share that stays free after the pod has come.
pub(crate) fn least_allocated(columns: &Columns, index: usize, pod: &PodRequirements) -> i64 {
    let (cpu, memory) = (columns.cpu_allocatable[index], columns.memory_allocatable[index]);
    let (mut sum, mut weights) = (0, 0);
    for (allocatable, requested) in [
        (cpu, columns.cpu_non_zero[index] + pod.non_zero.0),
        (memory, columns.memory_non_zero[index] + pod.non_zero.1),
    ] {
        if allocatable != 0 {
            sum += if requested > allocatable {
                0
            } else {
                (allocatable - requested) * MAX_NODE_SCORE / allocatable
            };
            weights += 1;
        }
    }
    if weights == 0 { 0 } else { sum / weights }
}

/// How much the pod evens out the shares of CPU and memory in use on the node: about 75 when it
/// changes nothing, up to 100 when it helps. Pods that ask for neither score 0 everywhere.
pub(crate) fn balanced_allocation(columns: &Columns, index: usize, pod: &PodRequirements) -> i64 {
    let requests = &pod.requests;
    if requests.cpu_milli == 0 && requests.memory_bytes == 0 {
        return 0;
    }
    let cpu = (columns.cpu_requested[index], columns.cpu_allocatable[index]);
    let memory = (columns.memory_requested[index], columns.memory_allocatable[index]);
    let without = evenness(cpu, memory);
    let with = evenness((cpu.0 + requests.cpu_milli, cpu.1), (memory.0 + requests.memory_bytes, memory.1));
    MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + with - without) / 2
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "upstream computes in float64 and truncates"
)]
fn evenness(cpu: (i64, i64), memory: (i64, i64)) -> i64 {
    let fraction = |(requested, allocatable): (i64, i64)| (requested as f64 / allocatable as f64).min(1.0);
    // The standard deviation of two fractions is half their distance; of fewer it is nothing.
    let deviation =
        if cpu.1 == 0 || memory.1 == 0 { 0.0 } else { ((fraction(cpu) - fraction(memory)) / 2.0).abs() };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}
