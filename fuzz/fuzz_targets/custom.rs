//! Any schema with any object: what is pruned and defaulted stays as it is, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::decode::json_to_value;
use schema::structural::CustomVersion;
use schema::structural::custom::Source;
use schema::structural::json_path::JsonPath;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let Some(split) = data.iter().position(|byte| *byte == 0) else { return };
    if let Ok(text) = std::str::from_utf8(&data[..split]) {
        let _ = JsonPath::parse(text);
    }
    let (Ok(schema), Ok(object)) = (json_to_value(&data[..split]), json_to_value(&data[split + 1..])) else {
        return;
    };
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}}}]},
    });
    let strategy = schema::strategy::of("apiextensions.k8s.io", "CustomResourceDefinition");
    if !strategy.check_create(&definition).is_empty() {
        return;
    }
    let Ok(version) = CustomVersion::compile(&definition, "v1") else { return };
    let mut object = object;
    if version.coerce(&mut object, Source::Request { track_unknown: true }).is_err() {
        return;
    }
    version.apply_defaults(&mut object);
    let mut again = object.clone();
    if version.coerce(&mut again, Source::Request { track_unknown: true }).is_ok() {
        version.apply_defaults(&mut again);
        assert_eq!(again, object, "pruning and defaulting are done after once");
    }
    let _ = version.check_create(&object);
    let _ = version.check_update(&again, &object);
});
