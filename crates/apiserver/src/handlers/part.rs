//! Subresources that change one part of an object: namespace finalizers, approvals, ephemeral
//! containers, resizes.

use http::{Response, StatusCode};
use schema::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::patch;
use super::update::{Change, Part, Reviewed, change_object};
use crate::body::Body;
use crate::call::Call;
use crate::codec;
use crate::managed_fields;
use crate::object::{meta, set_meta};
use crate::status::ApiError;

/// Which part, as JSON pointers from the root.
pub(crate) struct Fields(pub &'static [&'static str]);

/// `spec.finalizers` of a namespace.
pub(crate) const FINALIZERS: Fields = Fields(&["/spec/finalizers"]);
/// The conditions of a certificate signing request.
pub(crate) const APPROVAL: Fields = Fields(&["/status/conditions"]);
/// `spec.ephemeralContainers` of a pod.
pub(crate) const EPHEMERAL: Fields = Fields(&["/spec/ephemeralContainers"]);
/// What a resize may change; the rest of a container stays.
pub(crate) const RESIZE: Fields = Fields(&["/spec/containers", "/spec/initContainers", "/spec/resources"]);

/// PUT or PATCH: the named fields are taken over, everything else stays.
pub(crate) async fn change(call: &Call, fields: &Fields) -> Result<Response<Body>, ApiError> {
    let manager = call.manager();
    let subresource = call.info.subresource.clone();
    let ty = call.kind.ty();
    let updates = call.info.verb == "update";
    let patch = if updates { None } else { patch::parse(call, ty)? };
    let dry_run = if updates {
        super::options::check_write(call, "UpdateOptions", ErrorList::new())?
    } else {
        patch::check_options(call, patch.is_none())?
    };
    let given = if updates {
        let mut object = call.decode_body()?;
        super::update::check_name(call, &mut object)?;
        super::create::check_namespace(call, &mut object)?;
        Some(object)
    } else {
        None
    };
    let config = match (&given, &patch) {
        (None, None) => Some(patch::parse_apply(call, &codec::Target::of(&call.kind))?),
        _ => None,
    };
    let make = |old: &Value| {
        let wanted = match (&given, &patch) {
            (Some(object), _) => object.clone(),
            (None, Some(patch)) => {
                let patched = patch.apply(call, old, ty)?;
                codec::normalise(&call.kind, patched.clone(), codec::strictness(&call.query))
                    .map_err(|error| patch.invalid(&patched, &error))?
                    .value
            }
            (None, None) => {
                let (manager, force) = patch::applier(call);
                let config = config.as_ref().unwrap_or(&Value::Null);
                managed_fields::apply(call, Some(old), config, manager, force, &subresource)?
            }
        };
        // Preparation takes what it wants from a whole pod; who owns what is said of all that was sent.
        let whole = matches!(subresource.as_str(), "ephemeralcontainers" | "resize");
        let mut new = if whole { wanted.clone() } else { old.clone() };
        for pointer in fields.0.iter().filter(|_| !whole) {
            copy(&wanted, &mut new, pointer);
        }
        // As upstream, these take over the metadata too; that of a pod's subresources stays.
        if matches!(subresource.as_str(), "approval" | "finalize") {
            new["metadata"] = wanted["metadata"].clone();
        }
        let version = meta(&wanted, "resourceVersion");
        set_meta(&mut new, "resourceVersion", if version.is_empty() { Value::Null } else { version.into() });
        if subresource == "approval" {
            date_approval(old, &mut new);
        }
        if subresource == "finalize" {
            check_finalizers(call, &new)?;
        }
        if config.is_some() {
            set_meta(&mut new, "managedFields", wanted["metadata"]["managedFields"].clone());
        } else {
            managed_fields::track_update(call, old, &mut new, &manager, &subresource)?;
        }
        Ok(new)
    };
    let own = schema::strategy::of_subresource(&call.kind.group, &call.kind.kind, &subresource).is_some();
    let part = if own { Part::Sub } else { Part::Other };
    let change = Change {
        part,
        subresource: &subresource,
        reviewed: Reviewed::Object,
        apply: &make,
        unconditional: true,
        dry_run,
    };
    Ok(change_object(call, &change).await?.respond(call, StatusCode::OK))
}

/// Approvals say when they were given: the rules of `schema` know no time.
fn date_approval(old: &Value, new: &mut Value) {
    let now = base::clock::rfc3339(base::clock::now());
    let before = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        let same = before.iter().find(|known| known["type"] == condition["type"]);
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone().into();
        }
        if condition["lastTransitionTime"].is_null() {
            let unchanged = same.filter(|known| known["status"] == condition["status"]);
            condition["lastTransitionTime"] =
                unchanged.map_or_else(|| now.clone().into(), |known| known["lastTransitionTime"].clone());
        }
    }
}

fn copy(from: &Value, to: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let value = from.pointer(pointer).cloned();
    let parent_key = parent.trim_start_matches('/');
    if !to[parent_key].is_object() {
        if value.is_none() {
            return;
        }
        to[parent_key] = serde_json::json!({});
    }
    if let Some(map) = to[parent_key].as_object_mut() {
        match value {
            Some(value) => map.insert(key.to_owned(), value),
            None => map.remove(key),
        };
    }
}

fn check_finalizers(call: &Call, namespace: &Value) -> Result<(), ApiError> {
    let mut errors = ErrorList::new();
    let path = Path::new("spec").child("finalizers");
    for (index, name) in namespace["spec"]["finalizers"].as_array().into_iter().flatten().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if name != "kubernetes" && !name.contains('/') {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(&path.index(index), name, why));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(call.invalid(&call.info.name, &errors)) }
}
