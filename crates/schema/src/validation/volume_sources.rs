//! Sources of volumes that pods and persistent volumes share.

use super::{format, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// The source of one kind. For persistent volumes, references to secrets also name a namespace.
pub fn validate(kind: &str, source: &Node, errs: &mut ErrorList) {
    match kind {
        "hostPath" => host_path(source, errs),
        "gitRepo" => {
            require(source, &["repository"], errs);
            rules::descending_path(&source.at("directory"), errs);
        }
        "gcePersistentDisk" => {
            // Upstream's path has the name of its internal type.
            let at = source.path().to_string().replace("gcePersistentDisk", "persistentDisk");
            let at = crate::field::Path::new(&at);
            disk(&source.reported_at(&at), "pdName", errs);
        }
        "awsElasticBlockStore" => disk(source, "volumeID", errs),
        "nfs" => {
            require(source, &["server", "path"], errs);
            if !source.at("path").str().starts_with('/') {
                errs.push(source.at("path").invalid_str("must be an absolute path"));
            }
        }
        "iscsi" => iscsi(source, errs),
        "fc" => fibre_channel(source, errs),
        "glusterfs" => require(source, &["endpoints", "path"], errs),
        "rbd" => require(source, &["monitors", "image"], errs),
        "cinder" => {
            require(source, &["volumeID"], errs);
            if let Some(secret) = source.at("secretRef").opt() {
                require(&secret, &["name"], errs);
            }
        }
        "cephfs" => require(source, &["monitors"], errs),
        "flexVolume" => flex(source, errs),
        "azureFile" => require(source, &["secretName", "shareName"], errs),
        "azureDisk" => azure_disk(source, errs),
        "vsphereVolume" => require(source, &["volumePath"], errs),
        "photonPersistentDisk" => require(source, &["pdID"], errs),
        "portworxVolume" => require(source, &["volumeID"], errs),
        "scaleIO" => require(source, &["gateway", "system", "volumeName"], errs),
        _ => {}
    }
}

fn require(source: &Node, fields: &[&'static str], errs: &mut ErrorList) {
    for field in fields {
        let value = source.object().and_then(|o| o.get(*field));
        if value.is_none_or(|v| v.as_str() == Some("") || v.as_array().is_some_and(Vec::is_empty)) {
            errs.push(source.at(field).required(""));
        }
    }
}

fn host_path(source: &Node, errs: &mut ErrorList) {
    if !rules::not_empty(&source.at("path"), errs) {
        return;
    }
    rules::no_backsteps(&source.at("path"), errs);
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    rules::one_of(&source.at("type"), &types, errs);
}

fn disk(source: &Node, id: &'static str, errs: &mut ErrorList) {
    require(source, &[id], errs);
    let partition = source.at("partition");
    if !(0..=255).contains(&partition.i64()) {
        errs.push(partition.invalid_i64(format::range_error(1, 255)));
    }
}

fn iscsi(source: &Node, errs: &mut ErrorList) {
    require(source, &["targetPortal"], errs);
    let iqn = source.at("iqn");
    if rules::not_empty(&iqn, errs) && !["iqn", "eui", "naa"].iter().any(|p| iqn.str().starts_with(p)) {
        errs.push(iqn.invalid_str("must be valid format starting with iqn, eui, or naa"));
    }
    rules::number(&source.at("lun"), |n| format::in_range(n, 0, 255), errs);
    let authenticated = source.at("chapAuthDiscovery").bool() || source.at("chapAuthSession").bool();
    if authenticated && !source.at("secretRef").is_set() {
        errs.push(source.at("secretRef").required(""));
    }
}

fn fibre_channel(source: &Node, errs: &mut ErrorList) {
    let (names, ids, lun) = (source.at("targetWWNs"), source.at("wwids"), source.at("lun"));
    if names.is_empty() && ids.is_empty() {
        errs.push(names.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        errs.push(names.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    if !names.is_empty() {
        if lun.is_set() {
            rules::number(&lun, |n| format::in_range(n, 0, 255), errs);
        } else {
            errs.push(lun.required("lun is required if targetWWNs is specified"));
        }
    }
}

fn flex(source: &Node, errs: &mut ErrorList) {
    require(source, &["driver"], errs);
    for (key, option) in source.at("options").entries() {
        let namespace = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            errs.push(option.invalid_as(key, "kubernetes.io and k8s.io namespaces are reserved"));
        }
    }
}

fn azure_disk(source: &Node, errs: &mut ErrorList) {
    require(source, &["diskName", "diskURI"], errs);
    let (kind, uri) = (source.at("kind"), source.at("diskURI"));
    if source.at("cachingMode").is_set() {
        rules::one_of(&source.at("cachingMode"), &["None", "ReadOnly", "ReadWrite"], errs);
    }
    if !kind.is_set() {
        return;
    }
    rules::one_of(&kind, &["Dedicated", "Managed", "Shared"], errs);
    let managed = kind.str() == "Managed";
    let (prefix, form) = if managed {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !uri.str().starts_with(prefix) {
        errs.push(uri.not_supported(&[form]));
    }
}

/// The name of a CSI driver.
pub fn csi_driver_name(name: &Node, errs: &mut ErrorList) {
    if !rules::not_empty(name, errs) {
        return;
    }
    if name.len() > 63 {
        errs.push(name.too_long(63));
    }
    let wrong = format::dns1123_subdomain(&name.str().to_lowercase());
    errs.extend(wrong.into_iter().map(|m| name.invalid_str(m)));
}
