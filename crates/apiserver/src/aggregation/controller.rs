//! Follows the APIServices: puts their routes in force and their conditions where they belong.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use store::Compare;
use tokio::sync::watch;

use super::remote::Remote;
use super::{GROUP, PLURAL, available, is_remote, local, register, set_condition};
use crate::cache::Entry;
use crate::kind::Kind;
use crate::object::{encode_stored, meta};
use crate::server::Inner;
use crate::storage::PutError;

/// Whom managed fields belong to.
pub(super) const MANAGER: &str = "kube-apiserver";
/// How often servers behind are asked whether they are there; and at most that often.
const CHECKS: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
/// How long changes are collected before they are looked at.
const BATCH: Duration = Duration::from_millis(250);
/// Servers asked at once.
const CHECKS_AT_ONCE: usize = 16;

/// Creates the APIServices of what is served here, and follows all of them from now on.
pub(crate) async fn start(server: &Arc<Inner>) {
    authentication_config(server).await;
    register::sync(server, &all(server), true).await;
    let mut controller = Controller::default();
    controller.sync(server).await;
    let (changes, checks) = (server.aggregation.changes.subscribe(), server.aggregation.checks.subscribe());
    tokio::spawn(controller.run(Arc::downgrade(server), changes, server.shutdown.subscribe()));
    tokio::spawn(check(Arc::downgrade(server), checks, server.shutdown.subscribe()));
}

/// All APIServices.
fn all(server: &Inner) -> Vec<(Arc<Entry>, Value)> {
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", PLURAL) else { return Vec::new() };
    let Some(resource) = server.cache_of(kind).resource(&kind.storage.dir) else { return Vec::new() };
    let objects = resource.snapshot(0).objects;
    objects.values().map(|entry| (entry.clone(), entry.to_value())).collect()
}

/// Writes an APIService unless somebody else was faster.
pub(super) async fn write(
    server: &Arc<Inner>,
    kind: &Arc<Kind>,
    entry: &Entry,
    old: &Value,
    mut new: Value,
    subresource: &str,
) -> Result<(), PutError> {
    let tracked = crate::managed_fields::track_kind(kind, old, &mut new, MANAGER, subresource);
    tracked.map_err(PutError::Other)?;
    crate::codec::canonicalise(kind, &mut new);
    let compare = Compare::ModRevision(entry.revision);
    server.put_bytes(kind, entry.key.clone(), compare, encode_stored(&new)).await.map(|_| ())
}

async fn write_condition(server: &Arc<Inner>, entry: &Entry, service: &Value, wanted: Value) {
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", PLURAL) else { return };
    let mut new = service.clone();
    if set_condition(&mut new, wanted)
        && let Err(PutError::Other(error)) = write(server, kind, entry, service, new, "status").await
    {
        tracing::warn!(%error, name = entry.name(), "the status of an APIService cannot be written");
    }
}

#[derive(Default)]
struct Controller {
    remotes: BTreeMap<String, Arc<Remote>>,
}

impl Controller {
    async fn run(
        mut self,
        server: Weak<Inner>,
        mut changes: watch::Receiver<u64>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = shutdown.changed() => return,
            }
            // Every round looks at all of them, so thousands of changes at once must be few rounds.
            tokio::time::sleep(BATCH).await;
            changes.mark_unchanged();
            let Some(server) = server.upgrade() else { return };
            register::sync(&server, &all(&server), false).await;
            self.sync(&server).await;
        }
    }

    /// Puts the routes in force.
    async fn sync(&mut self, server: &Arc<Inner>) {
        let mut remotes = BTreeMap::new();
        for (entry, service) in all(server) {
            if !is_remote(&service) {
                write_condition(server, &entry, &service, local()).await;
                continue;
            }
            let name = meta(&service, "name").to_owned();
            let known = self.remotes.get(&name).map(|known| &**known);
            let client = server.aggregation.client.as_ref();
            let remote = Remote::new(Arc::downgrade(server), &service, client, known);
            remotes.insert(name, Arc::new(remote));
        }
        self.remotes = remotes;
        let remotes: Vec<Arc<Remote>> = self.remotes.values().cloned().collect();
        server.aggregation.set_routes(&remotes);
    }
}

/// Finds out again and again which servers behind are there, and what they serve.
async fn check(server: Weak<Inner>, mut wake: watch::Receiver<u64>, mut shutdown: watch::Receiver<bool>) {
    loop {
        let any = server.upgrade().is_some_and(|server| server.aggregation.routes().is_some());
        tokio::select! {
            changed = wake.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(CHECKS), if any => {}
            _ = shutdown.changed() => return,
        }
        let Some(server) = server.upgrade() else { return };
        let services: Vec<_> = all(&server).into_iter().filter(|(_, service)| is_remote(service)).collect();
        if services.is_empty() {
            continue;
        }
        let checks = services.into_iter().map(|(entry, service)| check_one(server.clone(), entry, service));
        futures::stream::iter(checks).buffer_unordered(CHECKS_AT_ONCE).collect::<Vec<()>>().await;
        drop(server);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn check_one(server: Arc<Inner>, entry: Arc<Entry>, service: Value) {
    let spec = &service["spec"];
    let (group, version) = (spec["group"].as_str(), spec["version"].as_str());
    let routes = server.aggregation.routes();
    let known = routes
        .and_then(|routes| routes.get(group.unwrap_or_default(), version.unwrap_or_default()))
        .filter(|remote| remote.is(&service));
    let Some(remote) = known else {
        // What is learnt is kept with the route, so a new one is checked once it has that.
        server.aggregation.checks.send_modify(|count| *count += 1);
        return;
    };
    let condition = super::available_check::check(&server, &remote).await;
    let is_there = condition["status"] == "True";
    // What it serves is known before it is said to be there: who is told then finds it in discovery.
    let learned = is_there && remote.learn().await;
    write_condition(&server, &entry, &service, condition).await;
    if learned {
        // The documents have to be merged again.
        server.aggregation.changes.send_modify(|count| *count += 1);
    }
}

/// Says how the servers behind recognise this one: `extension-apiserver-authentication`.
async fn authentication_config(server: &Arc<Inner>) {
    let Some(client) = &server.aggregation.client else { return };
    let registry = server.registry();
    let Some(kind) = registry.resource("", "v1", "configmaps") else { return };
    const NAME: &str = "extension-apiserver-authentication";
    let list = |items: &[&str]| json!(items).to_string();
    let data = json!({
        "client-ca-file": client.client_ca_pem,
        "requestheader-allowed-names": list(&[&client.name]),
        "requestheader-client-ca-file": client.ca_pem,
        "requestheader-extra-headers-prefix": list(&["X-Remote-Extra-"]),
        "requestheader-group-headers": list(&["X-Remote-Group"]),
        "requestheader-uid-headers": list(&["X-Remote-Uid"]),
        "requestheader-username-headers": list(&["X-Remote-User"]),
    });
    let written = match server.cached(kind, "kube-system", NAME) {
        Some(entry) => {
            let old = entry.to_value();
            let mut new = old.clone();
            new["data"] = data;
            if new == old { Ok(()) } else { write(server, kind, &entry, &old, new, "").await }
        }
        None => {
            let object = json!({"metadata": {"name": NAME, "namespace": "kube-system",
                "uid": base::rng::uuid(), "creationTimestamp": base::clock::rfc3339(base::clock::now())},
                "data": data});
            server.put(kind, &kind.key("kube-system", NAME), Compare::Absent, &object).await.map(|_| ())
        }
    };
    if let Err(PutError::Other(error)) = written {
        tracing::warn!(%error, "servers behind this one cannot be told how to recognise it");
    }
}

/// A condition that says that a server behind cannot be used.
pub(super) fn unavailable(reason: &str, message: String) -> Value {
    available("False", reason, message)
}
