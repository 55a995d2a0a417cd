use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::types::{self, Type};

fn deployment() -> &'static Type {
    types::of_kind("apps", "v1", "Deployment").unwrap()
}

fn pod_spec(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

fn strategic_ok(current: Value, patch: Value) -> Value {
    strategic(&pod_spec(current), &pod_spec(patch), deployment()).unwrap()["spec"]["template"]["spec"].take()
}

#[test]
fn lists_merge_by_their_key_and_patch_items_come_first() {
    let current = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    let patch = json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]});
    assert_eq!(
        strategic_ok(current, patch),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]})
    );
}

#[test]
fn directives_delete_replace_and_order() {
    let current = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    let delete = json!({"containers": [{"name": "b", "$patch": "delete"}]});
    assert_eq!(strategic_ok(current.clone(), delete), json!({"containers": [{"name": "a"}, {"name": "c"}]}));
    let replace = json!({"containers": [{"$patch": "replace"}, {"name": "z"}]});
    assert_eq!(strategic_ok(current.clone(), replace), json!({"containers": [{"name": "z"}]}));
    let order = json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]});
    assert_eq!(
        strategic_ok(current, order),
        json!({"containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]})
    );
}

#[test]
fn lists_of_scalars_and_retained_keys() {
    let current = json!({"metadata": {"finalizers": ["x/a", "x/b"]},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"], "finalizers": ["x/c"]},
        "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = strategic(&current, &patch, deployment()).unwrap();
    assert_eq!(
        patched,
        json!({"metadata": {"finalizers": ["x/c", "x/b"]}, "spec": {"strategy": {"type": "Recreate"}}})
    );
}

#[test]
fn complaints_are_upstreams() {
    let current = pod_spec(json!({"containers": [{"name": "a"}]}));
    let cases = [
        (
            json!({"containers": [{"image": "x"}]}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "odd"}]}),
            "unknown patch type: odd in map: map[$patch:odd name:a]",
        ),
        (json!({"$retainKeys": ["a"], "hostname": "x"}), "invalid patch format of retainKeys"),
        (json!({"containers": ["a"]}), "list element types are not identical: [[map[name:a]] [a]]"),
    ];
    for (patch, text) in cases {
        assert_eq!(strategic(&current, &pod_spec(patch), deployment()).unwrap_err().to_string(), text);
    }
}

#[test]
fn json_patch_is_all_or_nothing() {
    let object = json!({"a": [1, 2]});
    let ops = json!([{"op": "add", "path": "/a/-", "value": 3}, {"op": "test", "path": "/a/0", "value": 9}]);
    assert!(matches!(json(&object, &ops), Err(PatchError::Unprocessable(_))));
    let ops = json!([{"op": "move", "from": "/a/0", "path": "/b"}]);
    assert_eq!(json(&object, &ops).unwrap(), json!({"a": [2], "b": 1}));
    let ops = json!([{"op": "remove", "path": "/a/-1"}, {"op": "add", "path": "/a/-1", "value": 7}]);
    assert_eq!(json(&object, &ops).unwrap(), json!({"a": [1, 7]}));
}

/// Objects without null, which merge patches cannot express.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..5i64).prop_map(Value::from),
        "[a-c]".prop_map(Value::from)
    ];
    let node = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d]", node, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
}

/// The merge patch that turns one object into another.
fn difference(from: &Value, to: &Value) -> Value {
    let (Some(from), Some(to)) = (from.as_object(), to.as_object()) else { return to.clone() };
    let mut patch = serde_json::Map::new();
    for key in from.keys().filter(|k| !to.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in to {
        match from.get(key) {
            Some(old) if old == new => {}
            Some(old) if old.is_object() && new.is_object() => {
                patch.insert(key.clone(), difference(old, new));
            }
            _ => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    Value::Object(patch)
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn merge_patches_of_differences_round_trip(from in tree(), to in tree()) {
        prop_assert_eq!(merge(&from, &difference(&from, &to)).unwrap(), to.clone());
        prop_assert_eq!(merge(&to, &difference(&to, &from)).unwrap(), from);
    }

    #[test]
    fn strategic_merge_is_idempotent(names in prop::collection::btree_set("[a-f]", 0..5), patch in prop::collection::btree_map("[a-h]", "[x-z]", 0..5)) {
        let current = pod_spec(json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}));
        let patch = pod_spec(json!({"containers": patch.iter().map(|(n, i)| json!({"name": n, "image": i})).collect::<Vec<_>>()}));
        let once = strategic(&current, &patch, deployment()).unwrap();
        prop_assert_eq!(&strategic(&once, &patch, deployment()).unwrap(), &once);
    }
}

#[test]
fn copies_and_moves_do_not_grow_without_bound() {
    let document = json!({"b": {"a": "x".repeat(1_000), "c": {}}});
    let double = json!({"op": "copy", "from": "/b", "path": "/b/c/again"});
    let error = json(&document, &Value::Array(vec![double.clone(); 200])).err();
    assert!(error.as_ref().unwrap().to_string().starts_with("Unable to complete the copy"), "{error:?}");
    let deeper = json!([{"op": "add", "path": "/x", "value": {"y": 1}},
        {"op": "move", "from": "/b", "path": "/x/b"}, {"op": "move", "from": "/x", "path": "/b"}]);
    let deeper = Value::Array(vec![deeper.as_array().unwrap().clone(); 600].concat());
    assert_eq!(json(&document, &deeper).err(), Some(PatchError::Unprocessable("exceeded max depth".into())));
    let many = Value::Array(vec![double; 10_001]);
    let text = "The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!(json(&document, &many).err(), Some(PatchError::TooLarge(text.into())));
}

#[test]
fn long_lists_merge_in_reasonable_time() {
    let items = |from: usize| (from..from + 60_000).map(|i| json!(format!("f/{i}"))).collect::<Vec<_>>();
    let current = json!({"metadata": {"finalizers": items(0)}});
    let patch = json!({"metadata": {"finalizers": items(30_000)}});
    let merged = strategic(&current, &patch, deployment()).unwrap();
    assert_eq!(merged["metadata"]["finalizers"].as_array().map(Vec::len), Some(90_000));
}

#[test]
fn json_patches_follow_upstreams_library() {
    let object = json!({"a": {"x": "1"}, "list": [1, 2]});
    let patched = |operation: Value| json(&object, &json!([operation]));
    let cases = [
        // What is missing counts as null.
        (json!({"op": "replace", "path": "/a/none", "value": 1}), json!({"x": "1", "none": 1})),
        (json!({"op": "copy", "from": "/a/none", "path": "/a/y"}), json!({"x": "1", "y": null})),
        (json!({"op": "add", "path": "/a/y"}), json!({"x": "1", "y": null})),
        (json!({"op": "test", "path": "/a/none", "value": null}), json!({"x": "1"})),
        (json!({"op": "move", "from": "/a/x", "path": "/a/b~1c"}), json!({"b/c": "1"})),
    ];
    for (operation, a) in cases {
        assert_eq!(patched(operation.clone()).unwrap()["a"], a, "{operation}");
    }
    let at = |path: &str| patched(json!({"op": "add", "path": path, "value": 0})).map(|v| v["list"].clone());
    assert_eq!(at("/list/01"), Ok(json!([1, 0, 2])));
    assert_eq!(at("/list/-1"), Ok(json!([1, 2, 0])));
    assert!(at("/list/4").is_err() && at("/none/x").is_err() && at("").is_err());
    // What stands before the first slash does not count.
    assert_eq!(patched(json!({"op": "add", "path": "a/z", "value": 1})).unwrap()["z"], 1);
    for (body, text) in [
        (
            "{}",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            r#"[{"op":1}]"#,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
        ),
    ] {
        let error = parse_json(body.as_bytes(), Strictness::Warn).unwrap_err();
        assert_eq!(error, PatchError::BadRequest(text.into()));
    }
    let (patch, complaints) =
        parse_json(br#"[{"op":"add","path":"/x","value":1.0,"no":1}]"#, Strictness::Warn).unwrap();
    assert_eq!(patch[0]["value"].to_string(), "1.0");
    assert_eq!(complaints, ["json patch unknown field \"[0].no\""]);
}
