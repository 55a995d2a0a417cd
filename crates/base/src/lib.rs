//! What every layer may rely on: a clock that can be virtual, randomness that can be replayed,
//! back-off, maps with a reproducible iteration order, and assertions that stay on.
//!
//! Everything here is free of Kubernetes. The bans in `clippy.toml` lead here: code that wants the
//! time, randomness or a hash map finds the one implementation that the whole cluster shares, so
//! that a simulated day on tokio's paused clock is the same program as a real one.

pub mod backoff;
pub mod clock;
pub mod gotext;
pub mod map;
pub mod rng;

/// Asserts a property that must hold in every build, with a message that says what broke.
///
/// Unlike `debug_assert!` it is never compiled out: a wrong decision is worse than a crash, and
/// state on disk is crash-safe.
#[macro_export]
macro_rules! invariant {
    ($cond:expr, $($message:tt)+) => {
        if !$cond {
            panic!("invariant violated: {} ({})", format_args!($($message)+), stringify!($cond));
        }
    };
}
