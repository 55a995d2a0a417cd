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
    spec(&object.at("spec"), false, &mut errs);
    errs
}

/// The spec of a volume, which in attachments stands inline.
pub fn spec(spec: &Node, inline: bool, errs: &mut ErrorList) {
    let in_line = "may not be specified in the context of inline volumes";
    if inline {
        for field in ["claimRef", "capacity"].into_iter().filter(|field| spec.at(field).is_set()) {
            errs.push(spec.at(field).forbidden(in_line));
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
    sources(spec, affine, errs);
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
    if let Some(class) = spec.at("volumeAttributesClassName").opt() {
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
        let shown = capacity.value().cloned().unwrap_or_else(|| Value::Object(Map::new()));
        errs.push(Error::not_supported(capacity.path(), shown, &["storage"]));
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

fn sources(spec: &Node, affine: bool, errs: &mut ErrorList) {
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
            _ => volume_sources::validate(kind, &source, errs),
        }
    }
    if !found {
        errs.push(spec.required("must specify a volume type"));
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
    let mut errs = persistent_volume(new);
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let (mut now, was) = (source(&spec), source(&before));
    if was["csi"]["controllerExpandSecretRef"].is_null()
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
    if before.at("nodeAffinity").is_set() && affinity.value() != before.at("nodeAffinity").value() {
        let detail = "field is immutable, except for updating from beta label to GA";
        errs.push(affinity.reported_at(&Path::new("nodeAffinity")).invalid(detail));
    }
    let class = spec.at("volumeAttributesClassName");
    if before.at("volumeAttributesClassName").is_set() && !class.is_set() {
        errs.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
    errs
}

fn source(spec: &Node) -> Value {
    let fields = spec.object().into_iter().flatten();
    let is_source = |name: &str| KINDS.contains(&name) || name == "csi";
    let kept = fields.filter(|(name, _)| is_source(name)).map(|(n, v)| (n.clone(), v.clone()));
    Value::Object(kept.collect::<Map<String, Value>>())
}
