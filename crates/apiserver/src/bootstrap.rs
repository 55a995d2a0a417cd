//! The objects that every cluster has from the start.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use store::{Compare, StoreError};

use crate::authz::reconcile::{Outcome, reconcile};
use crate::object::{meta, meta_mut};
use crate::server::Inner;
use crate::storage::PutError;

/// How soon what clusters stand on is back when somebody has deleted it; upstream's interval.
const ROUND: Duration = Duration::from_secs(10);

/// Creates what is missing.
pub(crate) async fn create(server: &Arc<Inner>, advertise: Option<SocketAddr>) -> Result<(), StoreError> {
    create_foundation(server, advertise).await?;
    for (name, value, description) in PRIORITY_CLASSES {
        let class = json!({"metadata": {"name": name, "generation": 1}, "value": value,
            "description": description, "preemptionPolicy": "PreemptLowerPriority"});
        ensure(server, "scheduling.k8s.io", "v1", "priorityclasses", class).await?;
    }
    for (resource, object) in crate::authz::bootstrap::objects() {
        ensure_access(server, resource, object).await?;
    }
    Ok(())
}

/// Creates again what must not stay away, until the server is gone.
pub(crate) async fn keep(server: Weak<Inner>, advertise: Option<SocketAddr>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = create_foundation(&server, advertise).await {
            tracing::debug!(%error, "the service of the API server is not looked after for now");
        }
    }
}

/// The system's namespaces, the range of service addresses, and the service of the API server itself.
async fn create_foundation(server: &Arc<Inner>, advertise: Option<SocketAddr>) -> Result<(), StoreError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        ensure(server, "", "v1", "namespaces", namespace).await?;
    }
    let ready = json!({"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": base::clock::rfc3339(base::clock::now())});
    let range = json!({"metadata": {"name": "kubernetes", "generation": 1},
        "spec": {"cidrs": [server.services.cidr()]}, "status": {"conditions": [ready]}});
    ensure(server, "networking.k8s.io", "v1", "servicecidrs", range).await?;
    kubernetes_service(server, advertise).await?;
    crate::admission::service_addresses::repair(server).await;
    Ok(())
}

const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The service by which pods find the API server, and where it ends.
async fn kubernetes_service(server: &Arc<Inner>, advertise: Option<SocketAddr>) -> Result<(), StoreError> {
    let address = server.services.first().to_string();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let port = advertise.map_or(6443, |advertise| advertise.port());
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
            "clusterIP": address, "clusterIPs": [address], "type": "ClusterIP", "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"},
        "status": {"loadBalancer": {}},
    });
    ensure(server, "", "v1", "services", service).await?;
    let Some(advertise) = advertise else { return Ok(()) };
    let slice = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "generation": 1,
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "protocol": "TCP", "port": port}],
    });
    replace(server, "discovery.k8s.io", "v1", "endpointslices", slice).await
}

/// Writes one object whatever was there: it follows from how the server was started.
async fn replace(
    server: &Arc<Inner>,
    group: &str,
    version: &str,
    resource: &str,
    mut object: Value,
) -> Result<(), StoreError> {
    let registry = server.registry();
    let Some(kind) = registry.resource(group, version, resource) else { return Ok(()) };
    let (namespace, name) = (meta(&object, "namespace").to_owned(), meta(&object, "name").to_owned());
    let Some(entry) = server.cached(kind, &namespace, &name) else {
        return ensure(server, group, version, resource, object).await;
    };
    let old = entry.to_value();
    for field in ["uid", "creationTimestamp"] {
        object["metadata"][field] = old["metadata"][field].clone();
    }
    if crate::object::encode_stored(&object) == crate::object::encode_stored(&old) {
        return Ok(());
    }
    match server.put(kind, &kind.key(&namespace, &name), Compare::Any, &object).await {
        Ok(_) | Err(PutError::Conflict) => Ok(()),
        Err(PutError::Other(error)) => {
            tracing::error!(%error, name, "a bootstrap object could not be written");
            Err(StoreError::Closed)
        }
    }
}

/// Creates a role or a binding, or adds what it lacks.
async fn ensure_access(server: &Arc<Inner>, resource: &str, object: Value) -> Result<(), StoreError> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", resource) else { return Ok(()) };
    let (namespace, name) = (meta(&object, "namespace").to_owned(), meta(&object, "name").to_owned());
    let Some(entry) = server.cached(kind, &namespace, &name) else {
        return ensure(server, GROUP, "v1", resource, object).await;
    };
    let written = match reconcile(resource, &entry.to_value(), &object) {
        Outcome::Keep => return Ok(()),
        Outcome::Update(object) => {
            let compare = Compare::ModRevision(entry.revision);
            server.put(kind, &kind.key(&namespace, &name), compare, &object).await.map(|_| ())
        }
        Outcome::Recreate => match server.remove(kind, &entry).await {
            Ok(_) => return ensure(server, GROUP, "v1", resource, object).await,
            Err(error) => Err(error),
        },
    };
    match written {
        // Nobody else writes yet but another server, which does the same.
        Ok(()) | Err(PutError::Conflict) => Ok(()),
        Err(PutError::Other(error)) => {
            tracing::error!(%error, name, "a bootstrap object could not be written");
            Err(StoreError::Closed)
        }
    }
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
    if server.cached_key(kind, &key).is_some() {
        return Ok(());
    }
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
