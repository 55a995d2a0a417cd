//! After how many seconds a refused client is asked to come back: upstream's `droppedRequestsTracker`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const SECONDS_MAX: i64 = 32;

/// Follows how many requests a level refuses. The advice doubles while many are refused and shrinks by one
/// second at a time when few are.
#[derive(Default)]
pub(super) struct RetryAfter(Mutex<State>);

struct State {
    /// Refused requests by second, the current one last.
    history: VecDeque<(i64, i64)>,
    seconds: i64,
    raised_at: i64,
}

impl Default for State {
    fn default() -> Self {
        Self { history: VecDeque::new(), seconds: 1, raised_at: 0 }
    }
}

impl RetryAfter {
    /// Notes a refused request at a time in seconds, and advises.
    pub fn refused(&self, now: i64) -> i64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.history.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => {
                state.adjust(now);
                state.history.push_back((now, 1));
            }
        }
        state.seconds
    }
}

impl State {
    fn adjust(&mut self, now: i64) {
        let kept = (2 * self.seconds).min(SECONDS_MAX);
        while self.history.front().is_some_and(|(second, _)| now - second > kept) {
            self.history.pop_front();
        }
        let recent = self.history.iter().filter(|(second, _)| now - second <= self.seconds);
        let refused: i64 = recent.map(|(_, count)| count).sum();
        if now - self.raised_at >= self.seconds && refused >= 3 * self.seconds {
            self.seconds = (2 * self.seconds).min(SECONDS_MAX);
            self.raised_at = now;
        } else if refused < self.seconds && self.seconds > 1 {
            self.seconds -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_follows_the_load() {
        let advice = RetryAfter::default();
        let many = |second| (0..100).fold(0, |_, _| advice.refused(second));
        assert_eq!([100, 101, 102, 103, 104].map(many), [1, 2, 2, 4, 4]);
        assert_eq!(advice.refused(200), 3);
        assert_eq!(advice.refused(300), 2);
    }
}
