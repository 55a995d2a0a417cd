//! The objects that every cluster has from the start.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use store::{Compare, StoreError};

use crate::authz::reconcile::{Outcome, reconcile};
use crate::kind::Kind;
use crate::object::{meta, meta_mut};
use crate::server::Inner;
use crate::storage::PutError;
use crate::{codec, managed_fields};

/// How soon what clusters stand on is back when somebody has deleted it; upstream's interval.
const ROUND: Duration = Duration::from_secs(10);

/// Creates what is missing.
pub(crate) async fn create(server: &Arc<Inner>, advertise: Option<SocketAddr>) -> Result<(), StoreError> {
    create_foundation(server, advertise).await?;
    for (name, value, description) in PRIORITY_CLASSES {
        let class = json!({"metadata": {"name": name, "generation": 1}, "value": value,
            "description": description, "preemptionPolicy": "PreemptLowerPriority"});
        ensure(server, "scheduling.k8s.io", "v1", "priorityclasses", class, Value::Null).await?;
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
        let namespace = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
        let added = json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        ensure(server, "", "v1", "namespaces", namespace, added).await?;
    }
    service_cidr(server).await?;
    kubernetes_service(server, advertise).await?;
    token_tracking(server).await?;
    if let Some(advertise) = advertise {
        identity_lease(server, advertise).await?;
    }
    crate::admission::service_addresses::repair(server).await;
    Ok(())
}

/// The range of service addresses that the server was started with.
async fn service_cidr(server: &Arc<Inner>) -> Result<(), StoreError> {
    const GROUP: &str = "networking.k8s.io";
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", "servicecidrs") else { return Ok(()) };
    if server.cached(kind, "", "kubernetes").is_some() {
        return Ok(());
    }
    let now = base::clock::rfc3339(base::clock::now());
    let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [server.services.cidr()]}});
    let mut range = tracked(kind, &Value::Null, range);
    range["metadata"]["uid"] = base::rng::uuid().into();
    range["metadata"]["creationTimestamp"] = now.as_str().into();
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now,
        "message": "Kubernetes default Service CIDR is ready"});
    let applied = json!({"apiVersion": kind.api_version(), "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "status": {"conditions": [ready]}});
    let manager = "kubernetes-service-cidr-controller";
    if let Ok(mut ready) = managed_fields::apply_kind(kind, &range, applied, manager, "status") {
        ready["status"]["conditions"][0]["reason"] = "".into();
        range = ready;
    }
    codec::canonicalise(kind, &mut range);
    put(server, kind, &kind.key("", "kubernetes"), Compare::Absent, &range).await
}

/// Says since when the use of tokens in secrets is written down.
async fn token_tracking(server: &Arc<Inner>) -> Result<(), StoreError> {
    let today = base::clock::now().strftime("%Y-%m-%d").to_string();
    let map = json!({"metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking",
        "namespace": "kube-system"}, "data": {"since": today}});
    ensure(server, "", "v1", "configmaps", map, Value::Null).await
}

/// Tells others that this server is there, and renews that.
async fn identity_lease(server: &Arc<Inner>, advertise: SocketAddr) -> Result<(), StoreError> {
    const GROUP: &str = "coordination.k8s.io";
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", "leases") else { return Ok(()) };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, host.as_bytes());
    let name = format!("apiserver-{}", base32(&hash.as_ref()[..16]));
    let old = server.cached(kind, "kube-system", &name);
    let renewed = base::clock::rfc3339_micro(base::clock::now());
    if let Some(entry) = old {
        let Ok(old) = entry.try_value() else { return Ok(()) };
        let mut new = old.clone();
        new["spec"]["renewTime"] = renewed.into();
        let new = tracked(kind, &old, new);
        let compare = Compare::ModRevision(entry.revision);
        return put(server, kind, &kind.key("kube-system", &name), compare, &new).await;
    }
    let holder = format!("{name}_{}", base::rng::uuid());
    let lease = json!({
        "metadata": {"name": name, "namespace": "kube-system",
            "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host},
            "annotations": {"kubernetes.io/peer-advertise-address": advertise.to_string()}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 3600, "renewTime": renewed},
    });
    ensure(server, GROUP, "v1", "leases", lease, Value::Null).await
}

/// RFC 4648's base32 in small letters, without padding.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |index: usize| bytes.get(index / 8).map_or(0, |byte| usize::from(byte >> (7 - index % 8) & 1));
    let letter = |start: usize| (start..start + 5).fold(0, |value, index| value << 1 | bit(index));
    (0..bytes.len() * 8).step_by(5).map(|start| char::from(LETTERS[letter(start)])).collect()
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
            "clusterIP": address, "type": "ClusterIP", "sessionAffinity": "None",
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"},
    });
    let added =
        json!({"spec": {"clusterIPs": [address], "ipFamilies": ["IPv4"]}, "status": {"loadBalancer": {}}});
    ensure(server, "", "v1", "services", service, added).await?;
    let Some(advertise) = advertise else { return Ok(()) };
    let ip = advertise.ip().to_string();
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    replace(server, "", "v1", "endpoints", endpoints).await?;
    let slice = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "generation": 1,
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "protocol": "TCP", "port": port}],
    });
    replace(server, "discovery.k8s.io", "v1", "endpointslices", slice).await
}

/// With the fields that differ from `old` in the name of the server.
fn tracked(kind: &Kind, old: &Value, mut new: Value) -> Value {
    if let Err(error) = managed_fields::track_kind(kind, old, &mut new, "kube-apiserver", "") {
        tracing::warn!(%error, kind = %kind.kind, "who has written a bootstrap object is not noted");
    }
    codec::canonicalise(kind, &mut new);
    new
}

/// Writes an object, unless somebody else has written it meanwhile, who does the same.
async fn put(
    server: &Arc<Inner>,
    kind: &Kind,
    key: &str,
    compare: Compare,
    object: &Value,
) -> Result<(), StoreError> {
    match server.put(kind, key, compare, object).await {
        Ok(_) | Err(PutError::Conflict) => Ok(()),
        Err(PutError::Other(error)) => {
            tracing::error!(%error, key, "a bootstrap object could not be written");
            Err(StoreError::Closed)
        }
    }
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
        return ensure(server, group, version, resource, object, Value::Null).await;
    };
    let old = entry.to_value();
    for field in ["uid", "creationTimestamp", "managedFields"] {
        object["metadata"][field] = old["metadata"][field].clone();
    }
    codec::canonicalise(kind, &mut object);
    if crate::object::encode_stored(&object) == crate::object::encode_stored(&old) {
        return Ok(());
    }
    let object = tracked(kind, &old, object);
    put(server, kind, &kind.key(&namespace, &name), Compare::Any, &object).await
}

/// Creates a role or a binding, or adds what it lacks.
async fn ensure_access(server: &Arc<Inner>, resource: &str, object: Value) -> Result<(), StoreError> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", resource) else { return Ok(()) };
    let (namespace, name) = (meta(&object, "namespace").to_owned(), meta(&object, "name").to_owned());
    let Some(entry) = server.cached(kind, &namespace, &name) else {
        return ensure(server, GROUP, "v1", resource, object, Value::Null).await;
    };
    let old = entry.to_value();
    match reconcile(resource, &old, &object) {
        Outcome::Keep => Ok(()),
        Outcome::Update(object) => {
            let object = tracked(kind, &old, object);
            let compare = Compare::ModRevision(entry.revision);
            put(server, kind, &kind.key(&namespace, &name), compare, &object).await
        }
        Outcome::Recreate => match server.remove(kind, &entry).await {
            Ok(_) => ensure(server, GROUP, "v1", resource, object, Value::Null).await,
            Err(PutError::Conflict) => Ok(()),
            Err(PutError::Other(error)) => {
                tracing::error!(%error, name, "a bootstrap object could not be removed");
                Err(StoreError::Closed)
            }
        },
    }
}

/// Creates one object unless it is there. `added` is what is set later than its owner is noted: nobody's.
async fn ensure(
    server: &Arc<Inner>,
    group: &str,
    version: &str,
    resource: &str,
    object: Value,
    added: Value,
) -> Result<(), StoreError> {
    let registry = server.registry();
    let Some(kind) = registry.resource(group, version, resource) else { return Ok(()) };
    let key = kind.key(meta(&object, "namespace"), meta(&object, "name"));
    if server.cached_key(kind, &key).is_some() {
        return Ok(());
    }
    let mut object = tracked(kind, &Value::Null, object);
    if added.is_object() {
        object = schema::patch::merge(&object, &added).unwrap_or(object);
        codec::canonicalise(kind, &mut object);
    }
    let map = meta_mut(&mut object);
    map.insert("uid".to_owned(), base::rng::uuid().into());
    map.insert("creationTimestamp".to_owned(), base::clock::rfc3339(base::clock::now()).into());
    put(server, kind, &key, Compare::Absent, &object).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_upstreams() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
    }
}
