//! Events are kept for an hour, as upstream does by default.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use store::{Compare, Write};
use tokio::time::Instant;

use crate::server::Inner;

const KEYS: &str = "/registry/events/";
const LIFE: Duration = Duration::from_secs(3600);
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
}

/// Deletes old events until the server is gone.
pub(crate) async fn run(server: Weak<Inner>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(server) = server.upgrade() else { return };
        let registry = server.registry();
        let Some(kind) = registry.resource("", "v1", "events") else { return };
        for key in server.expiry.due() {
            let Some(entry) =
                server.cache_of(kind).resource(&kind.storage.dir).and_then(|events| events.get(&key))
            else {
                continue;
            };
            let write = Write::delete(entry.key.clone(), Compare::ModRevision(entry.revision));
            if let Err(error) = server.cache_of(kind).store().commit(write).await {
                tracing::debug!(%error, key, "an old event stays for now");
            }
        }
    }
}
