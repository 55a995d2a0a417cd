//! Preparing objects for the store: who may change what.

use serde_json::{Map, Value, json};

/// The object's field, made if it is not there.
fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.as_object_mut()?.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
}

/// Puts `old`'s field in place of `new`'s.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(new) = new.as_object_mut() else { return };
    match (old.get(field), new.get_mut(field)) {
        // Comparing is cheaper than copying, and most often nothing was changed.
        (Some(value), Some(own)) if own == value => {}
        (Some(value), Some(own)) => *own = value.clone(),
        (Some(value), None) => {
            new.insert(field.to_owned(), value.clone());
        }
        (None, _) => {
            new.remove(field);
        }
    }
}

/// The status is the controllers' to write.
pub fn clear_status(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
}

/// A new APIService; one that is served here is available at once.
pub fn api_service(object: &mut Value) {
    clear_status(object);
    if object.pointer("/spec/service").is_none_or(Value::is_null) {
        object["status"] = json!({"conditions": [{
            "type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available",
            "lastTransitionTime": base::clock::rfc3339(base::clock::now()),
        }]});
    }
}

/// A new object of a kind that counts its generations has generation 1.
pub fn start_generation(object: &mut Value) {
    if let Some(metadata) = metadata(object) {
        metadata.insert("generation".to_owned(), json!(1));
    }
}

/// A new object of a kind with spec, status and generation.
pub fn create(object: &mut Value) {
    clear_status(object);
    start_generation(object);
}

/// An update of a kind with spec, status and generation: the status stays, a changed spec counts.
pub fn update(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    count_generation(new, old, &["spec"]);
}

/// Counts one generation if any of the fields changed.
pub fn count_generation(new: &mut Value, old: &Value, fields: &[&str]) {
    if fields.iter().any(|field| new.get(field) != old.get(field)) {
        bump_generation(new, old);
    }
}

/// An update of the status changes the status and, as upstream, metadata; nothing else.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let fields: Vec<String> =
        [&*new, old].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys().cloned()).collect();
    for field in fields {
        if !["metadata", "status", "kind", "apiVersion"].contains(&field.as_str()) {
            keep(new, old, &field);
        }
    }
}

/// What no update changes, whatever the kind: generation (but by `prepare`), creation time, and a
/// deletion once begun. A missing uid is filled in.
pub fn keep_system_metadata(new: &mut Value, old: &Value, prepare: impl FnOnce(&mut Value, &Value)) {
    let old_metadata = &old["metadata"];
    let keep = |new: &mut Value, field: &str, wanted: fn(&Map<String, Value>, &str) -> bool| {
        let Some(metadata) = metadata(new) else { return };
        if let (Some(value), true) = (old_metadata.get(field), wanted(metadata, field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    };
    if let Some(metadata) = metadata(new) {
        metadata.remove("generation");
    }
    keep(new, "generation", |_, _| true);
    prepare(new, old);
    keep(new, "uid", |new, field| !new.contains_key(field));
    keep(new, "creationTimestamp", |_, _| true);
    keep(new, "deletionTimestamp", |_, _| true);
    keep(new, "deletionGracePeriodSeconds", |new, field| !new.contains_key(field));
}

/// An update of a kind with status but without generations.
pub fn keep_status(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

/// An update of the status that also leaves most metadata alone, as newer kinds do.
pub fn keep_all_but_status_and_metadata(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    for field in ["labels", "annotations", "ownerReferences", "finalizers", "generateName"] {
        if let (Some(metadata), true) = (new.get_mut("metadata"), old["metadata"].is_object()) {
            keep(metadata, &old["metadata"], field);
        }
    }
}

/// Counts the spec; nothing else is kept.
pub fn count_spec(new: &mut Value, old: &Value) {
    count_generation(new, old, &["spec"]);
}

/// Counts everything outside metadata.
pub fn count_all(new: &mut Value, old: &Value) {
    if !content(new).eq(content(old)) {
        bump_generation(new, old);
    }
}

/// All fields but metadata; an empty list is none.
fn content(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let is_there = |value: &Value| !value.is_null() && !is_empty_list(value);
    let fields = object.as_object().into_iter().flatten();
    fields.filter(move |(name, value)| *name != "metadata" && is_there(value))
}

/// Whether it is a list without items.
pub fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// One generation more than before.
pub fn bump_generation(new: &mut Value, old: &Value) {
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    if let Some(metadata) = metadata(new) {
        metadata.insert("generation".to_owned(), generation.into());
    }
}
