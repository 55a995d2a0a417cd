//! Mounts and block devices of a container.

use std::collections::BTreeSet;

use super::super::rules;
use super::Pod;
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// `volumeMounts`.
pub fn mounts(pod: &Pod<'_>, container: &Node, errs: &mut ErrorList) {
    let list = container.at("volumeMounts");
    let mut paths = BTreeSet::new();
    for mount in list.items() {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        rules::not_empty(&name, errs);
        if !pod.volumes.contains_key(name.str()) {
            errs.push(name.not_found());
        }
        rules::not_empty(&path, errs);
        if !paths.insert(path.str()) {
            errs.push(path.invalid_str("must be unique"));
        }
        let devices = || container.at("volumeDevices").items();
        if devices().any(|d| d.at("name").str() == name.str()) {
            errs.push(name.invalid_str("must not already exist in volumeDevices"));
        }
        if devices().any(|d| d.at("devicePath").str() == path.str()) {
            errs.push(path.invalid_str("must not already exist as a path in volumeDevices"));
        }
        // Upstream reports the following at the list, without the index.
        let at_list = |field| mount.at(field).reported_at(list.at(field).path());
        let (sub_path, expression) = (at_list("subPath"), at_list("subPathExpr"));
        if !sub_path.is_empty() {
            rules::descending_path(&sub_path, errs);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errs.push(mount.at("subPathExpr").invalid_str(detail));
            }
            rules::descending_path(&expression, errs);
        }
        propagation(container, &at_list("mountPropagation"), errs);
        recursive_read_only(&mount, &at_list("recursiveReadOnly"), errs);
    }
}

fn propagation(container: &Node, propagation: &Node, errs: &mut ErrorList) {
    if !propagation.is_set() {
        return;
    }
    rules::one_of(propagation, &["Bidirectional", "HostToContainer", "None"], errs);
    if propagation.str() == "Bidirectional" && !container.at("securityContext").at("privileged").bool() {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errs.push(propagation.forbidden(detail));
    }
}

fn recursive_read_only(mount: &Node, mode: &Node, errs: &mut ErrorList) {
    match mode.opt_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.at("readOnly").bool() {
                errs.push(mode.forbidden("may only be specified when readOnly is true"));
            }
            if !["", "None"].contains(&mount.at("mountPropagation").str()) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errs.push(mode.forbidden(detail));
            }
        }
        Some(_) => errs.push(mode.not_supported(&["Disabled", "Enabled", "IfPossible"])),
    }
}

/// `volumeDevices`.
pub fn devices(pod: &Pod<'_>, container: &Node, errs: &mut ErrorList) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.at("volumeDevices").items() {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        rules::not_empty(&name, errs);
        if names.contains(name.str()) {
            errs.push(name.invalid_str("must be unique"));
        }
        match pod.volumes.get(name.str()) {
            None => errs.push(name.not_found()),
            Some(volume)
                if !volume.at("persistentVolumeClaim").is_set() && !volume.at("ephemeral").is_set() =>
            {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errs.push(name.invalid_str(detail));
            }
            Some(_) => {}
        }
        rules::not_empty(&path, errs);
        if paths.contains(path.str()) {
            errs.push(path.invalid_str("must be unique"));
        }
        if path.str().split('/').any(|part| part == "..") {
            errs.push(path.invalid_str("can not contain backsteps ('..')"));
        } else {
            paths.insert(path.str());
        }
        let mounts = || container.at("volumeMounts").items();
        if mounts().any(|m| m.at("name").str() == name.str()) {
            errs.push(name.invalid_str("must not already exist in volumeMounts"));
        }
        if mounts().any(|m| m.at("mountPath").str() == path.str()) {
            errs.push(Error::invalid(
                path.path(),
                path.str(),
                "must not already exist as a path in volumeMounts",
            ));
        }
        if !name.is_empty() {
            names.insert(name.str());
        }
    }
}
