//! Whose containers are whose, so that a change wakes the worker concerned and nobody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::identity::PodId;

type Entries = BTreeMap<String, (PodId, Arc<Notify>)>;

/// Workers by the identifiers of their sandboxes and containers.
#[derive(Default)]
pub(crate) struct Owners(Mutex<Entries>);

impl Owners {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `ids` the pod's, and nothing else.
    pub(crate) fn claim<'a>(&self, pod: &PodId, ids: impl Iterator<Item = &'a String>, wake: &Arc<Notify>) {
        let mut entries = self.entries();
        entries.retain(|_, (owner, _)| owner != pod);
        entries.extend(ids.map(|id| (id.clone(), (pod.clone(), wake.clone()))));
    }

    pub(crate) fn release(&self, pod: &PodId) {
        self.entries().retain(|_, (owner, _)| owner != pod);
    }

    pub(crate) fn wake(&self, id: &str) {
        if let Some((_, wake)) = self.entries().get(id) {
            wake.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.entries().values().for_each(|(_, wake)| wake.notify_one());
    }
}
