//! Who owns which field: the API server's side of `schema::apply`.

use std::collections::BTreeSet;

use schema::apply::{self, ApplyError, ApplyRequest, Set, Update};
use schema::decode::Strictness;
use schema::types::{self, Type};
use serde_json::Value;

use crate::call::Call;
use crate::codec::{self, Target};
use crate::convert;
use crate::kind::Kind;
use crate::object::{meta, set_meta};
use crate::status::ApiError;

/// Records the changes between `old` (empty for a create) and `new` as `manager`'s.
pub(crate) fn track_update(
    call: &Call,
    old: &Value,
    new: &mut Value,
    manager: &str,
    subresource: &str,
) -> Result<(), ApiError> {
    track_kind(&call.kind, old, new, manager, subresource)
}

/// Like [`track_update`], where nobody called.
pub(crate) fn track_kind(
    kind: &Kind,
    old: &Value,
    new: &mut Value,
    manager: &str,
    subresource: &str,
) -> Result<(), ApiError> {
    let Some(ty) = kind.ty() else { return Ok(()) };
    track(kind, old, new, manager, subresource, ty, &kind.api_version());
    Ok(())
}

/// The fields that an endpoint resets.
fn ignored_fields(kind: &Kind, subresource: &str) -> Set {
    match (kind.is_custom(), subresource) {
        (true, "status") => Set::of_fields(&[&["metadata"], &["spec"]]),
        _ => {
            apply::ignored_fields(&kind.group, &kind.kind, kind.subresource("status").is_some(), subresource)
        }
    }
}

/// Like [`track_update`], for an object of another kind than the call's.
pub(crate) fn track_named(
    call: &Call,
    old: &Value,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    target: &Target<'_>,
) -> Result<(), ApiError> {
    let Some(ty) = target.ty else { return Ok(()) };
    let api_version = crate::kind::group_version(target.group, target.version);
    track(&call.kind, old, new, manager, subresource, ty, &api_version);
    Ok(())
}

/// Whether a built-in kind has several versions.
fn has_versions(kind: &Kind) -> bool {
    !kind.is_custom() && kind.kind == "HorizontalPodAutoscaler"
}

/// An object of such a kind in another of its versions, and its type there.
fn in_version(kind: &Kind, object: &Value, version: &str) -> Option<(Value, &'static Type)> {
    let convert = convert::HPA_V1_TO_V2;
    let (group, name) = version.rsplit_once('/').unwrap_or(("", version));
    let ty = types::of_kind(group, name, &kind.kind)?;
    let mut object = object.clone();
    let is_stored = version == "autoscaling/v2";
    (if is_stored { convert.to_storage } else { convert.from_storage })(&mut object);
    schema::decode::tidy(&mut object, ty);
    Some((object, ty))
}

/// Why ownership of a custom object cannot be compared across its versions, if it cannot: some owner is told
/// in another version than the one that is written, which does not know all of the object.
fn misfit(kind: &Kind, old: &Value, objects: &[&Value], api_version: &str) -> Option<String> {
    let handler = kind.custom.as_ref()?;
    let owners = old["metadata"]["managedFields"].as_array()?;
    let versions: BTreeSet<&str> = owners.iter().filter_map(|owner| owner["apiVersion"].as_str()).collect();
    let others: BTreeSet<&str> = versions.into_iter().filter(|version| *version != api_version).collect();
    if others.is_empty() {
        return None;
    }
    objects.iter().find_map(|object| handler.definition().misfit(&others, object))
}

fn track(
    kind: &Kind,
    old: &Value,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    ty: &Type,
    api_version: &str,
) {
    if misfit(kind, old, &[old, new], api_version).is_some() {
        // As upstream, who would rather know no owners than refuse the update.
        set_meta(new, "managedFields", Value::Null);
        return;
    }
    let ignored = ignored_fields(kind, subresource);
    let now = base::clock::rfc3339(base::clock::now());
    let exists = old.as_object().is_some_and(|fields| !fields.is_empty());
    let to_version = |object: &Value, version: &str| in_version(kind, object, version);
    let update = Update {
        live: exists.then_some(old),
        ty,
        manager,
        api_version,
        subresource,
        ignored: &ignored,
        now: &now,
        convert: has_versions(kind).then_some(&to_version),
    };
    apply::track_update(new, &update);
}

/// Server-side apply of `config` to `old` (`None` creates): the merged object in this kind's version,
/// checked and with defaults.
pub(crate) fn apply(
    call: &Call,
    old: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
) -> Result<Value, ApiError> {
    let merged = apply_named(call, old, config, manager, force, subresource, &Target::of(&call.kind))?;
    let (namespace, name) = (meta(config, "namespace"), meta(config, "name"));
    let decoded = codec::normalise_patched(&call.kind, merged, Strictness::Ignore);
    let decoded = decoded.map_err(|error| {
        let (group, version, kind) = (&call.kind.group, &call.kind.version, &call.kind.kind);
        let gvk = format!("{group}/{version}, Kind={kind}");
        apply_error(ApplyError::Invalid(format!(
            "failed to convert new object ({namespace}/{name}; {gvk}) to proper version: unable to convert unstructured object to {gvk}: {error}"
        )))
    })?;
    Ok(decoded.value)
}

/// Like [`apply`], for an object of another kind than the call's; the result is neither checked nor
/// has it defaults.
pub(crate) fn apply_named(
    call: &Call,
    old: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    target: &Target<'_>,
) -> Result<Value, ApiError> {
    let Some(ty) = target.ty else {
        let empty = serde_json::json!({});
        let merged = schema::patch::merge(old.unwrap_or(&empty), config);
        return merged.map_err(|error| ApiError::bad_request(error.to_string()));
    };
    let api_version = crate::kind::group_version(target.group, target.version);
    apply_typed(&call.kind, old, config.clone(), manager, force, subresource, ty, &api_version)
}

/// Like [`apply`], where nobody called: what others own is taken over.
pub(crate) fn apply_kind(
    kind: &Kind,
    old: &Value,
    config: Value,
    manager: &str,
    subresource: &str,
) -> Result<Value, ApiError> {
    let Some(ty) = kind.ty() else { return Ok(old.clone()) };
    let merged = apply_typed(kind, Some(old), config, manager, true, subresource, ty, &kind.api_version())?;
    let decoded = codec::normalise(kind, merged, Strictness::Ignore);
    Ok(decoded.map_err(ApiError::internal)?.value)
}

#[allow(clippy::too_many_arguments, reason = "as many as a request to apply has parts")]
fn apply_typed(
    kind: &Kind,
    old: Option<&Value>,
    patch: Value,
    manager: &str,
    force: bool,
    subresource: &str,
    ty: &Type,
    api_version: &str,
) -> Result<Value, ApiError> {
    if let Some(why) = old.and_then(|old| misfit(kind, old, &[old], api_version)) {
        return Err(apply_error(ApplyError::Invalid(why)));
    }
    let to_version = |object: &Value, version: &str| in_version(kind, object, version);
    let request = ApplyRequest {
        live: old,
        patch,
        ty,
        manager,
        api_version,
        subresource,
        force,
        ignored: &ignored_fields(kind, subresource),
        now: &base::clock::rfc3339(base::clock::now()),
        convert: has_versions(kind).then_some(&to_version),
    };
    apply::apply(&request).map_err(apply_error)
}

fn apply_error(error: ApplyError) -> ApiError {
    match error {
        ApplyError::BadRequest(message) => ApiError::bad_request(message),
        ApplyError::Invalid(message) => {
            ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(message) }
        }
        ApplyError::Conflicts(ref conflicts) => {
            let start = ApiError::new(409, "Conflict", error.to_string());
            conflicts.iter().fold(start, |status, conflict| {
                status.cause("FieldManagerConflict", conflict.message(), conflict.field.clone())
            })
        }
    }
}

/// Drops repeated owners, with a warning for each uid.
pub(crate) fn dedup_owner_references(call: &Call, object: &mut Value) {
    let Some(owners) = object["metadata"]["ownerReferences"].as_array() else { return };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut repeated: Vec<String> = Vec::new();
    let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
    for owner in owners {
        if seen.insert(owner.to_string()) {
            kept.push(owner.clone());
        } else if let Some(uid) = owner["uid"].as_str()
            && named.insert(uid)
        {
            repeated.push(uid.to_owned());
        }
    }
    if repeated.is_empty() {
        return;
    }
    call.warn(format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        repeated.join(", ")
    ));
    debug_assert!(!meta(object, "name").is_empty() || object["metadata"].is_object());
    set_meta(object, "ownerReferences", Value::Array(kept));
}
