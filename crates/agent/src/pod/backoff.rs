//! CrashLoopBackOff: restarts of a container that keeps dying are spaced out.

use std::time::Duration;

use runtime::UnixNanos;

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);
/// A container that ran this long starts over with the first delay.
const RESET: Duration = Duration::from_secs(600);

/// The delay that one container is under. Upstream's `flowcontrol.Backoff` with the kubelet's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CrashBackoff {
    current: Option<(Duration, UnixNanos)>,
}

fn since(later: UnixNanos, earlier: UnixNanos) -> Duration {
    Duration::from_nanos(u64::try_from(later.saturating_sub(earlier)).unwrap_or(0))
}

impl CrashBackoff {
    /// How much longer a container that ended at `finished` must wait; `None` when it may start now.
    pub(crate) fn remaining(&self, finished: UnixNanos, now: UnixNanos) -> Option<Duration> {
        let (delay, updated) = self.current?;
        if since(now, updated) > RESET {
            return None;
        }
        delay.checked_sub(since(now, finished)).filter(|d| !d.is_zero())
    }

    /// The delay in force, for messages.
    pub(crate) fn delay(&self) -> Duration {
        self.current.map_or(Duration::ZERO, |(delay, _)| delay)
    }

    /// Takes note of a restart at `now` of a container that ended at `finished`.
    pub(crate) fn restarted(&mut self, finished: UnixNanos, now: UnixNanos) {
        let delay = match self.current {
            Some((delay, updated)) if since(finished, updated) <= RESET => (delay * 2).min(MAX),
            _ => FIRST,
        };
        self.current = Some((delay, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn delays_double_and_reset_after_a_long_run() {
        let mut backoff = CrashBackoff::default();
        assert_eq!(backoff.remaining(0, 0), None, "the first restart is immediate");
        backoff.restarted(0, 0);
        assert_eq!(backoff.remaining(SECOND, SECOND), Some(Duration::from_secs(10)));
        assert_eq!(backoff.remaining(SECOND, 11 * SECOND), None);
        for expected in [20, 40, 80, 160, 300, 300] {
            backoff.restarted(SECOND, SECOND);
            assert_eq!(backoff.delay(), Duration::from_secs(expected));
        }
        backoff.restarted(700 * SECOND, 700 * SECOND);
        assert_eq!(backoff.delay(), Duration::from_secs(10));
    }
}
