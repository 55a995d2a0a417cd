//! JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch, with upstream's
//! complaints.

mod json;
mod limits;
mod strategic;

use serde_json::Value;

use crate::decode::{self, DecodeError, Strictness};
use crate::gotext;

pub use json::{json, parse_json};
pub use strategic::strategic;

/// Why a patch cannot be applied, by the status that upstream answers with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the patch itself is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// 422: the patch does not fit the object.
    #[error("{0}")]
    Unprocessable(String),
    /// 413: there is more to do than upstream does at once.
    #[error("{0}")]
    TooLarge(String),
    /// 500: upstream calls it an internal error, though the patch is to blame.
    #[error("{0}")]
    Internal(String),
}

/// Applies a merge patch; null removes, lists are replaced.
pub fn merge(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    if patch.is_null() {
        return Err(PatchError::BadRequest("Invalid JSON Patch".into()));
    }
    if !patch.is_object() {
        let text = not_an_object(patch);
        return Err(PatchError::BadRequest(format!("error decoding patch: {text}")));
    }
    let mut patched = document.clone();
    merge_into(&mut patched, patch);
    Ok(patched)
}

fn merge_into(document: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        let was_object = document.is_object();
        *document = patch.clone();
        if !was_object {
            drop_nulls(document);
        }
        return;
    };
    if !document.is_object() {
        *document = Value::Object(serde_json::Map::new());
    }
    let Value::Object(entries) = document else { return };
    for (key, value) in patch {
        if value.is_null() {
            entries.remove(key);
        } else {
            merge_into(entries.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Drops what is null in objects, as upstream also in those in lists; null items of lists stay.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, entry| !entry.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Reads the body of a merge patch; the texts name keys that were given twice.
pub fn parse_merge(body: &[u8], strictness: Strictness) -> Result<(Value, Vec<String>), PatchError> {
    let bad = |e: DecodeError| PatchError::BadRequest(format!("error decoding patch: {e}"));
    // Upstream merges the texts, so that numbers stay as they are written.
    let written = match (decode::json_to_value_as_written(body), strictness) {
        (Ok(written), _) if written.is_object() || written.is_null() => written,
        (Ok(written), Strictness::Ignore) if written.is_array() => written,
        // Without the strict reader, there is only one text for all that is wrong.
        (_, Strictness::Ignore) => return Err(PatchError::BadRequest("Invalid JSON Patch".into())),
        (written, _) => written.map_err(bad)?,
    };
    if strictness == Strictness::Ignore {
        return Ok((written, Vec::new()));
    }
    let (_, warnings) = decode::json_to_value_strict(body).map_err(bad)?;
    Ok((written, warnings))
}

/// Reads the body of a strategic merge patch.
pub fn parse_strategic(body: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    let (value, warnings) = decode::json_to_value_strict(body).map_err(bad_request)?;
    match value {
        Value::Object(_) => Ok((value, warnings)),
        Value::Null => Ok((Value::Object(serde_json::Map::new()), warnings)),
        other => Err(PatchError::BadRequest(not_an_object(&other))),
    }
}

fn not_an_object(value: &Value) -> String {
    let kind = gotext::kind(value);
    format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
}

fn bad_request(error: DecodeError) -> PatchError {
    PatchError::BadRequest(error.to_string())
}

#[cfg(test)]
mod tests;
