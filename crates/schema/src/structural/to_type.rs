//! A structural schema in the terms of the type table, so that server-side apply and managed fields
//! treat custom objects as they do built-in ones.

use super::object_meta::object_meta_type;
use super::{Additional, META_FIELDS, Structural};
use crate::types::{Field, List, ListMerge, Map, Member, Shape, Struct, Type, TypeRef};

/// The type of a custom kind. Without a schema, everything but metadata is free.
///
/// As upstream's conversion of published schemas: what keeps unknown fields passes that on to what
/// is below it, objects without fields are free, strings with a format are any scalar.
pub fn to_type(schema: Option<&Structural>, group: &str, version: &str, kind: &str) -> Type {
    let fallback = Structural::default();
    let schema = schema.unwrap_or(&fallback);
    let preserve = schema.extensions.preserve_unknown || schema.properties.is_empty();
    let mut body = structure(schema, preserve, true);
    body.is_kind = true;
    Type::new(model_name(group, version, kind), format!("{version}.{kind}"), Shape::Struct(body))
}

/// The name of a custom kind in OpenAPI documents: `com.example.v1.Thing`.
pub fn model_name(group: &str, version: &str, kind: &str) -> String {
    let group: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", group.join("."))
}

fn reference(schema: &Structural, preserve: bool) -> TypeRef {
    Type::new("", go_name(schema), shape(schema, preserve)).into()
}

/// The Go type that a value would have.
fn go_name(schema: &Structural) -> &'static str {
    match schema.generic.r#type.as_str() {
        "object" => "map[string]interface {}",
        "array" => "[]interface {}",
        "string" => "string",
        "integer" => "int64",
        "number" => "float64",
        "boolean" => "bool",
        _ => "interface {}",
    }
}

fn shape(schema: &Structural, preserve: bool) -> Shape {
    let preserve = preserve || schema.extensions.preserve_unknown;
    match schema.generic.r#type.as_str() {
        "object" => object(schema, preserve),
        "array" => Shape::List(List {
            items: match &schema.items {
                Some(items) => reference(items, preserve),
                None => any(),
            },
            merge: merge(schema),
            declared: schema.extensions.list_type.is_some(),
        }),
        "string" => match schema.values().format.as_str() {
            "" | "byte" => Shape::String(Vec::new()),
            // Any scalar.
            _ => Shape::IntOrString,
        },
        "integer" => Shape::Int64,
        "number" => Shape::Float,
        "boolean" => Shape::Bool,
        _ => Shape::Any,
    }
}

fn any() -> TypeRef {
    Type::new("", "interface {}", Shape::Any).into()
}

fn merge(schema: &Structural) -> ListMerge {
    match schema.extensions.list_type.as_deref() {
        Some("set") => ListMerge::Set,
        Some("map") => ListMerge::Map(schema.extensions.list_map_keys.clone()),
        _ => ListMerge::Atomic,
    }
}

fn object(schema: &Structural, preserve: bool) -> Shape {
    let atomic = schema.extensions.map_type.as_deref() == Some("atomic");
    match &schema.additional {
        Some(Additional::Schema(values)) if schema.properties.is_empty() => {
            Shape::Map(Map { values: reference(values, preserve), atomic })
        }
        additional => {
            let free = match additional {
                None => preserve || schema.properties.is_empty(),
                Some(Additional::Any(any)) => *any,
                Some(Additional::Schema(_)) => true,
            };
            let mut body = structure(schema, preserve, schema.extensions.embedded_resource);
            body.preserve_unknown = free;
            body.atomic = atomic;
            Shape::Struct(body)
        }
    }
}

/// The fields of an object; those of a resource are there even if the schema does not say so.
fn structure(schema: &Structural, preserve: bool, is_resource: bool) -> Struct {
    let mut members = Vec::with_capacity(schema.properties.len() + META_FIELDS.len());
    if is_resource {
        for name in &META_FIELDS[..2] {
            let ty = Type::new("", "string", Shape::String(Vec::new()));
            members.push(Member::Field(Box::new(Field::new(*name, ty.into()))));
        }
        let metadata = object_meta_type().unwrap_or_else(any);
        members.push(Member::Field(Box::new(Field::new("metadata", metadata))));
    }
    for (name, property) in &schema.properties {
        if is_resource && META_FIELDS.contains(&name.as_str()) {
            continue;
        }
        let mut field = Field::new(name.as_str(), reference(property, preserve));
        field.default = property.generic.default.clone();
        field.required = schema.values().required.contains(name);
        members.push(Member::Field(Box::new(field)));
    }
    let mut body = Struct::new(members);
    body.preserve_unknown = preserve;
    body
}
