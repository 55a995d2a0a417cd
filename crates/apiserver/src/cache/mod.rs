//! The watch cache: every kind's objects in memory, following one store in its order.
//!
//! One task applies the store's events. Readers take snapshots of persistent maps; watchers are cursors
//! over a bounded log. Nothing is queued per watcher, and a slow one hurts only itself.

mod entry;
mod resource;
mod watcher;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::backoff::{Backoff, Policy};
use futures::StreamExt;
use store::{Event, Revision, Store, StoreError, WatchStream};
use tokio::sync::watch;

pub use entry::{Entry, Selectable, unreadable};
pub use resource::{Change, Objects, Read, ResourceCache, range};
pub use watcher::{Filter, Show, WatchOptions, WriteEvent, watch_stream, write_json_event};

use crate::kind::Kind;

const PREFIX: &str = "/registry/";

/// Sees every change as it enters the cache, before readers that wait for it go on.
pub trait Observer: Send + Sync {
    /// An object is there or has changed (its stored bytes), or is gone.
    fn apply(&self, key: &str, value: Option<&[u8]>);
    /// Everything that was seen so far no longer counts; the current objects follow.
    fn reset(&self);
}

/// The watch cache of one store.
pub struct WatchCache {
    store: Arc<dyn Store>,
    observer: Option<Arc<dyn Observer>>,
    resources: RwLock<BTreeMap<String, Arc<ResourceCache>>>,
    /// Everything up to this revision has been applied.
    applied: watch::Sender<Revision>,
    /// Views before this revision are no longer to be had.
    compacted: AtomicU64,
}

impl WatchCache {
    /// Loads `kinds` from the store and starts to follow it. The task ends when the cache is dropped.
    pub async fn start(
        store: Arc<dyn Store>,
        observer: Option<Arc<dyn Observer>>,
        kinds: impl IntoIterator<Item = Arc<Kind>>,
    ) -> Result<Arc<Self>, StoreError> {
        let all = store.range(PREFIX, None, 0, None).await?;
        let resources: BTreeMap<String, Arc<ResourceCache>> = kinds
            .into_iter()
            .map(|kind| (kind.storage.dir.to_string(), Arc::new(ResourceCache::new(kind, all.revision))))
            .collect();
        for kv in &all.kvs {
            if let Some(resource) = resources.get(directory(&kv.key)) {
                resource.load(kv);
            }
            if let Some(observer) = &observer {
                observer.apply(&kv.key, Some(&kv.value));
            }
        }
        let stream = store.watch(PREFIX, all.revision)?;
        let cache = Arc::new(Self {
            store,
            observer,
            resources: RwLock::new(resources),
            applied: watch::Sender::new(all.revision),
            compacted: AtomicU64::new(0),
        });
        tokio::spawn(follow(Arc::downgrade(&cache), stream));
        Ok(cache)
    }

    /// The store behind the cache.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The cache of a storage directory.
    pub fn resource(&self, dir: &str) -> Option<Arc<ResourceCache>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(dir).cloned()
    }

    /// Follows another kind from now on, or goes on under a new row of one that it follows. Nobody may
    /// write objects of a new kind before this is done.
    pub async fn add(&self, kind: Arc<Kind>) -> Result<Arc<ResourceCache>, StoreError> {
        if let Some(known) = self.resource(&kind.storage.dir) {
            known.set_kind(kind);
            return Ok(known);
        }
        let dir = kind.storage.dir.to_string();
        let all = self.store.range(&kind.prefix(None), None, 0, None).await?;
        let resource = Arc::new(ResourceCache::new(kind, all.revision));
        all.kvs.iter().for_each(|kv| resource.load(kv));
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        Ok(resources.entry(dir).or_insert(resource).clone())
    }

    /// Follows a kind no longer. Its watches end.
    pub fn remove(&self, dir: &str) {
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(resource) = resources.remove(dir) {
            resource.end_watches();
        }
    }

    /// The revision up to which everything has been applied.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// The oldest revision at which objects can be listed, as far as that was decided here.
    pub fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Relaxed)
    }

    /// Forgets views before `revision`, also in the store.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await?;
        self.compacted.fetch_max(revision, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until `revision` has been applied.
    pub async fn wait_for(&self, revision: Revision) {
        if self.applied() >= revision {
            return;
        }
        // The sender lives in `self`, so this cannot fail.
        let _ = self.applied.subscribe().wait_for(|applied| *applied >= revision).await;
    }

    /// Waits until `revision` has been applied, but no longer than `limit`.
    pub async fn wait_for_at_most(&self, revision: Revision, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.wait_for(revision)).await.is_ok()
    }

    /// Waits until the cache is as new as the store was at the time of the call.
    pub async fn fresh(&self) -> Result<Revision, StoreError> {
        let current = self.store.current_revision().await?;
        self.wait_for(current).await;
        Ok(current)
    }

    fn apply(&self, batch: &store::WatchBatch) {
        if let Some(observer) = &self.observer {
            for event in &batch.events {
                let value = (event.kind == store::EventKind::Put).then_some(&*event.kv.value);
                observer.apply(&event.kv.key, value);
            }
        }
        let mut rest = batch.events.as_slice();
        while let Some(first) = rest.first() {
            let dir = directory(&first.kv.key);
            let run = rest.iter().take_while(|event| directory(&event.kv.key) == dir).count();
            let (events, after) = rest.split_at(run);
            self.apply_run(dir, events);
            rest = after;
        }
        self.applied.send_replace(batch.revision);
    }

    fn apply_run(&self, dir: &str, events: &[Event]) {
        if let Some(resource) = self.resource(dir) {
            resource.apply(events);
        }
    }

    /// Starts over from the store's current state, when its history no longer reaches back to ours.
    async fn reload(&self) -> Result<Revision, StoreError> {
        let all = self.store.range(PREFIX, None, 0, None).await?;
        let mut by_dir: BTreeMap<&str, Vec<&store::KeyValue>> = BTreeMap::new();
        if let Some(observer) = &self.observer {
            observer.reset();
            all.kvs.iter().for_each(|kv| observer.apply(&kv.key, Some(&kv.value)));
        }
        for kv in &all.kvs {
            by_dir.entry(directory(&kv.key)).or_default().push(kv);
        }
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (dir, resource) in &resources {
            resource.reset(by_dir.get(dir.as_str()).map(Vec::as_slice).unwrap_or_default(), all.revision);
        }
        self.applied.send_replace(all.revision);
        Ok(all.revision)
    }
}

/// `pods` of `/registry/pods/default/web-1`.
fn directory(key: &str) -> &str {
    let rest = key.strip_prefix(PREFIX).unwrap_or(key);
    rest.split_once('/').map_or(rest, |(dir, _)| dir)
}

async fn follow(cache: std::sync::Weak<WatchCache>, mut stream: WatchStream) {
    let mut backoff = Backoff::new(Policy::RECONNECT);
    loop {
        let next = stream.next().await;
        let Some(cache) = cache.upgrade() else { return };
        let error = match next {
            Some(Ok(batch)) => {
                cache.apply(&batch);
                backoff.reset();
                continue;
            }
            Some(Err(error)) => error,
            None => StoreError::Closed,
        };
        if matches!(error, StoreError::Closed) {
            return;
        }
        tracing::warn!(%error, "the watch cache lost its store; starting over");
        tokio::time::sleep(backoff.next_delay()).await;
        let resumed = match cache.store.watch(PREFIX, cache.applied()) {
            Ok(resumed) => Ok(resumed),
            Err(_) => match cache.reload().await {
                Ok(revision) => cache.store.watch(PREFIX, revision),
                Err(error) => Err(error),
            },
        };
        match resumed {
            Ok(resumed) => stream = resumed,
            Err(error) => {
                tracing::error!(%error, "the watch cache cannot read its store");
                stream = futures::stream::iter([Err(error)]).boxed();
            }
        }
    }
}
