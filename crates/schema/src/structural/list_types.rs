//! Lists that are sets or maps: no item may be there twice.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Structural;
use crate::field::{Error, ErrorList, Path};

/// Checks the lists of type `set` and `map` in an object.
pub(super) fn validate(object: &Value, schema: &Structural) -> ErrorList {
    let mut errs = ErrorList::new();
    if let Value::Object(entries) = object {
        in_object(&Path::root(), entries, schema, &mut errs);
    }
    errs
}

fn in_object<'a>(
    path: &Path<'a>,
    entries: &'a Map<String, Value>,
    schema: &Structural,
    errs: &mut ErrorList,
) {
    if let Some(schema) = schema.additional_schema() {
        for (key, value) in entries {
            if is_nested(value) {
                walk(&path.key(key), value, schema, errs);
            }
        }
    }
    if schema.properties.is_empty() {
        return;
    }
    for (name, value) in entries {
        if let (true, Some(property)) = (is_nested(value), schema.properties.get(name)) {
            walk(&path.child(name), value, property, errs);
        }
    }
}

fn is_nested(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn walk<'a>(path: &Path<'a>, value: &'a Value, schema: &Structural, errs: &mut ErrorList) {
    match value {
        Value::Object(entries) => in_object(path, entries, schema, errs),
        Value::Array(items) => {
            match schema.extensions.list_type.as_deref() {
                Some("set") => {
                    let again = repeated(items);
                    errs.extend(
                        again.into_iter().map(|i| Error::duplicate(&path.index(i), items[i].clone())),
                    );
                }
                Some("map") => map_keys(path, items, &schema.extensions.list_map_keys, errs),
                _ => {}
            }
            if let Some(schema) = &schema.items {
                for (i, item) in items.iter().enumerate().filter(|(_, item)| is_nested(item)) {
                    walk(&path.index(i), item, schema, errs);
                }
            }
        }
        _ => {}
    }
}

fn map_keys(path: &Path<'_>, items: &[Value], keys: &[String], errs: &mut ErrorList) {
    let wrong = items.iter().position(|item| !item.is_null() && !item.is_object());
    if let Some(i) = wrong {
        let detail = "must be an object for an array of list-type map";
        return errs.push(Error::invalid(&path.index(i), items[i].clone(), detail));
    }
    if items.len() <= 1 {
        return;
    }
    let given: Vec<Value> = items
        .iter()
        .map(|item| {
            let found = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Value::Object(found.collect())
        })
        .collect();
    let again = repeated(&given);
    errs.extend(again.into_iter().map(|i| Error::duplicate(&path.index(i), given[i].clone())));
}

/// The positions of the second of equal values. The third and later are not reported, as upstream.
fn repeated(values: &[Value]) -> Vec<usize> {
    if values.len() <= 1 {
        return Vec::new();
    }
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut positions = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            positions.push(i);
        }
    }
    positions
}
