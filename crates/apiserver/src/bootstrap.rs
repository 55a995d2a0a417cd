//! The objects that every cluster has from the start.

use std::sync::Arc;

use serde_json::{Value, json};
use store::{Compare, StoreError};

use crate::object::{meta, meta_mut};
use crate::server::Inner;
use crate::storage::PutError;

/// Creates what is missing.
pub(crate) async fn create(server: &Arc<Inner>, _service_cidr: &str) -> Result<(), StoreError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        ensure(server, "", "v1", "namespaces", namespace).await?;
    }
    for (resource, object) in crate::authz::bootstrap::objects() {
        ensure(server, "rbac.authorization.k8s.io", "v1", resource, object).await?;
    }
    Ok(())
}

/// Creates one object unless it is there.
async fn ensure(
    server: &Arc<Inner>,
    group: &str,
    version: &str,
    resource: &str,
    mut object: Value,
) -> Result<(), StoreError> {
    let registry = server.registry();
    let Some(kind) = registry.resource(group, version, resource) else { return Ok(()) };
    let key = kind.key(meta(&object, "namespace"), meta(&object, "name"));
    let map = meta_mut(&mut object);
    map.insert("uid".to_owned(), base::rng::uuid().into());
    map.insert("creationTimestamp".to_owned(), base::clock::rfc3339(base::clock::now()).into());
    match server.put(kind, &key, Compare::Absent, &object).await {
        Ok(_) | Err(PutError::Conflict) => Ok(()),
        Err(PutError::Other(error)) => {
            tracing::error!(%error, key, "a bootstrap object could not be written");
            Err(StoreError::Closed)
        }
    }
}
