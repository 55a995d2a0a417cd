//! Apply configurations of mutating policies: merged like a server-side apply, but owned by nobody.

use cel::Value as Cel;
use schema::apply::{self, ApplyError, ApplyRequest, Set};
use schema::types::{self, ListMerge, Shape, Type};
use serde_json::Value;

use crate::admission::webhook::rules::Matched;
use crate::kind::group_version;
use crate::object::set_meta;

/// A manager that owns nothing, so that nothing is removed for having been left out.
const MANAGER: &str = "mutating-admission-policy";

/// Whether the types of objects in an expression are named as the fields are that they stand in:
/// `Object{spec: Object.spec{…}}`.
///
/// # Errors
/// Upstream's text for each that is not.
pub(super) fn check_type_names(value: &Cel<'_>) -> Result<(), String> {
    let root = match value {
        Cel::Struct(object) => object.type_name.to_string(),
        _ => return Ok(()),
    };
    let mut errors = Vec::new();
    check(value, &root, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

fn check(value: &Cel<'_>, path: &str, errors: &mut Vec<String>) {
    match value {
        Cel::Struct(object) => {
            if &*object.type_name != path {
                errors.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    object.type_name
                ));
            }
            for (name, field) in object.fields.iter() {
                check(field, &format!("{path}.{name}"), errors);
            }
        }
        Cel::List(list) => list.iter().for_each(|item| check(&item, path, errors)),
        Cel::Map(map) => map.iter().for_each(|(_, item)| check(&item, path, errors)),
        _ => {}
    }
}

/// The object with the configuration's fields.
///
/// # Errors
/// Upstream's texts, for configurations that do not fit the type and for those that would replace what
/// is not merged.
pub(super) fn merge(object: &Value, mut configuration: Value, matched: &Matched) -> Result<Value, String> {
    let kind = &matched.kind;
    let ty = if kind.kind == matched.resource.kind {
        matched.resource.ty()
    } else {
        types::of_kind(&kind.group, &kind.version, &kind.kind)
    };
    let Some(ty) = ty else {
        return schema::patch::merge(object, &configuration).map_err(|error| error.to_string());
    };
    let mut atomic = Vec::new();
    find_atomic(&configuration, ty, false, "", &mut atomic);
    if !atomic.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomic.join(", ")
        ));
    }
    let api_version = group_version(&kind.group, &kind.version);
    configuration["kind"] = kind.kind.as_str().into();
    configuration["apiVersion"] = api_version.as_str().into();
    let owned = object["metadata"]["managedFields"].clone();
    let mut live = object.clone();
    set_meta(&mut live, "managedFields", Value::Null);
    let request = ApplyRequest {
        live: Some(&live),
        patch: configuration,
        ty,
        manager: MANAGER,
        api_version: &api_version,
        subresource: "",
        force: true,
        ignored: &Set::default(),
        now: "1970-01-01T00:00:00Z",
        convert: None,
    };
    let mut merged = apply::apply(&request).map_err(|error| match error {
        ApplyError::Invalid(why) => {
            // The part about the field follows the name of the object.
            let why = why.split_once("): ").map_or(why.as_str(), |(_, rest)| rest).to_owned();
            format!("failed to convert patch object to typed object: {why}")
        }
        other => other.to_string(),
    })?;
    set_meta(&mut merged, "managedFields", owned);
    Ok(merged)
}

/// Paths of what the configuration would replace as a whole.
fn find_atomic(value: &Value, ty: &Type, atomic_field: bool, path: &str, found: &mut Vec<String>) {
    match (value, ty.shape()) {
        (Value::Object(fields), Shape::Struct(shape)) => {
            if shape.atomic || atomic_field {
                found.push(path.to_owned());
            }
            for (name, value) in fields {
                if let Some(field) = ty.field(name) {
                    find_atomic(value, &field.ty, field.atomic, &format!("{path}.{name}"), found);
                }
            }
        }
        (Value::Object(fields), Shape::Map(shape)) => {
            if shape.atomic || atomic_field {
                found.push(path.to_owned());
            }
            for (name, value) in fields {
                find_atomic(value, &shape.values, false, &format!("{path}.{name}"), found);
            }
        }
        (Value::Array(items), Shape::List(shape)) => {
            if atomic_field || shape.merge == ListMerge::Atomic {
                found.push(path.to_owned());
            }
            for (index, item) in items.iter().enumerate() {
                find_atomic(item, &shape.items, false, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}
