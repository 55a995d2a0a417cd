//! The one place where writes get their order: a batch of everything queued is checked, numbered,
//! appended, synced once, published and answered.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use store::{
    Committed, StoreError, Write,
    mvcc::{Head, View},
};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};

use crate::{
    Options,
    dir::Dir,
    frame::FrameWriter,
    segment::{AppendError, Segment},
    snapshot,
};

/// A batch is cut after this many bytes, which bounds memory and the latency of the first in line.
pub const BATCH_BYTES: usize = 4 << 20;

/// A batch is cut after this many writes.
pub const BATCH_WRITES: usize = 1024;

/// How many times the length that makes a snapshot due the log may reach while one is being written.
const LOG_GROWTH_MAX: u64 = 4;

/// Where the answer to a request goes.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What callers queue.
pub enum Request {
    /// A write and who waits for it.
    Commit(Write, Reply<Committed>),
    /// Close after everything queued before.
    Close(Reply<()>),
}

/// The writer's side of the store; exists once and is owned by whoever runs the current batch.
pub struct Sequencer {
    options: Options,
    dir: Arc<Dir>,
    head: Head,
    segment: Segment,
    view: Arc<View>,
    frame: FrameWriter,
    /// Bytes of log since the last snapshot began.
    log_bytes: u64,
    snapshots: Arc<Snapshots>,
    snapshot: Option<JoinHandle<()>>,
}

/// What the sequencer and the snapshot being written know of each other.
#[derive(Default)]
pub struct Snapshots {
    /// Length of the last snapshot.
    bytes: AtomicU64,
    /// True while one is being written.
    running: AtomicBool,
    /// Raised to abandon it.
    pub cancel: AtomicBool,
}

/// The sequencer has stopped for good; what is left to do once it is dropped.
pub struct Stopped {
    snapshot: Option<JoinHandle<()>>,
    close: Option<(Reply<()>, Result<(), StoreError>)>,
}

impl Stopped {
    /// Waits for the snapshot in progress to give up, then answers who asked to close.
    pub fn finish(self, runtime: &Handle) {
        if let Some(snapshot) = self.snapshot {
            // It never panics on purpose, and there is nothing left to do about it here.
            let _ = runtime.block_on(snapshot);
        }
        if let Some((reply, result)) = self.close {
            // Nobody waiting any more is fine.
            let _ = reply.send(result);
        }
    }
}

impl Sequencer {
    /// Continues from what recovery found.
    pub fn new(
        options: Options,
        dir: Arc<Dir>,
        view: Arc<View>,
        recovered: (Head, Segment),
        log_bytes: u64,
        snapshot_bytes: u64,
    ) -> Self {
        let (head, segment) = recovered;
        let snapshots = Arc::new(Snapshots { bytes: snapshot_bytes.into(), ..Snapshots::default() });
        let frame = FrameWriter::default();
        Self { options, dir, head, segment, view, frame, log_bytes, snapshots, snapshot: None }
    }

    /// The handle to abandon a snapshot being written.
    pub fn snapshots(&self) -> Arc<Snapshots> {
        self.snapshots.clone()
    }

    /// Runs one batch. Everybody in it has an answer when this returns.
    pub fn run(&mut self, batch: &mut impl Iterator<Item = Request>) -> Result<(), Stopped> {
        let before = self.head.clone();
        let mut events = Vec::new();
        let mut answers = Vec::new();
        let mut closing = None;
        self.frame.clear();
        while self.frame.len() < BATCH_BYTES && answers.len() < BATCH_WRITES {
            match batch.next() {
                Some(Request::Commit(write, reply)) => {
                    let result = self.head.apply(write).map(|event| {
                        self.frame.event(&event);
                        let revision = event.kv.mod_revision;
                        let previous = event.previous.clone();
                        events.push(event);
                        Committed { revision, previous }
                    });
                    answers.push((reply, result));
                }
                Some(Request::Close(reply)) => {
                    closing = Some(reply);
                    break;
                }
                None => break,
            }
        }
        if !events.is_empty() {
            let frame = self.frame.seal(before.revision() + 1);
            match self.segment.append(frame, self.options.sync) {
                Ok(()) => {
                    self.log_bytes += frame.len() as u64;
                    self.view.publish(&self.head, events.into());
                }
                Err(AppendError::Rejected(error)) => {
                    tracing::error!(%error, "the log did not accept a batch");
                    self.head = before;
                    fail(&mut answers, error);
                }
                Err(AppendError::Fatal(error)) => {
                    tracing::error!(%error, "the log failed; closing the store");
                    fail(&mut answers, error);
                    answer(answers);
                    return Err(self.stopped(None));
                }
            }
        }
        // A conflict may rest on a write of the same batch: no answer leaves before the batch is durable.
        answer(answers);
        if let Some(reply) = closing {
            let synced = self.segment.finish().map_err(|error| Arc::new(error).into());
            return Err(self.stopped(Some((reply, synced))));
        }
        self.maybe_snapshot().map_err(|error| {
            tracing::error!(%error, "the log could not begin its next segment; closing the store");
            self.stopped(None)
        })
    }

    fn stopped(&mut self, close: Option<(Reply<()>, Result<(), StoreError>)>) -> Stopped {
        Stopped { snapshot: self.snapshot.take(), close }
    }

    /// Begins a snapshot once the log has outgrown both the last one and a minimum: writes are amplified
    /// about twice, and the disk holds about three times the live data, or as many times the minimum.
    fn maybe_snapshot(&mut self) -> io::Result<()> {
        let due = self.options.log_bytes_min.max(self.snapshots.bytes.load(Ordering::Relaxed));
        if self.log_bytes < due {
            return Ok(());
        }
        if self.snapshots.running.load(Ordering::Acquire) {
            if self.log_bytes < due.saturating_mul(LOG_GROWTH_MAX) {
                return Ok(());
            }
            // Writers outrun the snapshot. Waiting for it here is what keeps the disk bounded.
            if let Some(snapshot) = self.snapshot.take() {
                // It reports its own errors, and never panics on purpose.
                let _ = Handle::current().block_on(snapshot);
            }
        }
        // The snapshot's revision is the border between two segments, so that whole files go.
        self.segment.finish()?;
        let next = self.head.revision() + 1;
        match Segment::create(&self.dir, next) {
            Ok(segment) => self.segment = segment,
            Err(error) => {
                // A full disk, typically. The current segment is still good as long as no later one is
                // there, and the next attempt comes when the log has grown as much again.
                match std::fs::remove_file(self.dir.segment(next)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => self.dir.sync()?,
                }
                self.log_bytes = 0;
                tracing::warn!(%error, "could not begin the next log segment");
                return Ok(());
            }
        }
        self.log_bytes = self.segment.len();
        self.snapshots.running.store(true, Ordering::Release);
        let (dir, head, snapshots) = (self.dir.clone(), self.head.clone(), self.snapshots.clone());
        self.snapshot = Some(Handle::current().spawn_blocking(move || {
            if let Err(error) = snapshots.write(&dir, &head) {
                // The log is still whole, and the next attempt comes when it has grown again.
                tracing::warn!(%error, "could not write a snapshot");
            }
            snapshots.running.store(false, Ordering::Release);
        }));
        Ok(())
    }
}

impl Snapshots {
    fn write(&self, dir: &Dir, head: &Head) -> io::Result<()> {
        if let Some(bytes) = snapshot::write(dir, head, &self.cancel)? {
            self.bytes.store(bytes, Ordering::Relaxed);
            dir.remove_before(head.revision())?;
        }
        Ok(())
    }
}

fn fail(answers: &mut [(Reply<Committed>, Result<Committed, StoreError>)], error: io::Error) {
    let error = Arc::new(error);
    for (_, answer) in answers.iter_mut() {
        *answer = Err(StoreError::Io(error.clone()));
    }
}

fn answer(answers: Vec<(Reply<Committed>, Result<Committed, StoreError>)>) {
    for (reply, result) in answers {
        // A caller that gave up waiting does not undo the write.
        let _ = reply.send(result);
    }
}
