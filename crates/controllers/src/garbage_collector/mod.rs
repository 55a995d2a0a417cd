//! Deletes objects whose owners are gone, and carries out foreground and orphaning deletion.
//!
//! Follows the metadata of every resource that can be listed, watched and deleted; new ones are
//! noticed within seconds. The graph only says what to look at: before anything is deleted, the
//! object and its owners are read from the API server.

mod graph;
pub(crate) mod monitor;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base::map::{HashMap, HashSet};
use client::{CancellationToken, Next, WorkQueue, run_workers};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use self::graph::{FOREGROUND, Graph, Meta, ORPHAN, Place, Uid, Work};
use self::monitor::Observation;
use crate::context::{Context, Error, gone_is_fine};
use crate::discovery::{self, Resource};

const WORKERS: usize = 32;
/// How often new resources are looked for.
const REFRESH: Duration = Duration::from_secs(15);
/// How long an owner may stay unseen before it is looked up.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it is believed that an owner does not exist. Uids are never used again, so this only
/// bounds memory.
const ABSENT: Duration = Duration::from_secs(600);

/// Resources that are never garbage: they end by themselves, and there are many.
const IGNORED: &[(&str, &str)] = &[
    ("", "events"),
    ("events.k8s.io", "events"),
    ("metrics.kobune.dev", "nodeusages"),
    ("metrics.k8s.io", "pods"),
    ("metrics.k8s.io", "nodes"),
];

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let collector = Arc::new(Collector {
        context: context.clone(),
        graph: Mutex::default(),
        resources: Mutex::default(),
        absent: Mutex::default(),
        queue: WorkQueue::new(),
    });
    let (ready, mut is_ready) = watch::channel(false);
    let monitors = collector.clone();
    let stop = context.stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(monitors.monitor_all(ready)).await });
    // Without the whole graph an owner could be thought to have no dependents.
    if context.stop.run_until_cancelled(is_ready.wait_for(|ready| *ready)).await.is_none() {
        return;
    }
    let queue = collector.queue.clone();
    let reconcile = move |work: Work| {
        let collector = collector.clone();
        async move { collector.reconcile(work).await }
    };
    run_workers(queue, WORKERS, reconcile, context.stop.clone()).await;
}

struct Collector {
    context: Context,
    graph: Mutex<Graph>,
    /// All resources ever seen; their position is their number in the graph.
    resources: Mutex<Vec<Resource>>,
    /// Owners known not to exist.
    absent: Mutex<HashMap<Uid, Instant>>,
    queue: WorkQueue<Work>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One resource being followed.
struct Monitor {
    stop: CancellationToken,
    synced: watch::Receiver<bool>,
}

impl Collector {
    /// Keeps one monitor per resource, and reports when the first ones have all listed.
    async fn monitor_all(self: Arc<Self>, ready: watch::Sender<bool>) {
        let mut monitors: HashMap<(String, String, String), Monitor> = HashMap::default();
        loop {
            match discovery::deletable(&self.context.client).await {
                Ok(resources) => self.adjust(&mut monitors, resources),
                Err(error) => tracing::debug!(%error, "discovery failed; keeping the known resources"),
            }
            if !*ready.borrow() && !monitors.is_empty() {
                for monitor in monitors.values_mut() {
                    // A resource that cannot be listed must not hold up all others.
                    let synced = monitor.synced.wait_for(|synced| *synced);
                    let _ = tokio::time::timeout(Duration::from_secs(5), synced).await;
                }
                ready.send_replace(true);
            }
            let pause = if monitors.is_empty() { Duration::from_millis(200) } else { REFRESH };
            tokio::time::sleep(pause).await;
        }
    }

    fn adjust(
        self: &Arc<Self>,
        monitors: &mut HashMap<(String, String, String), Monitor>,
        found: Vec<Resource>,
    ) {
        let key = |resource: &Resource| {
            (resource.api.group.clone(), resource.api.version.clone(), resource.api.plural.clone())
        };
        let wanted = found.into_iter().filter(|resource| {
            let name = (resource.api.group.as_str(), resource.api.plural.as_str());
            resource.watchable && !IGNORED.contains(&name)
        });
        let wanted: HashMap<_, Resource> = wanted.map(|resource| (key(&resource), resource)).collect();
        monitors.retain(|key, monitor| {
            let keep = wanted.contains_key(key);
            if !keep {
                monitor.stop.cancel();
            }
            keep
        });
        for (key, resource) in wanted {
            monitors.entry(key).or_insert_with(|| self.clone().start(resource));
        }
    }

    fn start(self: Arc<Self>, resource: Resource) -> Monitor {
        let number = {
            let mut resources = lock(&self.resources);
            resources.push(resource.clone());
            u16::try_from(resources.len() - 1).unwrap_or(u16::MAX)
        };
        let stop = self.context.stop.child_token();
        let (sender, synced) = watch::channel(false);
        let token = stop.clone();
        tokio::spawn(async move {
            let client = self.context.client.clone();
            let observe = |observation| {
                let listed = matches!(observation, Observation::Listed(_));
                self.observe(number, observation);
                if listed {
                    sender.send_replace(true);
                }
            };
            token.run_until_cancelled(monitor::follow(client, &resource, observe)).await;
            if !self.context.stop.is_cancelled() {
                // The resource is gone, and its objects with it.
                self.observe(number, Observation::Listed(Vec::new()));
            }
        });
        Monitor { stop, synced }
    }

    fn observe(&self, resource: u16, observation: Observation) {
        let work = {
            let mut graph = lock(&self.graph);
            match observation {
                Observation::Applied(meta) => graph.applied(resource, &meta),
                Observation::Deleted(meta) => graph.deleted(Uid::of(&meta.uid)),
                Observation::Listed(objects) => {
                    let listed: HashSet<Uid> = objects.iter().map(|meta| Uid::of(&meta.uid)).collect();
                    let mut work = graph.retain(resource, &listed);
                    work.extend(objects.iter().flat_map(|meta| graph.applied(resource, meta)));
                    work
                }
            }
        };
        for work in work {
            match work {
                Work::CollectLater(uid) => self.queue.add_after(Work::Collect(uid), PATIENCE),
                work => self.queue.add(work),
            }
        }
    }

    async fn reconcile(&self, work: Work) -> Result<Next, Error> {
        match work {
            Work::Collect(uid) | Work::CollectLater(uid) => self.collect(uid).await,
            Work::Foreground(uid) => self.foreground(uid).await,
            Work::Orphan(uid) => self.orphan(uid).await,
        }?;
        Ok(Next::Wait)
    }

    fn api(&self, place: &Place) -> Option<Api<DynamicObject>> {
        let resource = lock(&self.resources).get(usize::from(place.resource)).cloned()?;
        let client = self.context.client.clone();
        Some(if resource.namespaced {
            Api::namespaced_with(client, &place.namespace, &resource.api)
        } else {
            Api::all_with(client, &resource.api)
        })
    }

    /// The object as the API server has it, if it is still the one with this uid.
    async fn read(&self, api: &Api<DynamicObject>, name: &str, uid: Uid) -> Result<Option<Meta>, Error> {
        let live: Option<PartialObjectMeta<DynamicObject>> = api.get_metadata_opt(name).await?;
        let meta = live.map(|live| {
            let metadata = live.metadata;
            let references = metadata.owner_references.unwrap_or_default();
            Meta {
                name: metadata.name.unwrap_or_default(),
                namespace: metadata.namespace.unwrap_or_default(),
                uid: metadata.uid.unwrap_or_default(),
                resource_version: metadata.resource_version.unwrap_or_default(),
                deletion_timestamp: metadata.deletion_timestamp.map(|time| time.0.to_string()),
                finalizers: metadata.finalizers.unwrap_or_default(),
                owner_references: references
                    .into_iter()
                    .map(|reference| graph::Reference {
                        api_version: reference.api_version,
                        kind: reference.kind,
                        name: reference.name,
                        uid: reference.uid,
                        block_owner_deletion: reference.block_owner_deletion,
                        controller: reference.controller,
                    })
                    .collect(),
            }
        });
        Ok(meta.filter(|meta| Uid::of(&meta.uid) == uid))
    }

    /// Deletes the object if none of its owners is left, or drops the references to those that are
    /// gone if some are.
    async fn collect(&self, uid: Uid) -> Result<(), Error> {
        let Some(place) = lock(&self.graph).place_of(uid) else { return Ok(()) };
        let Some(api) = self.api(&place) else { return Ok(()) };
        let Some(object) = self.read(&api, &place.name, uid).await? else {
            // It is gone, and its event is on the way.
            return Ok(());
        };
        let (has_dependents, in_circle) = {
            let graph = lock(&self.graph);
            let dependents = graph.dependents(uid);
            (!dependents.is_empty(), dependents.into_iter().any(|dependent| graph.is_foreground(dependent)))
        };
        if object.owner_references.is_empty() || object.deletion_timestamp.is_some() {
            return Ok(());
        }
        let (mut solid, mut dangling, mut waiting) = (Vec::new(), 0, 0);
        for reference in &object.owner_references {
            let owner = Uid::of(&reference.uid);
            if lock(&self.graph).is_foreground(owner) {
                waiting += 1;
            } else if self.exists(&place, reference, owner).await? {
                solid.push(reference);
            } else {
                dangling += 1;
            }
        }
        if !solid.is_empty() {
            if dangling + waiting > 0 {
                let gone = object.owner_references.iter().filter(|reference| !solid.contains(reference));
                self.drop_references(&api, &object, gone.map(|reference| reference.uid.as_str())).await?;
            }
            return Ok(());
        }
        if waiting > 0 && in_circle {
            // Its owners might wait for it, and it for them. As upstream, it then holds up nobody.
            self.unblock(&api, &object).await?;
        }
        let policy = if waiting > 0 && has_dependents {
            PropagationPolicy::Foreground
        } else if object.finalizers.iter().any(|finalizer| finalizer == ORPHAN) {
            PropagationPolicy::Orphan
        } else if object.finalizers.iter().any(|finalizer| finalizer == FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(object.uid), resource_version: None }),
            ..DeleteParams::default()
        };
        gone_is_fine(api.delete(&place.name, &params).await)?;
        Ok(())
    }

    /// Whether an owner exists: seen in the graph, or read from the API server.
    async fn exists(&self, place: &Place, reference: &graph::Reference, owner: Uid) -> Result<bool, Error> {
        if lock(&self.graph).is_present(owner) {
            return Ok(true);
        }
        if lock(&self.absent).get(&owner).is_some_and(|since| since.elapsed() < ABSENT) {
            return Ok(false);
        }
        let Some(resource) = self.resource_of(reference) else {
            let kind = format!("{} {}", reference.api_version, reference.kind);
            return Err(Error::NotYet(format!("owner kind {kind} is unknown")));
        };
        let (group, plural) = (resource.api.group.clone(), resource.api.plural.clone());
        let number = lock(&self.resources)
            .iter()
            .rposition(|known| known.api.group == group && known.api.plural == plural)
            .and_then(|position| u16::try_from(position).ok());
        let Some(number) = number else { return Ok(true) };
        if resource.namespaced && place.namespace.is_empty() {
            // A cluster-scoped object cannot have a namespaced owner; that is nobody's garbage.
            return Ok(true);
        }
        let owner_place = Place {
            resource: number,
            namespace: place.namespace.clone(),
            name: reference.name.as_str().into(),
        };
        let Some(api) = self.api(&owner_place) else { return Ok(true) };
        let exists = self.read(&api, &reference.name, owner).await?.is_some();
        if !exists {
            let mut absent = lock(&self.absent);
            absent.retain(|_, since| since.elapsed() < ABSENT);
            absent.insert(owner, Instant::now());
        }
        Ok(exists)
    }

    fn resource_of(&self, reference: &graph::Reference) -> Option<Resource> {
        let group = reference.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let resources = lock(&self.resources);
        resources.iter().rev().find(|r| r.api.group == group && r.api.kind == reference.kind).cloned()
    }

    /// Removes references to these owners, as long as the object has not changed since it was read.
    async fn drop_references<'a>(
        &self,
        api: &Api<DynamicObject>,
        object: &Meta,
        owners: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let owners: Vec<&str> = owners.collect();
        let kept = object.owner_references.iter().filter(|own| !owners.contains(&own.uid.as_str()));
        self.patch_references(api, object, kept.map(|own| own.to_value(own.block_owner_deletion))).await
    }

    /// Makes the object's owners wait for it no longer.
    async fn unblock(&self, api: &Api<DynamicObject>, object: &Meta) -> Result<(), Error> {
        let unblocked =
            object.owner_references.iter().map(|own| own.to_value(own.block_owner_deletion.map(|_| false)));
        self.patch_references(api, object, unblocked).await
    }

    async fn patch_references(
        &self,
        api: &Api<DynamicObject>,
        object: &Meta,
        references: impl Iterator<Item = serde_json::Value>,
    ) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": object.uid,
            "resourceVersion": object.resource_version,
            "ownerReferences": references.collect::<Vec<_>>(),
        }});
        let result = api.patch_metadata(&object.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        Ok(gone_is_fine(result)?)
    }

    /// Lets an owner go once no dependent that blocks it is left.
    async fn foreground(&self, uid: Uid) -> Result<(), Error> {
        let (place, blocking) = {
            let graph = lock(&self.graph);
            (graph.ending(uid), graph.blocking(uid))
        };
        let Some(place) = place else { return Ok(()) };
        if blocking.is_empty() {
            return self.remove_finalizer(uid, &place, FOREGROUND).await;
        }
        for dependent in blocking {
            if !lock(&self.graph).is_foreground(dependent) {
                self.queue.add(Work::Collect(dependent));
            }
        }
        Ok(())
    }

    /// Removes an owner from all its dependents, then lets it go.
    async fn orphan(&self, uid: Uid) -> Result<(), Error> {
        let (place, dependents) = {
            let graph = lock(&self.graph);
            (graph.ending(uid), graph.dependents(uid))
        };
        let Some(place) = place else { return Ok(()) };
        for dependent in dependents {
            let Some(at) = lock(&self.graph).place_of(dependent) else { continue };
            let Some(api) = self.api(&at) else { continue };
            let Some(object) = self.read(&api, &at.name, dependent).await? else { continue };
            let owners: Vec<String> = object
                .owner_references
                .iter()
                .filter(|reference| Uid::of(&reference.uid) == uid)
                .map(|reference| reference.uid.clone())
                .collect();
            if !owners.is_empty() {
                self.drop_references(&api, &object, owners.iter().map(String::as_str)).await?;
            }
        }
        self.remove_finalizer(uid, &place, ORPHAN).await
    }

    async fn remove_finalizer(&self, uid: Uid, place: &Place, finalizer: &str) -> Result<(), Error> {
        let Some(api) = self.api(place) else { return Ok(()) };
        let Some(object) = self.read(&api, &place.name, uid).await? else { return Ok(()) };
        if !object.finalizers.iter().any(|own| own == finalizer) {
            return Ok(());
        }
        let kept: Vec<&String> = object.finalizers.iter().filter(|own| *own != finalizer).collect();
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version,
            "finalizers": kept,
        }});
        let result = api.patch_metadata(&place.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        Ok(gone_is_fine(result)?)
    }
}
