//! PersistentVolumes.

use serde_json::{Map, Value};

use super::super::metadata::immutable;
use super::super::{diff, format, metadata, pod, rules, volume_sources};
use super::storage::access_modes;
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

/// The kinds of volumes, in upstream's order.
const KINDS: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
];

/// PersistentVolume.
pub fn persistent_volume(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    spec(&object.at("spec"), object.at("metadata").at("name").str(), false, &mut errs);
    errs
}

/// A new PersistentVolume.
pub fn persistent_volume_create(object: &Node) -> ErrorList {
    let mut errs = persistent_volume(object);
    mount_options(object, &mut errs);
    errs
}

/// The kinds of volumes for which an annotation may give mount options.
const MOUNTED_WITH_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

fn mount_options(object: &Node, errs: &mut ErrorList) {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";
    let annotation = object.at("metadata").at("annotations").at(ANNOTATION);
    let spec = object.at("spec");
    if annotation.is_set() && !MOUNTED_WITH_OPTIONS.iter().any(|kind| spec.at(kind).is_set()) {
        errs.push(annotation.forbidden("may not specify mount options for this volume type"));
    }
}

/// The spec of a volume, which in attachments stands inline and has no name.
pub fn spec(spec: &Node, name: &str, inline: bool, errs: &mut ErrorList) {
    let in_line = "may not be specified in the context of inline volumes";
    if inline {
        if spec.at("claimRef").is_set() {
            errs.push(spec.at("claimRef").forbidden(in_line));
        }
        if !spec.at("capacity").is_empty() {
            errs.push(spec.at("capacity").forbidden(in_line));
        }
        if !spec.at("csi").is_set() {
            errs.push(spec.at("csi").required("has to be specified in the context of inline volumes"));
        }
    }
    let modes = spec.at("accessModes");
    rules::not_empty(&modes, errs);
    access_modes(&modes, errs);
    let reclaim = spec.at("persistentVolumeReclaimPolicy");
    if !inline {
        capacity(&spec.at("capacity"), errs);
        if !reclaim.is_empty() {
            rules::one_of(&reclaim, &["Delete", "Recycle", "Retain"], errs);
        }
    } else if !["", "Retain"].contains(&reclaim.str()) {
        errs.push(reclaim.forbidden("may only be Retain in the context of inline volumes"));
    }
    let affine = node_affinity(&spec.at("nodeAffinity"), inline, errs);
    sources(spec, name, affine, errs);
    if spec.at("hostPath").at("path").str() == "/" && reclaim.str() == "Recycle" {
        errs.push(reclaim.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    let class = spec.at("storageClassName");
    if !class.is_empty() {
        if inline {
            errs.push(class.forbidden(in_line));
        } else {
            rules::named(&class, format::name_is_subdomain, errs);
        }
    }
    if let Some(mode) = spec.at("volumeMode").opt() {
        if !inline {
            rules::one_of(&mode, &["Block", "Filesystem"], errs);
        } else if mode.str() != "Filesystem" {
            let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
            errs.push(mode.forbidden(detail));
        }
    }
    if let Some(class) = spec.at("volumeAttributesClassName").opt().filter(|_| !inline) {
        if class.is_empty() {
            errs.push(class.required("an empty string is disallowed"));
        } else {
            rules::named(&class, format::name_is_subdomain, errs);
        }
        if !spec.at("csi").is_set() {
            errs.push(spec.at("csi").required("has to be specified when using volumeAttributesClassName"));
        }
    }
}

fn capacity(capacity: &Node, errs: &mut ErrorList) {
    rules::not_empty(capacity, errs);
    if !capacity.key("storage").is_set() || capacity.len() > 1 {
        errs.push(Error::not_supported(capacity.path(), capacity.to_value(), &["storage"]));
    }
    for (_, quantity) in capacity.entries() {
        let units = rules::quantity(&quantity).units();
        if units < 0 {
            errs.push(quantity.invalid_as(units, "must be a valid resource quantity"));
        }
        rules::positive_quantity(&quantity, errs);
    }
}

/// Says whether the volume is bound to some nodes.
fn node_affinity(affinity: &Node, inline: bool, errs: &mut ErrorList) -> bool {
    if !affinity.is_set() {
        return false;
    }
    if inline {
        errs.push(affinity.forbidden("may not be specified in the context of inline volumes"));
        return false;
    }
    match affinity.at("required").opt() {
        Some(required) => pod::node_selector(&required, true, errs),
        None => errs.push(affinity.at("required").required("must specify required node constraints")),
    }
    true
}

fn sources(spec: &Node, name: &str, affine: bool, errs: &mut ErrorList) {
    let mut found = false;
    for kind in KINDS.iter().chain(&["csi"]) {
        let Some(source) = spec.at(kind).opt() else { continue };
        if found && *kind != "flexVolume" {
            let shown = if *kind == "cephfs" { "cephFS" } else { kind };
            errs.push(spec.at(shown).forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        match *kind {
            "csi" => csi(&source, errs),
            "local" => {
                if rules::not_empty(&source.at("path"), errs) {
                    rules::no_backsteps(&source.at("path"), errs);
                }
                if !affine {
                    errs.push(spec.at("nodeAffinity").required("Local volume requires node affinity"));
                }
            }
            "iscsi" => iscsi(&source, name, errs),
            _ => {
                volume_sources::validate(kind, &source, errs);
                namespaced(kind, &source, errs);
            }
        }
    }
    if !found {
        errs.push(spec.required("must specify a volume type"));
    }
}

/// What sources of persistent volumes have besides those of pods.
fn namespaced(kind: &str, source: &Node, errs: &mut ErrorList) {
    match kind {
        "cinder" | "storageos" => {
            if let Some(secret) = source.at("secretRef").opt() {
                rules::not_empty(&secret.at("namespace"), errs);
            }
        }
        "azureFile" => {
            if let Some(namespace) = source.at("secretNamespace").opt() {
                rules::not_empty(&namespace, errs);
            }
        }
        "glusterfs" => match source.at("endpointsNamespace").opt() {
            Some(namespace) if namespace.is_empty() => {
                let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                errs.push(namespace.invalid_str(detail));
            }
            Some(namespace) => rules::formatted(&namespace, format::dns1123_label, errs),
            None => {}
        },
        _ => {}
    }
}

/// As of pods, in other words.
fn iscsi(source: &Node, volume: &str, errs: &mut ErrorList) {
    let (portal, initiator) = (source.at("targetPortal"), source.at("initiatorName"));
    rules::not_empty(&portal, errs);
    if initiator.is_set() && volume.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                      iscsi.initiatorName is specified.";
        errs.push(portal.reported_at(source.at("targetportal").path()).invalid_str(detail));
    }
    let well_formed = |name: &Node| volume_sources::iscsi_name(name.str()) == (true, true);
    let iqn = source.at("iqn");
    if rules::not_empty(&iqn, errs) && !well_formed(&iqn) {
        errs.push(iqn.invalid_str("must be valid format"));
    }
    rules::number(&source.at("lun"), |n| format::in_range(n, 0, 255), errs);
    let authenticated = source.at("chapAuthDiscovery").bool() || source.at("chapAuthSession").bool();
    let secret = source.at("secretRef");
    if authenticated && !secret.is_set() {
        errs.push(secret.required(""));
    }
    if secret.is_set() {
        rules::not_empty(&secret.at("name"), errs);
    }
    if initiator.is_set() && !well_formed(&initiator) {
        let at = source.at("initiatorname");
        errs.push(initiator.reported_at(at.path()).invalid_str("must be valid format"));
    }
}

fn csi(source: &Node, errs: &mut ErrorList) {
    volume_sources::csi_driver_name(&source.at("driver"), errs);
    rules::not_empty(&source.at("volumeHandle"), errs);
    let secrets = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    for secret in secrets.iter().filter_map(|secret| source.at(secret).opt()) {
        if rules::not_empty(&secret.at("name"), errs) {
            rules::named(&secret.at("name"), format::name_is_subdomain, errs);
        }
        if rules::not_empty(&secret.at("namespace"), errs) {
            rules::formatted(&secret.at("namespace"), format::dns1123_label, errs);
        }
    }
}

/// A changed PersistentVolume: its source stays.
pub fn persistent_volume_update(new: &Node, old: &Node) -> ErrorList {
    // Upstream looks at all of it twice.
    let mut errs = persistent_volume_create(new);
    errs.extend(persistent_volume(new));
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let (mut now, was) = (source(&spec), source(&before));
    if was["csi"].is_object()
        && was["csi"]["controllerExpandSecretRef"].is_null()
        && let Some(csi) = now.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    if now != was {
        let difference = diff::unified("PersistentVolumeSource", &was, &now);
        errs.push(
            spec.at("persistentvolumesource")
                .forbidden(format!("spec.persistentvolumesource is immutable after creation\n{difference}")),
        );
    }
    // Upstream's paths lack the front.
    let mode = Path::new("volumeMode");
    immutable(&spec.at("volumeMode").reported_at(&mode), &before.at("volumeMode"), &mut errs);
    let affinity = spec.at("nodeAffinity");
    if before.at("nodeAffinity").is_set() && !same_affinity(&affinity, &before.at("nodeAffinity")) {
        let detail = "field is immutable, except for updating from beta label to GA";
        errs.push(affinity.reported_at(&Path::new("nodeAffinity")).invalid(detail));
    }
    let class = spec.at("volumeAttributesClassName");
    if before.at("volumeAttributesClassName").is_set() && !class.is_set() {
        errs.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
    errs
}

/// Whether two affinities are the same, but for labels that were beta and have a lasting name now.
/// Upstream's table of these also takes any other label to the empty one.
fn same_affinity(new: &Node, old: &Node) -> bool {
    let (mut now, was) = (new.to_value(), old.to_value());
    let terms =
        |affinity: &Value| affinity["required"]["nodeSelectorTerms"].as_array().cloned().unwrap_or_default();
    for (index, before) in terms(&was).iter().enumerate() {
        for list in ["matchExpressions", "matchFields"] {
            for (place, before) in before[list].as_array().into_iter().flatten().enumerate() {
                let key = before["key"].as_str().unwrap_or_default();
                let lasting =
                    LASTING_LABELS.iter().find(|(beta, _)| *beta == key).map_or("", |(_, label)| label);
                let path = format!("/required/nodeSelectorTerms/{index}/{list}/{place}/key");
                if let Some(now) = now.pointer_mut(&path).filter(|now| **now == lasting) {
                    *now = Value::from(key);
                }
            }
        }
    }
    now == was
}

const LASTING_LABELS: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn source(spec: &Node) -> Value {
    let fields = spec.object().into_iter().flatten();
    let is_source = |name: &str| KINDS.contains(&name) || name == "csi";
    let kept = fields.filter(|(name, _)| is_source(name)).map(|(n, v)| (n.clone(), v.clone()));
    Value::Object(kept.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(source: &str, value: Value) -> Value {
        let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], source: value});
        json!({"metadata": {"name": "v"}, "spec": spec})
    }

    fn message(volume: &Value) -> String {
        persistent_volume_create(&Node::root(volume)).message()
    }

    #[test]
    fn sources_of_volumes_name_namespaces() {
        let nameless = json!({"volumeID": "v", "secretRef": {"name": "s"}});
        assert_eq!(message(&volume("cinder", nameless)), "spec.cinder.secretRef.namespace: Required value");
        let empty = json!({"endpoints": "e", "path": "p", "endpointsNamespace": ""});
        assert!(message(&volume("glusterfs", empty)).contains("must be a valid namespace name"));
        let portal = "p".repeat(63);
        let long = json!({"targetPortal": portal, "iqn": "iqn.2001-04.com.example:a", "initiatorName": "iqn.2001-04.com.example:b"});
        assert!(message(&volume("iscsi", long)).starts_with("spec.iscsi.targetportal: Invalid value"));
    }

    #[test]
    fn mount_options_need_a_source_that_is_mounted() {
        let annotated = |mut volume: Value| {
            volume["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/mount-options": "ro"});
            message(&volume)
        };
        assert_eq!(annotated(volume("nfs", json!({"server": "s", "path": "/"}))), "");
        assert!(
            annotated(volume("hostPath", json!({"path": "/a"}))).contains("may not specify mount options")
        );
    }

    #[test]
    fn a_change_is_looked_at_twice() {
        let old = volume("nfs", json!({"server": "s", "path": "/"}));
        let mut new = old.clone();
        new["spec"]["capacity"] = json!({"storage": "0"});
        assert_eq!(persistent_volume_update(&Node::root(&new), &Node::root(&old)).len(), 2);
    }

    #[test]
    fn labels_of_affinities_may_get_their_lasting_names() {
        let affinity = |key: &str| json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "Exists"}]}]}});
        let same =
            |new: &str, old: &str| same_affinity(&Node::root(&affinity(new)), &Node::root(&affinity(old)));
        assert!(same("kubernetes.io/os", "beta.kubernetes.io/os"));
        assert!(!same("beta.kubernetes.io/os", "kubernetes.io/os"));
        assert!(same("", "zone") && !same("rack", "zone"));
    }
}
