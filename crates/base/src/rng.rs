//! Randomness that can be replayed.
//!
//! The process has one generator. It is seeded from the operating system unless [`seed`] was called
//! first, which tests and simulations do: with one seed and one thread, every uid, name suffix and
//! jitter of a run is the same again.
//!
//! Keys and tokens do not come from here but from the TLS library's own generator.

use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

static GENERATOR: Mutex<Option<StdRng>> = Mutex::new(None);

/// The letters and digits that upstream uses for generated name suffixes: no vowels, no look-alikes.
/// Source: `k8s.io/apimachinery/pkg/util/rand`.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Makes everything random in this process follow from `seed`.
pub fn seed(seed: u64) {
    *GENERATOR.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(StdRng::seed_from_u64(seed));
}

fn with<T>(use_generator: impl FnOnce(&mut StdRng) -> T) -> T {
    let mut guard = GENERATOR.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    use_generator(guard.get_or_insert_with(from_system))
}

#[allow(clippy::disallowed_methods, reason = "the one place that takes entropy from the system")]
fn from_system() -> StdRng {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).expect("the operating system provides entropy");
    StdRng::from_seed(seed)
}

/// A uniformly random 64-bit number.
pub fn u64() -> u64 {
    with(|generator| generator.next_u64())
}

/// A uniformly random number below `bound`, which must not be zero.
pub fn below(bound: u64) -> u64 {
    with(|generator| generator.random_range(0..bound))
}

/// Fills `bytes` with random bytes.
pub fn fill(bytes: &mut [u8]) {
    with(|generator| generator.fill_bytes(bytes));
}

/// A random (version 4) UUID in its usual text form.
pub fn uuid() -> String {
    let mut b = [0u8; 16];
    fill(&mut b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let h = |range: std::ops::Range<usize>| b[range].iter().map(|x| format!("{x:02x}")).collect::<String>();
    format!("{}-{}-{}-{}-{}", h(0..4), h(4..6), h(6..8), h(8..10), h(10..16))
}

/// A suffix of `length` characters for a generated object name.
pub fn name_suffix(length: usize) -> String {
    with(|generator| {
        (0..length)
            .map(|_| char::from(NAME_ALPHABET[generator.random_range(0..NAME_ALPHABET.len())]))
            .collect()
    })
}

/// `duration` lengthened by a random share of up to `factor`, as upstream's `wait.Jitter`.
pub fn jitter(duration: Duration, factor: f64) -> Duration {
    let share: f64 = with(|generator| generator.random_range(0.0..1.0));
    duration.mul_f64(1.0 + share * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_version_four_and_differ() {
        let (one, two) = (uuid(), uuid());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
    }

    #[test]
    fn suffixes_use_the_upstream_alphabet() {
        let suffix = name_suffix(200);
        assert_eq!(suffix.len(), 200);
        assert!(suffix.bytes().all(|b| NAME_ALPHABET.contains(&b)));
    }

    #[test]
    fn jitter_only_lengthens() {
        for _ in 0..100 {
            let d = jitter(Duration::from_secs(10), 0.5);
            assert!((Duration::from_secs(10)..=Duration::from_secs(15)).contains(&d));
        }
    }
}
