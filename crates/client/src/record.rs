//! Records what happened to an object as core/v1 Events, as `kubectl describe` shows them.
//!
//! Source of the semantics: client-go's `tools/record`. Equal events are one object with a count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Events that wait to be written; further ones are dropped and counted.
const QUEUE: usize = 8192;
/// Events being written at the same time.
const CONCURRENCY: usize = 16;
/// Distinct events remembered for counting.
const REMEMBERED: usize = 4096;
/// Equal events after this long are a new object.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Whether an event tells of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// As planned.
    Normal,
    /// Something somebody should look at.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Writes events in the background; clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

/// An event before it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    /// Namespace, kind, name, uid, API version and field path of the object.
    about: [String; 6],
    event_type: EventType,
    reason: String,
    message: String,
}

impl Recorder {
    /// A recorder for events of `component`, e.g. `deployment-controller`.
    pub fn new(client: kube::Client, component: impl Into<String>) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        tokio::spawn(
            Writer { client, component: component.into(), known: BTreeMap::new(), sequence: 0 }.run(notes),
        );
        Self { queue, dropped: Arc::default() }
    }

    /// Records that `reason` happened to the object, in CamelCase, with a sentence for people.
    ///
    /// Never waits: when the queue is full the event is dropped and counted.
    pub fn event(
        &self,
        about: &ObjectReference,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        let note = Note {
            about: [
                field(&about.namespace),
                field(&about.kind),
                field(&about.name),
                field(&about.uid),
                field(&about.api_version),
                field(&about.field_path),
            ],
            event_type,
            reason: reason.to_owned(),
            message: message.into(),
        };
        if self.queue.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped because they came faster than they could be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The reference by which events and records name an object.
pub fn reference_to<K: kube::Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Writer {
    client: kube::Client,
    component: String,
    /// The event object of each recent note: its name, count and when it was last seen.
    known: BTreeMap<Note, (String, i32, Instant)>,
    /// Makes event names unique within one instant.
    sequence: u64,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut writing = JoinSet::new();
        while let Some(note) = notes.recv().await {
            while writing.len() >= CONCURRENCY {
                writing.join_next().await;
            }
            while writing.try_join_next().is_some() {}
            let namespace = if note.about[0].is_empty() { "default" } else { note.about[0].as_str() };
            let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
            match self.seen_again(&note) {
                Some((name, count)) => {
                    writing.spawn(async move { report(count_up(&api, &name, count).await) });
                }
                None => {
                    let event = self.new_event(&note);
                    writing.spawn(async move {
                        report(api.create(&PostParams::default(), &event).await.map(|_| ()));
                    });
                }
            }
        }
        while writing.join_next().await.is_some() {}
    }

    /// The event object to count up, if this was recorded before.
    fn seen_again(&mut self, note: &Note) -> Option<(String, i32)> {
        let now = Instant::now();
        let (name, count, seen) = self.known.get_mut(note)?;
        if now.duration_since(*seen) > FORGET_AFTER {
            self.known.remove(note);
            return None;
        }
        *count += 1;
        *seen = now;
        Some((name.clone(), *count))
    }

    fn new_event(&mut self, note: &Note) -> Event {
        let now = base::clock::now();
        self.sequence += 1;
        let name = format!("{}.{:x}{:04x}", note.about[2], now.as_microsecond(), self.sequence & 0xffff);
        self.remember(note.clone(), name.clone());
        let [namespace, kind, object, uid, api_version, field_path] = note.about.clone();
        let some = |text: String| (!text.is_empty()).then_some(text);
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(some(namespace.clone()).unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                namespace: some(namespace),
                kind: some(kind),
                name: some(object),
                uid: some(uid),
                api_version: some(api_version),
                field_path: some(field_path),
                resource_version: None,
            },
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            type_: Some(note.event_type.as_str().to_owned()),
            count: Some(1),
            first_timestamp: Some(Time::from(now)),
            last_timestamp: Some(Time::from(now)),
            source: Some(EventSource { component: Some(self.component.clone()), host: None }),
            reporting_component: Some(self.component.clone()),
            ..Event::default()
        }
    }

    fn remember(&mut self, note: Note, name: String) {
        if self.known.len() >= REMEMBERED {
            let now = Instant::now();
            self.known.retain(|_, (_, _, seen)| now.duration_since(*seen) < FORGET_AFTER / 10);
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
        }
        self.known.insert(note, (name, 1, Instant::now()));
    }
}

async fn count_up(api: &Api<Event>, name: &str, count: i32) -> Result<(), kube::Error> {
    let now = base::clock::rfc3339(base::clock::now());
    let patch = json!({"count": count, "lastTimestamp": now});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
}

fn report(result: Result<(), kube::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "an event could not be recorded");
    }
}
