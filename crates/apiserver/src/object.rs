//! Reading and writing the metadata of objects in tree form, and their stored serialisation.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// `metadata.<field>` as text, empty where it is missing.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata` as a map, made where it is missing.
pub fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match &mut object["metadata"] {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Sets `metadata.<field>`; null removes it.
pub fn set_meta(object: &mut Value, field: &str, value: Value) {
    let meta = meta_mut(object);
    if value.is_null() {
        meta.remove(field);
    } else {
        meta.insert(field.to_owned(), value);
    }
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Sets `metadata.finalizers`, removing the field when there are none.
pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    set_meta(object, "finalizers", if finalizers.is_empty() { Value::Null } else { json!(finalizers) });
}

/// The stored form: metadata first; without kind, apiVersion and resourceVersion.
pub fn encode_stored(object: &Value) -> Bytes {
    encode(object, Vec::with_capacity(1024))
}

/// The stored form of a custom resource, which says its version first.
pub fn encode_stored_as(object: &Value, api_version: &str) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"apiVersion\":\"");
    // Groups and versions have nothing in them that JSON would escape.
    out.extend_from_slice(api_version.as_bytes());
    out.extend_from_slice(b"\",");
    encode(object, out)
}

/// Encodes behind what begins an object, if anything does.
fn encode(object: &Value, mut out: Vec<u8>) -> Bytes {
    if out.is_empty() {
        out.push(b'{');
    }
    out.extend_from_slice(b"\"metadata\":{");
    let mut first = true;
    let mut pair = |out: &mut Vec<u8>, key: &str, value: &Value| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        // Writing JSON values into memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, key);
        out.push(b':');
        let _ = serde_json::to_writer(&mut *out, value);
    };
    if let Some(meta) = object["metadata"].as_object() {
        // The name first, so that nothing but "resourceVersion" precedes it in answers.
        if let Some(name) = meta.get("name") {
            pair(&mut out, "name", name);
        }
        for (key, value) in meta.iter().filter(|(key, _)| *key != "name" && *key != "resourceVersion") {
            pair(&mut out, key, value);
        }
    }
    out.push(b'}');
    if let Some(fields) = object.as_object() {
        first_is_done(&mut out, fields);
    }
    out.push(b'}');
    out.into()
}

fn first_is_done(out: &mut Vec<u8>, fields: &Map<String, Value>) {
    for (key, value) in
        fields.iter().filter(|(key, _)| !matches!(key.as_str(), "kind" | "apiVersion" | "metadata"))
    {
        out.push(b',');
        let _ = serde_json::to_writer(&mut *out, key);
        out.push(b':');
        let _ = serde_json::to_writer(&mut *out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_starts_with_metadata() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"labels": {"x": "y"}, "name": "n", "resourceVersion": "5"}});
        assert_eq!(
            encode_stored(&object),
            r#"{"metadata":{"name":"n","labels":{"x":"y"}},"data":{"a":"b"}}"#
        );
    }
}
