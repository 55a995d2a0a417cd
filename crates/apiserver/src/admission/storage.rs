//! StorageObjectInUseProtection and PersistentVolumeClaimResize.

use api::resource_list::quantity;
use serde_json::Value;

use super::lookup::STORAGE_CLASSES;
use super::{Attributes, Operation};
use crate::object::{finalizers, set_finalizers};
use crate::status::ApiError;

/// What is in use outlives its deletion: a finalizer for everything new.
pub(super) fn protect(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create {
        return;
    }
    let finalizer = if attributes.is("", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if attributes.is("", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else if attributes.is("storage.k8s.io", "volumeattributesclasses") {
        "kubernetes.io/vac-protection"
    } else {
        return;
    };
    let mut names = finalizers(object);
    if !names.iter().any(|name| name == finalizer) {
        names.push(finalizer.to_owned());
        set_finalizers(object, &names);
    }
}

/// Only bound claims of a class that allows it can grow.
pub(super) fn check_resize(attributes: &Attributes<'_>, claim: &Value) -> Result<(), ApiError> {
    let Some(old) = attributes.old.filter(|_| attributes.is("", "persistentvolumeclaims")) else {
        return Ok(());
    };
    if attributes.operation != Operation::Update {
        return Ok(());
    }
    let size =
        |claim: &Value| quantity(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
    if size(claim) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(attributes.forbidden(claim, "Only bound persistent volume claims can be expanded"));
    }
    let class = class_of(claim);
    let allowed = !class.is_empty()
        && class == class_of(old)
        && STORAGE_CLASSES
            .cached(attributes.call, "", class)
            .is_some_and(|class| class.to_value()["allowVolumeExpansion"] == true);
    if allowed {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(attributes.forbidden(claim, why))
}

fn class_of(claim: &Value) -> &str {
    let annotation = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    annotation.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}
