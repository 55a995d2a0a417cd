//! What plugins look up: objects of the watch cache, parsed at most once per version.

use std::sync::Arc;

use crate::cache::{Entry, range};
use crate::call::Call;
use crate::kind::Kind;
use crate::status::ApiError;

/// A kind that plugins consult.
#[derive(Clone, Copy)]
pub(super) struct Consulted {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
}

const fn consulted(group: &'static str, version: &'static str, resource: &'static str) -> Consulted {
    Consulted { group, version, resource }
}

pub(super) const NAMESPACES: Consulted = consulted("", "v1", "namespaces");
pub(super) const NODES: Consulted = consulted("", "v1", "nodes");
pub(super) const PODS: Consulted = consulted("", "v1", "pods");
pub(super) const CLAIMS: Consulted = consulted("", "v1", "persistentvolumeclaims");
pub(super) const VOLUMES: Consulted = consulted("", "v1", "persistentvolumes");
pub(super) const LIMIT_RANGES: Consulted = consulted("", "v1", "limitranges");
pub(super) const QUOTAS: Consulted = consulted("", "v1", "resourcequotas");
pub(super) const SERVICE_ACCOUNTS: Consulted = consulted("", "v1", "serviceaccounts");
pub(super) const PRIORITY_CLASSES: Consulted = consulted("scheduling.k8s.io", "v1", "priorityclasses");
pub(super) const STORAGE_CLASSES: Consulted = consulted("storage.k8s.io", "v1", "storageclasses");
pub(super) const RUNTIME_CLASSES: Consulted = consulted("node.k8s.io", "v1", "runtimeclasses");
pub(super) const INGRESS_CLASSES: Consulted = consulted("networking.k8s.io", "v1", "ingressclasses");
pub(super) const SERVICE_CIDRS: Consulted = consulted("networking.k8s.io", "v1", "servicecidrs");
pub(super) const CSI_DRIVERS: Consulted = consulted("storage.k8s.io", "v1", "csidrivers");

impl Consulted {
    /// The row of the kind table.
    pub fn kind(self, call: &Call) -> Option<Arc<Kind>> {
        call.server.registry().resource(self.group, self.version, self.resource).cloned()
    }

    /// One object, as the cache has it; asked for again, as of now, should it be missing there.
    pub async fn get(self, call: &Call, namespace: &str, name: &str) -> Result<Option<Arc<Entry>>, ApiError> {
        let Some(kind) = self.kind(call) else { return Ok(None) };
        match call.server.cached(&kind, namespace, name) {
            Some(entry) => Ok(Some(entry)),
            None => call.server.current(&kind, namespace, name).await,
        }
    }

    /// One object, as the cache has it.
    pub fn cached(self, call: &Call, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        call.server.cached(&*self.kind(call)?, namespace, name)
    }

    /// All objects of a namespace (empty: of the cluster), by name.
    pub fn list(self, call: &Call, namespace: &str) -> Vec<Arc<Entry>> {
        let Some(kind) = self.kind(call) else { return Vec::new() };
        let Some(resource) = call.server.cache_of(&kind).resource(&kind.storage.dir) else {
            return Vec::new();
        };
        if resource.count() == 0 {
            return Vec::new();
        }
        let objects = resource.snapshot(0).objects;
        let prefix = kind.prefix((!namespace.is_empty()).then_some(namespace));
        range(&objects, &prefix, None).cloned().collect()
    }
}

/// Why upstream's client does not even ask for an object of this name.
pub(super) fn path_fault(name: &str) -> Option<String> {
    let why = match name {
        "" => return Some("resource name may not be empty".to_owned()),
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => ["/", "%"]
            .iter()
            .filter(|c| name.contains(**c))
            .map(|c| format!("may not contain '{c}'"))
            .collect(),
    };
    (!why.is_empty())
        .then(|| format!("invalid resource name {}: [{}]", schema::gotext::quote(name), why.join(" ")))
}
