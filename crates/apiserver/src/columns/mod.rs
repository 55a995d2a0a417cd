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

/// A row of cells.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { Row::from(vec![$(json!($cell)),*]) };
}
use row;

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

/// Container names of a pod template.
const CONTAINERS: Heading = wide("Containers", "string", "Names of each container in the template.");
/// Images of a pod template.
const IMAGES: Heading = wide("Images", "string", "Images referenced by each container in the template.");

/// Kinds without columns of their own.
pub const NAME_CREATED_AT: &[Heading] = &[NAME, column("Created At", "date", CREATION_DESCRIPTION)];

/// Name and creation time.
pub fn name_created_at(object: &Value, _: Timestamp) -> Row {
    row![name(object), text(object, "/metadata/creationTimestamp")]
}

/// Name and age.
pub const NAME_AGE: &[Heading] = &[NAME, AGE];

/// Name and age.
pub fn name_age(object: &Value, now: Timestamp) -> Row {
    row![name(object), age(object, now)]
}

/// The table of a built-in kind.
pub fn table(headings: &[Heading], row: RowFn) -> Table {
    Table { columns: headings.iter().map(Column::from).collect(), row: Arc::new(row) }
}

/// The column that every custom kind begins with.
pub(crate) fn name_column() -> Column {
    Column::from(&NAME)
}

/// How long before `now` something was, in words.
pub(crate) fn age_of(then: Timestamp, now: Timestamp) -> String {
    human_duration(seconds(then, now))
}

/// The table of kinds without columns of their own.
pub fn name_and_creation() -> Table {
    table(NAME_CREATED_AT, name_created_at)
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// How long ago the object was created.
fn age(object: &Value, now: Timestamp) -> String {
    since(object, "/metadata/creationTimestamp", now)
}

/// The string at `pointer`, or the empty one.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The string at `pointer`, or `missing` where there is none or an empty one.
fn text_or<'a>(object: &'a Value, pointer: &str, missing: &'a str) -> &'a str {
    match text(object, pointer) {
        "" => missing,
        found => found,
    }
}

/// The number at `pointer`, or 0.
fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The boolean at `pointer`, or false.
fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The list at `pointer`, or an empty one.
fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of the list at `pointer`.
fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(object, pointer).iter().filter_map(Value::as_str).collect()
}

/// Number of entries of the map at `pointer`.
fn entries(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// A quantity or int-or-string as it prints, or `missing`.
fn plain(object: &Value, pointer: &str, missing: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => missing.to_owned(),
    }
}

/// The condition of that type.
fn condition<'a>(object: &'a Value, r#type: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == r#type)
}

/// Whether the condition of that type is `True`.
fn is_true(object: &Value, r#type: &str) -> bool {
    condition(object, r#type).is_some_and(|condition| text(condition, "/status") == "True")
}

fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// How long before `now` the time at `pointer` was.
fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    time(object, pointer).map_or_else(|| "<unknown>".to_owned(), |time| human_duration(seconds(time, now)))
}

/// Whole seconds from `from` to `to`, rounded towards zero as Go converts them.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from((to.as_nanosecond() - from.as_nanosecond()) / 1_000_000_000).unwrap_or_default()
}

/// A duration with two or three significant figures, as upstream's `HumanDuration`.
fn human_duration(seconds: i64) -> String {
    let pair = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// Comma-separated names and images of the containers of the pod spec at `pointer`.
fn containers(object: &Value, pointer: &str) -> (String, String) {
    let containers = list(object, &format!("{pointer}/containers"));
    let join =
        |field| containers.iter().map(|container| text(container, field)).collect::<Vec<_>>().join(",");
    (join("/name"), join("/image"))
}

/// A map of labels as `a=b,c=d`.
fn labels(object: &Value, pointer: &str) -> String {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let mut pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    or_none(pairs.join(","))
}

/// A LabelSelector in the syntax of query parameters, `<none>` if it is empty or missing.
fn selector(object: &Value, pointer: &str) -> String {
    or_none(selector_text(object, pointer))
}

/// A LabelSelector in the syntax of query parameters.
fn selector_text(object: &Value, pointer: &str) -> String {
    let Some(selector) = object.pointer(pointer) else { return String::new() };
    let mut requirements: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        requirements.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values = texts(expression, "/values");
        values.sort_unstable();
        let values = values.join(",");
        let requirement = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        requirements.push((key.to_owned(), requirement));
    }
    requirements.sort_by(|a, b| a.0.cmp(&b.0));
    requirements.into_iter().map(|(_, requirement)| requirement).collect::<Vec<_>>().join(",")
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// The first `max` items, and how many more there are.
fn abbreviated(items: &[String], max: usize) -> String {
    match items.len().checked_sub(max) {
        Some(more) if more > 0 => format!("{} + {more} more...", items[..max].join(",")),
        _ => items.join(","),
    }
}

#[cfg(test)]
mod tests;
