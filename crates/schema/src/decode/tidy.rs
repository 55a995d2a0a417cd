//! Trees that already have their type's form, brought into the form in which Go would write them.

use serde_json::{Map, Value};

use crate::types::{Shape, Struct, Type};

/// Drops what Go would leave out and adds what it always writes, in place: `status: {}` where a
/// struct is empty, nothing where a list is. For objects that were decoded once and then changed by
/// our own rules; unlike decoding, this neither checks kinds nor copies anything.
pub fn tidy(value: &mut Value, ty: &Type) {
    tidy_value(value, ty, false);
}

/// As [`tidy`]; moreover, lists and maps that Go always writes become null where they are empty, as
/// they do in a store that holds protobuf.
pub fn tidy_stored(value: &mut Value, ty: &Type) {
    tidy_value(value, ty, true);
}

fn tidy_value(value: &mut Value, ty: &Type, stored: bool) {
    match (ty.shape(), value) {
        (Shape::Raw | Shape::Any | Shape::List(_) | Shape::Map(_), Value::Null) => {}
        (_, value @ Value::Null) => *value = ty.zero(),
        (Shape::Struct(body), Value::Object(entries)) => tidy_struct(entries, body, stored),
        (Shape::List(list), Value::Array(items)) if has_parts(&list.items) => {
            items.iter_mut().for_each(|item| tidy_value(item, &list.items, stored));
        }
        (Shape::Map(map), Value::Object(entries)) if has_parts(&map.values) => {
            entries.values_mut().for_each(|entry| tidy_value(entry, &map.values, stored));
        }
        (Shape::Quantity, Value::String(text)) => {
            if !super::typed::is_canonical_quantity(text)
                && let Ok(std::borrow::Cow::Owned(canonical)) = super::quantity::canonical(text)
            {
                *text = canonical;
            }
        }
        (Shape::SchemaOr(_), value) => tidy_schema(value),
        _ => {}
    }
}

fn tidy_struct(entries: &mut Map<String, Value>, body: &Struct, stored: bool) {
    entries.retain(|name, value| match body.field(name) {
        None => body.preserve_unknown,
        Some(_) if value.is_null() => false,
        Some(field) => {
            tidy_value(value, &field.ty, stored);
            let empty = match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty() && matches!(field.ty.shape(), Shape::Map(_)),
                _ => false,
            };
            if stored && empty {
                *value = Value::Null;
            }
            !field.omits(value)
        }
    });
    for (_, field, zero) in body.always() {
        if !entries.contains_key(&field.name) {
            entries.insert(field.name.clone(), zero.clone());
        }
    }
}

/// Where a JSON schema may stand, there may also be a list of them, or a boolean.
fn tidy_schema(value: &mut Value) {
    const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let Some(schema) = crate::types::get(SCHEMA) else { return };
    match value {
        Value::Object(_) => tidy(value, schema),
        Value::Array(items) => {
            items.iter_mut().filter(|item| item.is_object()).for_each(|item| tidy(item, schema))
        }
        _ => {}
    }
}

/// Whether there is anything to tidy inside of values of the type.
fn has_parts(ty: &Type) -> bool {
    !matches!(
        ty.shape(),
        Shape::String(_) | Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Any | Shape::Raw
    )
}
