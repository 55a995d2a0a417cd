//! What the scheduler reads from a Pod object.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use scheduling::PodKey;

/// What is to be done with a pod, judging by its present state alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage<'a> {
    /// It waits for a node and is ours to place.
    Pending,
    /// It occupies the node.
    Bound(&'a str),
    /// It neither waits nor occupies anything: finished, gated, going away, or somebody else's.
    Idle,
}

/// Judges a pod.
pub(crate) fn stage<'a>(pod: &'a Pod, scheduler_name: &str) -> Stage<'a> {
    let Some(spec) = &pod.spec else { return Stage::Idle };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Stage::Idle;
    }
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Stage::Bound(node);
    }
    let is_ours = spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == scheduler_name;
    let is_gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if is_ours && !is_gated && pod.metadata.deletion_timestamp.is_none() {
        Stage::Pending
    } else {
        Stage::Idle
    }
}

/// Names a pod and its incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `namespace/name`.
    pub(crate) key: PodKey,
    pub(crate) uid: Arc<str>,
}

impl Identity {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            key: PodKey::from(client::key_of(pod)),
            uid: Arc::from(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub(crate) fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }
}

/// The `PodScheduled` condition of a pod.
pub(crate) fn scheduled_condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "PodScheduled")
}

/// The node that an earlier preemption made room on.
pub(crate) fn nominated_node(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}

/// When the pod started, in seconds since the epoch; the far future when it has not.
pub(crate) fn started(pod: &Pod) -> i64 {
    pod.status
        .as_ref()
        .and_then(|status| status.start_time.as_ref())
        .map_or(i64::MAX, |Time(time)| time.as_second())
}
