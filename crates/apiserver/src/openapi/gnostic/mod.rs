//! OpenAPI documents in protobuf, as the messages of `github.com/google/gnostic-models`.
//!
//! client-go asks for version 2 in no other form. A message is a table of its fields, in order of their
//! numbers; maps become lists of names and values, and `x-` members go into a list of their own.

use serde_json::{Map, Value};

use crate::protobuf::{put_bytes, put_varint};
use crate::yaml;

mod v2;
mod v3;

pub use v2::document as v2_document;
pub use v3::document as v3_document;

/// Makes a message, without tag and length, of a value.
type Body = fn(&Value) -> Vec<u8>;

struct Field {
    name: &'static str,
    number: u32,
    shape: Shape,
}

/// How a field is written.
enum Shape {
    Text,
    Bool,
    Int,
    Float,
    Texts,
    /// Any value, as YAML.
    Any,
    Anys,
    One(Body),
    Many(Body),
}

const fn field(name: &'static str, number: u32, shape: Shape) -> Field {
    Field { name, number, shape }
}

/// A message with the members that `fields` names, and at `extensions` those that begin with `x-`.
fn message(value: &Value, fields: &[Field], extensions: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(map) = value.as_object() else { return out };
    for field in fields {
        if let Some(value) = map.get(field.name) {
            field.write(value, &mut out);
        }
    }
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        put_bytes(&mut out, extensions, &pair(name, &any(value)));
    }
    out
}

impl Field {
    /// Writes the field, unless it is a scalar of its zero value.
    fn write(&self, value: &Value, out: &mut Vec<u8>) {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match self.shape {
            Shape::Text => match value.as_str() {
                Some(text) if !text.is_empty() => put_bytes(out, self.number, text.as_bytes()),
                _ => {}
            },
            Shape::Bool => {
                if value == true {
                    put_varint(out, u64::from(self.number << 3));
                    out.push(1);
                }
            }
            Shape::Int => match value.as_i64() {
                Some(number) if number != 0 => {
                    put_varint(out, u64::from(self.number << 3));
                    put_varint(out, number as u64);
                }
                _ => {}
            },
            Shape::Float => match value.as_f64() {
                Some(number) if number != 0.0 => put_float(out, self.number, number),
                _ => {}
            },
            Shape::Texts => texts(items, self.number, out),
            Shape::Any => put_bytes(out, self.number, &any(value)),
            Shape::Anys => items.iter().for_each(|item| put_bytes(out, self.number, &any(item))),
            Shape::One(body) => put_bytes(out, self.number, &body(value)),
            Shape::Many(body) => items.iter().for_each(|item| put_bytes(out, self.number, &body(item))),
        }
    }
}

fn put_float(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

fn texts(items: &[Value], number: u32, out: &mut Vec<u8>) {
    items.iter().filter_map(Value::as_str).for_each(|text| put_bytes(out, number, text.as_bytes()));
}

fn any(value: &Value) -> Vec<u8> {
    wrap(2, yaml::to_string(value).as_bytes())
}

/// A message with one field.
fn wrap(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 8);
    put_bytes(&mut out, number, body);
    out
}

/// The entry of a map.
fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 12);
    if !name.is_empty() {
        put_bytes(&mut out, 1, name.as_bytes());
    }
    put_bytes(&mut out, 2, value);
    out
}

/// Entries of a map in the field `number`, but for extensions.
fn entries(value: &Value, number: u32, body: Body) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flat_map(Map::iter) {
        put_bytes(&mut out, number, &pair(name, &body(value)));
    }
    out
}

/// Schemes that together allow a request, each with its scopes.
fn security_requirement(value: &Value) -> Vec<u8> {
    entries(value, 1, |scopes| {
        let mut out = Vec::new();
        texts(scopes.as_array().map(Vec::as_slice).unwrap_or_default(), 1, &mut out);
        out
    })
}

/// `body`, or a reference where there is one.
fn or_reference(value: &Value, body: Body) -> Vec<u8> {
    match value.get("$ref") {
        Some(reference) => wrap(2, &wrap(1, reference.as_str().unwrap_or_default().as_bytes())),
        None => wrap(1, &body(value)),
    }
}

/// A boolean, or `schema`.
fn additional_properties(value: &Value, schema: Body) -> Vec<u8> {
    match value {
        Value::Bool(flag) => vec![2 << 3, u8::from(*flag)],
        _ => wrap(1, &schema(value)),
    }
}

/// A schema for all items, or one for each.
fn items(value: &Value, schema: Body) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Array(items) => items.iter().for_each(|item| put_bytes(&mut out, 1, &schema(item))),
        one => put_bytes(&mut out, 1, &schema(one)),
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_maps_extensions_and_what_is_one_of_several() {
        let bytes = v2_document(&json!({"definitions": {"A": {
            "type": "object",
            "properties": {"b": {"$ref": "#/definitions/B"}, "c": {"additionalProperties": false, "maximum": 1.5}},
            "x-kubernetes-list-type": "map",
        }}}));
        let c = b"\x0a\x01c\x12\x0e\x39\0\0\0\0\0\0\xf8\x3f\xaa\x01\x02\x10\0".to_vec();
        let b = b"\x0a\x01b\x12\x11\x0a\x0f#/definitions/B".to_vec();
        let properties = [wrap(1, &b), wrap(1, &c)].concat();
        let extension = pair("x-kubernetes-list-type", &wrap(2, b"map\n"));
        let schema = [wrap(22, &wrap(1, b"object")), wrap(25, &properties), wrap(31, &extension)].concat();
        assert_eq!(bytes, wrap(9, &wrap(1, &pair("A", &schema))));
    }
}
