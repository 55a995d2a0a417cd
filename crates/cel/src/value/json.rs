//! Between JSON and values.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::list::Items;
use super::{Duration, Key, List, Map, Str, Value, timestamp};
use crate::Error;
use crate::decl::{Schema, SchemaKind};

/// As `dyn`: whole numbers are integers if they fit, all others doubles.
pub(super) fn untyped(value: &Json) -> Value<'_> {
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Double(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::String(Str::Borrowed(s)),
        Json::Array(items) => Value::List(List { items: Items::Json(items), schema: None }),
        Json::Object(members) => Value::Map(Map::of_json(members, None)),
    }
}

/// By the schema (`UnstructuredToVal`).
pub(super) fn typed<'a>(value: &'a Json, schema: &'a Schema) -> Value<'a> {
    if value.is_null() {
        return match schema.nullable {
            true => Value::Null,
            false => invalid("invalid data, got null for schema with nullable=false"),
        };
    }
    if schema.int_or_string {
        return match value {
            Json::String(_) => untyped(value),
            Json::Number(n) if n.is_i64() => untyped(value),
            _ => invalid("invalid data, expected XIntOrString value to be either a string or integer"),
        };
    }
    match (schema.kind, value) {
        (SchemaKind::Object, Json::Object(members)) => Value::Map(Map::of_json(members, Some(schema))),
        (SchemaKind::Object, _) => {
            invalid("invalid data, expected a map for the provided schema with type=object")
        }
        (SchemaKind::Array, _) if schema.items.is_none() => {
            invalid("invalid array type, expected Items with a non-empty Schema")
        }
        (SchemaKind::Array, Json::Array(items)) => {
            Value::List(List { items: Items::Json(items), schema: Some(schema) })
        }
        (SchemaKind::Array, _) => {
            invalid("invalid data, expected an array for the provided schema with type=array")
        }
        (SchemaKind::String, Json::String(text)) => formatted(text, &schema.format),
        (SchemaKind::String, _) => mismatch("string", value),
        (SchemaKind::Number, Json::Number(n)) => Value::Double(n.as_f64().unwrap_or(f64::NAN)),
        (SchemaKind::Number, _) => mismatch("float", value),
        (SchemaKind::Integer, Json::Number(n)) if n.is_i64() => untyped(value),
        (SchemaKind::Integer, _) => mismatch("int", value),
        (SchemaKind::Boolean, Json::Bool(b)) => Value::Bool(*b),
        (SchemaKind::Boolean, _) => mismatch("bool", value),
        (SchemaKind::Unspecified, _) if schema.preserve_unknown_fields => untyped(value),
        (SchemaKind::Unspecified, _) => invalid(
            "invalid type, expected object, array, number, integer, boolean or string, or no type with \
             x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ",
        ),
    }
}

fn formatted<'a>(text: &'a str, format: &str) -> Value<'a> {
    match format {
        "duration" => match Duration::parse_lenient(text) {
            Ok(duration) => Value::Duration(duration),
            Err(error) => invalid(format!("Invalid duration {text}: {error}")),
        },
        "date" => match timestamp::parse_date(text) {
            Ok(timestamp) => Value::Timestamp(timestamp),
            Err(error) => invalid(format!("Invalid date formatted string {text}: {error}")),
        },
        "date-time" => match timestamp::parse_date_time(text) {
            Ok(timestamp) => Value::Timestamp(timestamp),
            Err(error) => invalid(format!("Invalid date-time formatted string {text}: {error}")),
        },
        "byte" => match STANDARD.decode(text) {
            Ok(bytes) => Value::bytes(bytes),
            Err(error) => invalid(format!("Invalid byte formatted string {text}: {error}")),
        },
        _ => Value::String(Str::Borrowed(text)),
    }
}

fn invalid<'a>(message: impl Into<Arc<str>>) -> Value<'a> {
    Value::Invalid(message.into())
}

/// With Go's name of the type that is there.
fn mismatch<'a>(expected: &str, value: &Json) -> Value<'a> {
    let found = match value {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    };
    invalid(format!("invalid data, expected {expected}, got {found}"))
}

/// The JSON form.
pub(super) fn to_json(value: &Value<'_>) -> Result<Json, Error> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Uint(u) => Json::from(*u),
        Value::Double(d) => serde_json::Number::from_f64(*d)
            .map(Json::Number)
            .ok_or_else(|| Error::new(format!("unsupported JSON number: {d}")))?,
        Value::String(s) => Json::String(s.to_string()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::Duration(duration) => Json::String(duration.seconds_text()),
        Value::Timestamp(timestamp) => Json::String(timestamp::format(*timestamp)),
        Value::List(list) => Json::Array(list.iter().map(|item| to_json(&item)).collect::<Result<_, _>>()?),
        Value::Map(map) => map_to_json(map)?,
        Value::Struct(object) => {
            let mut members = serde_json::Map::new();
            for (name, value) in object.fields.iter() {
                members.insert(name.to_string(), to_json(value)?);
            }
            Json::Object(members)
        }
        Value::Optional(Some(value)) => to_json(value)?,
        Value::Optional(None) => Json::Null,
        Value::Opaque(value) => value.to_json().ok_or_else(|| no_json(value.type_of().runtime_name()))?,
        Value::Type(_) | Value::Fields(_) => return Err(no_json(value.type_of().runtime_name())),
        Value::Invalid(message) => return Err(Error::new(message.to_string())),
    })
}

fn map_to_json(map: &Map<'_>) -> Result<Json, Error> {
    // What came as JSON goes back as it came, with members that have no schema.
    if let Some((members, _)) = map.as_json() {
        return Ok(Json::Object(members.clone()));
    }
    let mut members = serde_json::Map::new();
    for (key, value) in map.iter() {
        let name = match key {
            Key::String(s) => s.to_string(),
            Key::Bool(b) => b.to_string(),
            Key::Int(i) => i.to_string(),
            Key::Uint(u) => u.to_string(),
        };
        members.insert(name, to_json(&value)?);
    }
    Ok(Json::Object(members))
}

fn no_json(type_name: &str) -> Error {
    // Kubernetes' own types call themselves by their Go names.
    let type_name = match type_name.rsplit_once('.') {
        Some(("kubernetes", "NamedFormat")) => "Format",
        Some(("kubernetes" | "net", name)) => name,
        _ => type_name,
    };
    Error::new(format!("type conversion error from '{type_name}' to '*structpb.Value'"))
}
