//! The Deployment's status and conditions, which `kubectl rollout status` follows.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::scale;

/// The condition type that tells whether the current rollout makes progress.
pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of the Progressing condition.
pub mod reason {
    pub const PAUSED: &str = "DeploymentPaused";
    pub const RESUMED: &str = "DeploymentResumed";
    pub const NEW_REPLICA_SET: &str = "NewReplicaSetCreated";
    pub const FOUND_REPLICA_SET: &str = "FoundNewReplicaSet";
    pub const REPLICA_SET_UPDATED: &str = "ReplicaSetUpdated";
    pub const AVAILABLE: &str = "NewReplicaSetAvailable";
    pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";
    pub const CREATE_FAILED: &str = "ReplicaSetCreateError";
}

/// The status' condition of this type.
pub fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Sets a condition. One with the same status and reason stays as it is, whatever its message; the
/// transition time only moves with the status.
pub fn set(
    status: &mut DeploymentStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: String,
    now: &Time,
) {
    let current = condition(status, type_);
    if current.is_some_and(|current| current.status == value && current.reason.as_deref() == Some(reason)) {
        return;
    }
    let transition = current
        .filter(|current| current.status == value)
        .and_then(|current| current.last_transition_time.clone())
        .unwrap_or_else(|| now.clone());
    replace(
        status,
        DeploymentCondition {
            type_: type_.to_string(),
            status: value.to_string(),
            reason: Some(reason.to_string()),
            message: Some(message),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(transition),
        },
    );
}

fn replace(status: &mut DeploymentStatus, condition: DeploymentCondition) {
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// The progress deadline, unless there is none.
pub fn progress_deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The counts and the Available condition, from the ReplicaSets' own status. `base` is the status
/// to start from: its conditions and collision count are kept.
pub fn counted(
    deployment: &Deployment,
    base: &DeploymentStatus,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: &Time,
) -> DeploymentStatus {
    let all = || old.iter().chain(new);
    let sum = |count: fn(&ReplicaSet) -> i32| all().map(count).sum::<i32>();
    let replicas = |rs: &ReplicaSet| rs.status.as_ref().map_or(0, |status| status.replicas);
    let ready = |rs: &ReplicaSet| rs.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let available = sum(scale::available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(replicas)),
        updated_replicas: nonzero(new.map_or(0, replicas)),
        ready_replicas: nonzero(sum(ready)),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((sum(scale::size) - available).max(0)),
        terminating_replicas: terminating(all()),
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    let (value, reason, message) =
        if available >= scale::desired(deployment) - scale::max_unavailable(deployment) {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
    set(&mut status, AVAILABLE, value, reason, message.to_string(), now);
    status
}

/// Go's `omitempty`: a zero is not written, so it must not look like a difference either.
fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The sum over all sets, or nothing when one that has been looked at does not say.
fn terminating<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<i32> {
    let mut total = 0;
    for rs in sets {
        let status = rs.status.as_ref();
        match status.and_then(|status| status.terminating_replicas) {
            Some(count) => total += count,
            None if status.and_then(|status| status.observed_generation).unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(total)
}

/// Whether all desired replicas are updated and available and no old pod is left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = scale::desired(deployment);
    status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(after.updated_replicas) > count(before.updated_replicas)
        || old(after) < old(before)
        || count(after.ready_replicas) > count(before.ready_replicas)
        || count(after.available_replicas) > count(before.available_replicas)
}

fn has_timed_out(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> bool {
    let Some(current) = condition(status, PROGRESSING) else { return false };
    match current.reason.as_deref() {
        Some(reason::AVAILABLE) => false,
        Some(reason::TIMED_OUT) => true,
        _ => current.last_update_time.as_ref().is_some_and(|since| since.0 + deadline < now),
    }
}

/// The status of a rollout: counts plus the Progressing and ReplicaFailure conditions. `base` is
/// the observed status with the changes that this pass has already made to its conditions.
pub fn rollout(
    deployment: &Deployment,
    base: &DeploymentStatus,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: &Time,
) -> DeploymentStatus {
    let mut status = counted(deployment, base, new, old, now);
    match progress_deadline(deployment) {
        None => remove(&mut status, PROGRESSING),
        Some(deadline) => {
            let settled = status.replicas == status.updated_replicas
                && condition(base, PROGRESSING)
                    .is_some_and(|current| current.reason.as_deref() == Some(reason::AVAILABLE));
            if !settled {
                estimate_progress(deployment, base, &mut status, new, deadline, now);
            }
        }
    }
    match replica_failure(new, old) {
        Some(failure) => {
            if condition(&status, REPLICA_FAILURE)
                .is_none_or(|current| current.status != failure.status || current.reason != failure.reason)
            {
                replace(&mut status, failure);
            }
        }
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

fn estimate_progress(
    deployment: &Deployment,
    base: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    deadline: Duration,
    now: &Time,
) {
    let subject = match new {
        Some(rs) => format!("ReplicaSet {:?}", rs.metadata.name.as_deref().unwrap_or("")),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or("")),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, PROGRESSING, "True", reason::AVAILABLE, message, now);
    } else if has_progressed(base, status) {
        // Written even when the reason stays, because the deadline counts from the update time.
        let message = format!("{subject} is progressing.");
        let transition = condition(base, PROGRESSING)
            .filter(|current| current.status == "True")
            .and_then(|current| current.last_transition_time.clone())
            .unwrap_or_else(|| now.clone());
        replace(
            status,
            DeploymentCondition {
                type_: PROGRESSING.to_string(),
                status: "True".to_string(),
                reason: Some(reason::REPLICA_SET_UPDATED.to_string()),
                message: Some(message),
                last_update_time: Some(now.clone()),
                last_transition_time: Some(transition),
            },
        );
    } else if has_timed_out(status, deadline, now.0) {
        let message = format!("{subject} has timed out progressing.");
        set(status, PROGRESSING, "False", reason::TIMED_OUT, message, now);
    }
}

/// The first ReplicaSet's failure to create or delete pods, the new set's before others'.
fn replica_failure(new: Option<&ReplicaSet>, old: &[ReplicaSet]) -> Option<DeploymentCondition> {
    new.into_iter()
        .chain(old)
        .flat_map(|rs| rs.status.iter().flat_map(|status| status.conditions.iter().flatten()))
        .find(|condition| condition.type_ == REPLICA_FAILURE)
        .map(|failure| DeploymentCondition {
            type_: REPLICA_FAILURE.to_string(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time.clone(),
        })
}

/// When to look again for a missed deadline; `None` when there is nothing to wait for.
pub fn next_progress_check(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = progress_deadline(deployment)?;
    let current = condition(status, PROGRESSING)?;
    if is_complete(deployment, status)
        || matches!(current.reason.as_deref(), Some(reason::TIMED_OUT | reason::AVAILABLE | reason::PAUSED))
    {
        return None;
    }
    let at = current.last_update_time.as_ref()?.0 + deadline;
    // A second more, because the times are in whole seconds.
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_secs(1))
}
