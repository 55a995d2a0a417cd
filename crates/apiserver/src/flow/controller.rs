//! Keeps the configuration in force what the objects say, and the shipped objects what they should be.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::Compare;
use tokio::time::Instant;

use super::bootstrap::{self, Bootstrap};
use super::config::{FlowSchema, PriorityLevel};
use crate::cache::Entry;
use crate::kind::Kind;
use crate::managed_fields;
use crate::object::{encode_stored, meta_mut};
use crate::server::Inner;
use crate::storage::PutError;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// Whom the managed fields of specs and of conditions belong to.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
/// How often shipped objects are looked after.
const UPKEEP: Duration = Duration::from_secs(60);
/// How often levels that need no seats lend them to others.
const BORROWING: Duration = Duration::from_secs(10);

/// Whether the configuration depends on an object.
pub(super) fn concerns(key: &str) -> bool {
    let dir = key.strip_prefix("/registry/").and_then(|rest| rest.split_once('.'));
    dir.is_some_and(|(resource, rest)| [SCHEMAS, LEVELS].contains(&resource) && rest.starts_with(GROUP))
}

/// Creates and brings up to date what is shipped, and puts the configuration in force.
pub(crate) async fn start(server: &Arc<Inner>) {
    ensure(server).await;
    sync(server).await;
    let shutdown = server.shutdown.subscribe();
    tokio::spawn(run(Arc::downgrade(server), server.flow.changes.subscribe(), shutdown));
}

async fn run(
    server: Weak<Inner>,
    mut changes: tokio::sync::watch::Receiver<u64>,
    mut shutdown: tokio::sync::watch::Receiver<bool>,
) {
    let mut upkeep = Instant::now() + UPKEEP;
    let mut borrowing = Instant::now() + BORROWING;
    loop {
        let changed = tokio::select! {
            changed = changes.changed() => if changed.is_err() { return } else { true },
            () = tokio::time::sleep_until(borrowing.min(upkeep)) => false,
            _ = shutdown.changed() => return,
        };
        let Some(server) = server.upgrade() else { return };
        let now = Instant::now();
        if changed {
            sync(&server).await;
        }
        if now >= borrowing {
            server.flow.rebalance();
            borrowing = now + BORROWING;
        }
        if now >= upkeep {
            ensure(&server).await;
            upkeep = now + UPKEEP;
        }
    }
}

/// All objects of one of the two kinds.
fn all<T: DeserializeOwned>(server: &Inner, kind: &Kind) -> Vec<(T, Arc<Entry>)> {
    let Some(resource) = server.cache_of(kind).resource(&kind.storage.dir) else { return Vec::new() };
    let objects = resource.snapshot(0).objects;
    let read = objects.values().filter_map(|entry| match serde_json::from_slice(entry.bytes()) {
        Ok(object) => Some((object, entry.clone())),
        Err(error) => {
            tracing::warn!(%error, name = entry.name(), "a flow control object cannot be read");
            None
        }
    });
    read.collect()
}

/// Puts the configuration in force and says of every flow schema whether its level exists.
async fn sync(server: &Arc<Inner>) {
    let registry = server.registry();
    let kind = |resource| registry.resource(GROUP, "v1", resource);
    let (Some(schemas), Some(levels)) = (kind(SCHEMAS), kind(LEVELS)) else { return };
    let levels: Vec<PriorityLevel> = all(server, levels).into_iter().map(|(level, _)| level).collect();
    let found: Vec<(FlowSchema, Arc<Entry>)> = all(server, schemas);
    let known = server.flow.configure(found.iter().map(|(schema, _)| schema.clone()).collect(), levels);
    for (schema, entry) in found {
        let level = &schema.spec.priority_level_configuration.name;
        let condition = dangling(level, known.contains(level));
        if let Err(PutError::Other(error)) = set_condition(server, schemas, &entry, condition).await {
            tracing::warn!(%error, name = entry.name(), "the status of a flow schema cannot be written");
        }
    }
}

fn dangling(level: &str, exists: bool) -> Value {
    let start = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = match exists {
        true => ("False", "Found", format!("{start} and it exists")),
        false => ("True", "NotFound", format!("{start} but there is no such object")),
    };
    json!({"type": "Dangling", "status": status, "reason": reason, "message": message})
}

async fn set_condition(
    server: &Arc<Inner>,
    kind: &Arc<Kind>,
    entry: &Entry,
    mut condition: Value,
) -> Result<(), PutError> {
    let old = entry.try_value().map_err(PutError::Other)?;
    let conditions = old["status"]["conditions"].as_array();
    let present = conditions.into_iter().flatten().find(|other| other["type"] == condition["type"]);
    let same = |field| present.is_some_and(|present| present[field] == condition[field]);
    if ["status", "reason", "message"].into_iter().all(same) {
        return Ok(());
    }
    condition["lastTransitionTime"] = base::clock::rfc3339(base::clock::now()).into();
    let applied = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": entry.name()},
        "status": {"conditions": [condition]},
    });
    let new = managed_fields::apply_kind(kind, &old, applied, CONSUMER, "status");
    let mut new = new.map_err(PutError::Other)?;
    crate::codec::canonicalise(kind, &mut new);
    let compare = Compare::ModRevision(entry.revision);
    server.put_bytes(kind, entry.key.clone(), compare, encode_stored(&new)).await.map(|_| ())
}

/// Creates what is missing, updates what is as it was shipped, deletes what is shipped no more.
async fn ensure(server: &Arc<Inner>) {
    for (resource, shipped) in [(LEVELS, bootstrap::levels()), (SCHEMAS, bootstrap::schemas())] {
        let registry = server.registry();
        let Some(kind) = registry.resource(GROUP, "v1", resource) else { return };
        let outcome = ensure_kind(server, kind, &shipped).await;
        if let Err(PutError::Other(error)) = outcome {
            tracing::warn!(%error, resource, "the flow control configuration cannot be brought up to date");
        }
    }
}

async fn ensure_kind(server: &Arc<Inner>, kind: &Arc<Kind>, shipped: &[Bootstrap]) -> Result<(), PutError> {
    for wanted in shipped {
        let written = match server.cached(kind, "", wanted.name()) {
            None => create(server, kind, wanted).await,
            Some(entry) => {
                let current = entry.try_value().map_err(PutError::Other)?;
                match bootstrap::revise(&current, wanted) {
                    Some(revised) => update(server, kind, &entry, &current, revised).await,
                    None => Ok(()),
                }
            }
        };
        // Who was faster is looked at the next time.
        if let Err(error @ PutError::Other(_)) = written {
            return Err(error);
        }
    }
    for (object, entry) in all::<Value>(server, kind) {
        if bootstrap::is_obsolete(&object, shipped)
            && let Err(error @ PutError::Other(_)) = server.remove(kind, &entry).await
        {
            return Err(error);
        }
    }
    Ok(())
}

async fn create(server: &Arc<Inner>, kind: &Arc<Kind>, wanted: &Bootstrap) -> Result<(), PutError> {
    let mut object = wanted.object.clone();
    let metadata = meta_mut(&mut object);
    metadata.insert("uid".to_owned(), base::rng::uuid().into());
    metadata.insert("creationTimestamp".to_owned(), base::clock::rfc3339(base::clock::now()).into());
    object["status"] = json!({});
    managed_fields::track_kind(kind, &Value::Null, &mut object, PRODUCER, "").map_err(PutError::Other)?;
    crate::codec::canonicalise(kind, &mut object);
    server.put(kind, &kind.key("", wanted.name()), Compare::Absent, &object).await.map(|_| ())
}

async fn update(
    server: &Arc<Inner>,
    kind: &Arc<Kind>,
    entry: &Entry,
    old: &Value,
    mut new: Value,
) -> Result<(), PutError> {
    managed_fields::track_kind(kind, old, &mut new, PRODUCER, "").map_err(PutError::Other)?;
    crate::codec::canonicalise(kind, &mut new);
    let compare = Compare::ModRevision(entry.revision);
    server.put_bytes(kind, entry.key.clone(), compare, encode_stored(&new)).await.map(|_| ())
}
