//! The in-memory state of a single-process engine: who writes holds a [`Head`], who reads shares a
//! [`View`].
//!
//! The head runs ahead of the view while a batch is on its way to the disk; publishing swaps a
//! persistent map and appends the batch to the event log, both under a lock held for microseconds, so
//! that neither a long LIST nor a slow watcher ever holds up the writer. Nothing is queued per watcher:
//! each is a cursor over the one bounded log.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use futures::{StreamExt as _, stream};
use imbl::OrdMap;
use tokio::sync::watch;

use crate::{
    Compare, Event, EventKind, KEY_BYTES_MAX, KeyValue, Limits, Op, Range, Revision, StoreError,
    VALUE_BYTES_MAX, WatchBatch, WatchStream, Write,
};

/// Events a watcher receives at most in one batch, which bounds what it holds in memory.
const WATCH_EVENTS_MAX: usize = 1024;

/// Bookkeeping of one event in the log, counted against [`Limits::history_bytes`].
const EVENT_OVERHEAD_BYTES: usize = 200;

type Map = OrdMap<Arc<str>, KeyValue>;

/// A run of events with consecutive revisions, published together and shared by all watchers.
pub type Chunk = Arc<[Event]>;

/// The writer's state: every accepted write, published or not.
#[derive(Clone, Default)]
pub struct Head {
    map: Map,
    revision: Revision,
}

impl Head {
    /// The state at `revision`, made of these keys.
    pub fn restore(revision: Revision, kvs: impl IntoIterator<Item = KeyValue>) -> Self {
        Self { map: kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect(), revision }
    }

    /// Revision of the last accepted write.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// True when there is no key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All keys in order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyValue> {
        self.map.values()
    }

    /// Checks the precondition, gives the write the next revision and applies it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] and [`StoreError::TooLarge`], both without any effect.
    pub fn apply(&mut self, write: Write) -> Result<Event, StoreError> {
        let Write { key, compare, op } = write;
        let current = self.map.get(&key);
        let holds = match (compare, current) {
            (Compare::Any, None) => matches!(op, Op::Put(_)),
            (Compare::Any, Some(_)) | (Compare::Present, Some(_)) => true,
            (Compare::Absent, current) => current.is_none() && matches!(op, Op::Put(_)),
            (Compare::ModRevision(revision), Some(kv)) => kv.mod_revision == revision,
            (Compare::Present | Compare::ModRevision(_), None) => false,
        };
        if !holds {
            return Err(StoreError::Conflict { current: current.cloned() });
        }
        check_size(key.len(), KEY_BYTES_MAX)?;
        let mod_revision = self.revision + 1;
        let event = match op {
            Op::Put(value) => {
                check_size(value.len(), VALUE_BYTES_MAX)?;
                let (key, create_revision) = match current {
                    Some(kv) => (kv.key.clone(), kv.create_revision),
                    None => (key, mod_revision),
                };
                let kv = KeyValue { key, value, create_revision, mod_revision };
                let previous = self.map.insert(kv.key.clone(), kv.clone());
                Event { kind: EventKind::Put, kv, previous }
            }
            Op::Delete => {
                let previous = self.map.remove(&key);
                let Some(last) = previous.clone() else {
                    return Err(StoreError::Conflict { current: None });
                };
                Event { kind: EventKind::Delete, kv: KeyValue { mod_revision, ..last }, previous }
            }
        };
        self.revision = mod_revision;
        Ok(event)
    }
}

fn check_size(bytes: usize, limit: usize) -> Result<(), StoreError> {
    if bytes > limit { Err(StoreError::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// The readers' state: the last published snapshot and the log of events that led to it.
pub struct View {
    state: RwLock<State>,
    /// Bumped after every publication; watchers wait on it.
    wake: watch::Sender<()>,
}

struct State {
    map: Map,
    revision: Revision,
    history: History,
    closed: bool,
}

/// The log of recent events, bounded by [`Limits`].
pub struct History {
    limits: Limits,
    /// The events after `oldest`, without a gap.
    chunks: VecDeque<Chunk>,
    events: usize,
    bytes: usize,
    /// The oldest revision whose successors are all in the log.
    oldest: Revision,
}

impl History {
    /// No history before `revision`.
    pub fn new(revision: Revision, limits: Limits) -> Self {
        Self { limits, chunks: VecDeque::new(), events: 0, bytes: 0, oldest: revision }
    }

    /// Appends the next events and returns the oldest ones, if they no longer fit.
    pub fn push(&mut self, chunk: Chunk) -> Vec<Chunk> {
        self.events += chunk.len();
        self.bytes += chunk_bytes(&chunk);
        self.chunks.push_back(chunk);
        let mut dropped = Vec::new();
        while self.events > self.limits.history_events || self.bytes > self.limits.history_bytes {
            let Some(chunk) = self.pop() else { break };
            dropped.push(chunk);
        }
        dropped
    }

    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.events -= chunk.len();
        self.bytes -= chunk_bytes(&chunk);
        self.oldest = self.oldest.max(last_revision(&chunk));
        Some(chunk)
    }

    fn compact(&mut self, revision: Revision) -> Vec<Chunk> {
        let mut dropped = Vec::new();
        while self.chunks.front().is_some_and(|chunk| last_revision(chunk) <= revision) {
            dropped.extend(self.pop());
        }
        // A chunk that straddles `revision` stays in the log, but is not readable before it.
        self.oldest = self.oldest.max(revision);
        dropped
    }

    /// The chunks that hold the events after `revision`; the first may begin before it.
    fn since(&self, revision: Revision) -> impl Iterator<Item = &Chunk> {
        let from = self.chunks.partition_point(|chunk| last_revision(chunk) <= revision);
        self.chunks.range(from..)
    }
}

impl View {
    /// The view of a store at `head` that remembers `history`.
    pub fn new(head: &Head, history: History) -> Self {
        let state = State { map: head.map.clone(), revision: head.revision, history, closed: false };
        Self { state: RwLock::new(state), wake: watch::Sender::new(()) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Every critical section leaves the state consistent, so that a poisoned lock is still good.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the writes of `chunk`, which brought the store to `head`, visible to readers and watchers.
    pub fn publish(&self, head: &Head, chunk: Chunk) {
        let Some(last) = chunk.last() else { return };
        assert_eq!(last.kv.mod_revision, head.revision, "a chunk ends at the head it is published with");
        let replaced = {
            let mut state = self.write();
            assert_eq!(chunk[0].kv.mod_revision, state.revision + 1, "revisions have no gap");
            state.revision = head.revision;
            (std::mem::replace(&mut state.map, head.map.clone()), state.history.push(chunk))
        };
        self.wake.send_replace(());
        // Freeing old values and map nodes takes longer than the swap did: do it outside the lock.
        drop(replaced);
    }

    /// Ends all watches and fails all later calls.
    pub fn close(&self) {
        self.write().closed = true;
        self.wake.send_replace(());
    }

    /// See [`crate::Store::get`].
    pub fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let state = self.read();
        state.check_open()?;
        Ok(state.map.get(key).cloned())
    }

    /// See [`crate::Store::current_revision`].
    pub fn current_revision(&self) -> Result<Revision, StoreError> {
        let state = self.read();
        state.check_open()?;
        Ok(state.revision)
    }

    /// See [`crate::Store::compact`].
    pub fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let dropped = {
            let mut state = self.write();
            state.check_open()?;
            if revision > state.revision {
                return Err(StoreError::FutureRevision { current: state.revision });
            }
            state.history.compact(revision)
        };
        // Watchers that are behind learn it now, not at the next write.
        self.wake.send_replace(());
        drop(dropped);
        Ok(())
    }

    /// See [`crate::Store::range`].
    pub fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, StoreError> {
        let (map, revision, since) = {
            let state = self.read();
            state.check_open()?;
            let at = at.unwrap_or(state.revision);
            state.check_revision(at)?;
            (state.map.clone(), at, state.history.since(at).cloned().collect::<Vec<_>>())
        };
        let undo = undo(&since, revision, prefix);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut kvs = Vec::new();
        let mut remaining = 0;
        for kv in snapshot(&map, &undo, prefix, start_after) {
            if kvs.len() < limit {
                kvs.push(kv.clone());
            } else {
                remaining += 1;
            }
        }
        Ok(Range { kvs, revision, more: remaining > 0, remaining })
    }

    /// See [`crate::Store::watch`].
    pub fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        // Subscribing before the first look at the log is what makes a missed wake-up impossible.
        let cursor = Cursor {
            view: self.clone(),
            wake: self.wake.subscribe(),
            prefix: prefix.into(),
            after,
            ended: false,
        };
        let state = self.read();
        state.check_open()?;
        state.check_revision(after)?;
        drop(state);
        Ok(stream::unfold(cursor, |mut cursor| async move {
            if cursor.ended {
                return None;
            }
            let item = cursor.next().await;
            cursor.ended = item.is_err();
            Some((item, cursor))
        })
        .boxed())
    }
}

impl State {
    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn check_revision(&self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision { current: self.revision });
        }
        let oldest = self.history.oldest;
        if revision < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        Ok(())
    }
}

fn last_revision(chunk: &Chunk) -> Revision {
    chunk.last().map_or(0, |event| event.kv.mod_revision)
}

fn chunk_bytes(chunk: &[Event]) -> usize {
    chunk.iter().map(|event| event.kv.key.len() + event.kv.value.len() + EVENT_OVERHEAD_BYTES).sum()
}

/// What the keys under `prefix` that changed after `at` held at that revision.
fn undo<'a>(since: &'a [Chunk], at: Revision, prefix: &str) -> BTreeMap<&'a str, Option<&'a KeyValue>> {
    let mut undo = BTreeMap::new();
    let events = since.iter().flat_map(|chunk| chunk.iter());
    for event in events.filter(|e| e.kv.mod_revision > at && e.kv.key.starts_with(prefix)) {
        // The first change after `at` knows what was there before.
        undo.entry(&*event.kv.key).or_insert(event.previous.as_ref());
    }
    undo
}

/// The keys under `prefix` after `start_after`, merged from the current map and what must be undone.
fn snapshot<'a>(
    map: &'a Map,
    undo: &'a BTreeMap<&'a str, Option<&'a KeyValue>>,
    prefix: &'a str,
    start_after: Option<&'a str>,
) -> impl Iterator<Item = &'a KeyValue> {
    let from = match start_after {
        Some(key) if key >= prefix => Bound::Excluded(key),
        _ => Bound::Included(prefix),
    };
    let bounds = (from, Bound::Unbounded);
    let mut live = map
        .range::<_, str>(bounds)
        .map(|(_, kv)| kv)
        .take_while(move |kv| kv.key.starts_with(prefix))
        .filter(|kv| !undo.contains_key(&*kv.key))
        .peekable();
    let mut undone = undo.range::<str, _>(bounds).filter_map(|(_, kv)| *kv).peekable();
    std::iter::from_fn(move || match (live.peek(), undone.peek()) {
        (Some(a), Some(b)) if b.key < a.key => undone.next(),
        (Some(_), _) => live.next(),
        (None, _) => undone.next(),
    })
}

/// One watcher: a position in the shared log.
struct Cursor {
    view: Arc<View>,
    wake: watch::Receiver<()>,
    prefix: Box<str>,
    /// Everything up to here has been delivered.
    after: Revision,
    ended: bool,
}

impl Cursor {
    async fn next(&mut self) -> Result<WatchBatch, StoreError> {
        loop {
            if let Some(batch) = self.take()? {
                return Ok(batch);
            }
            // The view, which owns the sender, is kept alive by this cursor: it ends by `close`.
            self.wake.changed().await.map_err(|_| StoreError::Closed)?;
        }
    }

    fn take(&mut self) -> Result<Option<WatchBatch>, StoreError> {
        let chunks = {
            let state = self.view.read();
            state.check_revision(self.after)?;
            if self.after == state.revision {
                state.check_open()?;
                return Ok(None);
            }
            let mut scanned = 0;
            let room = |chunk: &&Chunk| {
                let fits = scanned < WATCH_EVENTS_MAX;
                scanned += chunk.len();
                fits
            };
            state.history.since(self.after).take_while(room).cloned().collect::<Vec<_>>()
        };
        let mut events = Vec::new();
        let mut scanned = 0;
        for event in chunks.iter().flat_map(|chunk| chunk.iter()).filter(|e| e.kv.mod_revision > self.after) {
            if scanned == WATCH_EVENTS_MAX {
                break;
            }
            scanned += 1;
            if event.kv.key.starts_with(&*self.prefix) {
                events.push(event.clone());
            }
        }
        self.after += scanned as Revision;
        Ok(Some(WatchBatch { revision: self.after, events }))
    }
}
