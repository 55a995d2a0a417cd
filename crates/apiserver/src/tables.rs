//! Objects as Tables and as bare metadata.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::cache::Entry;
use crate::call::Call;
use crate::kind::Kind;
use crate::negotiate::Shape;
use crate::status::ApiError;

/// `includeObject` of a Table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    /// What the query asks for.
    ///
    /// # Errors
    /// 400 for any other value.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        match call.query.text("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                schema::gotext::quote(other)
            ))),
        }
    }
}

/// 406 to a request for the metadata of an object that is a list.
pub(crate) fn is_a_list(kind: &Kind) -> ApiError {
    not_acceptable("PartialObjectMetadata", "a list", kind, "List")
}

/// 406 to a request for a list of metadata where there is one object.
pub(crate) fn not_a_list(kind: &Kind) -> ApiError {
    if kind.is_custom() {
        // Upstream takes them for lists, and fails.
        return ApiError { code: 500, reason: "".into(), ..ApiError::bad_request("content is not a list") };
    }
    not_acceptable("PartialObjectMetadataList", "not a list", kind, "")
}

/// The message names the Go type behind the kind.
fn not_acceptable(wanted: &str, what: &str, kind: &Kind, suffix: &str) -> ApiError {
    let package = match kind.group.split('.').next() {
        None | Some("" | "events") => "core",
        Some(package) => package,
    };
    let (package, name) =
        if kind.is_custom() { ("unstructured", "Unstructured") } else { (package, &*kind.kind) };
    let message =
        format!("you requested {wanted}, but the requested object is {what} (*{package}.{name}{suffix})");
    ApiError::new(406, "NotAcceptable", message)
}

/// The column definitions.
pub(crate) fn columns(kind: &Kind) -> Value {
    let column = |column: &crate::kind::Column| {
        json!({"name": column.name, "type": column.r#type, "format": column.format,
            "description": column.description, "priority": column.priority})
    };
    Value::Array(kind.table.columns.iter().map(column).collect())
}

/// Whether rows are made of what is stored and not of what is shown: upstream prints its internal types, and
/// autoscaling/v1 tells less than that, in another order.
fn prints_stored(kind: &Kind) -> bool {
    kind.kind == "HorizontalPodAutoscaler" && !kind.is_stored_version()
}

/// The object of the cache that a row is to be made of, if that is not the one that would be shown.
pub(crate) fn stored_form(kind: &Kind, entry: &Entry) -> Option<Value> {
    prints_stored(kind).then(|| entry.to_value())
}

fn is_stored_form(kind: &Kind, object: &Value) -> bool {
    object["apiVersion"] != kind.api_version().as_str()
}

fn printed<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    match kind.storage.convert {
        Some(convert) if prints_stored(kind) && !is_stored_form(kind, object) => {
            let mut object = object.clone();
            (convert.to_storage)(&mut object);
            Cow::Owned(object)
        }
        _ => Cow::Borrowed(object),
    }
}

fn included(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(convert) = kind.storage.convert
        && prints_stored(kind)
        && is_stored_form(kind, &object)
    {
        (convert.from_storage)(&mut object);
    }
    object
}

/// One row.
pub(crate) fn row(kind: &Kind, object: &Value, include: IncludeObject, version: &str) -> Value {
    let printed = printed(kind, object);
    let row = (kind.table.row)(&printed, base::clock::now());
    let mut out = json!({"cells": row.cells});
    if !row.conditions.is_empty() {
        out["conditions"] = Value::Array(row.conditions);
    }
    out["object"] = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial(&printed, version),
        IncludeObject::Object => included(kind, object),
    };
    out
}

/// A Table of rows; `columns` is null in the later events of a watch.
pub(crate) fn table(metadata: Value, columns: Value, rows: Vec<Value>, version: &str) -> Value {
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": columns, "rows": rows})
}

/// A list of objects in the shape that was asked for. The items of `items` carry their types.
///
/// # Errors
/// 400 and 406 for shapes that a list cannot have.
pub(crate) fn list(
    call: &Call,
    metadata: Value,
    items: impl Iterator<Item = Value>,
) -> Result<Value, ApiError> {
    let kind = &call.kind;
    Ok(match call.output.shape {
        Shape::Object => {
            let without_type = |mut item: Value| {
                if !kind.is_custom()
                    && let Some(map) = item.as_object_mut()
                {
                    map.remove("kind");
                    map.remove("apiVersion");
                }
                item
            };
            let items: Vec<Value> = items.map(without_type).collect();
            json!({"kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
        }
        Shape::Metadata(_) => return Err(is_a_list(kind)),
        Shape::MetadataList(version) => {
            let items: Vec<Value> = items.map(|item| partial(&item, version)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata, "items": items})
        }
        Shape::Table(version) => {
            let include = IncludeObject::of(call)?;
            let rows = items.map(|item| row(kind, &item, include, version)).collect();
            table(metadata, columns(kind), rows, version)
        }
    })
}

/// A Table of one object.
pub(crate) fn single(call: &Call, object: &Value, include: IncludeObject, version: &str) -> Value {
    let mut metadata = Map::new();
    if let Some(revision) = object["metadata"].get("resourceVersion") {
        metadata.insert("resourceVersion".to_owned(), revision.clone());
    }
    let row = row(&call.kind, object, include, version);
    table(Value::Object(metadata), columns(&call.kind), vec![row], version)
}

/// PartialObjectMetadata; items of lists carry their type, unlike those of other lists.
pub(crate) fn partial(object: &Value, version: &str) -> Value {
    let mut metadata = object["metadata"].clone();
    if object["kind"] == "DaemonSet" {
        without_template_generation(&mut metadata);
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}

/// Upstream takes metadata from its internal type, where this annotation is a field of the spec.
fn without_template_generation(metadata: &mut Value) {
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.remove("deprecated.daemonset.template.generation");
    if let (true, Some(metadata)) = (annotations.is_empty(), metadata.as_object_mut()) {
        metadata.remove("annotations");
    }
}
