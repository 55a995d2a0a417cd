//! Hash maps whose iteration order depends on the history of the map alone, never on a seed of the
//! process: two runs of one simulation walk them in the same order. Where an order shows outside,
//! use a `BTreeMap`.

/// A fast hasher without a random seed. Not for keys that an attacker may choose at will.
pub type BuildHasher = rustc_hash::FxBuildHasher;

/// A hash map with a reproducible iteration order.
#[allow(clippy::disallowed_types, reason = "the hasher is fixed here")]
pub type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasher>;

/// A hash set with a reproducible iteration order.
#[allow(clippy::disallowed_types, reason = "the hasher is fixed here")]
pub type HashSet<T> = std::collections::HashSet<T, BuildHasher>;
