//! Conditions of Jobs.

use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A condition that has just changed.
pub fn new(type_: &str, status: &str, reason: &str, message: String, now: &Time) -> JobCondition {
    JobCondition {
        type_: type_.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

/// The condition of this type, if it is true.
pub fn find<'a>(conditions: &'a [JobCondition], type_: &str) -> Option<&'a JobCondition> {
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Whether the Job has ended, one way or the other.
pub fn is_finished(conditions: &[JobCondition]) -> bool {
    find(conditions, "Complete").is_some() || find(conditions, "Failed").is_some()
}

/// Gives the condition this status and returns whether that changed anything. One that is not
/// there is as good as false.
pub fn ensure(
    conditions: &mut Vec<JobCondition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &Time,
) -> bool {
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(known) if known.status == status => false,
        Some(known) => {
            *known = new(type_, status, reason, message.to_string(), now);
            true
        }
        None if status == "False" => false,
        None => {
            conditions.push(new(type_, status, reason, message.to_string(), now));
            true
        }
    }
}
