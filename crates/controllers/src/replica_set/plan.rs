//! What a ReplicaSet needs, from what is there.

use std::sync::Arc;
use std::time::Duration;

use base::map::HashSet;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::deletion_order;
use crate::pod;

/// At most this many pods are created or deleted in one pass, so that one huge set does not hold a
/// worker for long (upstream's burst).
pub const BURST: usize = 500;

/// The pods to create or delete now.
#[derive(Debug)]
pub enum Action {
    /// As many as wanted exist or are under way.
    Nothing,
    /// Create this many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// What the ReplicaSet controls, as far as known.
#[derive(Debug)]
pub struct Observed {
    /// The pods the informer shows.
    pub pods: Vec<Arc<Pod>>,
    /// How many pods were created that the informer does not show yet.
    pub unseen: usize,
    /// The uids of pods whose deletion is under way.
    pub deleting: HashSet<String>,
}

impl Observed {
    /// The pods that count as replicas and are not about to go.
    pub fn active(&self) -> Vec<Arc<Pod>> {
        let staying = |p: &&Arc<Pod>| {
            pod::is_active(p) && !p.metadata.uid.as_ref().is_some_and(|uid| self.deleting.contains(uid))
        };
        self.pods.iter().filter(staying).cloned().collect()
    }
}

/// The replicas asked for.
pub fn desired(rs: &ReplicaSet) -> usize {
    let replicas = rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

/// Compares what is there with what is asked for. `related` yields the pods of all ReplicaSets of
/// the same owner and is only called when pods must be chosen for deletion.
pub fn plan(
    rs: &ReplicaSet,
    observed: &Observed,
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Action {
    let active = observed.active();
    let (have, want) = (active.len() + observed.unseen, desired(rs));
    if have < want {
        Action::Create((want - have).min(BURST))
    } else if have > want && observed.unseen == 0 {
        // Pods not shown yet cannot be compared with the others, so a choice has to wait for them.
        Action::Delete(deletion_order::choose(active, &related(), (have - want).min(BURST), now))
    } else {
        Action::Nothing
    }
}

/// A failed attempt to create or delete pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// The API server's words.
    pub message: String,
}

/// The status to write.
pub fn status(
    rs: &ReplicaSet,
    observed: &Observed,
    failure: Option<&Failure>,
    now: &Time,
) -> ReplicaSetStatus {
    let spec = rs.spec.as_ref();
    let min_ready_seconds = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template_labels = spec
        .and_then(|spec| spec.template.as_ref())
        .and_then(|template| template.metadata.as_ref())
        .and_then(|metadata| metadata.labels.as_ref());
    let (mut replicas, mut labeled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    for p in &observed.pods {
        if pod::is_terminating(p) {
            terminating += 1;
        }
        if !pod::is_active(p) {
            continue;
        }
        replicas += 1;
        let labels = p.metadata.labels.as_ref();
        let has = |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
        labeled += i32::from(template_labels.into_iter().flatten().all(has));
        if pod::is_ready(p) {
            ready += 1;
            available += i32::from(pod::is_available(p, min_ready_seconds, now.0));
        }
    }
    let nonzero = |count: i32| (count != 0).then_some(count);
    ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: nonzero(labeled),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        terminating_replicas: Some(terminating),
        observed_generation: rs.metadata.generation,
        conditions: conditions(rs, failure, now),
    }
}

/// The conditions, with ReplicaFailure set or cleared.
fn conditions(rs: &ReplicaSet, failure: Option<&Failure>, now: &Time) -> Option<Vec<ReplicaSetCondition>> {
    const REPLICA_FAILURE: &str = "ReplicaFailure";
    let current = rs.status.as_ref().and_then(|status| status.conditions.clone());
    let had_failure = current.iter().flatten().any(|condition| condition.type_ == REPLICA_FAILURE);
    match failure {
        // A failure that goes on keeps its first message, as the transition time tells when it began.
        Some(failure) if !had_failure => {
            let mut conditions = current.unwrap_or_default();
            conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_string(),
                status: "True".to_string(),
                reason: Some(failure.reason.to_string()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(now.clone()),
            });
            Some(conditions)
        }
        None if had_failure => {
            let mut conditions = current.unwrap_or_default();
            conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
            (!conditions.is_empty()).then_some(conditions)
        }
        _ => current,
    }
}

/// When the next ready pod becomes available without a further event.
pub fn next_available(rs: &ReplicaSet, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let min_ready_seconds = rs.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let active = observed.pods.iter().filter(|p| pod::is_active(p));
    active.filter_map(|p| pod::available_in(p, min_ready_seconds, now)).min()
}
