//! Whether the informer has caught up with one's own writes.
//!
//! A controller that plans on what it read before its last write would do the same work again, or
//! undo it. Resource versions of one cluster are ordered numbers (KEP-5504), so it is enough to
//! remember the version of each write and to wait until the informer has reached it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base::map::HashMap;
use tokio::time::Instant;

/// A write that does not show for this long is forgotten: somebody else may have deleted the object.
const FORGET: Duration = Duration::from_secs(30);

/// What a write has left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    /// The object at this version.
    Version(u64),
    /// Nothing.
    Gone,
}

/// What was written for one owner, by the key of the object, and when.
type Writes = BTreeMap<String, (Left, Instant)>;

/// The writes of many owners (queue keys), by the key of the written object.
#[derive(Debug, Default)]
pub struct Written {
    owners: Mutex<HashMap<String, Writes>>,
}

impl Written {
    fn owners(&self) -> MutexGuard<'_, HashMap<String, Writes>> {
        self.owners.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn remember(&self, owner: &str, object: &str, left: Left) {
        let entry = (left, Instant::now());
        self.owners().entry(owner.to_string()).or_default().insert(object.to_string(), entry);
    }

    /// The object was created or changed and now has this version.
    pub fn wrote(&self, owner: &str, object: &str, version: Option<&str>) {
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            self.remember(owner, object, Left::Version(version));
        }
    }

    /// The object was deleted.
    pub fn deleted(&self, owner: &str, object: &str) {
        self.remember(owner, object, Left::Gone);
    }

    /// The owner is gone: nobody waits for what was written for it.
    pub fn forget(&self, owner: &str) {
        self.owners().remove(owner);
    }

    /// Whether everything written for `owner` shows in what `version_of` reads: the version of an
    /// object by its key.
    pub fn is_visible(&self, owner: &str, version_of: impl Fn(&str) -> Option<String>) -> bool {
        let mut owners = self.owners();
        let Some(writes) = owners.get_mut(owner) else { return true };
        writes.retain(|object, (left, at)| {
            let seen = version_of(object);
            let shown = match left {
                Left::Gone => seen.is_none(),
                Left::Version(written) => {
                    seen.and_then(|seen| seen.parse::<u64>().ok()).is_some_and(|seen| seen >= *written)
                }
            };
            !shown && at.elapsed() < FORGET
        });
        let visible = writes.is_empty();
        if visible {
            owners.remove(owner);
        }
        visible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_show_when_the_version_is_reached_or_are_forgotten() {
        let written = Written::default();
        written.wrote("svc", "a", Some("10"));
        written.deleted("svc", "b");
        let read = |a: &'static str, b: Option<&'static str>| {
            move |key: &str| if key == "a" { Some(a.to_string()) } else { b.map(str::to_string) }
        };
        assert!(!written.is_visible("svc", read("9", Some("3"))));
        assert!(!written.is_visible("svc", read("10", Some("3"))));
        assert!(written.is_visible("svc", read("11", None)));
        written.wrote("svc", "a", Some("12"));
        assert!(!written.is_visible("svc", |_| None));
        tokio::time::advance(FORGET).await;
        assert!(written.is_visible("svc", |_| None));
    }
}
