//! What of the API a pod refers to: service accounts, secrets, config maps, claims.

use serde_json::Value;

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| items(&spec[field]))
}

/// Whether an environment names a secret or config map, by key or whole.
fn environment_has(spec: &Value, key: &str, whole: &str) -> bool {
    containers(spec).any(|container| {
        items(&container["env"]).any(|env| env["valueFrom"][key].is_object())
            || items(&container["envFrom"]).any(|source| source[whole].is_object())
    })
}

/// Whether the pod names any secret.
pub(super) fn has_secrets(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let named = |value: &Value| value.is_object();
    items(&spec["imagePullSecrets"]).next().is_some()
        || environment_has(spec, "secretKeyRef", "secretRef")
        || items(&spec["volumes"]).any(|volume| {
            named(&volume["secret"])
                || volume["azureFile"]["secretName"].as_str().is_some_and(|name| !name.is_empty())
                || ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"]
                    .iter()
                    .any(|source| named(&volume[*source]["secretRef"]))
                || named(&volume["csi"]["nodePublishSecretRef"])
                || items(&volume["projected"]["sources"]).any(|source| named(&source["secret"]))
        })
}

fn has_config_maps(pod: &Value) -> bool {
    let spec = &pod["spec"];
    environment_has(spec, "configMapKeyRef", "configMapRef")
        || items(&spec["volumes"]).any(|volume| {
            volume["configMap"].is_object()
                || items(&volume["projected"]["sources"]).any(|source| source["configMap"].is_object())
        })
}

/// Volumes that refer to objects, and how messages say so.
const VOLUMES: [(&str, &str); 5] = [
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
/// The same for sources of projected volumes.
const SOURCES: [(&str, &str); 3] = [
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// The first kind of object that the pod refers to, as messages name it.
pub(super) fn of_pod(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    if has_secrets(pod) {
        return Some("secrets");
    }
    if has_config_maps(pod) {
        return Some("configmaps");
    }
    if items(&spec["resourceClaims"]).next().is_some() {
        return Some("resourceclaims");
    }
    let find = |table: &[(&str, &'static str)], object: &Value| {
        table.iter().find(|(field, _)| object[*field].is_object()).map(|(_, text)| *text)
    };
    items(&spec["volumes"]).find_map(|volume| {
        find(&VOLUMES, volume)
            .or_else(|| items(&volume["projected"]["sources"]).find_map(|source| find(&SOURCES, source)))
    })
}
