//! The cache of one kind: the current objects and a bounded log of what changed.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use imbl::OrdMap;
use store::{EventKind, Revision};
use tokio::sync::watch;

use super::entry::{Entry, type_prefix};
use crate::kind::Kind;

/// Bounds of one kind's event log; older events are forgotten first and their readers get 410.
const LOG_EVENTS_MAX: usize = 16 << 10;
const LOG_BYTES_MAX: usize = 32 << 20;

/// Objects by storage key, as a persistent map: a clone is a snapshot.
pub type Objects = OrdMap<Arc<str>, Arc<Entry>>;

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision of the change.
    pub revision: Revision,
    /// The object after the change; for a delete, its last state at the delete's revision.
    pub entry: Arc<Entry>,
    /// The object before the change.
    pub previous: Option<Arc<Entry>>,
    /// Whether the object is gone.
    pub deleted: bool,
}

#[derive(Default)]
struct State {
    objects: Objects,
    log: VecDeque<Change>,
    /// Sequence number of the first change in `log`.
    first: u64,
    log_bytes: usize,
    /// Changes up to and including this revision are not (all) in the log.
    forgotten: Revision,
    /// The last revision that touched this kind.
    revision: Revision,
}

/// The cache of one kind, shared by all readers.
pub struct ResourceCache {
    /// The stored version's row; another one when the definition of a custom resource changes.
    kind: RwLock<Arc<Kind>>,
    type_prefix: String,
    state: RwLock<State>,
    /// Sequence number after the last change; watchers sleep on it.
    end: watch::Sender<u64>,
    /// Counts how often all watches were ended.
    ended: watch::Sender<u64>,
}

/// A consistent view of one kind.
pub struct Snapshot {
    /// The objects.
    pub objects: Objects,
    /// The revision the view is of.
    pub revision: Revision,
    /// Where a watcher that has seen this snapshot goes on.
    pub next: u64,
}

/// What a cursor finds.
pub enum Read {
    /// Changes, and the cursor after them.
    Changes(Vec<Change>, u64),
    /// The changes it wants have been forgotten, up to this revision.
    Lost(Revision),
}

impl ResourceCache {
    pub(super) fn new(kind: Arc<Kind>, start: Revision) -> Self {
        let type_prefix = type_prefix(&kind.kind, &kind.api_version());
        let state = RwLock::new(State { forgotten: start, revision: start, ..State::default() });
        let (end, ended) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { kind: RwLock::new(kind), type_prefix, state, end, ended }
    }

    /// The stored version's row.
    pub fn kind(&self) -> Arc<Kind> {
        self.kind.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on under another row of the same kind.
    pub(super) fn set_kind(&self, kind: Arc<Kind>) {
        let before =
            std::mem::replace(&mut *self.kind.write().unwrap_or_else(PoisonError::into_inner), kind.clone());
        // Which fields can be selected has been remembered per object.
        if before.fields.labels != kind.fields.labels {
            self.write(State::forget_selectable);
        }
    }

    /// Ends all watches, as soon as they have sent what there is.
    pub fn end_watches(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    /// Changes when all watches are to end.
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Builds the entry of a stored value of this kind.
    pub fn entry(&self, key: Arc<str>, stored: &[u8], revision: Revision) -> Entry {
        let kind = self.kind.read().unwrap_or_else(PoisonError::into_inner);
        if kind.is_custom() {
            return Entry::of_custom(key, &kind.kind, &kind.api_version(), stored, revision);
        }
        Entry::new(key, &self.type_prefix, stored, revision)
    }

    /// Puts an object there without an event: the first load.
    pub(super) fn load(&self, kv: &store::KeyValue) {
        let entry = Arc::new(self.entry(kv.key.clone(), &kv.value, kv.mod_revision));
        self.write(|state| {
            state.objects.insert(kv.key.clone(), entry);
        });
    }

    /// Replaces everything: after the store's history was lost. Every watcher starts over.
    pub(super) fn reset(&self, kvs: &[&store::KeyValue], revision: Revision) {
        let entries = kvs
            .iter()
            .map(|kv| (kv.key.clone(), Arc::new(self.entry(kv.key.clone(), &kv.value, kv.mod_revision))));
        let objects: Objects = entries.collect();
        let end = self.write(|state| {
            state.objects = objects;
            // A gap in the sequence makes every cursor fall off the log.
            state.first += state.log.len() as u64 + 1;
            state.log.clear();
            state.log_bytes = 0;
            state.forgotten = revision;
            state.revision = revision;
            state.first
        });
        self.end.send_replace(end);
    }

    /// Applies a run of store events of this kind.
    pub(super) fn apply(&self, events: &[store::Event]) {
        let entries: Vec<Entry> = events
            .iter()
            .map(|event| self.entry(event.kv.key.clone(), &event.kv.value, event.kv.mod_revision))
            .collect();
        let end = self.write(|state| {
            for (event, entry) in events.iter().zip(entries) {
                state.apply(event, Arc::new(entry));
            }
            state.trim();
            state.first + state.log.len() as u64
        });
        self.end.send_replace(end);
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.read(|state| state.objects.get(key).cloned())
    }

    /// All objects now. `applied` is the revision the whole cache had reached before the call.
    pub fn snapshot(&self, applied: Revision) -> Snapshot {
        self.read(|state| Snapshot {
            objects: state.objects.clone(),
            revision: state.revision.max(applied),
            next: state.first + state.log.len() as u64,
        })
    }

    /// All objects as they were at an older revision, undone from the log; `None` when it is too old.
    pub fn snapshot_at(&self, revision: Revision) -> Option<Objects> {
        self.read(|state| {
            if revision < state.forgotten {
                return None;
            }
            let mut objects = state.objects.clone();
            for change in state.log.iter().rev().take_while(|change| change.revision > revision) {
                match &change.previous {
                    Some(previous) => objects.insert(previous.key.clone(), previous.clone()),
                    None => objects.remove(&change.entry.key),
                };
            }
            Some(objects)
        })
    }

    /// The cursor of a watch that has seen everything up to `revision`, or the oldest revision from
    /// which one can start.
    pub fn cursor_after(&self, revision: Revision) -> Result<u64, Revision> {
        self.read(|state| {
            if revision < state.forgotten {
                return Err(state.forgotten);
            }
            let seen = state.log.partition_point(|change| change.revision <= revision);
            Ok(state.first + seen as u64)
        })
    }

    /// Up to `limit` changes (and about `bytes` bytes) from `cursor` on.
    pub fn changes(&self, cursor: u64, limit: usize, bytes: usize) -> Read {
        self.read(|state| {
            let Some(offset) = cursor.checked_sub(state.first) else {
                return Read::Lost(state.forgotten);
            };
            let mut taken = Vec::new();
            let mut size = 0;
            for change in state.log.iter().skip(offset as usize).take(limit) {
                size += change.entry.len();
                taken.push(change.clone());
                if size >= bytes {
                    break;
                }
            }
            let next = cursor + taken.len() as u64;
            Read::Changes(taken, next)
        })
    }

    /// Wakes when the log grows.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.read(|state| state.objects.len())
    }

    /// How many objects there are, and the size of one of them.
    pub fn count_and_size(&self) -> (usize, usize) {
        self.read(|state| (state.objects.len(), state.objects.get_max().map_or(0, |(_, entry)| entry.len())))
    }
}

impl State {
    fn forget_selectable(&mut self) {
        let renewed = |entry: &Arc<Entry>| Arc::new(entry.at_revision(entry.revision));
        self.objects = self.objects.iter().map(|(key, entry)| (key.clone(), renewed(entry))).collect();
        for change in &mut self.log {
            change.entry = renewed(&change.entry);
            change.previous = change.previous.as_ref().map(renewed);
        }
    }

    fn apply(&mut self, event: &store::Event, entry: Arc<Entry>) {
        let deleted = event.kind == EventKind::Delete;
        let previous = if deleted {
            self.objects.remove(&entry.key)
        } else {
            self.objects.insert(entry.key.clone(), entry.clone())
        };
        self.revision = entry.revision;
        self.log_bytes += entry.len();
        self.log.push_back(Change { revision: entry.revision, entry, previous, deleted });
    }

    fn trim(&mut self) {
        while self.log.len() > LOG_EVENTS_MAX || (self.log_bytes > LOG_BYTES_MAX && self.log.len() > 1) {
            let Some(oldest) = self.log.pop_front() else { break };
            self.first += 1;
            self.log_bytes -= oldest.entry.len();
            self.forgotten = oldest.revision;
        }
    }
}

/// The entries whose keys begin with `prefix`, in key order, after `start_after` if given.
pub fn range<'a>(
    objects: &'a Objects,
    prefix: &'a str,
    start_after: Option<&str>,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    let start: Bound<Arc<str>> = match start_after {
        Some(key) if key >= prefix => Bound::Excluded(Arc::from(key)),
        _ => Bound::Included(Arc::from(prefix)),
    };
    objects
        .range((start, Bound::Unbounded))
        .map(|(_, entry)| entry)
        .take_while(move |entry| entry.key.starts_with(prefix))
}
