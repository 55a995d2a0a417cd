//! Reads and commits of single objects: the store below, the cache beside it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use store::{Compare, StoreError, Write};
use tokio::sync::RwLockReadGuard;

use crate::cache::Entry;
use crate::kind::Kind;
use crate::object::encode_stored;
use crate::server::Inner;
use crate::status::ApiError;

/// The largest stored object, as etcd's default request limit sets it upstream.
const OBJECT_BYTES_MAX: usize = 1_572_864;

impl Inner {
    /// The object as of now.
    pub async fn current(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Entry>>, ApiError> {
        let cache = self.cache_of(kind);
        cache.fresh().await.map_err(store_error)?;
        let Some(resource) = cache.resource(&kind.storage.dir) else { return Ok(None) };
        Ok(resource.get(&kind.key(namespace, name)))
    }

    /// The object as the cache has it, without asking the store whether that is the newest.
    pub fn cached(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.cache_of(kind).resource(&kind.storage.dir)?.get(&kind.key(namespace, name))
    }

    /// Like [`Inner::cached`], by storage key.
    pub fn cached_key(&self, kind: &Kind, key: &str) -> Option<Arc<Entry>> {
        self.cache_of(kind).resource(&kind.storage.dir)?.get(key)
    }

    /// Writes an object (in the stored version) and returns it as readers see it from now on.
    pub async fn put(
        &self,
        kind: &Kind,
        key: &str,
        compare: Compare,
        object: &Value,
    ) -> Result<Arc<Entry>, PutError> {
        self.put_bytes(kind, key.into(), compare, encode_stored(object)).await
    }

    /// Like [`Inner::put`], for an object in its stored form.
    pub async fn put_bytes(
        &self,
        kind: &Kind,
        key: Arc<str>,
        compare: Compare,
        bytes: Bytes,
    ) -> Result<Arc<Entry>, PutError> {
        let cache = self.cache_of(kind);
        let _open = open(kind).await?;
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(PutError::Other(ApiError::too_large(format!(
                "Request entity too large: limit is {OBJECT_BYTES_MAX} bytes, the object has {}",
                bytes.len()
            ))));
        }
        let committed = cache
            .store()
            .commit(Write::put(key.clone(), compare, bytes.clone()))
            .await
            .map_err(PutError::from)?;
        cache.wait_for(committed.revision).await;
        let resource =
            cache.resource(&kind.storage.dir).ok_or_else(|| PutError::Other(ApiError::no_such_path()))?;
        Ok(match resource.get(&key) {
            Some(entry) if entry.revision == committed.revision => entry,
            // Somebody else has written since; the answer is still what was committed here.
            _ => Arc::new(resource.entry(key, &bytes, committed.revision)),
        })
    }

    /// Deletes an object that is at `revision`; the answer is its last state at the delete's revision.
    pub async fn remove(&self, kind: &Kind, entry: &Entry) -> Result<Entry, PutError> {
        let cache = self.cache_of(kind);
        let _open = open(kind).await?;
        let write = Write::delete(entry.key.clone(), Compare::ModRevision(entry.revision));
        let committed = cache.store().commit(write).await.map_err(PutError::from)?;
        cache.wait_for(committed.revision).await;
        Ok(entry.at_revision(committed.revision))
    }
}

/// Keeps the definition of a custom kind as it is until the answer is dropped.
async fn open(kind: &Kind) -> Result<Option<RwLockReadGuard<'_, bool>>, PutError> {
    match &kind.custom {
        Some(handler) => handler.definition().open().await.map(Some).map_err(PutError::Other),
        None => Ok(None),
    }
}

/// Why a write did not happen.
#[derive(Debug)]
pub enum PutError {
    /// The precondition failed: somebody else was faster.
    Conflict,
    /// Anything else.
    Other(ApiError),
}

impl From<StoreError> for PutError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::Conflict,
            other => Self::Other(store_error(other)),
        }
    }
}

/// What clients get when the store fails.
pub fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result.",
        ),
        StoreError::TooLarge { .. } => ApiError::too_large(error.to_string()),
        StoreError::Closed => ApiError::service_unavailable("the server is shutting down"),
        other => {
            tracing::error!(error = %other, "the store failed");
            ApiError::internal(other)
        }
    }
}
