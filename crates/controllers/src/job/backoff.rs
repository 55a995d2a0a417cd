//! How long a Job waits before it replaces failed pods.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pod;

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);

/// Failures since the last success of one Job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    failures: u32,
    last_failure: Option<Timestamp>,
}

impl Record {
    /// The record after these pods have ended, none of which it has counted before.
    pub fn after(&self, succeeded: &[&Pod], failed: &[&Pod]) -> Record {
        let failures: Vec<Timestamp> = failed.iter().map(|p| finished_at(p)).collect();
        let last_success = succeeded.iter().map(|p| finished_at(p)).max();
        let later = || failures.iter().filter(|at| last_success.is_none_or(|success| **at > success));
        let before = if last_success.is_some() { Record::default() } else { self.clone() };
        Record {
            failures: before.failures + u32::try_from(later().count()).unwrap_or(u32::MAX),
            last_failure: later().max().copied().or(before.last_failure),
        }
    }

    /// How much longer to wait at `now`: 10 s doubling up to 10 min since the last failure.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        let (Some(last), 1..) = (self.last_failure, self.failures) else { return Duration::ZERO };
        remaining_after(self.failures, last, now)
    }
}

/// How much longer to wait after so many failures, of which there is at least one.
pub fn remaining_after(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    let delay = INITIAL.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(MAX);
    Duration::try_from((last + delay).duration_since(now)).unwrap_or_default()
}

/// When the pod ended, as well as can be told.
pub fn finished_at(p: &Pod) -> Timestamp {
    let status = p.status.as_ref();
    let terminated = |status: &ContainerStatus| {
        status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    };
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let from_containers = || {
        let ends: Option<Vec<Timestamp>> = containers?.iter().map(terminated).collect();
        ends?.into_iter().max()
    };
    let from_condition = || {
        pod::condition(p, "Ready")
            .filter(|ready| ready.status == "False")
            .and_then(|ready| ready.last_transition_time.as_ref())
            .map(|time| time.0)
    };
    let from_deletion = || {
        let grace = p.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let at = p.metadata.deletion_timestamp.as_ref()?.0;
        Some(at - Duration::from_secs(u64::try_from(grace).unwrap_or(0)))
    };
    from_containers()
        .or_else(from_condition)
        .or_else(from_deletion)
        .or_else(|| p.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures;
    use k8s_openapi::api::core::v1::PodCondition;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn ended(second: i64) -> Pod {
        let mut p = fixtures::pod("p", "Failed", "n", None);
        p.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
            type_: "Ready".into(),
            status: "False".into(),
            last_transition_time: Some(Time(Timestamp::from_second(second).unwrap())),
            ..Default::default()
        }]);
        p
    }

    #[test]
    fn delays_double_and_a_success_starts_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (first, second) = (ended(100), ended(120));
        let record = Record::default().after(&[], &[&first]);
        assert_eq!(record.remaining(at(100)), Duration::from_secs(10));
        let record = record.after(&[], &[&second]);
        assert_eq!(record.remaining(at(125)), Duration::from_secs(15));
        assert_eq!(record.remaining(at(141)), Duration::ZERO);
        let many = (0..20).fold(record.clone(), |record, _| record.after(&[], &[&second]));
        assert_eq!(many.remaining(at(120)), Duration::from_secs(600));
        let record = many.after(&[&first], &[]);
        assert_eq!(record, Record::default());
        assert_eq!(record.after(&[&first], &[&second]).remaining(at(120)), Duration::from_secs(10));
    }
}
