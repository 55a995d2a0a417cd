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
        "flocker" => flocker(source, errs),
        "quobyte" => quobyte(source, errs),
        "storageos" => storage_os(source, errs),
        "portworxVolume" => require(source, &["volumeID"], errs),
        "scaleIO" => require(source, &["gateway", "system", "volumeName"], errs),
        _ => {}
    }
}

fn require(source: &Node, fields: &[&'static str], errs: &mut ErrorList) {
    for field in fields {
        if source.at(field).is_empty() {
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

fn flocker(source: &Node, errs: &mut ErrorList) {
    let (name, uuid) = (source.at("datasetName"), source.at("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => errs.push(source.required("one of datasetName and datasetUUID is required")),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errs.push(source.invalid_as("resource", detail));
        }
        _ => {}
    }
    if name.str().contains('/') {
        errs.push(name.invalid_str("must not contain '/'"));
    }
}

fn quobyte(source: &Node, errs: &mut ErrorList) {
    let (registry, tenant) = (source.at("registry"), source.at("tenant"));
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        errs.push(registry.required(pairs));
    } else if tenant.len() > 64 {
        errs.push(tenant.required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let wrong = registry.str().split(',').filter(|pair| !is_host_and_port(pair)).count();
        errs.extend((0..wrong).map(|_| registry.invalid_str(pairs)));
    }
    require(source, &["volume"], errs);
}

/// As Go's `net.SplitHostPort` sees it: neither part is looked at.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']'),
        None => Some(host).filter(|host| !host.contains(':')),
    };
    host.is_some_and(|host| !host.contains(['[', ']'])) && !port.contains(['[', ']'])
}

fn storage_os(source: &Node, errs: &mut ErrorList) {
    if rules::not_empty(&source.at("volumeName"), errs) {
        rules::formatted(&source.at("volumeName"), format::dns1123_label, errs);
    }
    if !source.at("volumeNamespace").is_empty() {
        rules::formatted(&source.at("volumeNamespace"), format::dns1123_label, errs);
    }
    if let Some(secret) = source.at("secretRef").opt() {
        require(&secret, &["name"], errs);
    }
}

/// An iSCSI name: whether it has a known beginning, and whether what follows has its form.
pub(super) fn iscsi_name(name: &str) -> (bool, bool) {
    // Upstream's expressions begin with `eui.` and `naa.`, where the point is any character.
    let rest = |digits: usize| {
        let mut characters = name.chars().skip(3);
        characters.next().is_some_and(|c| c != '\n')
            && characters.clone().count() == digits
            && characters.all(|c| c.is_ascii_alphanumeric())
    };
    match name.get(..3) {
        Some("iqn") => (true, is_qualified(name)),
        Some("eui") => (true, rest(16)),
        Some("naa") => (true, rest(32)),
        _ => (false, true),
    }
}

/// `iqn.2001-04.com.example:storage`.
fn is_qualified(name: &str) -> bool {
    let forbidden = |c: char| ",;*&$|".contains(c) || " \t\n\u{c}\r".contains(c);
    let part = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    // It may begin anywhere in what is before a colon, and nothing forbidden comes after that.
    let begins = |authority: &str| {
        authority.match_indices("iqn.").any(|(start, found)| {
            let date = &authority.as_bytes()[start + found.len()..];
            let digits = |from: usize, to: usize| {
                date.get(from..to).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
            };
            let dated = digits(0, 4) && date.get(4) == Some(&b'-') && digits(5, 7);
            dated && date.get(7) == Some(&b'.') && date.len() > 8
        })
    };
    let clean_from = name.rfind(forbidden).map_or(0, |last| last + 1);
    let mut from = 0;
    name.match_indices(':').any(|(colon, _)| {
        let before = &name[from..colon];
        from = colon + 1;
        let authority = before.rsplit(|c: char| !part(c)).next().unwrap_or_default();
        (clean_from..name.len()).contains(&from) && begins(authority)
    })
}

fn iscsi(source: &Node, errs: &mut ErrorList) {
    require(source, &["targetPortal"], errs);
    let beginning = "must be valid format starting with iqn, eui, or naa";
    let iqn = source.at("iqn");
    if rules::not_empty(&iqn, errs) {
        match iscsi_name(iqn.str()) {
            (false, _) => errs.push(iqn.invalid_str(beginning)),
            (true, false) => errs.push(iqn.invalid_str("must be valid format")),
            (true, true) => {}
        }
    }
    rules::number(&source.at("lun"), |n| format::in_range(n, 0, 255), errs);
    let authenticated = source.at("chapAuthDiscovery").bool() || source.at("chapAuthSession").bool();
    if authenticated && !source.at("secretRef").is_set() {
        errs.push(source.at("secretRef").required(""));
    }
    if let Some(initiator) = source.at("initiatorName").opt() {
        let initiator = initiator.reported_at(source.at("initiatorname").path());
        match iscsi_name(initiator.str()) {
            (false, _) => errs.push(initiator.invalid_str(beginning)),
            (true, false) => errs.push(initiator.invalid_str("must be valid format")),
            (true, true) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_storage_networks() {
        for (name, expected) in [
            ("iqn.2001-04.com.example:storage", (true, true)),
            ("iqn.2001-04.com.example", (true, false)),
            ("iqn.2001-04.com.example:a b", (true, false)),
            ("eui.02004567A425678D", (true, true)),
            ("naa.52004567", (true, false)),
            ("foo", (false, true)),
        ] {
            assert_eq!(iscsi_name(name), expected, "{name}");
        }
        for (pair, expected) in [("a:1", true), ("[::1]:1", true), ("::1:1", false), ("a", false)] {
            assert_eq!(is_host_and_port(pair), expected, "{pair}");
        }
    }
}
