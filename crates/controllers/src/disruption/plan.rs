//! How many pods of a budget may be disrupted now (upstream's `pkg/controller/disruption`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::int_or_percent::{Round, resolve};
use crate::pod;

/// How long an evicted pod is taken as good as gone before it is counted as healthy again.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(120);

/// The status to write, and when to look again without an event.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// The new status.
    pub status: PodDisruptionBudgetStatus,
    /// When the next eviction that did not come to pass is forgotten.
    pub check_after: Option<Duration>,
}

/// Counts the budget's pods. `scale` is how many replicas the pods' controllers want together, or
/// why that cannot be told.
pub fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: impl FnOnce() -> Result<i32, String>,
    now: &Time,
) -> Plan {
    let current = budget.status.clone().unwrap_or_default();
    let (disrupted, check_after) = still_disrupted(&current, pods, now);
    let healthy = count(pods.iter().filter(|p| {
        !pod::is_deleted(p)
            && pod::is_ready(p)
            && !disrupted.contains_key(p.metadata.name.as_deref().unwrap_or(""))
    }));
    let (expected, desired, problem) = match expectation(budget, count(pods.iter()), scale) {
        Ok((expected, desired)) => (expected, desired, None),
        // When in doubt, nothing may be disrupted.
        Err(problem) => (0, 0, Some(problem)),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let (status, reason) = match (&problem, allowed) {
        (Some(_), _) => ("False", "SyncFailed"),
        (None, 1..) => ("True", "SufficientPods"),
        (None, _) => ("False", "InsufficientPods"),
    };
    let conditions = with_condition(
        current.conditions.clone().unwrap_or_default(),
        Condition {
            type_: "DisruptionAllowed".to_string(),
            status: status.to_string(),
            reason: reason.to_string(),
            message: problem.clone().unwrap_or_default(),
            observed_generation: budget.metadata.generation,
            last_transition_time: now.clone(),
        },
    );
    let failed = problem.is_some();
    let status = PodDisruptionBudgetStatus {
        current_healthy: if failed { current.current_healthy.or(Some(0)) } else { Some(healthy) },
        desired_healthy: if failed { current.desired_healthy.or(Some(0)) } else { Some(desired) },
        expected_pods: if failed { current.expected_pods.or(Some(0)) } else { Some(expected) },
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions),
    };
    Plan { status, check_after }
}

fn count<T>(items: impl Iterator<Item = T>) -> i32 {
    i32::try_from(items.count()).unwrap_or(i32::MAX)
}

/// The expected number of pods and how many of them must be healthy.
fn expectation(
    budget: &PodDisruptionBudget,
    present: i32,
    scale: impl FnOnce() -> Result<i32, String>,
) -> Result<(i32, i32), String> {
    let spec = budget.spec.as_ref();
    let invalid = || "invalid value: must be a number or a percentage".to_string();
    if let Some(max_unavailable) = spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        let expected = scale()?;
        let unavailable = resolve(max_unavailable, expected, Round::Up).ok_or_else(invalid)?;
        return Ok((expected, (expected - unavailable).max(0)));
    }
    match spec.and_then(|spec| spec.min_available.as_ref()) {
        Some(IntOrString::Int(count)) => Ok((present, *count)),
        Some(share) => {
            let expected = scale()?;
            Ok((expected, resolve(share, expected, Round::Up).ok_or_else(invalid)?))
        }
        None => Ok((present, 0)),
    }
}

/// The evictions that have been granted and not carried out yet, and when the first of them lapses.
fn still_disrupted(
    status: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: &Time,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut disrupted = BTreeMap::new();
    let mut check_after: Option<Duration> = None;
    for (name, since) in status.disrupted_pods.iter().flatten() {
        let waiting =
            pods.iter().any(|p| p.metadata.name.as_deref() == Some(name.as_str()) && !pod::is_deleted(p));
        let left = Duration::try_from((since.0 + EVICTION_TIMEOUT).duration_since(now.0)).unwrap_or_default();
        if waiting && !left.is_zero() {
            disrupted.insert(name.clone(), since.clone());
            check_after = Some(check_after.map_or(left, |known| known.min(left)));
        }
    }
    (disrupted, check_after)
}

/// Sets the condition; the transition time only moves with the status.
fn with_condition(mut conditions: Vec<Condition>, mut condition: Condition) -> Vec<Condition> {
    match conditions.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known) => {
            if known.status == condition.status {
                condition.last_transition_time = known.last_transition_time.clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures;
    use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;

    fn check(
        min: Option<IntOrString>,
        max: Option<IntOrString>,
        ready: usize,
        scale: i32,
        expected: (i32, i32, i32),
    ) {
        let budget = PodDisruptionBudget {
            spec: Some(PodDisruptionBudgetSpec {
                min_available: min,
                max_unavailable: max,
                ..Default::default()
            }),
            ..Default::default()
        };
        let pods: Vec<Arc<Pod>> =
            (0..ready).map(|i| Arc::new(fixtures::pod(&format!("p{i}"), "Running", "n", Some(1)))).collect();
        let status = plan(&budget, &pods, || Ok(scale), &pod::now()).status;
        let got = (
            status.disruptions_allowed.unwrap(),
            status.desired_healthy.unwrap(),
            status.expected_pods.unwrap(),
        );
        assert_eq!(got, expected);
    }

    #[test]
    fn what_is_allowed_is_what_is_healthy_beyond_what_must_be() {
        let percent = |text: &str| Some(IntOrString::String(text.into()));
        check(Some(IntOrString::Int(2)), None, 5, 9, (3, 2, 5));
        check(Some(IntOrString::Int(5)), None, 5, 9, (0, 5, 5));
        check(percent("50%"), None, 5, 9, (0, 5, 9));
        check(percent("50%"), None, 9, 9, (4, 5, 9));
        check(None, Some(IntOrString::Int(1)), 3, 3, (1, 2, 3));
        check(None, percent("30%"), 10, 10, (3, 7, 10));
        check(None, Some(IntOrString::Int(1)), 0, 0, (0, 0, 0));
    }

    #[test]
    fn granted_evictions_count_until_they_lapse() {
        let now = pod::now();
        let pods = vec![
            Arc::new(fixtures::pod("a", "Running", "n", Some(1))),
            Arc::new(fixtures::pod("b", "Running", "n", Some(1))),
        ];
        let mut budget = PodDisruptionBudget {
            spec: Some(PodDisruptionBudgetSpec {
                min_available: Some(IntOrString::Int(1)),
                ..Default::default()
            }),
            ..Default::default()
        };
        budget.status.get_or_insert_default().disrupted_pods = Some([("a".to_string(), now.clone())].into());
        let planned = plan(&budget, &pods, || Ok(2), &now);
        assert_eq!(planned.status.disruptions_allowed, Some(0));
        assert_eq!(planned.check_after, Some(EVICTION_TIMEOUT));
        let later = Time(now.0 + EVICTION_TIMEOUT);
        let planned = plan(&budget, &pods, || Ok(2), &later);
        assert_eq!(planned.status.disruptions_allowed, Some(1));
        assert_eq!(planned.status.disrupted_pods, None);
    }
}
