//! Objects as Tables and as bare metadata.

use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::kind::Kind;

/// `includeObject` of a Table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub fn of(call: &Call) -> Self {
        match call.query.text("includeObject") {
            "None" => Self::None,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// The column definitions.
pub(crate) fn columns(kind: &Kind) -> Value {
    let column = |column: &crate::kind::Column| {
        json!({"name": column.name, "type": column.r#type, "format": column.format,
            "description": column.description, "priority": column.priority})
    };
    Value::Array(kind.table.columns.iter().map(column).collect())
}

/// One row.
pub(crate) fn row(kind: &Kind, object: &Value, include: IncludeObject, version: &str) -> Value {
    let row = (kind.table.row)(object, base::clock::now());
    let mut out = json!({"cells": row.cells});
    if !row.conditions.is_empty() {
        out["conditions"] = Value::Array(row.conditions);
    }
    out["object"] = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial(object, version, true),
        IncludeObject::Object => object.clone(),
    };
    out
}

/// A Table of rows; `columns` is null in the later events of a watch.
pub(crate) fn table(metadata: Value, columns: Value, rows: Vec<Value>, version: &str) -> Value {
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": columns, "rows": rows})
}

/// A Table of one object.
pub(crate) fn single(call: &Call, object: &Value, version: &str) -> Value {
    let mut metadata = Map::new();
    if let Some(revision) = object["metadata"].get("resourceVersion") {
        metadata.insert("resourceVersion".to_owned(), revision.clone());
    }
    if object["kind"] == "Status" {
        return object.clone();
    }
    let row = row(&call.kind, object, IncludeObject::of(call), version);
    table(Value::Object(metadata), columns(&call.kind), vec![row], version)
}

/// PartialObjectMetadata; items of lists carry no type.
pub(crate) fn partial(object: &Value, version: &str, with_type: bool) -> Value {
    if with_type {
        json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": object["metadata"]})
    } else {
        json!({"metadata": object["metadata"]})
    }
}
