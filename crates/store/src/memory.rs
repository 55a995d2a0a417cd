use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{
    Committed, KeyValue, Limits, Range, Revision, Store, StoreError, WatchStream, Write,
    mvcc::{Head, History, View},
};

/// The store without a disk: the model of the semantics, and the home of ephemeral kinds. Needs no
/// runtime, task or thread, so it behaves the same on a paused clock.
pub struct Memory {
    /// Held from the precondition check until the write is published, which makes commits a sequence.
    head: Mutex<Head>,
    view: Arc<View>,
}

impl Memory {
    /// An empty store with the default history.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// An empty store that keeps this much history.
    pub fn with_limits(limits: Limits) -> Self {
        Self::from_head(Head::default(), limits)
    }

    /// An empty store at `revision`: what follows an earlier life that is forgotten, but for the
    /// revisions that readers may still hold.
    pub fn starting_at(revision: Revision) -> Self {
        Self::from_head(Head::restore(revision, []), Limits::default())
    }

    fn from_head(head: Head, limits: Limits) -> Self {
        let view = Arc::new(View::new(&head, History::new(head.revision(), limits)));
        Self { head: Mutex::new(head), view }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Watch streams own a share of the view; without this they would wait for ever.
        self.view.close();
    }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, write: Write) -> Result<Committed, StoreError> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let event = head.apply(write)?;
        let committed = Committed { revision: event.kv.mod_revision, previous: event.previous.clone() };
        self.view.publish(&head, Arc::from([event]));
        Ok(committed)
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.view.get(key)
    }

    async fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, StoreError> {
        self.view.range(prefix, start_after, limit, at)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.view.watch(prefix, after)
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.view.current_revision()
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.view.compact(revision)
    }
}
