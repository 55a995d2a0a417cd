//! Questions about single nodes of schemas, and about all of them.

use serde_json::Value;

use super::view::View;
use crate::cursor::Node;
use crate::field::{Error, ErrorList, quote};
use crate::structural::formats;

/// The types that a schema may have.
pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Whether a schema or one below it answers yes.
pub(super) fn has(schema: &Value, question: &dyn Fn(&Value) -> bool) -> bool {
    if question(schema) {
        return true;
    }
    let below = |value: Option<&Value>| match value {
        Some(Value::Array(schemas)) => schemas.iter().any(|s| has(s, question)),
        Some(schema @ Value::Object(_)) => has(schema, question),
        _ => false,
    };
    let each = |value: Option<&Value>| {
        value.and_then(Value::as_object).is_some_and(|schemas| schemas.values().any(|s| below(Some(s))))
    };
    ["items", "allOf", "anyOf", "oneOf", "not"].iter().any(|name| below(schema.get(*name)))
        || each(schema.get("properties"))
        || below(schema.get("additionalProperties"))
        || each(schema.get("patternProperties"))
        || below(schema.get("additionalItems"))
        || each(schema.get("definitions"))
        || each(schema.get("dependencies"))
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn has_invalid_type(schema: &Value) -> bool {
    let ty = text(schema, "type");
    !ty.is_empty() && !TYPES.contains(&ty)
}

pub(super) fn has_extensions(schema: &Value) -> bool {
    let set = |name: &str| schema.get(name).is_some_and(|v| !v.is_null() && *v != Value::Bool(false));
    let list = |name: &str| schema.get(name).and_then(Value::as_array).is_some_and(|v| !v.is_empty());
    schema.get("x-kubernetes-preserve-unknown-fields").is_some_and(|v| !v.is_null())
        || set("x-kubernetes-embedded-resource")
        || set("x-kubernetes-int-or-string")
        || list("x-kubernetes-list-map-keys")
        || set("x-kubernetes-list-type")
        || list("x-kubernetes-validations")
}

/// A list of type `set` whose items merge.
pub(super) fn is_non_atomic_set(schema: &Value) -> bool {
    if text(schema, "x-kubernetes-list-type") != "set" {
        return false;
    }
    let Some(items @ Value::Object(_)) = schema.get("items") else { return false };
    match text(items, "type") {
        "array" => !["", "atomic"].contains(&text(items, "x-kubernetes-list-type")),
        "object" => text(items, "x-kubernetes-map-type") != "atomic",
        _ => false,
    }
}

/// Items of sets and maps are not null; keys of maps are always there.
pub(super) fn list_map_keys(schema: &Node<'_>) -> ErrorList {
    let mut errs = ErrorList::new();
    let (items, list_type) = (schema.at("items"), schema.at("x-kubernetes-list-type"));
    if items.object().is_none() || !["set", "map"].contains(&list_type.str()) {
        return errs;
    }
    let nullable = items.at("nullable");
    if nullable.bool() {
        errs.push(
            nullable
                .forbidden(format!("cannot be nullable when x-kubernetes-list-type is {}", list_type.str())),
        );
    }
    if list_type.str() == "set" {
        return errs;
    }
    let required = items.at("required").strings();
    for key in schema.at("x-kubernetes-list-map-keys").strings() {
        let property = items.at("properties").key(key);
        if !property.is_set() {
            continue;
        }
        if !required.contains(&key) && !property.at("default").is_set() {
            errs.push(property.at("default").required(
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ));
        }
        if property.at("nullable").bool() {
            errs.push(
                property
                    .at("nullable")
                    .forbidden("this property is in x-kubernetes-list-map-keys, so it cannot be nullable"),
            );
        }
    }
    errs
}

/// `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and `x-kubernetes-map-type`.
pub(super) fn topology(schema: &Node<'_>, atomic_sets: bool, errs: &mut ErrorList) {
    let ty = schema.at("type");
    let wrong_type = |detail: &str| match ty.str() {
        "" => ty.required(detail),
        _ => ty.invalid_str(detail),
    };
    let map_type = schema.at("x-kubernetes-map-type");
    if map_type.is_set() && ty.str() != "object" {
        errs.push(wrong_type("must be object if x-kubernetes-map-type is specified"));
    }
    if map_type.is_set() && !["atomic", "granular"].contains(&map_type.str()) {
        errs.push(map_type.not_supported(&["atomic", "granular"]));
    }
    let list_type = schema.at("x-kubernetes-list-type");
    if list_type.is_set() && ty.str() != "array" {
        errs.push(wrong_type("must be array if x-kubernetes-list-type is specified"));
    } else if atomic_sets && schema.value().is_some_and(is_non_atomic_set) {
        let items = schema.at("items");
        let name = if items.at("type").str() == "array" {
            "x-kubernetes-list-type"
        } else {
            "x-kubernetes-map-type"
        };
        // Upstream shows the list type in both cases.
        let shown = items.at("x-kubernetes-list-type").to_value();
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        errs.push(items.at(name).invalid_as(shown, detail));
    }
    if list_type.is_set() && !["atomic", "set", "map"].contains(&list_type.str()) {
        errs.push(list_type.not_supported(&["atomic", "set", "map"]));
    }
    let keys = schema.at("x-kubernetes-list-map-keys");
    if !keys.is_empty() && list_type.str() != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        let error =
            if list_type.is_set() { list_type.invalid_str(detail) } else { list_type.required(detail) };
        errs.push(error);
    }
    if list_type.is_set() && list_type.str() == "map" {
        map_list(schema, &keys, errs);
    }
}

fn map_list(schema: &Node<'_>, keys: &Node<'_>, errs: &mut ErrorList) {
    let items = schema.at("items");
    if keys.is_empty() {
        errs.push(keys.required("must not be empty if x-kubernetes-list-type is map"));
    }
    if !items.is_set() {
        return errs.push(items.required("must have a schema if x-kubernetes-list-type is map"));
    }
    if items.object().is_none() {
        return errs.push(items.invalid("must only have a single schema if x-kubernetes-list-type is map"));
    }
    let ty = items.at("type");
    if ty.str() != "object" {
        return errs.push(ty.invalid_str("must be object if parent array's x-kubernetes-list-type is map"));
    }
    let mut seen = Vec::new();
    for key in keys.strings() {
        let property = items.at("properties").key(key);
        if !property.is_set() {
            errs.push(keys.invalid("entries must all be names of item properties"));
        } else if ["array", "object"].contains(&property.at("type").str()) {
            // Upstream shows the type of the items.
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errs.push(Error::invalid(property.at("type").path(), ty.str(), detail));
        }
        if seen.contains(&key) {
            errs.push(keys.invalid("must not contain duplicate entries"));
        }
        seen.push(key);
    }
}

/// What a definition's author should know although it is valid: formats that nobody heeds.
pub fn warnings(object: &Value) -> Vec<String> {
    unrecognized_formats(object)
        .iter()
        .map(|format| format!("unrecognized format {}", quote(format)))
        .collect()
}

/// As [`warnings`], for what an update brings.
pub fn warnings_on_update(new: &Value, old: &Value) -> Vec<String> {
    let before = unrecognized_formats(old);
    let brought = unrecognized_formats(new).into_iter().filter(|format| !before.contains(format));
    brought.map(|format| format!("unrecognized format {}", quote(&format))).collect()
}

fn unrecognized_formats(object: &Value) -> Vec<String> {
    let found = std::cell::RefCell::new(Vec::new());
    let node = Node::root(object);
    for schema in View::new(&node.at("spec")).schemas() {
        has(schema, &|schema| {
            let format = text(schema, "format");
            if !formats::is_recognized(text(schema, "type"), format) {
                found.borrow_mut().push(format.to_owned());
            }
            false
        });
    }
    found.into_inner()
}
