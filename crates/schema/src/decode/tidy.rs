//! Trees that already have their type's form, brought into the form in which Go would write them.

use serde_json::{Map, Value};

use crate::types::{Shape, Struct, Type};

/// Drops what Go would leave out and adds what it always writes, in place: `status: {}` where a
/// struct is empty, nothing where a list is. For objects that were decoded once and then changed by
/// our own rules; unlike decoding, this neither checks kinds nor copies anything.
pub fn tidy(value: &mut Value, ty: &Type) {
    match (ty.shape(), value) {
        (Shape::Raw | Shape::Any | Shape::List(_) | Shape::Map(_), Value::Null) => {}
        (_, value @ Value::Null) => *value = ty.zero(),
        (Shape::Struct(body), Value::Object(entries)) => tidy_struct(entries, body),
        (Shape::List(list), Value::Array(items)) => {
            if has_parts(&list.items) {
                items.iter_mut().for_each(|item| tidy(item, &list.items));
            }
        }
        (Shape::Map(map), Value::Object(entries)) => {
            if has_parts(&map.values) {
                entries.values_mut().for_each(|entry| tidy(entry, &map.values));
            }
        }
        (Shape::Quantity, Value::String(text)) => {
            if !super::typed::is_canonical_quantity(text)
                && let Ok(quantity) = api::quantity::Quantity::parse(text)
            {
                *text = quantity.to_string();
            }
        }
        (Shape::SchemaOr(_), value) => tidy_schema(value),
        _ => {}
    }
}

fn tidy_struct(entries: &mut Map<String, Value>, body: &Struct) {
    entries.retain(|name, value| match body.field(name) {
        None => body.preserve_unknown,
        Some(_) if value.is_null() => false,
        Some(field) => {
            tidy(value, &field.ty);
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
