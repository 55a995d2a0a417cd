//! The narrow, etcd-shaped storage interface under the API server.
//!
//! A store is one ordered map from keys to bytes with a global [`Revision`] that grows by exactly one
//! with every committed write. Everything the API server promises about `resourceVersion` rests on it:
//!
//! - [`Store::commit`] writes one key under a precondition and is durable when it returns;
//! - [`Store::range`] reads a prefix in key order, now or as it was at an older revision;
//! - [`Store::watch`] delivers every later change once, in order, without a gap;
//! - history is bounded: what has been compacted answers [`StoreError::Compacted`], never silence.
//!
//! [`Memory`] is the model every engine is compared with, [`suite`] is the set of tests every engine
//! runs, and [`mvcc`] is the in-memory state that `Memory` and the embedded engine share.

mod memory;
pub mod mvcc;
pub mod suite;

pub use memory::Memory;

use std::{io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A point in the store's single order of writes; 0 is "before anything", the first commit is 1.
pub type Revision = u64;

/// The longest key an engine accepts, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// The longest value an engine accepts, in bytes. Above the API server's own request limit, so that it
/// only ever stops a programming error.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// One key with its value and the revisions it was born and last written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key, for example `/registry/pods/default/web-1`.
    pub key: Arc<str>,
    /// The value; cloning it shares the bytes.
    pub value: Bytes,
    /// Revision of the write that created the key (a delete ends a life, the next put begins another).
    pub create_revision: Revision,
    /// Revision of the last write to the key.
    pub mod_revision: Revision,
}

/// What must be true of the key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// No condition.
    Any,
    /// The key must not exist (create).
    Absent,
    /// The key must exist with this `mod_revision` (optimistic update).
    ModRevision(Revision),
    /// The key must exist, whatever its revision (unconditional update).
    Present,
}

/// The write itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Create or replace.
    Put(Bytes),
    /// Remove. Deleting an absent key is always [`StoreError::Conflict`], even under [`Compare::Any`],
    /// because every committed write must be a visible change.
    Delete,
}

/// One conditional write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key to write.
    pub key: Arc<str>,
    /// The precondition.
    pub compare: Compare,
    /// What to do.
    pub op: Op,
}

impl Write {
    /// A put under `compare`.
    pub fn put(key: impl Into<Arc<str>>, compare: Compare, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), compare, op: Op::Put(value.into()) }
    }

    /// A delete under `compare`.
    pub fn delete(key: impl Into<Arc<str>>, compare: Compare) -> Self {
        Self { key: key.into(), compare, op: Op::Delete }
    }
}

/// The answer to a write that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision this write was given.
    pub revision: Revision,
    /// What the key held before.
    pub previous: Option<KeyValue>,
}

/// The answer to [`Store::range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The keys found, in byte order.
    pub kvs: Vec<KeyValue>,
    /// The revision the answer is a snapshot of.
    pub revision: Revision,
    /// True when the limit cut the answer short.
    pub more: bool,
    /// How many keys of the prefix follow the last one returned.
    pub remaining: u64,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Created or replaced; `previous` tells which.
    Put,
    /// Removed.
    Delete,
}

/// One committed write as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after a put. For a delete: the last value and `create_revision`, with the delete's own
    /// revision as `mod_revision`.
    pub kv: KeyValue,
    /// The key before the write.
    pub previous: Option<KeyValue>,
}

/// A run of events. Batches of one stream have growing revisions; `events` may be empty, which reports
/// progress: nothing under the watched prefix changed up to `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// All events up to and including this revision have been delivered once this batch is.
    pub revision: Revision,
    /// The events, ascending by `kv.mod_revision`.
    pub events: Vec<Event>,
}

/// Batches until the first error, which is the last item.
pub type WatchStream = BoxStream<'static, Result<WatchBatch, StoreError>>;

/// Why a store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The precondition of a write did not hold; nothing was written.
    #[error("precondition failed: the key {}", match .current { Some(kv) => format!("is at revision {}", kv.mod_revision), None => "does not exist".into() })]
    Conflict {
        /// What the key holds now.
        current: Option<KeyValue>,
    },
    /// The requested revision is older than the history kept.
    #[error("the requested revision has been compacted; the oldest readable is {oldest}")]
    Compacted {
        /// The oldest revision that can still be read at or watched after.
        oldest: Revision,
    },
    /// The requested revision has not happened yet.
    #[error("the requested revision is in the future; the current one is {current}")]
    FutureRevision {
        /// The store's current revision.
        current: Revision,
    },
    /// The key or value exceeds [`KEY_BYTES_MAX`] or [`VALUE_BYTES_MAX`]; nothing was written.
    #[error("{bytes} bytes exceed the store's limit of {limit}")]
    TooLarge {
        /// Size asked for.
        bytes: usize,
        /// Size allowed.
        limit: usize,
    },
    /// The store was closed, or has closed itself after an IO error.
    #[error("the store is closed")]
    Closed,
    /// Reading or writing the disk failed. Whether a write that got this answer survives is unknown.
    #[error("store IO: {0}")]
    Io(#[from] Arc<io::Error>),
}

/// How much history an engine keeps for watchers and for reads at older revisions. The oldest part is
/// compacted automatically when either bound is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events kept.
    pub history_events: usize,
    /// Bytes of keys and values kept by those events.
    pub history_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_events: 64 << 10, history_bytes: 64 << 20 }
    }
}

/// The store. See the crate's documentation for what every engine guarantees.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes one key if its precondition holds. The write is durable and visible to every later call
    /// when this returns.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the precondition does not hold.
    async fn commit(&self, write: Write) -> Result<Committed, StoreError>;

    /// Reads one key as of now.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError>;

    /// Reads up to `limit` keys (0: all) that begin with `prefix` and come after `start_after`, as of
    /// revision `at` (`None`: now). The answer is one consistent snapshot.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::FutureRevision`] for an `at` that cannot be read.
    async fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, StoreError>;

    /// Streams every event after revision `after` whose key begins with `prefix`, in order, without gap
    /// or duplicate. A reader that falls behind the bounded history gets [`StoreError::Compacted`] as
    /// the stream's last item; nothing is queued for it.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::FutureRevision`] for an `after` that cannot be served.
    fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;

    /// The revision of the last committed write. Linearizable: not older than any commit that was
    /// answered before the call.
    async fn current_revision(&self) -> Result<Revision, StoreError>;

    /// Forgets history before `revision`: reads at it and watches after it stay possible, older ones do
    /// not. Compacting what is compacted already does nothing.
    ///
    /// # Errors
    /// [`StoreError::FutureRevision`] when `revision` has not happened yet.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
}
