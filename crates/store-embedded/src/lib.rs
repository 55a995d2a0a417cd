//! The durable single-process engine behind [`store::Store`].
//!
//! - Writes: callers queue; whoever finds the sequencer idle sends it to work on the blocking pool, where
//!   it takes batch after batch until the queue is empty. One batch is one checksummed frame, one append
//!   and one fsync, then it becomes visible, then all its callers are answered.
//! - Reads: from a persistent map in memory ([`store::mvcc`]), so they neither wait for writers nor the
//!   disk.
//! - Disk: a log segment and a snapshot. When the log outgrows the snapshot, a new snapshot is written
//!   beside the running log and the old files go; see [`Options::log_bytes_min`] for the bound.
//!
//! Why a log of our own and not redb or fjall: `docs/benchmarks.md`, "Store engines".

mod dir;
mod frame;
mod queue;
mod recovery;
mod segment;
mod sequencer;
mod snapshot;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use store::{
    Committed, KeyValue, Limits, Range, Revision, Store, StoreError, WatchStream, Write, mvcc::View,
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    dir::Dir,
    queue::Queue,
    sequencer::{Request, Sequencer},
};

/// Writes that may wait at a time; more callers queue in front of that.
const QUEUED_MAX: usize = 4096;

/// How to run the engine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Wait for the disk before answering a write. Without it, a crash of the process loses nothing but
    /// power loss may lose the last seconds; what remains is still consistent.
    pub sync: bool,
    /// The log is replaced by a snapshot once it is longer than this and than the last snapshot. With
    /// `n` the larger of this and the live data, the files take about `3 × n`, and at most about `10 × n`
    /// when the disk is so busy that snapshots lag; then writers wait.
    pub log_bytes_min: u64,
    /// History for watchers and for reads at older revisions.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync: true, log_bytes_min: 64 << 20, limits: Limits::default() }
    }
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data directory {} is in use by {}", .dir.display(), match .pid { Some(pid) => format!("process {pid}"), None => "another process".into() })]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds the lock, if it could be told.
        pid: Option<u32>,
    },
    /// Acknowledged data is damaged or missing; going on would lose it silently.
    #[error("{} is damaged at byte {offset}; restore it from a copy", .path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where it stops making sense.
        offset: u64,
    },
    /// The directory could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The engine. Dropping it finishes queued writes in the background; [`Embedded::close`] waits for them.
pub struct Embedded {
    queue: Arc<Queue>,
    view: Arc<View>,
    /// Bounds the queue: held by a caller from queueing to the answer.
    permits: Semaphore,
}

/// Opens the store in `dir`, creating it if it is empty.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(dir: impl AsRef<Path>, options: Options) -> Result<Embedded, OpenError> {
    let path = dir.as_ref().to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let dir = Dir::open(&path)?;
        let recovered = recovery::recover(&dir, options.limits)?;
        Ok::<_, OpenError>((dir, recovered))
    });
    let (dir, recovered) = opened.await.map_err(io::Error::other)??;
    let recovery::Recovered { head, history, segment, snapshot_bytes, log_bytes } = recovered;
    let view = Arc::new(View::new(&head, history));
    let recovered = (head, segment);
    let sequencer =
        Sequencer::new(options, Arc::new(dir), view.clone(), recovered, log_bytes, snapshot_bytes);
    let queue = Queue::new(sequencer, view.clone(), tokio::runtime::Handle::current());
    Ok(Embedded { queue: Arc::new(queue), view, permits: Semaphore::new(QUEUED_MAX) })
}

impl Embedded {
    /// Finishes what is queued, syncs and ends all watches. The directory is unlocked once the engine is
    /// dropped and a snapshot in progress has been abandoned.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when it is closed already, [`StoreError::Io`] when the last sync failed.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Request::Close(reply))?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Watch streams own a share of the view; without this they would wait for ever.
        self.view.close();
        self.queue.abandon_snapshot();
    }
}

#[async_trait]
impl Store for Embedded {
    async fn commit(&self, write: Write) -> Result<Committed, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.queue.push(Request::Commit(write, reply))?;
        answer.await.map_err(|_| StoreError::Closed)?
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
