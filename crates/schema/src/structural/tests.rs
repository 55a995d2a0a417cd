//! Custom objects, from their definition to what is wrong with them.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::custom::Source;
use super::value::{Mode, Validator};
use super::*;
use crate::field::{ErrorList, Path};

/// A definition of `Thing` in `t.example.com/v1`, with defaults and status.
fn definition(schema: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.t.example.com"},
        "spec": {
            "group": "t.example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let strategy = crate::strategy::of("apiextensions.k8s.io", "CustomResourceDefinition");
    (strategy.default)(&mut object);
    (strategy.prepare_create)(&mut object);
    object
}

/// A version whose `spec` has the given fields.
fn version_of(properties: Value) -> CustomVersion {
    let spec = json!({"type": "object", "properties": properties});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    CustomVersion::compile(&definition(schema), "v1").unwrap()
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "t.example.com/v1", "kind": "Thing",
        "metadata": {"name": "x", "namespace": "n", "generation": 1}, "spec": spec})
}

fn lines(errs: &ErrorList) -> String {
    errs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn check_value(schema: Value, value: Value, expected: Expect) {
    let validator = Validator::new(&Structural::parse(&schema).unwrap(), Mode::Objects);
    expected.assert_eq(&lines(&validator.check(&Path::root(), &value)));
}

fn check_definition(schema: Value, expected: Expect) {
    expected.assert_eq(&lines(&crd::validate(&definition(schema))));
}

#[test]
fn values_are_checked_in_the_words_of_kube_openapi() {
    let schema = json!({"type": "object", "required": ["r"], "properties": {
        "s": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"},
        "i": {"type": "integer", "minimum": 1, "maximum": 10, "exclusiveMaximum": true, "multipleOf": 3},
        "n": {"type": "number", "minimum": 0.5},
        "i32": {"type": "integer", "format": "int32"},
        "e": {"type": "string", "enum": ["a", "b"]},
        "d": {"type": "string", "format": "date"},
        "l": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "boolean"}},
        "m": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "integer"}},
        "z": {"type": "string"},
        "nz": {"type": "string", "nullable": true},
    }});
    check_value(
        schema.clone(),
        json!({"s": "éé", "i": 12, "n": 0.25, "i32": 3_000_000_000i64, "e": "c", "d": "x", "l": [], "m": {"a": 1, "b": "x"},
            "z": null, "nz": null}),
        expect![[r#"
            d: Invalid value: "x": d in body must be of type date: "x"
            e: Unsupported value: "c": supported values: "a", "b"
            i: Invalid value: 12: i in body should be less than 10
            <nil>: Invalid value: "": Checked value must be of type integer with format int32 in i32
            l: Invalid value: 0: l in body should have at least 1 items
            m: Too many: 2: must have at most 1 item
            m.b: Invalid value: "string": m.b in body must be of type integer: "string"
            n: Invalid value: 0.25: n in body should be greater than or equal to 0.5
            s: Invalid value: "éé": s in body should match '^a'
            z: Invalid value: "null": z in body must be of type string: "null"
            r: Required value"#]],
    );
    check_value(
        schema,
        json!({"s": "abcd", "i": 4, "l": [true, 1, false], "d": 5, "r": 1}),
        expect![[r#"
            d: Invalid value: "int64": d in body must be of type date: "int64"
            i: Invalid value: 4: i in body should be a multiple of 3
            l[1]: Invalid value: "integer": l[1] in body must be of type boolean: "integer"
            l: Too many: 3: must have at most 2 items
            s: Too long: may not be more than 3 bytes"#]],
    );
}

#[test]
fn of_alternatives_the_best_one_is_reported() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "object",
        "properties": {"x": {"type": "string"}, "y": {"type": "integer"}},
        "oneOf": [{"required": ["x"]}, {"required": ["y"]}],
        "anyOf": [{"properties": {"y": {"minimum": 5}}}, {"required": ["z"]}],
        "not": {"required": ["x", "y"]},
        "allOf": [{"properties": {"x": {"maxLength": 1}}}]}}});
    check_value(schema.clone(), json!({"a": {"x": "v"}}), expect![""]);
    check_value(
        schema,
        json!({"a": {"x": "vv", "y": 1}}),
        expect![[r#"
            <nil>: Invalid value: "": "a" must validate at least one schema (anyOf)
            a.y: Invalid value: 1: a.y in body should be greater than or equal to 5
            <nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives
            a.x: Too long: may not be more than 1 byte
            <nil>: Invalid value: "": "a" must validate all the schemas (allOf). None validated
            <nil>: Invalid value: "": "a" must not validate the schema (not)"#]],
    );
}

#[test]
fn formats() {
    let cases = [
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("email", "A <a@b.c>", "a@"),
        ("email", "\"a b\"@[127.0.0.1]", "a b@c"),
        ("hostname", "a.example.com", "-a"),
        ("ipv4", "010.0.0.1", "::1"),
        ("ipv6", "::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("mac", "0000.5e00.5301", "00:00"),
        ("uri", "https://a/b?c", "a/b"),
        ("uri", "mailto:x", ":x"),
        ("byte", "YQ==", "YQ"),
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-02-29T10:00:00.5+01:00", "2024-02-29 10:00:00Z"),
        ("duration", "1h30m", "an hour"),
        ("duration", "5 days", "5 yards"),
        ("hexcolor", "#fff", "#ffff"),
        ("rgbcolor", "rgb(1, 2,255)", "rgb(1,2,256)"),
        ("isbn", "978-0321751041", "978-0321751042"),
        ("isbn10", "0321751043", "0321751044"),
        ("creditcard", "4111 1111 1111 1111", "4111111111111112"),
        ("ssn", "111-11-1111", "111111111"),
        ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
        ("k8s-short-name", "a-b", "a.b"),
        ("k8s-long-name", "a.b", "a..b"),
    ];
    for (format, good, bad) in cases {
        let validator = |text: &str| {
            let schema = Structural::parse(&json!({"type": "string", "format": format})).unwrap();
            Validator::new(&schema, Mode::Objects).check(&Path::root(), &json!(text)).is_empty()
        };
        assert!(validator(good), "{format} {good}");
        assert!(!validator(bad), "{format} {bad}");
    }
}

#[test]
fn unknown_fields_go_and_are_named() {
    let version = version_of(json!({
        "a": {"type": "string"},
        "keep": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"inner": {"type": "object", "properties": {"b": {"type": "string"}}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "string"}}}},
        "emb": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }));
    let mut object = thing(json!({"a": "1", "x": 1, "keep": {"y": 1, "inner": {"b": "1", "z": 2}},
        "map": {"k": {"c": "1", "d": 2}},
        "emb": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "e", "odd": 1}, "more": 1}}));
    object["metadata"]["strange"] = json!(1);
    let unknown = version.coerce(&mut object, Source::Request { track_unknown: true }).unwrap();
    expect![[r#"
        metadata.strange
        spec.emb.more
        spec.keep.inner.z
        spec.map.k.d
        spec.x
        spec.emb.metadata.odd"#]]
    .assert_eq(&unknown.join("\n"));
    expect![[r#"{"a":"1","emb":{"apiVersion":"v1","kind":"K","metadata":{"name":"e"}},"keep":{"inner":{"b":"1"},"y":1},"map":{"k":{"c":"1"}}}"#]]
        .assert_eq(&object["spec"].to_string());
}

#[test]
fn defaults_fill_what_is_missing_or_wrongly_null() {
    let version = version_of(json!({
        "a": {"type": "string", "default": "d"},
        "n": {"type": "string", "nullable": true, "default": "d"},
        "gone": {"type": "string"},
        "l": {"type": "array", "items": {"type": "object", "properties": {"v": {"type": "integer", "default": 1}}}},
        "m": {"type": "object", "additionalProperties": {"type": "string", "default": "x"}},
    }));
    let mut object =
        thing(json!({"a": null, "n": null, "gone": null, "l": [{}, {"v": 2}], "m": {"k": null}}));
    version.coerce(&mut object, Source::Request { track_unknown: false }).unwrap();
    version.apply_defaults(&mut object);
    expect![[r#"{"a":"d","l":[{"v":1},{"v":2}],"m":{"k":"x"},"n":null}"#]]
        .assert_eq(&object["spec"].to_string());
}

#[test]
fn what_did_not_change_may_stay_wrong() {
    let version = version_of(json!({
        "s": {"type": "string", "maxLength": 3},
        "t": {"type": "string"},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"],
                "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
        "at": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        "imm": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]},
    }));
    let old = thing(json!({"s": "long", "l": [{"k": "a", "v": "long"}], "at": ["long"], "imm": "1"}));
    let new = thing(
        json!({"s": "long", "t": "new", "l": [{"k": "b"}, {"k": "a", "v": "long"}], "at": ["long"], "imm": "1"}),
    );
    assert_eq!(lines(&version.check_update(&new, &old).errors), "");
    let new =
        thing(json!({"s": "longer", "l": [{"k": "a", "v": "longer"}], "at": ["long", "x"], "imm": "1"}));
    expect![[r#"
        spec.at[0]: Too long: may not be more than 1 byte
        spec.l[0].v: Too long: may not be more than 1 byte
        spec.s: Too long: may not be more than 3 bytes
        <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#]]
    .assert_eq(&lines(&version.check_update(&new, &old).errors));
}

#[test]
fn rules_are_evaluated_where_they_stand() {
    let version = version_of(json!({
        "min": {"type": "integer"},
        "max": {"type": "integer"},
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self.startsWith('a')", "messageExpression": "self + ' is wrong'"}]}},
        "imm": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]},
        "opt": {"type": "string", "x-kubernetes-validations": [
            {"rule": "!oldSelf.hasValue() || self != 'x'", "optionalOldSelf": true, "reason": "FieldValueForbidden"}]},
    }));
    let errors = lines(&version.check_create(&thing(json!({"list": ["a", "b"], "imm": "1", "opt": "x"}))));
    expect![[r#"spec.list[1]: Invalid value: "b": b is wrong"#]].assert_eq(&errors);
    let (old, new) = (thing(json!({"imm": "1", "opt": "y"})), thing(json!({"imm": "2", "opt": "x"})));
    expect![[r#"
        spec.imm: Invalid value: "2": immutable
        spec.opt: Forbidden: failed rule: !oldSelf.hasValue() || self != 'x'"#]]
    .assert_eq(&lines(&version.check_update(&new, &old).errors));
    // What was wrong before is worth a warning only.
    let both = thing(json!({"list": ["b"]}));
    let checked = version.check_update(&both, &both);
    assert_eq!(lines(&checked.errors), "");
    assert_eq!(checked.warnings, [r#"spec.list[0]: Invalid value: "b": b is wrong"#]);
}

#[test]
fn a_runaway_rule_ends_with_the_budget() {
    let version =
        version_of(json!({"l": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"}]}}));
    let errors = lines(&version.check_create(&thing(json!({"l": (0..200).collect::<Vec<_>>()}))));
    expect![[r#"spec.l: Invalid value: "array": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"#]]
        .assert_eq(&errors);
}

#[test]
fn lists_that_are_sets_or_maps() {
    let version = version_of(json!({
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
            "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}},
    }));
    let object = thing(json!({"set": ["x", "y", "x", "x"], "map": [{"a": "1", "b": 1}, {"a": "1", "b": 1}]}));
    expect![[r#"
        spec.map[1]: Duplicate value: {"a":"1","b":1}
        spec.set[2]: Duplicate value: "x""#]]
    .assert_eq(&lines(&version.check_create(&object)));
}

#[test]
fn definitions_must_be_structural() {
    let of = |a: Value| json!({"type": "object", "properties": {"a": a}});
    check_definition(of(json!({"type": "string"})), expect![""]);
    check_definition(
        json!({"type": "object", "properties": {"a": {"type": "object"}},
            "allOf": [{"properties": {"a": {"properties": {"x": {"minLength": 1}}}}}]}),
        expect![
            "spec.validation.openAPIV3Schema.properties[a].properties[x]: Required value: because it is defined in spec.validation.openAPIV3Schema.allOf[0].properties[a].properties[x]"
        ],
    );
    check_definition(
        of(json!({"type": "object", "properties": {"x": {"type": "string"}}, "default": {"x": 1, "y": 2}})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].default: Invalid value: {"x":1,"y":2}: must not have unknown fields
            spec.validation.openAPIV3Schema.properties[a].default.x: Invalid value: "integer": x in body must be of type string: "integer""#]],
    );
    check_definition(
        of(json!({"type": "string", "default": "b", "enum": ["a"], "x-kubernetes-list-type": "set"})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].default: Unsupported value: "b": supported values: "a"
            spec.validation.openAPIV3Schema.properties[a].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#]],
    );
}

#[test]
fn rules_in_definitions() {
    let of = |rule: Value| {
        json!({"type": "object", "properties": {"a": {"type": "array", "items": {
            "type": "string", "maxLength": 5, "x-kubernetes-validations": [rule]}, "maxItems": 5}}})
    };
    check_definition(of(json!({"rule": "self == 'a'"})), expect![""]);
    check_definition(
        of(json!({"rule": "self == oldSelf", "message": "a\nb"})),
        expect![[
            r#"spec.validation.openAPIV3Schema.properties[a].items.x-kubernetes-validations[0].message: Invalid value: "a\nb": must not contain line breaks"#
        ]],
    );
    check_definition(
        of(json!({"rule": "self == oldSelf"})),
        expect![[
            r#"spec.validation.openAPIV3Schema.properties[a].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[a]"#
        ]],
    );
    check_definition(
        of(json!({"rule": "true", "messageExpression": "1", "fieldPath": ".x"})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].items.x-kubernetes-validations[0].fieldPath: Invalid value: ".x": must be a valid path"#]],
    );
}

#[test]
fn a_changed_definition_keeps_its_identity() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let mut old = definition(schema);
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["names"]["kind"] = json!("Other");
    new["spec"]["versions"][0]["name"] = json!("v2");
    crd::prepare_update(&mut new, &old);
    expect![[r#"
        spec.scope: Invalid value: "Cluster": field is immutable
        spec.names.kind: Invalid value: "Other": field is immutable
        status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"#]]
    .assert_eq(&lines(&crd::validate_update(&new, &old)));
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
}

#[test]
fn types_of_custom_kinds_merge_as_the_schema_says() {
    let version = version_of(json!({
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }));
    let spec = &version.ty().field("spec").unwrap().ty;
    let crate::types::Shape::List(list) = spec.field("l").unwrap().ty.shape() else { panic!("no list") };
    assert_eq!(list.merge, crate::types::ListMerge::Map(vec!["k".to_owned()]));
    assert_eq!(list.items.field("k").unwrap().key_default(), Some(json!("d")));
    assert!(spec.field("free").unwrap().ty.as_struct().unwrap().preserve_unknown);
    assert!(version.ty().field("metadata").unwrap().ty.field("labels").is_some());
    assert_eq!(version.ty().name(), "com.example.t.v1.Thing");
}

#[test]
fn tables_and_selectable_fields() {
    let mut definition = definition(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let version = &mut definition["spec"]["versions"][0];
    version["additionalPrinterColumns"] = json!([
        {"name": "A", "type": "integer", "jsonPath": ".spec.a"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Made", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 1},
        {"name": "Last", "type": "string", "jsonPath": ".spec.l[-1:]"},
        {"name": "All", "type": "string", "jsonPath": ".spec"},
        {"name": "None", "type": "boolean", "jsonPath": ".spec.none"},
    ]);
    version["selectableFields"] = json!([{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.none"}]);
    let version = CustomVersion::compile(&definition, "v1").unwrap();
    let object = json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"a": 5, "l": ["x", "y"]},
        "status": {"conditions": [{"type": "Odd", "status": "No"}, {"type": "Ready", "status": "True"}]}});
    let cells = version.columns().cells(&object, &|then| then.to_string());
    assert_eq!(
        cells,
        [
            json!(5),
            json!("True"),
            json!("2024-01-01T00:00:00Z"),
            json!("y"),
            json!(r#"{"a":5,"l":["x","y"]}"#),
            Value::Null,
        ]
    );
    let selectable = version.selectable_fields(&object);
    assert_eq!(selectable, [("spec.a".to_owned(), "5".to_owned()), ("spec.none".to_owned(), String::new())]);
}

#[test]
fn version_two_documents_leave_out_what_kubectl_did_not_understand() {
    let definition = definition(json!({"type": "object", "properties": {"spec": {"type": "object",
    "required": ["n", "p"],
    "properties": {
        "n": {"type": "string", "nullable": true},
        "p": {"x-kubernetes-int-or-string": true, "default": 1},
        "k": {"type": "object", "properties": {"x": {"type": "string"}}, "x-kubernetes-preserve-unknown-fields": true},
    }}}}));
    let spec = |document| openapi::kind_schema(&definition, "v1", document)["properties"]["spec"].to_string();
    expect![[r#"{"properties":{"k":{"x-kubernetes-preserve-unknown-fields":true},"n":{},"p":{"x-kubernetes-int-or-string":true}},"required":["p"],"type":"object"}"#]]
        .assert_eq(&spec(openapi::Document::V2));
    expect![[r#"{"properties":{"k":{"properties":{"x":{"type":"string"}},"type":"object","x-kubernetes-preserve-unknown-fields":true},"n":{"nullable":true,"type":"string"},"p":{"anyOf":[{"type":"integer"},{"type":"string"}],"default":1,"x-kubernetes-int-or-string":true}},"required":["n","p"],"type":"object"}"#]]
        .assert_eq(&spec(openapi::Document::V3));
}

/// Schemas of a few levels.
fn any_schema() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "integer", "nullable": true})),
        Just(json!({"x-kubernetes-int-or-string": true})),
    ];
    scalar.prop_recursive(3, 24, 4, |inner| {
        let fields = prop::collection::btree_map("[a-d]", inner.clone(), 0..4);
        prop_oneof![
            fields.clone().prop_map(|p| json!({"type": "object", "properties": p})),
            fields.prop_map(
                |p| json!({"type": "object", "properties": p, "x-kubernetes-preserve-unknown-fields": true})
            ),
            inner.clone().prop_map(|s| json!({"type": "object", "additionalProperties": s})),
            inner.prop_map(|s| json!({"type": "array", "items": s})),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from)
    ];
    scalar.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]", inner, 0..4).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pruning_and_defaulting_come_to_rest(schema in any_schema(), value in any_value()) {
        let schema = Structural::parse(&schema).unwrap();
        let mut value = value;
        let unknown = pruning::prune(&mut value, Some(&schema), false, true);
        let pruned = value.clone();
        prop_assert!(pruning::prune(&mut value, Some(&schema), false, true).is_empty(), "{unknown:?}");
        prop_assert_eq!(&value, &pruned);
        defaulting::drop_nulls(&mut value, Some(&schema));
        let without = value.clone();
        defaulting::drop_nulls(&mut value, Some(&schema));
        prop_assert_eq!(&value, &without);
        defaulting::apply(&mut value, &schema);
        let defaulted = value.clone();
        defaulting::apply(&mut value, &schema);
        prop_assert_eq!(&value, &defaulted);
        prop_assert!(pruning::prune(&mut value, Some(&schema), false, true).is_empty());
    }

    #[test]
    fn an_unchanged_value_is_never_refused(schema in any_schema(), value in any_value()) {
        let schema = Structural::parse(&schema).unwrap();
        let mut value = value;
        pruning::prune(&mut value, Some(&schema), false, false);
        let same = ratcheting::Correlated::new(&value, &value, &schema);
        let checked = Validator::new(&schema, Mode::Objects).check_update(&Path::root(), &value, Some(same));
        prop_assert!(!same.unchanged() || checked.is_empty());
    }

    #[test]
    fn patterns_never_panic(pattern in "[\\[\\]\\\\(){}*+?|^$.,a-d0-9:<>P=!-]{0,16}") {
        let _ = regexp::compile(&pattern);
        let _ = json_path::JsonPath::parse(&format!("{{{pattern}}}"));
        let _ = valid_field_path(&pattern, &Structural::default(), true);
    }
}
