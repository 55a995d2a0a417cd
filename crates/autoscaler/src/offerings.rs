//! Offerings that had no capacity a moment ago, and how long they are left alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::instance::OfferingKey;
use base::backoff::Policy;
use tokio::time::Instant;

/// Seconds, not minutes: capacity comes back quickly, and there are hundreds of other offerings.
const POLICY: Policy =
    Policy { initial: Duration::from_secs(10), max: Duration::from_secs(180), factor: 2.0, jitter: 0.0 };
/// Failures are forgotten when nothing happened for this long after the end of the back-off.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The back-offs of all offerings.
#[derive(Default)]
pub(crate) struct Offerings {
    failures: Mutex<BTreeMap<OfferingKey, Failure>>,
}

struct Failure {
    count: u32,
    until: Instant,
}

impl Offerings {
    /// Leaves the offering alone for a while, longer each time.
    pub(crate) fn failed(&self, key: &OfferingKey) {
        let now = Instant::now();
        let mut failures = self.lock();
        failures.retain(|_, failure| failure.until + FORGET_AFTER > now);
        let failure = failures.entry(key.clone()).or_insert(Failure { count: 0, until: now });
        failure.until = now + POLICY.delay(failure.count);
        failure.count += 1;
    }

    /// Leaves the offering alone for a given time.
    pub(crate) fn avoid(&self, key: &OfferingKey, time: Duration) {
        let until = Instant::now() + time;
        let mut failures = self.lock();
        let failure = failures.entry(key.clone()).or_insert(Failure { count: 0, until });
        failure.until = failure.until.max(until);
    }

    /// Forgets the failures of an offering that had capacity.
    pub(crate) fn succeeded(&self, key: &OfferingKey) {
        self.lock().remove(key);
    }

    /// Whether the offering is to be left alone.
    pub(crate) fn is_backed_off(&self, key: &OfferingKey) -> bool {
        self.lock().get(key).is_some_and(|failure| failure.until > Instant::now())
    }

    /// When the next back-off ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().values().map(|failure| failure.until).filter(|until| *until > now).min()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OfferingKey, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use api::instance::CapacityType;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_offering_is_left_alone_longer_each_time() {
        let offerings = Offerings::default();
        let key = OfferingKey {
            instance_type: "c5.large".into(),
            zone: "us-east-1a".into(),
            capacity_type: CapacityType::Spot,
        };
        assert!(!offerings.is_backed_off(&key));
        for seconds in [10, 20, 40, 80, 160, 180, 180] {
            offerings.failed(&key);
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(offerings.is_backed_off(&key));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!offerings.is_backed_off(&key));
        }
        offerings.succeeded(&key);
        offerings.failed(&key);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!offerings.is_backed_off(&key));
    }
}
