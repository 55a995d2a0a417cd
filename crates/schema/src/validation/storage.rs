//! The group `storage.k8s.io`.

use std::collections::{BTreeMap, BTreeSet};

use super::metadata::{immutable, immutable_text};
use super::{core::volumes, format, labels, metadata, rules, volume_sources};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

/// StorageClass.
pub fn storage_class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    provisioner(&object.at("provisioner"), &mut errs);
    parameters(&object.at("parameters"), true, &mut errs);
    if !object.at("reclaimPolicy").is_empty() {
        rules::one_of(&object.at("reclaimPolicy"), &["Delete", "Retain"], &mut errs);
    }
    let mode = object.at("volumeBindingMode");
    if mode.is_set() {
        rules::one_of(&mode, &["Immediate", "WaitForFirstConsumer"], &mut errs);
    } else {
        errs.push(mode.required(""));
    }
    topologies(&object.at("allowedTopologies"), &mut errs);
    errs
}

/// A changed StorageClass: what volumes are made from stays.
pub fn storage_class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = storage_class(new);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    immutable(&new.at("parameters"), &old.at("parameters"), &mut errs);
    immutable_text(&new.at("provisioner"), &old.at("provisioner"), &mut errs);
    for field in ["reclaimPolicy", "volumeBindingMode"] {
        immutable(&new.at(field), &old.at(field), &mut errs);
    }
    errs
}

fn provisioner(name: &Node, errs: &mut ErrorList) {
    if rules::not_empty(name, errs) {
        let lower = name.str().to_lowercase();
        errs.extend(format::label_key(&lower).into_iter().map(|m| name.invalid_as(lower.as_str(), m)));
    }
}

fn parameters(parameters: &Node, may_be_empty: bool, errs: &mut ErrorList) {
    if parameters.len() > 512 {
        errs.push(parameters.too_long(512));
        return;
    }
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            errs.push(parameters.invalid_as(key, "field can not be empty."));
        }
        bytes += key.len() + value.len();
    }
    if bytes > 256 << 10 {
        errs.push(parameters.too_long(256 << 10));
    }
    if !may_be_empty && parameters.is_empty() {
        errs.push(parameters.required("must contain at least one key/value pair"));
    }
}

/// With so many equal terms, the rest goes unsaid: there would be as many errors as pairs of them.
const DUPLICATES_MAX: usize = 1000;

fn topologies(list: &Node, errs: &mut ErrorList) {
    // Upstream compares each term with those before it, and with as many empty ones as there are terms.
    let mut seen = BTreeMap::from([(BTreeMap::new(), list.len())]);
    for term in list.items() {
        let expressions = term.at("matchLabelExpressions");
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for expression in expressions.items() {
            let values = expression.at("values");
            if values.is_empty() {
                errs.push(values.required(""));
            }
            rules::unique(values.items(), errs);
            labels::label_name(&expression.at("key"), errs);
            let values = values.strings().into_iter().collect();
            if keys.insert(expression.at("key").str(), values).is_some() {
                errs.push(Error::duplicate(expression.at("key").path(), expression.at("key").str()));
            }
        }
        let same = seen.entry(keys).or_insert(0);
        errs.extend((0..*same).take(DUPLICATES_MAX).map(|_| Error::duplicate(expressions.path(), "")));
        *same += 1;
        if errs.len() > DUPLICATES_MAX {
            return;
        }
    }
}

/// VolumeAttachment.
pub fn volume_attachment(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    volume_sources::csi_driver_name(&spec.at("attacher"), &mut errs);
    let source = spec.at("source");
    let (inline, name) = (source.at("inlineVolumeSpec"), source.at("persistentVolumeName"));
    let exactly_one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), name.is_set()) {
        (false, false) => errs.push(source.required(exactly_one)),
        (true, true) => errs.push(source.forbidden(exactly_one)),
        (false, true) if name.is_empty() => {
            errs.push(name.required("must specify non empty persistentVolumeName"));
        }
        (true, false) => volumes::spec(&inline, "", true, &mut errs),
        (false, true) => {}
    }
    rules::named(&spec.at("nodeName"), format::name_is_subdomain, &mut errs);
    let status = object.at("status");
    let bytes: usize = status.at("attachmentMetadata").entries().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > 256 << 10 {
        errs.push(status.at("attachmentMetadata").too_long(256 << 10));
    }
    for error in ["attachError", "detachError"] {
        let message = status.at(error).at("message");
        if message.len() > 1024 {
            errs.push(message.too_long(256 << 10));
        }
    }
    if name.is_set() {
        let wrong = format::name_is_subdomain(name.str(), false);
        let at = Path::new("spec.source.persistentVolumeName");
        errs.extend(wrong.into_iter().map(|m| Error::invalid(&at, name.str(), m)));
    }
    errs
}

/// A changed VolumeAttachment: its spec stays.
pub fn volume_attachment_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = volume_attachment(new);
    immutable(&new.at("spec"), &old.at("spec"), &mut errs);
    errs
}

/// CSINode.
pub fn csi_node(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let mut names = BTreeSet::new();
    for driver in object.at("spec").at("drivers").items() {
        volume_sources::csi_driver_name(&driver.at("name"), &mut errs);
        let id = driver.at("nodeID");
        rules::not_empty(&id, &mut errs);
        if id.len() > 256 {
            errs.push(id.invalid_str("must be 256 characters or less"));
        }
        rules::nonnegative(&driver.at("allocatable").at("count"), &mut errs);
        if !names.insert(driver.at("name").str()) {
            errs.push(Error::duplicate(driver.at("name").path(), driver.at("name").str()));
        }
        let mut keys = BTreeSet::new();
        for key in driver.at("topologyKeys").strings() {
            if key.is_empty() {
                errs.push(driver.required(key));
            }
            if !keys.insert(key) {
                errs.push(Error::duplicate(driver.path(), key));
            }
            errs.extend(format::label_key(key).into_iter().map(|m| driver.invalid_as(key, m)));
        }
    }
    errs
}

/// A changed CSINode: drivers stay as they are, but for what can be allocated.
pub fn csi_node_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = csi_node(new);
    let fixed = |driver: &Node| {
        let mut value = driver.to_value();
        if let Some(object) = value.as_object_mut() {
            object.remove("allocatable");
        }
        value
    };
    let list = new.at("spec").at("drivers");
    for before in old.at("spec").at("drivers").items() {
        let same_name = |d: &Node| d.at("name").str() == before.at("name").str();
        for driver in list.items().filter(same_name).filter(|d| fixed(d) != fixed(&before)) {
            errs.push(list.invalid_as(fixed(&driver), "field is immutable"));
        }
    }
    errs
}

/// CSIDriver.
pub fn csi_driver(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    csi_driver_spec(&object.at("spec"), &mut errs);
    errs
}

/// A changed CSIDriver: how its volumes are attached stays.
pub fn csi_driver_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let (spec, before) = (new.at("spec"), old.at("spec"));
    csi_driver_spec(&spec, &mut errs);
    // Upstream's spelling of the path.
    let attach = spec.at("attachRequired").reported_at(spec.at("attachedRequired").path());
    immutable(&attach, &before.at("attachRequired"), &mut errs);
    immutable(&spec.at("volumeLifecycleModes"), &before.at("volumeLifecycleModes"), &mut errs);
    errs
}

fn csi_driver_spec(spec: &Node, errs: &mut ErrorList) {
    for (field, path) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.at(field).is_set() {
            errs.push(spec.at(path).required(""));
        }
    }
    if let Some(policy) = spec.at("fsGroupPolicy").opt() {
        rules::one_of(&policy, &["File", "None", "ReadWriteOnceWithFSType"], errs);
    }
    let requests = spec.at("tokenRequests");
    let mut audiences = BTreeSet::new();
    for request in requests.items() {
        let (audience, lifetime) = (request.at("audience"), request.at("expirationSeconds"));
        if !audiences.insert(audience.str()) {
            errs.push(Error::duplicate(audience.path(), audience.str()));
            continue;
        }
        if lifetime.opt_i64().is_some_and(|seconds| seconds < 600) {
            errs.push(lifetime.invalid("may not specify a duration less than 10 minutes"));
        }
        if lifetime.i64() > 1 << 32 {
            errs.push(lifetime.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let modes = spec.at("volumeLifecycleModes");
    modes
        .items()
        .for_each(|m| rules::one_of(&m.reported_at(modes.path()), &["Persistent", "Ephemeral"], errs));
    if !spec.at("seLinuxMount").is_set() {
        errs.push(spec.at("seLinuxMount").required(""));
    }
    let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
    if period.opt_i64().is_some_and(|seconds| seconds < 10) {
        errs.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let in_secrets = spec.at("serviceAccountTokenInSecrets");
    if in_secrets.is_set() && requests.is_empty() {
        errs.push(
            in_secrets.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified"),
        );
    }
}

/// CSIStorageCapacity.
pub fn csi_storage_capacity(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    labels::selector(&object.at("nodeTopology"), &mut errs);
    rules::named(&object.at("storageClassName"), format::name_is_subdomain, &mut errs);
    rules::nonnegative_quantity(&object.at("capacity"), &mut errs);
    errs
}

/// A changed CSIStorageCapacity: what it is the capacity of stays.
pub fn csi_storage_capacity_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = csi_storage_capacity(new);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    immutable(&new.at("nodeTopology"), &old.at("nodeTopology"), &mut errs);
    immutable_text(&new.at("storageClassName"), &old.at("storageClassName"), &mut errs);
    errs
}

/// VolumeAttributesClass.
pub fn volume_attributes_class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    provisioner(&object.at("driverName"), &mut errs);
    parameters(&object.at("parameters"), false, &mut errs);
    errs
}

/// A changed VolumeAttributesClass: only metadata changes.
pub fn volume_attributes_class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    for field in ["driverName", "parameters"] {
        if new.at(field).value() != old.at(field).value() {
            errs.push(new.at(field).forbidden(format!("updates to {field} are forbidden.")));
        }
    }
    errs.extend(volume_attributes_class(new));
    errs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_of_topologies_differ_from_each_other_and_from_nothing() {
        let count = |list: serde_json::Value| {
            let mut errs = ErrorList::new();
            topologies(&Node::root(&list), &mut errs);
            errs.len()
        };
        let term = |values: &[&str]| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
        assert_eq!(count(json!([term(&["a", "b"]), term(&["a"])])), 0);
        assert_eq!(count(json!([term(&["a", "b"]), term(&["b", "a"])])), 1);
        assert_eq!(count(json!([term(&["a"]), {}])), 2);
    }
}
