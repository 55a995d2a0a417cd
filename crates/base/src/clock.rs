//! Wall-clock time as an epoch plus tokio's monotonic clock.
//!
//! [`now`] follows `tokio::time`: when the runtime's clock is paused, so is the wall clock, and
//! `tokio::time::advance` moves both. In a real process [`resync`] corrects the drift between the
//! monotonic clock and the system's wall clock (NTP steps, suspended laptops).

use std::sync::RwLock;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The pair of readings taken at the same moment; every later wall time is computed from it.
#[derive(Clone, Copy)]
struct Anchor {
    wall: Timestamp,
    monotonic: Instant,
}

static ANCHOR: RwLock<Option<Anchor>> = RwLock::new(None);

/// The current wall-clock time, on the virtual clock when tokio's clock is paused.
pub fn now() -> Timestamp {
    let current = *ANCHOR.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let anchor = match current {
        Some(anchor) => anchor,
        None => *ANCHOR
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .get_or_insert_with(|| Anchor { wall: system_time(), monotonic: Instant::now() }),
    };
    let instant = Instant::now();
    // Paused runtimes in one test process start at different moments, so the anchor may lie ahead.
    match instant.checked_duration_since(anchor.monotonic) {
        Some(elapsed) => anchor.wall + elapsed,
        None => anchor.wall - anchor.monotonic.duration_since(instant),
    }
}

/// Declares that it is `wall` now. Simulations start their day with this.
pub fn set(wall: Timestamp) {
    *ANCHOR.write().unwrap_or_else(|poisoned| poisoned.into_inner()) =
        Some(Anchor { wall, monotonic: Instant::now() });
}

/// Takes over the system's wall clock if it has moved by more than `tolerance` against ours.
///
/// For the binary's housekeeping task only; never called while time is virtual. Returns whether
/// the clock was stepped.
pub fn resync(tolerance: Duration) -> bool {
    let system = system_time();
    let drift = system.duration_since(now()).unsigned_abs();
    let stepped = drift > tolerance;
    if stepped {
        set(system);
    }
    stepped
}

/// A wall-clock time as a deadline on tokio's clock to sleep until; now, if it has passed already.
pub fn instant_of(wall: Timestamp) -> Instant {
    let ahead = wall.duration_since(now());
    match Duration::try_from(ahead) {
        Ok(ahead) => Instant::now() + ahead,
        Err(_) => Instant::now(),
    }
}

/// `metav1.Time` text: RFC 3339 in whole seconds, e.g. `2026-11-20T17:31:00Z`.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime` text: RFC 3339 with six fractional digits.
pub fn rfc3339_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
fn system_time() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_follows_the_paused_clock() {
        let before = now();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(now().duration_since(before).as_secs(), 86_400);
    }

    #[test]
    fn texts_have_the_forms_of_metav1() {
        let time: Timestamp = "2026-11-20T17:31:00.1234567Z".parse().unwrap();
        assert_eq!(rfc3339(time), "2026-11-20T17:31:00Z");
        assert_eq!(rfc3339_micro(time), "2026-11-20T17:31:00.123456Z");
    }
}
