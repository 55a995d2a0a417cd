//! JSON patch (RFC 6902) as `evanphx/json-patch` carries it out, which upstream uses: what is missing
//! counts as null in many places, a path need not begin with a slash, indices may be negative.

use std::sync::OnceLock;

use serde_json::Value;

use super::{PatchError, limits};
use crate::decode::{self, DecodeError, Strictness};
use crate::gotext;
use crate::types::{Field, List, ListMerge, Member, Shape, Struct, Type};

/// Applies a JSON patch: a list of operations, all or none.
pub fn json(document: &Value, operations: &Value) -> Result<Value, PatchError> {
    let operations = operations.as_array().map_or(&[][..], Vec::as_slice);
    let mut limits = limits::Limits::of(operations)?;
    let mut patched = document.clone();
    for operation in operations {
        apply(&mut patched, operation, &mut limits)?;
    }
    Ok(patched)
}

/// Reads the body of a JSON patch. Unless unknown fields are ignored, the operations must have the right
/// types; the texts name what was given twice or is unknown.
pub fn parse_json(body: &[u8], strictness: Strictness) -> Result<(Value, Vec<String>), PatchError> {
    let mut complaints = Vec::new();
    if strictness != Strictness::Ignore {
        let decoded = decode::decode_json(body, operations_type(), Strictness::Warn)
            .map_err(|error| PatchError::BadRequest(format!("error decoding patch: {error}")))?;
        complaints = decoded.warnings.into_iter().map(|text| format!("json patch {text}")).collect();
    }
    let bad = |error: DecodeError| PatchError::BadRequest(error.to_string());
    let cannot = |value: &Value, go: &str| {
        let kind = gotext::kind(value);
        PatchError::BadRequest(format!("json: cannot unmarshal {kind} into Go value of type jsonpatch.{go}"))
    };
    match decode::json_to_value_as_written(body).map_err(bad)? {
        Value::Null => Ok((Value::Array(Vec::new()), complaints)),
        Value::Array(operations) => {
            match operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
                Some(operation) => Err(cannot(operation, "Operation")),
                None => Ok((Value::Array(operations), complaints)),
            }
        }
        other => Err(cannot(&other, "Patch")),
    }
}

/// Upstream's `[]jsonPatchOp`, by which it checks the body.
fn operations_type() -> &'static Type {
    static TYPE: OnceLock<Type> = OnceLock::new();
    TYPE.get_or_init(|| {
        let text = || Type::new("", "string", Shape::String(Vec::new())).into();
        let any = Type::new("", "interface {}", Shape::Any).into();
        let fields = [("op", text()), ("path", text()), ("from", text()), ("value", any)];
        let member = |(name, ty)| Member::Field(Box::new(Field::new(name, ty)));
        let operation = Struct::new(fields.into_iter().map(member).collect());
        let items = Type::new("", "handlers.jsonPatchOp", Shape::Struct(operation)).into();
        let list = List { items, merge: ListMerge::Atomic, declared: false };
        Type::new("", "[]handlers.jsonPatchOp", Shape::List(list))
    })
}

fn apply(document: &mut Value, operation: &Value, limits: &mut limits::Limits) -> Result<(), PatchError> {
    let kind = operation["op"].as_str().unwrap_or("unknown");
    let text = |member: &str| {
        operation[member].as_str().ok_or_else(|| {
            no(format!(
                "{kind} operation failed to decode {member}: operation missing {member} field: missing value"
            ))
        })
    };
    match kind {
        "add" => {
            let path = text("path")?;
            let (container, key) = find(document, path).ok_or_else(|| missing(kind, path))?;
            limits.place(path, &operation["value"])?;
            add(container, &key, operation["value"].clone(), path, limits)
        }
        "remove" => {
            let path = text("path")?;
            let (container, key) = find(document, path).ok_or_else(|| missing(kind, path))?;
            limits.shift(container, &key)?;
            remove(container, &key)
                .map(drop)
                .map_err(|why| no(format!("error in remove for path: '{path}': {why}")))
        }
        "replace" => {
            let path = text("path")?;
            limits.place(path, &operation["value"])?;
            replace(document, path, &operation["value"])
        }
        "move" => {
            let from = text("from")?;
            let (container, key) = find(document, from).ok_or_else(|| missing(kind, from))?;
            limits.shift(container, &key)?;
            let value = remove(container, &key)
                .map_err(|why| no(format!("error in move for path: '{key}': {why}")))?;
            let path = text("path")?;
            let (container, key) = find(document, path).ok_or_else(|| missing(kind, path))?;
            limits.place(path, &value)?;
            add(container, &key, value, path, limits)
        }
        "copy" => {
            let from = text("from")?;
            let (container, key) = find(document, from).ok_or_else(|| missing(kind, from))?;
            let value = get(container, &key)
                .map_err(|why| no(format!("error in copy for from: '{from}': {why}")))?
                .cloned()
                .unwrap_or_default();
            let path = text("path")?;
            let (container, key) = find(document, path).ok_or_else(|| missing(kind, path))?;
            limits.copied(&value)?;
            limits.place(path, &value)?;
            add(container, &key, value, path, limits)
        }
        "test" => test(document, text("path")?, operation.get("value")),
        other => Err(no(format!("Unexpected kind: {other}"))),
    }
}

fn no(why: String) -> PatchError {
    PatchError::Unprocessable(why)
}

fn missing(kind: &str, path: &str) -> PatchError {
    no(match kind {
        "add" | "remove" => {
            format!("{kind} operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        _ => format!("{kind} operation does not apply: doc is missing path: {path}: missing value"),
    })
}

/// The container that a path leads to, and the key in it. What stands before the first slash does not
/// count.
fn find<'v>(document: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let decode = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let (parents, key) = path.rsplit_once('/')?;
    let mut at = document;
    for part in parents.split('/').skip(1) {
        let part = decode(part);
        at = match at {
            Value::Object(entries) => entries.get_mut(&part)?,
            Value::Array(items) => {
                let place = position(&part, items.len()).ok()?;
                items.get_mut(place)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, decode(key)))
}

/// The place of an index, which counts from the end if negative.
fn position(key: &str, len: usize) -> Result<usize, String> {
    let syntax = || format!("strconv.Atoi: parsing {}: invalid syntax", gotext::quote(key));
    let index: i64 = key.parse().map_err(|_| syntax())?;
    let place = if index < 0 { index + len as i64 } else { index };
    match usize::try_from(place) {
        Ok(place) if place < len => Ok(place),
        _ => Err(format!("Unable to access invalid index: {index}: invalid index referenced")),
    }
}

fn get<'v>(container: &'v Value, key: &str) -> Result<Option<&'v Value>, String> {
    match container {
        Value::Array(items) => Ok(items.get(position(key, items.len())?)),
        other => Ok(other.get(key)),
    }
}

fn add(
    container: &mut Value,
    key: &str,
    value: Value,
    path: &str,
    limits: &mut limits::Limits,
) -> Result<(), PatchError> {
    limits.shift(container, key)?;
    match container {
        Value::Object(entries) => {
            entries.insert(key.to_owned(), value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let place = position(key, items.len() + 1)
                .map_err(|why| no(format!("error in add for path: '{path}': {why}")))?;
            items.insert(place, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Array(items) => {
            let place = position(key, items.len())?;
            Ok(items.remove(place))
        }
        Value::Object(entries) => entries
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        _ => Ok(Value::Null),
    }
}

fn replace(document: &mut Value, path: &str, value: &Value) -> Result<(), PatchError> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err(no("replace operation value must be object or array: %!w(<nil>)".into()));
        }
        *document = value.clone();
        return Ok(());
    }
    let (container, key) = find(document, path).ok_or_else(|| missing("replace", path))?;
    match container {
        Value::Object(entries) => {
            entries.insert(key, value.clone());
        }
        Value::Array(items) => {
            let place = position(&key, items.len()).map_err(|_| {
                no(format!("replace operation does not apply: doc is missing key: {path}: missing value"))
            })?;
            items[place] = value.clone();
        }
        _ => {}
    }
    Ok(())
}

/// Whether the document has a value; to lack one is to have null.
fn test(document: &mut Value, path: &str, wanted: Option<&Value>) -> Result<(), PatchError> {
    let failed = || no(format!("testing value {path} failed: test failed"));
    if path.is_empty() {
        return if wanted == Some(&*document) { Ok(()) } else { Err(failed()) };
    }
    let (container, key) = find(document, path).ok_or_else(|| {
        no(format!("test operation does not apply: is missing path: {path}: missing value"))
    })?;
    let found = get(container, &key).map_err(|why| no(format!("error in test for path: '{path}': {why}")))?;
    let (found, wanted) = (found.unwrap_or(&Value::Null), wanted.unwrap_or(&Value::Null));
    if found == wanted { Ok(()) } else { Err(failed()) }
}
