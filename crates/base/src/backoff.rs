//! Exponential back-off with a ceiling and jitter.

use std::time::Duration;

use crate::rng;

/// How a series of delays grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// The first delay.
    pub initial: Duration,
    /// No delay is longer than this, jitter aside.
    pub max: Duration,
    /// Each delay is the previous one times this.
    pub factor: f64,
    /// Up to this share of the delay is added at random, so that crowds spread out.
    pub jitter: f64,
}

impl Policy {
    /// 5 ms doubling to 1000 s without jitter: client-go's per-item work-queue limiter.
    pub const WORK_QUEUE: Policy = Policy {
        initial: Duration::from_millis(5),
        max: Duration::from_secs(1000),
        factor: 2.0,
        jitter: 0.0,
    };

    /// 200 ms doubling to 30 s with jitter: for reconnecting to a server.
    pub const RECONNECT: Policy = Policy {
        initial: Duration::from_millis(200),
        max: Duration::from_secs(30),
        factor: 2.0,
        jitter: 0.5,
    };

    /// The delay before retry number `attempt`, counted from zero.
    pub fn delay(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.factor.powi(exponent);
        let bounded = Duration::try_from_secs_f64(seconds).unwrap_or(self.max).min(self.max);
        if self.jitter > 0.0 { rng::jitter(bounded, self.jitter) } else { bounded }
    }
}

/// A running series of delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: Policy,
    attempt: u32,
}

impl Backoff {
    /// A series that starts at the policy's initial delay.
    pub fn new(policy: Policy) -> Self {
        Self { policy, attempt: 0 }
    }

    /// The next delay of the series.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.policy.delay(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling() {
        let mut backoff = Backoff::new(Policy::WORK_QUEUE);
        assert_eq!(backoff.next_delay(), Duration::from_millis(5));
        assert_eq!(backoff.next_delay(), Duration::from_millis(10));
        for _ in 0..100 {
            backoff.next_delay();
        }
        assert_eq!(backoff.next_delay(), Duration::from_secs(1000));
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_millis(5));
    }
}
