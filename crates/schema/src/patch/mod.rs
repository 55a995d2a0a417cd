//! JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch, with upstream's
//! complaints.

mod limits;
mod strategic;

use serde_json::Value;

use crate::decode::{self, DecodeError};
use crate::gotext;

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

/// Applies a JSON patch: a list of operations, all or none.
pub fn json(document: &Value, operations: &Value) -> Result<Value, PatchError> {
    let mut patched = document.clone();
    let operations = operations.as_array().map_or(&[][..], Vec::as_slice);
    let mut limits = limits::Limits::of(operations)?;
    let parse = |operation: &Value| serde_json::from_value::<json_patch::PatchOperation>(operation.clone());
    for operation in operations {
        // Upstream checks the form of all operations before it carries out the first.
        parse(operation).map_err(|e| PatchError::BadRequest(e.to_string()))?;
    }
    for operation in operations {
        let operation = from_the_end(&patched, operation);
        let operation = parse(&operation).map_err(|e| PatchError::BadRequest(e.to_string()))?;
        limits.check(&patched, &operation)?;
        json_patch::patch(&mut patched, &[operation])
            .map_err(|e| PatchError::Unprocessable(e.to_string()))?;
    }
    Ok(patched)
}

/// Upstream's JSON patches may count list items from the end (`/containers/-1`): the operation with
/// such positions made positive.
fn from_the_end(document: &Value, operation: &Value) -> Value {
    let mut operation = operation.clone();
    let adds = operation["op"] == "add";
    for member in ["path", "from"] {
        let Some(pointer) = operation[member].as_str().filter(|p| p.contains("/-")) else { continue };
        let mut resolved = String::new();
        let mut parts = pointer.split('/').skip(1).peekable();
        while let Some(part) = parts.next() {
            let items = document.pointer(&resolved).and_then(Value::as_array).map(Vec::len);
            let back = part.strip_prefix('-').and_then(|n| n.parse::<usize>().ok());
            let last_of_add = adds && member == "path" && parts.peek().is_none();
            resolved.push('/');
            match (items, back) {
                (Some(items), Some(back)) if back <= items + usize::from(last_of_add) => {
                    resolved.push_str(&(items + usize::from(last_of_add) - back).to_string());
                }
                _ => resolved.push_str(part),
            }
        }
        operation[member] = resolved.into();
    }
    operation
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
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

/// Reads the body of a merge patch; the texts name keys that were given twice.
pub fn parse_merge(body: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    decode::json_to_value_strict(body)
        .map_err(|e| PatchError::BadRequest(format!("error decoding patch: {e}")))
}

/// Reads the body of a JSON patch.
pub fn parse_json(body: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    let (value, warnings) = decode::json_to_value_strict(body).map_err(bad_request)?;
    if !matches!(value, Value::Array(_) | Value::Null) {
        let kind = gotext::kind(&value);
        let text = format!("json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch");
        return Err(PatchError::BadRequest(text));
    }
    Ok((if value.is_null() { Value::Array(Vec::new()) } else { value }, warnings))
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
