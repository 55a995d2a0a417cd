//! A CustomResourceDefinition as it is served.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use schema::structural::CustomVersion;
use schema::structural::custom::Source;
use schema::types::Type;
use serde_json::Value;
use store::Revision;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

use super::parsed::{Conversion, Crd, Names};
use crate::cache::Entry;
use crate::status::ApiError;

/// Numbers definitions, so that what was remembered under one is not taken for another's.
static NUMBER: AtomicU64 = AtomicU64::new(1);
/// Versions that a number leaves room for.
const VERSIONS_MAX: u64 = 1 << 16;

/// Reason of the error that sends a request to the definition's successor.
const SUPERSEDED: &str = "DefinitionSuperseded";

/// One state of a CustomResourceDefinition's spec, accepted names and end. Any change makes a new one.
pub struct Definition {
    number: u64,
    /// The definition; schemas are read from here when they are first needed.
    source: Arc<Entry>,
    pub(super) crd: Crd,
    versions: Vec<OnceLock<Result<CustomVersion, String>>>,
    storage: usize,
    /// Objects written later are as this definition wants them.
    since: AtomicU64,
    /// Writers hold it while they commit, so that nothing is written by a definition that is no longer
    /// in force; true once that is so.
    gate: Arc<RwLock<bool>>,
}

/// One version of a custom kind.
pub struct Handler {
    definition: Arc<Definition>,
    index: usize,
}

fn is_terminating(crd: &Crd) -> bool {
    crd.metadata.deletion_timestamp.is_some() || crd.is("Terminating")
}

/// Whether a request has to be tried again, with the kind as it is now.
pub(crate) fn is_superseded(error: &ApiError) -> bool {
    error.reason == SUPERSEDED
}

impl Definition {
    /// The definition that `source` holds. `None` if it cannot be served: its names are not accepted.
    pub(super) fn new(source: Arc<Entry>, crd: Crd, since: Revision) -> Option<Self> {
        let names = &crd.status.accepted_names;
        let named = [&names.plural, &names.singular, &names.kind, &names.list_kind];
        if named.into_iter().any(String::is_empty) || crd.spec.versions.len() as u64 >= VERSIONS_MAX {
            return None;
        }
        let storage = crd.spec.versions.iter().position(|version| version.storage)?;
        let versions = crd.spec.versions.iter().map(|_| OnceLock::new()).collect();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Some(Self { number, source, crd, versions, storage, since: since.into(), gate: Arc::default() })
    }

    /// Name of the CustomResourceDefinition.
    pub fn name(&self) -> &str {
        &self.crd.metadata.name
    }

    pub(super) fn names(&self) -> &Names {
        &self.crd.status.accepted_names
    }

    /// Whether it serves what `crd` says just as well.
    pub(super) fn serves(&self, crd: &Crd) -> bool {
        let own = &self.crd;
        own.metadata.uid == crd.metadata.uid
            && own.metadata.generation == crd.metadata.generation
            && own.status.accepted_names == crd.status.accepted_names
            && self.is_terminating() == is_terminating(crd)
    }

    /// Whether objects look the same under `other`.
    pub(super) fn shows_like(&self, other: &Self) -> bool {
        let (own, other) = (&self.crd, &other.crd);
        own.metadata.uid == other.metadata.uid
            && own.metadata.generation == other.metadata.generation
            && own.status.accepted_names == other.status.accepted_names
    }

    /// Whether no more objects may be created.
    pub fn is_terminating(&self) -> bool {
        is_terminating(&self.crd)
    }

    /// The revision at which this state of the definition was written.
    pub(super) fn revision(&self) -> Revision {
        self.source.revision
    }

    /// What changes with the definition's spec.
    pub(crate) fn identity(&self) -> String {
        format!("{}/{}", self.crd.metadata.uid, self.crd.metadata.generation)
    }

    /// Directory of its objects.
    pub(super) fn dir(&self) -> String {
        self.crd.dir()
    }

    /// Whether the storage version is among those that are served.
    pub(crate) fn serves_storage(&self) -> bool {
        self.crd.spec.versions.get(self.storage).is_some_and(|version| version.served)
    }

    /// Place of the storage version.
    pub(super) fn storage(&self) -> usize {
        self.storage
    }

    pub(super) fn conversion(&self) -> Option<&Conversion> {
        self.crd.spec.conversion.as_ref()
    }

    /// `group/version` of one version.
    pub(super) fn api_version(&self, index: usize) -> String {
        format!("{}/{}", self.crd.spec.group, self.crd.spec.versions[index].name)
    }

    /// The place of a `group/version`.
    pub(super) fn place(&self, api_version: &str) -> Option<usize> {
        let version = api_version.strip_prefix(&*self.crd.spec.group)?.strip_prefix('/')?;
        self.crd.spec.versions.iter().position(|known| known.name == version)
    }

    /// Why the owners' fields of an object cannot be compared: it does not fit the versions in which they are
    /// told. Without a webhook, conversion leaves every field where it is.
    pub(crate) fn misfit(&self, api_versions: &BTreeSet<&str>, object: &Value) -> Option<String> {
        if super::convert::webhook(self).is_some() {
            return None;
        }
        let places = api_versions.iter().filter_map(|api_version| self.place(api_version));
        places
            .filter_map(|index| self.compiled(index).ok())
            .find_map(|version| schema::apply::misfit(object, version.ty()))
    }

    /// One version's rules, compiled when first used.
    pub(super) fn compiled(&self, index: usize) -> Result<&CustomVersion, ApiError> {
        let compiled = self.versions[index].get_or_init(|| {
            CustomVersion::compile(&self.source.to_value(), &self.crd.spec.versions[index].name)
        });
        compiled.as_ref().map_err(|error| {
            tracing::error!(%error, definition = self.name(), "a definition cannot be served");
            ApiError::internal("error resolving resource")
        })
    }

    /// Whether an object in that version's place is answered as it is stored.
    pub(super) fn is_current(&self, entry: &Entry, index: usize) -> bool {
        entry.revision > self.since.load(Ordering::Acquire)
            && entry
                .stored_version()
                .strip_prefix(&*self.crd.spec.group)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|version| version == self.crd.spec.versions[index].name)
    }

    /// What entries remember how they were shown by.
    pub(super) fn token(&self, index: usize) -> u64 {
        self.number * VERSIONS_MAX + index as u64
    }

    /// Brings an object from the store in line with its version's schema.
    pub fn refresh(&self, object: &mut Value) {
        let place = object["apiVersion"].as_str().and_then(|version| self.place(version));
        if let Some(Ok(version)) = place.map(|index| self.compiled(index)) {
            let _ = version.coerce(object, Source::Store);
            version.apply_defaults(object);
        }
    }

    /// Waits until a change of the definition is over; a writer keeps the answer until it has written.
    ///
    /// # Errors
    /// When the definition is no longer in force ([`is_superseded`]).
    pub(crate) async fn open(&self) -> Result<RwLockReadGuard<'_, bool>, ApiError> {
        let closed = self.gate.read().await;
        if *closed {
            return Err(ApiError::new(503, SUPERSEDED, "the definition of the resource has changed"));
        }
        Ok(closed)
    }

    /// Lets nobody write until the answer is dropped; if it was set, nobody ever again.
    pub(super) async fn close(&self) -> OwnedRwLockWriteGuard<bool> {
        self.gate.clone().write_owned().await
    }

    /// Says from when on objects are as this definition wants them.
    pub(super) fn in_force_since(&self, revision: Revision) {
        self.since.store(revision, Ordering::Release);
    }
}

impl Handler {
    pub(super) fn new(definition: Arc<Definition>, index: usize) -> Self {
        Self { definition, index }
    }

    /// The definition that the version is part of.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The version's rules.
    pub(crate) fn version(&self) -> Result<&CustomVersion, ApiError> {
        self.definition.compiled(self.index)
    }

    /// The type, for managed fields and apply.
    pub fn ty(&self) -> Option<&Type> {
        self.version().ok().map(CustomVersion::ty)
    }

    /// The definition's object, to be looked at.
    pub fn source(&self) -> Value {
        self.definition.source.to_value()
    }
}
