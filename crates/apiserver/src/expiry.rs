//! Events are kept for an hour, as upstream does by default.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use store::{Compare, StoreError, Write};
use tokio::time::Instant;

use crate::server::Inner;

const KEYS: &str = "/registry/events/";
const LIFE: Duration = Duration::from_secs(3600);
/// Deletes under way at once.
const DELETES_MAX: usize = 64;
const ROUND: Duration = Duration::from_secs(30);

/// When each event was last written, oldest first.
#[derive(Default)]
pub(crate) struct Expiry {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    order: VecDeque<(Instant, String)>,
    last: BTreeMap<String, Instant>,
}

impl Expiry {
    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, present: bool) {
        if !key.starts_with(KEYS) {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if present {
            let now = Instant::now();
            queue.order.push_back((now, key.to_owned()));
            queue.last.insert(key.to_owned(), now);
        } else {
            queue.last.remove(key);
        }
    }

    /// Keys whose time is over.
    fn due(&self) -> Vec<String> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut due = Vec::new();
        while queue.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= LIFE) {
            let Some((at, key)) = queue.order.pop_front() else { break };
            // Written again since: a later entry stands for it.
            if queue.last.get(&key) == Some(&at) {
                due.push(key);
            }
        }
        due
    }

    /// Puts back a key that could not be deleted, to be tried again next time.
    fn again(&self, key: String) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = queue.last.get(&key).copied() {
            queue.order.push_front((at, key));
        }
    }
}

/// Deletes old events until the server is gone.
pub(crate) async fn run(server: Weak<Inner>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(server) = server.upgrade() else { return };
        let registry = server.registry();
        let Some(kind) = registry.resource("", "v1", "events") else { return };
        let cache = server.cache_of(kind);
        let Some(events) = cache.resource(&kind.storage.dir) else { return };
        let (events, expiry) = (&events, &server.expiry);
        let delete = |key: String| async move {
            let Some(entry) = events.get(&key) else { return };
            let write = Write::delete(entry.key.clone(), Compare::ModRevision(entry.revision));
            match cache.store().commit(write).await {
                // Written again, or gone: either way there is nothing left to do for this entry.
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::debug!(%error, key, "an old event stays for now");
                    expiry.again(key);
                }
            }
        };
        // Together, so that they share the store's commits.
        futures::stream::iter(expiry.due()).for_each_concurrent(DELETES_MAX, delete).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_deleted_is_due_again() {
        let expiry = Expiry::default();
        let key = format!("{KEYS}a/e");
        expiry.apply(&key, true);
        tokio::time::advance(LIFE).await;
        assert_eq!(expiry.due(), [key.as_str()]);
        assert!(expiry.due().is_empty());
        expiry.again(key.clone());
        assert_eq!(expiry.due(), [key.as_str()]);
        expiry.apply(&key, false);
        expiry.again(key);
        assert!(expiry.due().is_empty());
    }
}
