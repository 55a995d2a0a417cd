//! Failures of single indexes (KEP-3850): how often each may fail, and how long it waits then. Every pod
//! says how often its index failed before it; the last failed one is kept until its successor is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use super::backoff;
use super::indexes;
use super::policy::{self, Verdict};

/// Annotation with the number of failures that count.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation with the number of those that a policy ignores.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// How often an index has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Failures {
    counted: i32,
    ignored: i32,
}

impl Failures {
    /// What a pod says of the time before it.
    fn before(pod: &Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        let number = |key: &str| {
            annotations.and_then(|all| all.get(key)).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Self { counted: number(FAILURES), ignored: number(IGNORED) }
    }

    /// With the failure of the pod itself.
    fn with(spec: &JobSpec, pod: &Pod) -> Self {
        let before = Self::before(pod);
        match policy::judge(spec.pod_failure_policy.as_ref(), pod) {
            Verdict::Ignore => Self { ignored: before.ignored.saturating_add(1), ..before },
            _ => Self { counted: before.counted.saturating_add(1), ..before },
        }
    }

    fn all(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }

    /// Notes it on the next pod of the index.
    pub fn note_on(self, pod: &mut Pod) {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_string(), self.counted.to_string());
        if self.ignored > 0 {
            annotations.insert(IGNORED.to_string(), self.ignored.to_string());
        }
    }
}

/// Whether the failure of this pod is the last one that its index may have.
pub fn fails_for_good(spec: &JobSpec, pod: &Pod) -> bool {
    let Some(limit) = spec.backoff_limit_per_index else { return false };
    policy::judge(spec.pod_failure_policy.as_ref(), pod) == Verdict::FailIndex
        || Failures::with(spec, pod).counted > limit
}

/// The last failed pods of indexes that are to be tried again.
#[derive(Debug, Default)]
pub struct Delayed(BTreeMap<i32, Arc<Pod>>);

impl Delayed {
    /// Picks them out of the failed pods; `settled` are the indexes that need no successor, or have one.
    pub fn of<'a>(failed: impl IntoIterator<Item = &'a Arc<Pod>>, settled: &BTreeSet<i32>) -> Self {
        let mut last: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        let rank = |pod: &Pod| (Failures::before(pod).all(), backoff::finished_at(pod));
        for pod in failed {
            let Some(index) = indexes::of_pod(pod).filter(|index| !settled.contains(index)) else { continue };
            if last.get(&index).is_none_or(|known| rank(known) <= rank(pod)) {
                last.insert(index, pod.clone());
            }
        }
        Self(last)
    }

    /// Whether the pod has to stay until its successor is there.
    pub fn keeps(&self, pod: &Pod) -> bool {
        let last = indexes::of_pod(pod).and_then(|index| self.0.get(&index));
        last.is_some_and(|last| last.metadata.uid == pod.metadata.uid)
    }

    /// How often an index has failed.
    pub fn failures(&self, spec: &JobSpec, index: i32) -> Failures {
        self.0.get(&index).map(|pod| Failures::with(spec, pod)).unwrap_or_default()
    }

    /// How much longer an index waits for its next pod.
    pub fn remaining(&self, index: i32, now: Timestamp) -> Duration {
        let Some(pod) = self.0.get(&index) else { return Duration::ZERO };
        let failures = u32::try_from(Failures::before(pod).all().saturating_add(1)).unwrap_or(1);
        backoff::remaining_after(failures, backoff::finished_at(pod), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures;

    fn failed(name: &str, index: i32, before: Failures) -> Arc<Pod> {
        let mut pod = fixtures::pod(name, "Failed", "n", None);
        pod.metadata.uid = Some(name.to_string());
        let entry = (indexes::COMPLETION_INDEX.to_string(), index.to_string());
        pod.metadata.annotations = Some([entry].into());
        before.note_on(&mut pod);
        Arc::new(pod)
    }

    #[test]
    fn an_index_fails_for_good_after_its_limit() {
        let spec = JobSpec { backoff_limit_per_index: Some(1), ..JobSpec::default() };
        let (first, second) = (Failures::default(), Failures { counted: 1, ignored: 0 });
        assert!(!fails_for_good(&spec, &failed("a", 0, first)));
        assert!(fails_for_good(&spec, &failed("b", 0, second)));
        assert!(!fails_for_good(&JobSpec::default(), &failed("b", 0, second)));
    }

    #[test]
    fn the_last_failed_pod_waits_for_its_successor() {
        let spec = JobSpec::default();
        let second = Failures { counted: 1, ignored: 0 };
        let pods = [failed("a", 0, Failures::default()), failed("b", 0, second), failed("c", 1, second)];
        let delayed = Delayed::of(&pods, &BTreeSet::from([1]));
        assert_eq!(pods.each_ref().map(|pod| delayed.keeps(pod)), [false, true, false]);
        assert_eq!(delayed.failures(&spec, 0), Failures { counted: 2, ignored: 0 });
        let ended = backoff::finished_at(&pods[1]);
        assert_eq!(delayed.remaining(0, ended), Duration::from_secs(20));
        assert_eq!(delayed.remaining(1, ended), Duration::ZERO);
    }
}
