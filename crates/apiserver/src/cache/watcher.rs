//! One watch: a cursor over a kind's log that turns changes into event bytes, batch by batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use store::Revision;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Change, Entry, Read, ResourceCache, Selectable};
use crate::body::BoxError;
use crate::kind::Kind;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::ApiError;

/// Changes looked at and bytes gathered in one go.
const BATCH_CHANGES_MAX: usize = 512;
const BATCH_BYTES: usize = 128 << 10;

/// A watch that was served less than this ago waits for more before it is served again, unless there is
/// plenty already: a flood of small writes would otherwise cost every watcher a wake-up, a TLS record and
/// a system call for each commit. What comes after a pause is sent at once.
const GATHER: Duration = Duration::from_millis(2);
const GATHER_BYTES: usize = 16 << 10;

/// Which objects a list or watch is about.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Storage keys begin with this.
    pub prefix: String,
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
}

impl Filter {
    /// Whether only the prefix counts, so that no object needs to be looked into.
    pub fn is_trivial(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it depends on fields of the objects besides their names.
    pub fn reads_fields(&self) -> bool {
        self.fields
            .0
            .iter()
            .any(|term| !matches!(term.field.as_str(), "metadata.name" | "metadata.namespace"))
    }

    /// Whether an object of the cache is selected; `kind` is the stored version's row.
    pub fn matches(&self, entry: &Entry, kind: &Kind) -> bool {
        if !entry.key.starts_with(&self.prefix) || entry.is_unreadable() {
            return false;
        }
        if self.is_trivial() {
            return true;
        }
        // Names are in the key: the usual watch of a single object parses nothing.
        let named = self
            .fields
            .0
            .iter()
            .filter(|term| matches!(term.field.as_str(), "metadata.name" | "metadata.namespace"));
        for term in named {
            let value = match term.field.as_str() {
                "metadata.name" => entry.name(),
                _ if kind.namespaced => entry.namespace(),
                _ => "",
            };
            if (value == term.value) == term.negated {
                return false;
            }
        }
        if !self.reads_fields() && self.labels.is_empty() {
            return true;
        }
        self.matches_selectable(entry.selectable(kind), entry, kind)
    }

    fn matches_selectable(&self, selectable: &Selectable, entry: &Entry, kind: &Kind) -> bool {
        if !self.labels.matches(&selectable.labels) {
            return false;
        }
        self.fields.matches(|field| match field {
            "metadata.name" => entry.name(),
            "metadata.namespace" if kind.namespaced => entry.namespace(),
            _ => {
                let index = kind.fields.labels.iter().position(|label| label == field);
                index.and_then(|index| selectable.fields.get(index)).map_or("", String::as_str)
            }
        })
    }
}

/// Turns an object of the cache into the bytes of an event's `object`. `None`: the stored bytes.
pub type Transform = Arc<dyn Fn(&Entry) -> Bytes + Send + Sync>;

/// Brings changes into the form in which the watch is to see them: custom resources may have to be brought
/// in line with their definition, or converted by a webhook.
pub type Show = Arc<dyn Fn(Vec<Change>) -> BoxFuture<'static, Result<Vec<Change>, ApiError>> + Send + Sync>;

/// Appends an event of that type with the bytes of its object.
pub type WriteEvent = fn(&mut Vec<u8>, &str, &[u8]);

/// How a watch behaves.
pub struct WatchOptions {
    /// What it is about.
    pub filter: Filter,
    /// What happens to changes before anybody looks at them.
    pub show: Option<Show>,
    /// Another form of the objects than the stored one: other version, Table, only metadata.
    pub transform: Option<Transform>,
    /// Objects sent as ADDED first.
    pub initial: VecDeque<Arc<Entry>>,
    /// After `initial`, send the bookmark that ends it.
    pub initial_end: Option<Revision>,
    /// Where the log is read from.
    pub cursor: u64,
    /// Changes up to this revision are skipped.
    pub after: Revision,
    /// Send a bookmark now and then.
    pub bookmarks: bool,
    /// When the server ends the watch.
    pub timeout: Duration,
    /// The whole cache's progress, for bookmarks.
    pub applied: Arc<dyn Fn() -> Revision + Send + Sync>,
    /// Bytes of a bookmark's object at a revision; true for the one that ends the initial events.
    pub bookmark: Arc<dyn Fn(Revision, bool) -> Bytes + Send + Sync>,
    /// How an event is put on the stream.
    pub write: WriteEvent,
    /// An error as an event's object.
    pub error: fn(&ApiError) -> Bytes,
    /// Turns true when the server shuts down.
    pub shutdown: watch::Receiver<bool>,
}

struct Watcher {
    resource: Arc<ResourceCache>,
    kind: Arc<Kind>,
    end: watch::Receiver<u64>,
    ended: watch::Receiver<u64>,
    options: WatchOptions,
    deadline: Instant,
    next_bookmark: Instant,
    /// Until when small chunks are held back.
    gather_until: Instant,
    finished: bool,
}

/// The event stream, in chunks of whole events.
pub fn watch_stream(
    resource: Arc<ResourceCache>,
    options: WatchOptions,
) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let now = Instant::now();
    let watcher = Watcher {
        kind: resource.kind(),
        end: resource.subscribe(),
        ended: resource.ended(),
        resource,
        deadline: now + options.timeout,
        next_bookmark: now + bookmark_interval(),
        gather_until: now,
        options,
        finished: false,
    };
    futures::stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((Ok(chunk), watcher))
    })
}

/// About a minute, spread so that many watchers do not wake together.
fn bookmark_interval() -> Duration {
    base::rng::jitter(Duration::from_secs(50), 0.4)
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        let mut out = Vec::new();
        if let Some(chunk) = self.initial(&mut out) {
            return Some(chunk);
        }
        loop {
            self.end.borrow_and_update();
            match self.resource.changes(self.options.cursor, BATCH_CHANGES_MAX, BATCH_BYTES) {
                Read::Lost(oldest) => {
                    self.finished = true;
                    let error = ApiError::too_old(self.options.after, oldest);
                    (self.options.write)(&mut out, "ERROR", &(self.options.error)(&error));
                    return Some(out.into());
                }
                Read::Changes(mut changes, next) if !changes.is_empty() => {
                    self.options.cursor = next;
                    if let Some(show) = &self.options.show {
                        changes = match show(changes).await {
                            Ok(changes) => changes,
                            Err(error) => {
                                self.finished = true;
                                (self.options.write)(&mut out, "ERROR", &(self.options.error)(&error));
                                return Some(out.into());
                            }
                        };
                    }
                    for change in &changes {
                        self.encode(change, &mut out);
                    }
                    if out.len() >= GATHER_BYTES {
                        return Some(self.sent(out));
                    }
                    if !out.is_empty() {
                        tokio::time::sleep_until(self.gather_until).await;
                    }
                    // A long run of changes that are not ours must not hold up other tasks.
                    tokio::task::yield_now().await;
                    continue;
                }
                Read::Changes(..) if !out.is_empty() => return Some(self.sent(out)),
                Read::Changes(..) => {}
            }
            // What has not arrived is only known after the check above, so the revision is taken before
            // sleeping and a bookmark never promises too much.
            let bookmark_due = tokio::select! {
                biased;
                changed = self.end.changed() => { changed.ok()?; false }
                _ = self.options.shutdown.wait_for(|down| *down) => return None,
                _ = self.ended.changed() => return None,
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep_until(self.next_bookmark), if self.options.bookmarks => true,
            };
            if bookmark_due {
                self.next_bookmark = Instant::now() + bookmark_interval();
                if let Some(chunk) = self.bookmark() {
                    return Some(chunk);
                }
            }
        }
    }

    fn sent(&mut self, chunk: Vec<u8>) -> Bytes {
        self.gather_until = Instant::now() + GATHER;
        chunk.into()
    }

    /// The objects that are there already.
    fn initial(&mut self, out: &mut Vec<u8>) -> Option<Bytes> {
        while let Some(entry) = self.options.initial.pop_front() {
            self.write(out, "ADDED", &entry);
            if out.len() >= BATCH_BYTES {
                return Some(std::mem::take(out).into());
            }
        }
        if let Some(revision) = self.options.initial_end.take() {
            (self.options.write)(out, "BOOKMARK", &(self.options.bookmark)(revision, true));
        }
        (!out.is_empty()).then(|| std::mem::take(out).into())
    }

    fn bookmark(&mut self) -> Option<Bytes> {
        let applied = (self.options.applied)();
        // Only when nothing new came in between is everything up to `applied` behind the cursor.
        match self.resource.changes(self.options.cursor, 1, 1) {
            Read::Changes(changes, _) if changes.is_empty() => {
                let mut out = Vec::new();
                let revision = applied.max(self.options.after);
                (self.options.write)(&mut out, "BOOKMARK", &(self.options.bookmark)(revision, false));
                Some(out.into())
            }
            _ => None,
        }
    }

    fn encode(&self, change: &Change, out: &mut Vec<u8>) {
        if change.revision <= self.options.after {
            return;
        }
        let kind = &self.kind;
        let filter = &self.options.filter;
        let before = change.previous.as_ref().filter(|entry| filter.matches(entry, kind));
        let now = !change.deleted && filter.matches(&change.entry, kind);
        match (before, now) {
            (None, true) => self.write(out, "ADDED", &change.entry),
            (Some(_), true) => self.write(out, "MODIFIED", &change.entry),
            (Some(_), false) if change.deleted => self.write(out, "DELETED", &change.entry),
            (Some(entry), false) => self.write(out, "DELETED", &entry.at_revision(change.revision)),
            (None, false) => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>, kind: &str, entry: &Entry) {
        match &self.options.transform {
            None => (self.options.write)(out, kind, entry.bytes()),
            Some(transform) => (self.options.write)(out, kind, &transform(entry)),
        }
    }
}

/// An event as a line of JSON.
pub fn write_json_event(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.reserve(object.len() + kind.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
