//! The stored form of objects.

use serde_json::Value;

/// Writes an object in the form the store and the watch cache hold: JSON without spaces that begins
/// with `{"metadata":{`, without kind, apiVersion and metadata.resourceVersion. Readers put the
/// first two in front and the third behind `{"metadata":{`.
pub fn canonical(object: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"metadata\":{");
    let entries = object.as_object();
    let metadata = entries.and_then(|o| o.get("metadata")).and_then(Value::as_object);
    for (i, (key, value)) in
        metadata.into_iter().flatten().filter(|(k, _)| *k != "resourceVersion").enumerate()
    {
        member(&mut out, i > 0, key, value);
    }
    out.push(b'}');
    let rest = entries.into_iter().flatten();
    for (key, value) in rest.filter(|(k, _)| !matches!(k.as_str(), "metadata" | "kind" | "apiVersion")) {
        member(&mut out, true, key, value);
    }
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, comma: bool, key: &str, value: &Value) {
    if comma {
        out.push(b',');
    }
    json(out, key);
    out.push(b':');
    json(out, value);
}

fn json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Neither strings nor values have a way to fail when written to memory.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_form_is_what_readers_expect() {
        let object = json!({"kind": "A", "apiVersion": "v1", "data": {"k": "v"},
            "metadata": {"name": "n", "resourceVersion": "5", "annotations": {"a": "b"}}});
        assert_eq!(
            super::canonical(&object),
            br#"{"metadata":{"annotations":{"a":"b"},"name":"n"},"data":{"k":"v"}}"#
        );
        assert_eq!(super::canonical(&json!({})), br#"{"metadata":{}}"#);
    }
}
