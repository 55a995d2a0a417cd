//! PersistentVolumeClaims.

use super::super::{diff, format, labels, metadata, resources, rules};
use serde_json::Value;

use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// A new PersistentVolumeClaim.
pub fn claim(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    claim_spec(&object.at("spec"), &mut errs);
    errs
}

/// A group that was named before it was looked at may stay, and be changed.
fn names_group(spec: &Node) -> bool {
    ["dataSource", "dataSourceRef"].iter().any(|source| spec.at(source).at("apiGroup").is_set())
}

/// Access modes, of which ReadWriteOncePod stands alone; reported at the list.
pub(super) fn access_modes(modes: &Node, errs: &mut ErrorList) {
    for mode in modes.items() {
        rules::one_of(&mode.reported_at(modes.path()), &ACCESS_MODES, errs);
    }
    let all = modes.strings();
    if all.contains(&"ReadWriteOncePod") && all.iter().any(|m| ACCESS_MODES[..3].contains(m)) {
        errs.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// The spec of a new claim, wherever it is.
pub fn claim_spec(spec: &Node, errs: &mut ErrorList) {
    changed_claim_spec(spec, false, errs);
}

fn changed_claim_spec(spec: &Node, any_group: bool, errs: &mut ErrorList) {
    let modes = spec.at("accessModes");
    if modes.is_empty() {
        errs.push(modes.required("at least 1 access mode is required"));
    }
    labels::selector(&spec.at("selector"), errs);
    access_modes(&modes, errs);
    let requested = spec.at("resources").at("requests").key("storage");
    let storage = requested.reported_at(spec.at("resources").key("storage").path());
    if !storage.is_set() {
        errs.push(storage.required(""));
    } else {
        rules::positive_quantity(&storage, errs);
    }
    if !spec.at("storageClassName").is_empty() {
        rules::named(&spec.at("storageClassName"), format::name_is_subdomain, errs);
    }
    if let Some(mode) = spec.at("volumeMode").opt() {
        rules::one_of(&mode, &["Block", "Filesystem"], errs);
    }
    data_sources(spec, any_group, errs);
    if !spec.at("volumeAttributesClassName").is_empty() {
        rules::named(&spec.at("volumeAttributesClassName"), format::name_is_subdomain, errs);
    }
}

fn data_sources(spec: &Node, any_group: bool, errs: &mut ErrorList) {
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    for from in [&source, &reference].into_iter().filter(|from| from.is_set()) {
        rules::not_empty(&from.at("name"), errs);
        rules::not_empty(&from.at("kind"), errs);
        let (group, kind) = (from.at("apiGroup"), from.at("kind").str());
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errs.push(from.invalid_as(kind, detail));
        }
        if !group.is_empty() && !any_group {
            rules::formatted(&group, format::dns1123_subdomain, errs);
        }
        if !from.at("namespace").is_empty() {
            rules::formatted(&from.at("namespace"), format::dns1123_label, errs);
        }
    }
    if !source.is_set() || !reference.is_set() {
        return;
    }
    // Upstream shows the path itself, which JSON renders as an empty object.
    let path = serde_json::json!({});
    let same = |field| source.at(field).value() == reference.at(field).value();
    if !reference.at("namespace").is_empty() {
        errs.push(spec.invalid_as(path, "may not be specified when dataSourceRef.namespace is specified"));
    } else if !(same("apiGroup") && same("kind") && same("name")) {
        errs.push(spec.invalid_as(path, "must match dataSourceRef"));
    }
}

/// A changed PersistentVolumeClaim: a bound claim may grow.
pub fn claim_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata::validate(&new.at("metadata"), format::name_is_subdomain, &mut errs);
    changed_claim_spec(&new.at("spec"), names_group(&old.at("spec")), &mut errs);
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let (mut munged, mut before) = (spec.to_value(), old_spec.to_value());
    if before["volumeName"].as_str().unwrap_or_default().is_empty() && !munged["volumeName"].is_null() {
        before["volumeName"] = munged["volumeName"].clone();
    }
    upgrade_class(new, old, &mut munged, &mut errs);
    let bound = new.at("status").at("phase").str() == "Bound";
    let size = |spec: &Node| rules::quantity(&spec.at("resources").at("requests").key("storage"));
    if bound && munged["resources"]["requests"].is_object() {
        munged["resources"]["requests"]["storage"] = before["resources"]["requests"]["storage"].clone();
    }
    if bound {
        let (field, class) = ("volumeAttributesClassName", before["volumeAttributesClassName"].clone());
        if let Some(object) = munged.as_object_mut() {
            object.remove(field);
            if !class.is_null() {
                object.insert(field.to_owned(), class);
            }
        }
    }
    if munged != before {
        let difference = diff::unified("PersistentVolumeClaimSpec", &before, &munged);
        errs.push(spec.forbidden(format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{difference}"
        )));
    }
    let capacity = rules::quantity(&old.at("status").at("capacity").key("storage"));
    let at = spec.at("resources").at("requests").at("storage");
    if size(&spec) < size(&old_spec) && size(&spec) <= capacity {
        errs.push(at.forbidden("field can not be less than status.capacity"));
    }
    if spec.at("volumeMode").value() != old_spec.at("volumeMode").value() {
        // Upstream's path lacks the front.
        errs.push(Error::invalid(
            &Path::new("volumeMode"),
            spec.at("volumeMode").to_value(),
            "field is immutable",
        ));
    }
    let class = spec.at("volumeAttributesClassName");
    if class.value() != old_spec.at("volumeAttributesClassName").value()
        && old.at("status").at("currentVolumeAttributesClassName").is_set()
        && class.is_empty()
    {
        let to = if class.is_set() { "empty string" } else { "nil" };
        errs.push(class.forbidden(format!(
            "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
        )));
    }
    errs
}

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// A claim without a class may be given one, once; the annotation from before there was a field for it
/// may turn into that.
fn upgrade_class(new: &Node, old: &Node, munged: &mut Value, errs: &mut ErrorList) {
    let was = old.at("metadata").at("annotations").at(CLASS_ANNOTATION).opt_str();
    let is = new.at("metadata").at("annotations").at(CLASS_ANNOTATION).opt_str();
    let has_class = old.at("spec").at("storageClassName").is_set();
    let given = new.at("spec").at("storageClassName").opt_str().filter(|_| !has_class);
    let upgraded = was.is_some() && given == was && is.is_none_or(|is| Some(is) == was);
    if !upgraded && is.unwrap_or_default() != was.unwrap_or_default() {
        let at = new.at("metadata").at("annotations").at(CLASS_ANNOTATION);
        errs.push(at.invalid_str("field is immutable"));
    }
    if given.is_some()
        && (was.is_none() || given == was)
        && let Some(spec) = munged.as_object_mut()
    {
        spec.remove("storageClassName");
    }
}

/// A changed status of a claim.
pub fn claim_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    for (_, capacity) in new.at("status").at("capacity").entries() {
        basic(&capacity, &mut errs);
    }
    let resizes = new.at("status").at("allocatedResourceStatuses");
    for (name, state) in resizes.entries() {
        claim_resource(name, &resizes, &mut errs);
        if !RESIZE_STATES.contains(&state.str()) {
            errs.push(Error::not_supported(resizes.path(), name, &RESIZE_STATES));
        }
    }
    for (name, quantity) in new.at("status").at("allocatedResources").entries() {
        let before = errs.len();
        claim_resource(name, &new.at("status").at("allocatedResources"), &mut errs);
        if errs.len() == before {
            basic(&quantity, &mut errs);
        }
        if errs.len() == before {
            rules::nonnegative_quantity(&quantity, &mut errs);
        }
    }
    errs
}

/// As upstream orders them in its message.
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// Of a claim's resources, only storage is resized, and what others name with a domain.
fn claim_resource(name: &str, at: &Node, errs: &mut ErrorList) {
    let wrong = format::label_key(name);
    if !wrong.is_empty() {
        errs.extend(wrong.into_iter().map(|m| at.invalid_as(name, m)));
        return;
    }
    if resources::is_native(name) && name != "storage" {
        errs.push(Error::not_supported(at.path(), name, &["storage"]));
    }
}

fn basic(quantity: &Node, errs: &mut ErrorList) {
    let units = rules::quantity(quantity).units();
    if units < 0 {
        errs.push(quantity.invalid_as(units, "must be a valid resource quantity"));
    }
}
