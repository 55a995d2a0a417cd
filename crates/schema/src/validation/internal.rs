//! Objects as upstream's internal types print them: Go's field names, every field there.
//!
//! Messages about forbidden changes show these; see `diff`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::field::go_json;

/// What an absent field reads as.
#[derive(Clone, Copy)]
enum Zero {
    /// A literal.
    Literal(&'static str),
    /// A struct, all of whose fields are there.
    Struct,
}

/// How many levels of lists and maps are around the named type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrap {
    Plain,
    List,
    Map,
}

struct Row {
    /// Go's name; empty for the fields of an embedded struct.
    go: &'static str,
    json: &'static str,
    zero: Zero,
    wrap: Wrap,
    /// The struct of the value or of its items; empty for what prints as it is.
    of: &'static str,
}

type Table = BTreeMap<&'static str, Vec<Row>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table::new();
        let mut current = "";
        for line in include_str!("../../types/core_internal.fields").lines() {
            if let Some(json) = line.trim().strip_prefix("+ json ") {
                // An embedded struct that has JSON names upstream, too.
                let row = Row { go: "", json, zero: Zero::Struct, wrap: Wrap::Plain, of: "" };
                table.entry(current).or_default().push(row);
            } else if let Some(name) = line.strip_suffix(" {") {
                current = name;
                table.entry(name).or_default();
            } else if let [go, json, kind] = line.split_whitespace().collect::<Vec<_>>()[..] {
                table.entry(current).or_default().push(row(go, json, kind));
            } else if let Some(embedded) = line.trim().strip_prefix("+ ") {
                table.entry(current).or_default().push(row("", "", embedded));
            }
        }
        table
    })
}

fn row(go: &'static str, json: &'static str, kind: &'static str) -> Row {
    let (zero, wrap, of) = match kind.as_bytes().first() {
        Some(b'*') => (Zero::Literal("null"), Wrap::Plain, &kind[1..]),
        Some(b'[') => (Zero::Literal("null"), Wrap::List, &kind[1..]),
        Some(b'{') => (Zero::Literal("null"), Wrap::Map, &kind[1..]),
        Some(b'A'..=b'Z') => (Zero::Struct, Wrap::Plain, kind),
        _ => (Zero::Literal(kind), Wrap::Plain, ""),
    };
    Row { go, json, zero, wrap, of: if of == "-" { "" } else { of } }
}

/// The value as upstream's struct of that name prints as indented JSON.
pub fn pretty(name: &str, value: &Value) -> String {
    let mut out = String::new();
    write_struct(&mut out, name, value, &Value::Null, 0);
    out
}

/// The value as upstream's struct of that name prints on one line.
pub fn compact(name: &str, value: &Value) -> String {
    pretty(name, value).lines().map(str::trim_start).collect::<String>().replace("\": ", "\":")
}

fn write_struct(out: &mut String, name: &str, value: &Value, around: &Value, depth: usize) {
    let mut first = true;
    out.push('{');
    write_fields(out, name, value, around, depth + 1, &mut first);
    close(out, '}', first, depth);
}

fn write_fields(out: &mut String, name: &str, value: &Value, around: &Value, depth: usize, first: &mut bool) {
    for row in table().get(name).into_iter().flatten() {
        if row.go.is_empty() && row.of.is_empty() {
            write_entries(out, &value[row.json], depth, first);
            continue;
        }
        if row.go.is_empty() {
            write_fields(out, row.of, value, around, depth, first);
            continue;
        }
        let field = match row.json.strip_prefix('^') {
            Some(outer) => &around[outer],
            None => &value[row.json],
        };
        item(out, first, depth);
        let _ = write!(out, "\"{}\": ", row.go);
        // These parts of a security context stand beside it in v1.
        match (field, row.zero) {
            (Value::Null, Zero::Literal(zero)) => out.push_str(zero),
            (field, _) => write_wrapped(out, row, field, value, depth),
        }
    }
}

fn write_wrapped(out: &mut String, row: &Row, value: &Value, around: &Value, depth: usize) {
    match (row.wrap, value) {
        (_, value) if row.of.is_empty() => write_plain(out, value, depth),
        (Wrap::List, Value::Array(items)) => {
            let mut first = true;
            out.push('[');
            for value in items {
                item(out, &mut first, depth + 1);
                write_struct(out, row.of, value, around, depth + 1);
            }
            close(out, ']', first, depth);
        }
        (Wrap::Map, Value::Object(entries)) => {
            let mut first = true;
            out.push('{');
            for (key, value) in sorted(entries) {
                item(out, &mut first, depth + 1);
                let _ = write!(out, "{}: ", go_json(&Value::from(key)));
                write_struct(out, row.of, value, around, depth + 1);
            }
            close(out, '}', first, depth);
        }
        _ => write_struct(out, row.of, value, around, depth),
    }
}

/// The fields of an ObjectMeta that are set, between those of the struct around it.
fn write_entries(out: &mut String, metadata: &Value, depth: usize, first: &mut bool) {
    const FIELDS: [&str; 15] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    for name in FIELDS {
        let Some(value) = metadata.get(name).filter(|value| !value.is_null()) else { continue };
        item(out, first, depth);
        let _ = write!(out, "\"{name}\": ");
        write_plain(out, value, depth);
    }
}

/// What has JSON names upstream, too.
fn write_plain(out: &mut String, value: &Value, depth: usize) {
    let mut first = true;
    match value {
        Value::Array(items) => {
            out.push('[');
            for value in items {
                item(out, &mut first, depth + 1);
                write_plain(out, value, depth + 1);
            }
            close(out, ']', first, depth);
        }
        Value::Object(entries) => {
            out.push('{');
            for (key, value) in sorted(entries) {
                item(out, &mut first, depth + 1);
                let _ = write!(out, "{}: ", go_json(&Value::from(key)));
                write_plain(out, value, depth + 1);
            }
            close(out, '}', first, depth);
        }
        other => out.push_str(&go_json(other)),
    }
}

/// Map entries in order of keys, but for the one struct whose fields are in another.
fn sorted(entries: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_by_key(|(key, _)| (*key != "matchLabels", *key));
    entries
}

fn item(out: &mut String, first: &mut bool, depth: usize) {
    if !std::mem::replace(first, false) {
        out.push(',');
    }
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', depth));
}

fn close(out: &mut String, bracket: char, empty: bool, depth: usize) {
    if !empty {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    }
    out.push(bracket);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_is_shown_under_its_name_in_go() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        let text = r#"{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}"#;
        assert_eq!(compact("Taint", &taint), text);
        let spec = json!({"hostNetwork": true, "securityContext": {}, "containers": [{"name": "c"}]});
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {}});
        assert!(
            compact("PersistentVolumeClaimTemplate", &template)
                .starts_with(r#"{"labels":{"a":"b"},"Spec":{"AccessModes":null,"#)
        );
        let text = pretty("PodSpec", &spec);
        assert!(text.starts_with("{\n \"Volumes\": null,\n \"InitContainers\": null,\n"));
        assert!(text.contains("\"SecurityContext\": {\n  \"HostNetwork\": true,\n  \"HostPID\": false,"));
        assert!(text.contains("\"Resources\": {\n    \"Limits\": null,"));
    }
}
