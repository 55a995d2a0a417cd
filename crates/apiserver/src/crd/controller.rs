//! Follows the CustomResourceDefinitions: accepts their names, serves them, cleans up behind them.
//!
//! One task does it all, in batches: however many definitions change at once, the kind table is swapped
//! once. A definition is served before its status says that it is established.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use store::Compare;
use tokio::sync::watch;

use super::names::{Taken, Verdict, judge};
use super::parsed::Crd;
use super::{DIR, Definition, FINALIZER, GROUP, conditions, removal, rows};
use crate::cache::{self, ResourceCache};
use crate::kind::Kind;
use crate::managed_fields;
use crate::object::encode_stored;
use crate::server::Inner;
use crate::status::ApiError;
use crate::storage::PutError;

const PREFIX: &str = "/registry/customresourcedefinitions.apiextensions.k8s.io/";
/// Whom managed fields of the status belong to.
const MANAGER: &str = "kube-apiserver";
/// Status writes under way at once.
const WRITES_MAX: usize = 64;
/// How often a status is written again after somebody else has written.
const ATTEMPTS: usize = 20;
/// How long to wait before what could not be read or written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Which definitions have to be looked at.
pub(crate) struct Queue {
    dirty: Mutex<Dirty>,
    /// How many definitions wait for their objects to go; nobody looks at deletes otherwise.
    emptying: AtomicUsize,
    wake: watch::Sender<u64>,
}

#[derive(Default)]
struct Dirty {
    names: BTreeSet<String>,
    /// All of them, because events may have been missed.
    all: bool,
    /// Names of definitions that wait for their objects to go, by directory of the objects.
    emptying: BTreeMap<String, String>,
    /// Definitions whose objects are being deleted just now; true if they have to be looked at again.
    ending: BTreeMap<String, bool>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { dirty: Mutex::default(), emptying: AtomicUsize::new(0), wake: watch::Sender::new(0) }
    }
}

impl Queue {
    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, present: bool) {
        if let Some(name) = key.strip_prefix(PREFIX) {
            self.add(name.to_owned());
        } else if !present && self.emptying.load(Ordering::Relaxed) > 0 {
            let dir = key.strip_prefix("/registry/").and_then(|rest| rest.split_once('/'));
            let waiting = dir.and_then(|(dir, _)| self.lock().emptying.get(dir).cloned());
            if let Some(name) = waiting {
                self.add(name);
            }
        }
    }

    /// Everything has to be looked at again.
    pub fn reset(&self) {
        self.lock().all = true;
        self.wake.send_modify(|count| *count += 1);
    }

    fn add(&self, name: String) {
        self.lock().names.insert(name);
        self.wake.send_modify(|count| *count += 1);
    }

    /// Looks at the definition again whenever an object in `dir` goes.
    fn await_empty(&self, dir: String, name: String) {
        let mut dirty = self.lock();
        dirty.emptying.insert(dir, name);
        self.emptying.store(dirty.emptying.len(), Ordering::Relaxed);
    }

    fn is_empty_now(&self, dir: &str) {
        let mut dirty = self.lock();
        dirty.emptying.remove(dir);
        self.emptying.store(dirty.emptying.len(), Ordering::Relaxed);
    }

    /// Whether nobody deals with the end of the definition yet.
    fn begin_end(&self, name: &str) -> bool {
        match self.lock().ending.entry(name.to_owned()) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                false
            }
            Entry::Vacant(free) => {
                free.insert(false);
                true
            }
        }
    }

    fn finish_end(&self, name: &str) {
        if self.lock().ending.remove(name) == Some(true) {
            self.add(name.to_owned());
        }
    }

    fn take(&self) -> (BTreeSet<String>, bool) {
        let mut dirty = self.lock();
        (std::mem::take(&mut dirty.names), std::mem::take(&mut dirty.all))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves all definitions that are there, and follows them from now on.
pub(crate) async fn start(server: &Arc<Inner>, queue: Arc<Queue>) {
    let wake = queue.wake.subscribe();
    queue.reset();
    let mut controller = Controller { queue, known: BTreeMap::new(), groups: BTreeMap::new() };
    controller.sync(server, true).await;
    tokio::spawn(controller.run(Arc::downgrade(server), wake, server.shutdown.subscribe()));
}

struct Controller {
    queue: Arc<Queue>,
    known: BTreeMap<String, Known>,
    /// Names of the definitions of each group.
    groups: BTreeMap<String, BTreeSet<String>>,
}

/// A definition as it was last seen.
struct Known {
    crd: Crd,
    served: Option<Arc<Definition>>,
}

/// What a round changes.
#[derive(Default)]
struct Round {
    /// Definitions to be served, with those that they replace.
    serve: Vec<(Arc<Definition>, Option<Arc<Definition>>)>,
    /// Definitions that are no longer served.
    drop: Vec<Arc<Definition>>,
    statuses: Vec<(String, Verdict)>,
    ending: Vec<String>,
}

impl Controller {
    async fn run(
        mut self,
        server: Weak<Inner>,
        mut wake: watch::Receiver<u64>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                changed = wake.changed() => if changed.is_err() { return },
                // The server is gone.
                _ = async { while shutdown.changed().await.is_ok() {} } => return,
            }
            let done = match server.upgrade() {
                Some(server) => self.sync(&server, false).await,
                None => return,
            };
            if !done {
                tokio::time::sleep(RETRY).await;
                self.queue.wake.send_modify(|count| *count += 1);
            }
        }
    }

    /// One round. False if something has to be tried again.
    async fn sync(&mut self, server: &Arc<Inner>, starting: bool) -> bool {
        let (mut names, all) = self.queue.take();
        let registry = server.registry();
        let Some(kind) = registry.resource(GROUP, "v1", "customresourcedefinitions") else { return true };
        let cache = server.cache_of(kind);
        let resource = match (cache.fresh().await, cache.resource(DIR)) {
            (Ok(_), Some(resource)) => resource,
            (outcome, _) => {
                tracing::error!(error = ?outcome.err(), "definitions cannot be read");
                let mut dirty = self.queue.lock();
                dirty.names.append(&mut names);
                dirty.all |= all;
                return false;
            }
        };
        if all {
            names.extend(self.known.keys().cloned());
            let objects = resource.snapshot(cache.applied()).objects;
            names.extend(objects.values().map(|entry| entry.name().to_owned()));
        }
        let mut round = Round::default();
        while let Some(name) = names.pop_first() {
            self.look(server, &resource, &name, &mut names, &mut round);
        }
        self.swap(server, &mut round, starting).await;
        let writes = std::mem::take(&mut round.statuses).into_iter().map(|(name, verdict)| {
            let server = server.clone();
            async move {
                let done = write(&server, &name, |object| verdict.write(object)).await;
                (!done).then_some(name)
            }
        });
        let written: Vec<Option<String>> =
            futures::stream::iter(writes).buffer_unordered(WRITES_MAX).collect().await;
        let failed: Vec<String> = written.into_iter().flatten().collect();
        for name in std::mem::take(&mut round.ending) {
            self.end(server, name);
        }
        let done = failed.is_empty();
        self.queue.lock().names.extend(failed);
        done
    }

    /// Looks at one definition.
    fn look(
        &mut self,
        server: &Inner,
        resource: &ResourceCache,
        name: &str,
        others: &mut BTreeSet<String>,
        round: &mut Round,
    ) {
        let Some(entry) = resource.get(&format!("{PREFIX}{name}")) else {
            if let Some(known) = self.forget(name) {
                self.queue.is_empty_now(&known.crd.dir());
                round.drop.extend(known.served);
                // Its names are free for others.
                others.extend(self.refused(&known.crd.spec.group));
            }
            return;
        };
        let mut crd = match Crd::parse(entry.bytes()) {
            Ok(crd) => crd,
            Err(error) => {
                tracing::error!(%error, name, "a definition cannot be read");
                return;
            }
        };
        let verdict = judge(&crd, &self.taken(&crd));
        verdict.apply(&mut crd);
        let ending = crd.metadata.deletion_timestamp.is_some();
        if ending && crd.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            round.ending.push(name.to_owned());
        }
        let group = crd.spec.group.clone();
        self.groups.entry(group.clone()).or_default().insert(name.to_owned());
        let served = self.known.remove(name).and_then(|known| known.served);
        let served = self.serve(server, entry, &crd, served, round);
        self.known.insert(name.to_owned(), Known { crd, served });
        if !verdict.is_empty() {
            if verdict.names.is_some() {
                others.extend(self.refused(&group).into_iter().filter(|other| other != name));
            }
            round.statuses.push((name.to_owned(), verdict));
        }
    }

    /// Decides whether and as what the definition is served.
    fn serve(
        &self,
        server: &Inner,
        entry: Arc<cache::Entry>,
        crd: &Crd,
        served: Option<Arc<Definition>>,
        round: &mut Round,
    ) -> Option<Arc<Definition>> {
        if served.as_ref().is_some_and(|served| served.serves(crd)) {
            return served;
        }
        let servable = crd.is("NamesAccepted") || crd.is("Established");
        if !servable || is_builtin(server, crd) {
            round.drop.extend(served);
            return None;
        }
        match Definition::new(entry, crd.clone(), 0) {
            Some(definition) => {
                let definition = Arc::new(definition);
                round.serve.push((definition.clone(), served));
                Some(definition)
            }
            None => {
                round.drop.extend(served);
                None
            }
        }
    }

    /// Forgets a definition that is gone.
    fn forget(&mut self, name: &str) -> Option<Known> {
        let known = self.known.remove(name)?;
        if let Some(group) = self.groups.get_mut(&known.crd.spec.group) {
            group.remove(name);
            if group.is_empty() {
                self.groups.remove(&known.crd.spec.group);
            }
        }
        Some(known)
    }

    fn in_group(&self, group: &str) -> impl Iterator<Item = (&String, &Known)> {
        let names = self.groups.get(group).into_iter().flatten();
        names.filter_map(|name| self.known.get_key_value(name))
    }

    /// The names that are taken in the group of a definition, its own included.
    fn taken(&self, crd: &Crd) -> Taken {
        let mut taken = Taken::default();
        taken.add(&crd.status.accepted_names);
        for (name, known) in self.in_group(&crd.spec.group) {
            if *name != crd.metadata.name {
                taken.add(&known.crd.status.accepted_names);
            }
        }
        taken
    }

    /// The definitions of a group that did not get the names they ask for.
    fn refused(&self, group: &str) -> Vec<String> {
        let refused = |known: &Known| known.crd.spec.names != known.crd.status.accepted_names;
        self.in_group(group).filter(|(_, known)| refused(known)).map(|(name, _)| name.clone()).collect()
    }

    /// Puts a round's definitions in force, all at once.
    async fn swap(&self, server: &Arc<Inner>, round: &mut Round, starting: bool) {
        if round.serve.is_empty() && round.drop.is_empty() {
            return;
        }
        let old: Vec<&Arc<Definition>> =
            round.serve.iter().filter_map(|(_, old)| old.as_ref()).chain(&round.drop).collect();
        // From here on nobody writes by the old definitions.
        let mut gates = Vec::with_capacity(old.len());
        for definition in &old {
            gates.push(definition.close().await);
        }
        let durable = server.durable();
        let revision = durable.store().current_revision().await.unwrap_or(store::Revision::MAX);
        let mut kinds: Vec<Kind> = Vec::new();
        for (definition, _) in &round.serve {
            // Nothing is known of when objects were written in an earlier life but that the definition
            // was there already.
            definition.in_force_since(if starting { definition.revision() } else { revision });
            let stored = Arc::new(rows::stored(definition));
            if let Err(error) = durable.add(stored).await {
                tracing::error!(%error, name = definition.name(), "a definition cannot be served");
            }
            kinds.extend(rows::served(definition));
        }
        let gone: BTreeSet<&str> = old.iter().map(|definition| definition.name()).collect();
        let is_gone = |kind: &Kind| {
            kind.custom.as_ref().is_some_and(|handler| gone.contains(handler.definition().name()))
        };
        let registry = server.registry();
        let registry =
            if gone.is_empty() { registry.with(kinds) } else { registry.without(is_gone).with(kinds) };
        server.set_registry(registry);
        for (definition, old) in &round.serve {
            // As upstream, watches start over when what they show may have changed.
            if old.as_ref().is_some_and(|old| !old.shows_like(definition))
                && let Some(resource) = durable.resource(&definition.dir())
            {
                resource.end_watches();
            }
        }
        for definition in &round.drop {
            durable.remove(&definition.dir());
        }
        for mut gate in gates {
            *gate = true;
        }
    }

    /// Goes on with a definition that is being deleted, beside the others.
    fn end(&self, server: &Arc<Inner>, name: String) {
        let Some(known) = self.known.get(&name) else { return };
        if !self.queue.begin_end(&name) {
            return;
        }
        let (queue, server, crd, served) =
            (self.queue.clone(), server.clone(), known.crd.clone(), known.served.clone());
        tokio::spawn(async move {
            end(&queue, &server, &crd, served.as_ref()).await;
            queue.finish_end(&name);
        });
    }
}

/// Deletes the objects of a definition; once they are gone, lets the definition go.
async fn end(queue: &Queue, server: &Arc<Inner>, crd: &Crd, served: Option<&Arc<Definition>>) {
    let (name, dir) = (crd.metadata.name.as_str(), crd.dir());
    let last = match served {
        _ if is_builtin(server, crd) => removal::overlapping(),
        Some(definition) if crd.is("Established") => {
            write(server, name, |object| conditions::set(object, &removal::in_progress())).await;
            queue.await_empty(dir.clone(), name.to_owned());
            let kind = Arc::new(rows::stored(definition));
            if removal::delete_objects(server, &kind).await > 0 {
                return;
            }
            removal::completed()
        }
        _ => removal::never_established(),
    };
    queue.is_empty_now(&dir);
    write(server, name, |object| {
        conditions::set(object, &last);
        removal::release(object);
    })
    .await;
}

/// Whether the server serves the resource without the definition.
fn is_builtin(server: &Inner, crd: &Crd) -> bool {
    let registry = server.registry();
    let versions = registry.group(&crd.spec.group).map(|group| group.versions.as_slice()).unwrap_or_default();
    versions.iter().any(|version| {
        version.kinds.get(crd.spec.names.plural.as_str()).is_some_and(|kind| !kind.is_custom())
    })
}

/// Changes a definition's status (or finalizers) as the server itself. False if that failed.
async fn write(server: &Arc<Inner>, name: &str, change: impl Fn(&mut Value)) -> bool {
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", "customresourcedefinitions") else { return true };
    for _ in 0..ATTEMPTS {
        match attempt(server, kind, name, &change).await {
            Ok(()) => return true,
            Err(PutError::Conflict) => tokio::task::yield_now().await,
            Err(PutError::Other(error)) => {
                tracing::error!(%error, name, "the status of a definition cannot be written");
                return false;
            }
        }
    }
    false
}

async fn attempt(
    server: &Arc<Inner>,
    kind: &Arc<Kind>,
    name: &str,
    change: &impl Fn(&mut Value),
) -> Result<(), PutError> {
    let current = server.current(kind, "", name).await.map_err(PutError::Other)?;
    let Some(entry) = current else { return Ok(()) };
    let old = entry.try_value().map_err(PutError::Other)?;
    let mut new = old.clone();
    change(&mut new);
    if new == old {
        return Ok(());
    }
    let ended = !crate::object::meta(&new, "deletionTimestamp").is_empty()
        && crate::object::finalizers(&new).is_empty();
    if ended {
        return server.remove(kind, &entry).await.map(|_| ());
    }
    let tracked: Result<(), ApiError> = managed_fields::track_kind(kind, &old, &mut new, MANAGER, "status");
    tracked.map_err(PutError::Other)?;
    crate::codec::canonicalise(kind, &mut new);
    let compare = Compare::ModRevision(entry.revision);
    server.put_bytes(kind, entry.key.clone(), compare, encode_stored(&new)).await.map(|_| ())
}
