//! Writes whose effects the informer has not shown yet.
//!
//! Upstream keeps "expectations": counters that an event decrements and a timeout resets. Here the
//! created and deleted objects themselves are remembered by uid until the informer has shown them,
//! so a controller always counts exactly what exists, never creates twice, and never waits for an
//! event that was merged away.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base::map::{HashMap, HashSet};
use tokio::time::Instant;

/// How long a created object may stay unseen before it is looked up by name. An informer that
/// reconnects may never show an object that was created and deleted in between.
const UNSEEN_MAX: Duration = Duration::from_secs(30);

/// The created and deleted objects of many owners, by owner's uid.
#[derive(Debug, Default)]
pub struct InFlight {
    owners: Mutex<HashMap<String, Owner>>,
}

#[derive(Debug, Default)]
struct Owner {
    /// Creates sent but not answered yet. While there are any, `seen` is kept.
    creating: usize,
    /// Uids that the informer showed while creates were under way: their answers may come later.
    seen: HashSet<String>,
    /// Created objects the informer has not shown yet.
    created: HashMap<String, Created>,
    /// Objects whose deletion was asked for and not shown yet.
    deleting: HashSet<String>,
}

#[derive(Debug)]
struct Created {
    name: String,
    at: Instant,
}

impl Owner {
    fn is_idle(&self) -> bool {
        self.creating == 0 && self.created.is_empty() && self.deleting.is_empty()
    }
}

impl InFlight {
    fn owners(&self) -> MutexGuard<'_, HashMap<String, Owner>> {
        self.owners.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Announces creates, before they are sent.
    pub fn creating(&self, owner: &str, count: usize) {
        if count > 0 {
            self.owners().entry(owner.to_string()).or_default().creating += count;
        }
    }

    /// A create was answered: with the new object's uid and name, or with a failure.
    pub fn answered(&self, owner: &str, created: Option<(&str, &str)>) {
        let mut owners = self.owners();
        let entry = owners.entry(owner.to_string()).or_default();
        entry.creating = entry.creating.saturating_sub(1);
        if let Some((uid, name)) = created
            && !entry.seen.remove(uid)
        {
            entry.created.insert(uid.to_string(), Created { name: name.to_string(), at: Instant::now() });
        }
        if entry.creating == 0 {
            entry.seen.clear();
        }
        if entry.is_idle() {
            owners.remove(owner);
        }
    }

    /// The informer has shown this object, alive or gone; `deleted` when it is gone or going.
    pub fn observed(&self, owner: &str, uid: &str, deleted: bool) {
        let mut owners = self.owners();
        let Some(entry) = owners.get_mut(owner) else { return };
        if entry.created.remove(uid).is_none() && entry.creating > 0 {
            entry.seen.insert(uid.to_string());
        }
        if deleted {
            entry.deleting.remove(uid);
        }
        if entry.is_idle() {
            owners.remove(owner);
        }
    }

    /// Announces a deletion, before it is sent.
    pub fn deleting(&self, owner: &str, uid: &str) {
        self.owners().entry(owner.to_string()).or_default().deleting.insert(uid.to_string());
    }

    /// A deletion failed, or its object turned out to be gone.
    pub fn not_deleting(&self, owner: &str, uid: &str) {
        let mut owners = self.owners();
        let Some(entry) = owners.get_mut(owner) else { return };
        entry.deleting.remove(uid);
        if entry.is_idle() {
            owners.remove(owner);
        }
    }

    /// How many created objects the informer has yet to show.
    pub fn unseen(&self, owner: &str) -> usize {
        self.owners().get(owner).map_or(0, |entry| entry.created.len())
    }

    /// When to come back at the latest: once what the informer does not show may be looked up.
    pub fn come_back(&self, owner: &str) -> Option<Duration> {
        (self.unseen(owner) > 0).then_some(UNSEEN_MAX + Duration::from_secs(1))
    }

    /// The uids whose deletion is under way.
    pub fn being_deleted(&self, owner: &str) -> HashSet<String> {
        self.owners().get(owner).map(|entry| entry.deleting.clone()).unwrap_or_default()
    }

    /// Created objects unseen for so long that they should be looked up: (uid, name).
    pub fn overdue(&self, owner: &str) -> Vec<(String, String)> {
        let owners = self.owners();
        let Some(entry) = owners.get(owner) else { return Vec::new() };
        let overdue = entry.created.iter().filter(|(_, created)| created.at.elapsed() > UNSEEN_MAX);
        overdue.map(|(uid, created)| (uid.clone(), created.name.clone())).collect()
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &str) {
        self.owners().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn created_objects_count_until_they_are_shown() {
        let in_flight = InFlight::default();
        in_flight.creating("rs", 3);
        in_flight.answered("rs", Some(("a", "a")));
        in_flight.observed("rs", "b", false); // shown before the answer
        in_flight.answered("rs", Some(("b", "b")));
        in_flight.answered("rs", None);
        assert_eq!(in_flight.unseen("rs"), 1);
        assert!(in_flight.overdue("rs").is_empty());
        tokio::time::advance(UNSEEN_MAX + Duration::from_secs(1)).await;
        assert_eq!(in_flight.overdue("rs"), [("a".to_string(), "a".to_string())]);
        in_flight.observed("rs", "a", false);
        assert_eq!(in_flight.unseen("rs"), 0);
        assert!(in_flight.owners().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn deletions_count_until_the_object_is_shown_going() {
        let in_flight = InFlight::default();
        in_flight.deleting("rs", "a");
        in_flight.observed("rs", "a", false);
        assert!(in_flight.being_deleted("rs").contains("a"));
        in_flight.observed("rs", "a", true);
        assert!(in_flight.being_deleted("rs").is_empty());
        assert!(in_flight.owners().is_empty());
    }
}
