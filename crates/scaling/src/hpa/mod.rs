//! The arithmetic of the HorizontalPodAutoscaler, `autoscaling/v2`.
//!
//! Source: `pkg/controller/podautoscaler` of Kubernetes 1.36 and
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>.
//! Snapshots in, numbers out: [`propose`] says how many replicas a metric asks for, [`normalize`]
//! bends that to the behaviour the user allows.

mod behavior;
mod propose;

pub use behavior::{History, Limits, Normalized, Policy, PolicyType, Rules, Select, normalize};
pub use propose::{MetricError, PodState, PodView, Proposal, Target, Tolerance, Usage, propose};
