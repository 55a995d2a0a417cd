//! Table columns and cells, as upstream's printers show them.
//!
//! Cells are pure functions of the object and the time.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::{Column, Row, Table, Text};

pub mod admission;
pub mod autoscaling;
pub mod config;
pub mod nodes;
pub mod platform;
pub mod pods;
pub mod policy;
pub mod resource;
pub mod services;
pub mod storage;
pub mod workloads;

/// Makes the row of one object.
pub type RowFn = fn(&Value, Timestamp) -> Row;

/// A column of a built-in kind; see [`Column`].
#[derive(Clone, Copy)]
pub struct Heading {
    name: &'static str,
    r#type: &'static str,
    format: &'static str,
    priority: i32,
    description: &'static str,
}

impl From<&Heading> for Column {
    fn from(heading: &Heading) -> Column {
        Column {
            name: Text::Borrowed(heading.name),
            r#type: Text::Borrowed(heading.r#type),
            format: Text::Borrowed(heading.format),
            description: Text::Borrowed(heading.description),
            priority: heading.priority,
        }
    }
}

/// A column that is always shown.
const fn column(name: &'static str, r#type: &'static str, description: &'static str) -> Heading {
    Heading { name, r#type, format: "", priority: 0, description }
}

/// A column that is shown with `-o wide`.
const fn wide(name: &'static str, r#type: &'static str, description: &'static str) -> Heading {
    Heading { priority: 1, ..column(name, r#type, description) }
}

/// The name column.
const NAME: Heading = Heading { format: "name", ..column("Name", "string", NAME_DESCRIPTION) };
/// The age column.
const AGE: Heading = column("Age", "string", CREATION_DESCRIPTION);

const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATION_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// Kinds without columns of their own.
pub const NAME_CREATED_AT: &[Heading] = &[NAME, column("Created At", "date", CREATION_DESCRIPTION)];

/// Name and creation time.
pub fn name_created_at(object: &Value, _: Timestamp) -> Row {
    let created = object.pointer("/metadata/creationTimestamp").cloned().unwrap_or(Value::Null);
    vec![json!(name(object)), created].into()
}

/// Name and age.
pub const NAME_AGE: &[Heading] = &[NAME, AGE];

/// Name and age.
pub fn name_age(object: &Value, _now: Timestamp) -> Row {
    vec![json!(name(object)), json!("")].into()
}

/// The table of a built-in kind.
pub fn table(headings: &[Heading], row: RowFn) -> Table {
    Table { columns: headings.iter().map(Column::from).collect(), row: Arc::new(row) }
}

/// The table of kinds without columns of their own.
pub fn name_and_creation() -> Table {
    table(NAME_CREATED_AT, name_created_at)
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}
