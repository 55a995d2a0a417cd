//! Volumes of pods.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{format, rules, volume_sources};
use super::{Pod, projected, pull_policy};
use crate::cursor::Node;
use crate::field::ErrorList;

/// The kinds of volumes, in upstream's order, with the name under which a second one is refused.
const KINDS: [(&str, &str); 29] = [
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// `volumes`; returns the valid ones by name, the only ones that mounts may name.
pub(super) fn validate<'a>(pod: &Pod<'a>, errs: &mut ErrorList) -> BTreeMap<&'a str, Node<'a>> {
    let pod_name = pod.metadata.as_ref().map_or("", |m| m.at("name").str());
    let mut created_claims = BTreeSet::new();
    for volume in pod.spec.at("volumes").items() {
        if volume.at("ephemeral").is_set() && !pod_name.is_empty() {
            created_claims.insert(format!("{pod_name}-{}", volume.at("name").str()));
        }
    }
    let mut valid = BTreeMap::new();
    for volume in pod.spec.at("volumes").items() {
        let mut own = ErrorList::new();
        source(&volume, pod_name, pod.is_pod, &mut own);
        let name = volume.at("name");
        if rules::not_empty(&name, &mut own) {
            rules::formatted(&name, format::dns1123_label, &mut own);
        }
        if valid.contains_key(name.str()) {
            own.push(crate::field::Error::duplicate(name.path(), name.str()));
        }
        if own.is_empty() {
            valid.insert(name.str(), volume.clone());
        }
        errs.extend(own);
        let claim = volume.at("persistentVolumeClaim").at("claimName");
        if created_claims.contains(claim.str()) {
            errs.push(
                claim.invalid_str("must not reference a PVC that gets created for an ephemeral volume"),
            );
        }
    }
    valid
}

fn source(volume: &Node, pod_name: &str, is_pod: bool, errs: &mut ErrorList) {
    let empty_dir = volume.at("emptyDir");
    let mut found = empty_dir.is_set();
    if rules::quantity(&empty_dir.at("sizeLimit")).is_negative() {
        let detail = "SizeLimit field must be a valid resource quantity";
        errs.push(empty_dir.at("sizeLimit").forbidden(detail));
    }
    for (kind, shown) in KINDS {
        let Some(source) = volume.at(kind).opt() else { continue };
        if found {
            errs.push(volume.at(shown).forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        kind_of_volume(kind, &source, is_pod, errs);
        if kind == "iscsi" {
            portal_length(volume, &source, errs);
        }
        if kind == "ephemeral" && !pod_name.is_empty() && !volume.at("name").is_empty() {
            let claim = format!("{pod_name}-{}", volume.at("name").str());
            let wrong = format::name_is_subdomain(&claim, false);
            let name = volume.at("name");
            errs.extend(wrong.iter().map(|m| name.invalid_str(format!("PVC name \"{claim}\": {m}"))));
        }
    }
    if !found {
        errs.push(volume.required("must specify a volume type"));
    }
}

/// The name that is made of both becomes a name in the kernel.
fn portal_length(volume: &Node, iscsi: &Node, errs: &mut ErrorList) {
    let (name, portal) = (volume.at("name"), iscsi.at("targetPortal"));
    if iscsi.at("initiatorName").is_set() && name.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                      iscsi.initiatorName is specified.";
        errs.push(name.invalid_str(detail));
    }
}

fn kind_of_volume(kind: &str, source: &Node, is_pod: bool, errs: &mut ErrorList) {
    match kind {
        "secret" => files(source, "secretName", errs),
        "configMap" => files(source, "name", errs),
        "downwardAPI" => projected::downward(source, errs),
        "projected" => projected::validate(source, errs),
        "persistentVolumeClaim" => {
            rules::not_empty(&source.at("claimName"), errs);
        }
        "ephemeral" => match source.at("volumeClaimTemplate").opt() {
            None => errs.push(source.at("volumeClaimTemplate").required("")),
            Some(template) => {
                super::super::metadata::template(&template.at("metadata"), errs);
                super::super::core::storage::claim_spec(&template.at("spec"), errs);
            }
        },
        "csi" => {
            volume_sources::csi_driver_name(&source.at("driver"), errs);
            if let Some(secret) = source.at("nodePublishSecretRef").opt()
                && rules::not_empty(&secret.at("name"), errs)
            {
                let name = secret.at("name").reported_at(source.at("name").path());
                rules::named(&name, format::name_is_subdomain, errs);
            }
        }
        "image" => {
            if is_pod {
                rules::not_empty(&source.at("reference"), errs);
            }
            pull_policy(&source.at("pullPolicy"), errs);
        }
        _ => volume_sources::validate(kind, source, errs),
    }
}

fn files(source: &Node, name: &'static str, errs: &mut ErrorList) {
    rules::not_empty(&source.at(name), errs);
    rules::file_mode(&source.at("defaultMode"), errs);
    source.at("items").items().for_each(|item| projected::key_to_path(&item, errs));
}
