use super::*;
use crate::types;
use proptest::prelude::*;
use serde_json::json;

fn pod() -> &'static Type {
    types::of_kind("", "v1", "Pod").unwrap()
}

fn decode(kind: (&str, &str, &str), text: &str) -> Result<Decoded, String> {
    let ty = types::of_kind(kind.0, kind.1, kind.2).unwrap();
    decode_json(text.as_bytes(), ty, Strictness::Warn).map_err(|e| e.to_string())
}

const CONFIG_MAP: (&str, &str, &str) = ("", "v1", "ConfigMap");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

#[test]
fn writes_what_go_would_write() {
    let body = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{},"uid":null},
        "spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1000m","memory":1024}},"stdin":false}],
        "terminationGracePeriodSeconds":0}}"#;
    let decoded = decode_json(body.as_bytes(), pod(), Strictness::Strict).unwrap();
    assert_eq!(
        decoded.value,
        json!({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},
            "spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1","memory":"1024"}}}],
            "terminationGracePeriodSeconds":0},"status":{}})
    );
    let again = decode_value(decoded.value.clone(), pod(), Strictness::Strict).unwrap();
    assert_eq!(again.value, decoded.value);
}

#[test]
fn wrong_kinds_are_reported_as_go_does() {
    let cases = [
        (
            CONFIG_MAP,
            r#"{"metadata":[]}"#,
            "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":{"generation":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field ObjectMeta.metadata.generation of type int64",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"replicas":99999999999}}"#,
            "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"template":{"spec":{"containers":"x"}}}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":{"creationTimestamp":"2020-13-01T00:00:00Z"}}"#,
            r#"parsing time "2020-13-01T00:00:00Z": month out of range"#,
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":{"creationTimestamp":"soon"}}"#,
            r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#,
        ),
        (CONFIG_MAP, r#"{"binaryData":{"a":"A*=="}}"#, "illegal base64 data at input byte 1"),
        (CONFIG_MAP, r#"{"metadata":5"#, "unexpected end of JSON input"),
        (CONFIG_MAP, r#"{"metadata":{"name":01}}"#, "invalid character '1' after object key:value pair"),
    ];
    for (kind, text, error) in cases {
        assert_eq!(decode(kind, text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_named_with_their_path() {
    let decoded = decode(
        DEPLOYMENT,
        r#"{"spec":{"replicaz":1,"replicas":2,"replicas":3,"template":{"spec":{"containers":[{"x":{"y":[1]}}]}}},"metadata":{"labels":{"a":"1","a":"2"}}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"unknown field "spec.replicaz""#,
            r#"duplicate field "spec.replicas""#,
            r#"unknown field "spec.template.spec.containers[0].x""#,
            r#"duplicate field "metadata.labels.a""#,
        ]
    );
    assert_eq!(decoded.value["spec"]["replicas"], 3);
}

#[test]
fn results_of_patches_are_complained_about_as_trees() {
    let ty = types::of_kind("apps", "v1", "Deployment").unwrap();
    let cases = [
        (json!({"spec": []}), "cannot restore struct from: slice"),
        (json!({"spec": {"replicas": "x"}}), "unrecognized type: int32"),
        (json!({"spec": {"template": {"spec": {"containers": {"a": 1}}}}}), "cannot restore slice from map"),
        (json!({"metadata": {"name": 5}}), "cannot convert int64 to string"),
    ];
    for (value, text) in cases {
        assert_eq!(decode_patched(value, ty, Strictness::Warn).unwrap_err().to_string(), text);
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |n: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert!(decode(CONFIG_MAP, &deep(9_000)).is_ok());
    assert_eq!(decode(CONFIG_MAP, &deep(10_001)).unwrap_err(), "exceeded max depth");
    // What is kept must be readable again by parsers that allow for less.
    for (depth, kept) in [(99, true), (100, false)] {
        let text = deep(depth);
        assert_eq!(json_to_value(text.as_bytes()).is_ok(), kept);
        assert_eq!(yaml_to_value(text.as_bytes()).is_ok(), kept);
        let ty = Type::new("", "map[string]interface {}", crate::types::Shape::Any);
        let value = serde_json::from_str(&text).unwrap();
        assert_eq!(decode_value(value, &ty, Strictness::Ignore).is_ok(), kept);
    }
    assert_eq!(json_to_value(deep(100).as_bytes()).unwrap_err().to_string(), "exceeded max depth");
}

#[test]
fn odd_texts_are_replaced_not_refused() {
    let decoded = decode(CONFIG_MAP, r#"{"data":{"a":"x\ud800","b":"\ud83d\ude00"}}"#).unwrap();
    assert_eq!(decoded.value["data"], json!({"a": "x\u{fffd}", "b": "\u{1f600}"}));
    let raw = b"{\"data\":{\"a\":\"\xff\xfe\"}}";
    let ty = types::of_kind("", "v1", "ConfigMap").unwrap();
    let decoded = decode_json(raw, ty, Strictness::Ignore).unwrap();
    assert_eq!(decoded.value["data"]["a"], "\u{fffd}\u{fffd}");
}

#[test]
fn times_and_durations_are_normalised() {
    let time = |t: &str| time::time(t).unwrap();
    assert_eq!(time("2026-02-03T04:05:06.789+01:00"), "2026-02-03T03:05:06Z");
    assert_eq!(time("0001-01-01T00:00:00Z"), Value::Null);
    assert_eq!(time::micro_time("2026-02-03T04:05:06.000007Z").unwrap(), "2026-02-03T04:05:06.000007Z");
    assert_eq!(duration::duration("90m").unwrap(), "1h30m0s");
    assert_eq!(duration::duration("1.5s").unwrap(), "1.5s");
    assert_eq!(duration::duration("1d").unwrap_err(), r#"time: unknown unit "d" in duration "1d""#);
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~\u{e9}\u{1f600}]{0,6}".prop_map(Value::from),
    ]
}

/// Bodies that are near enough to ConfigMaps to be decoded sometimes.
fn bodies() -> impl Strategy<Value = Value> {
    let data = prop::collection::btree_map("[a-c]{1,2}", scalars(), 0..4);
    let labels = prop::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..3);
    (data, labels, scalars()).prop_map(|(data, labels, immutable)| {
        json!({"metadata": {"name": "n", "labels": labels}, "data": data, "immutable": immutable})
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decoding_what_was_encoded_changes_nothing(body in bodies()) {
        let ty = types::of_kind("", "v1", "ConfigMap").unwrap();
        let text = serde_json::to_vec(&body).unwrap();
        if let Ok(first) = decode_json(&text, ty, Strictness::Strict) {
            let stored = serde_json::to_vec(&first.value).unwrap();
            let again = decode_json(&stored, ty, Strictness::Strict).unwrap();
            prop_assert_eq!(&again.value, &first.value);
            prop_assert_eq!(&decode_value(first.value.clone(), ty, Strictness::Strict).unwrap().value, &first.value);
        }
    }

    #[test]
    fn both_inputs_agree(body in bodies()) {
        let ty = types::of_kind("", "v1", "ConfigMap").unwrap();
        let text = serde_json::to_vec(&body).unwrap();
        prop_assert_eq!(decode_json(&text, ty, Strictness::Warn), decode_value(body, ty, Strictness::Warn));
    }

    #[test]
    fn any_bytes_are_refused_or_read(text in "[{}\\[\\]:,\"a0-1.e\\\\ntrul ]{0,24}") {
        let ours = json_to_value(text.as_bytes());
        let theirs: Result<Value, _> = serde_json::from_str(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}", text);
    }

    #[test]
    fn quantities_have_one_canonical_form(text in "[0-9]{1,6}(\\.[0-9]{1,4})?(|m|k|M|Ki|Mi|Gi|e2)") {
        let ty = types::of_kind("", "v1", "LimitRange").unwrap();
        let body = |q: &str| json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": q}}]}});
        let quantity = |text: &str| {
            let decoded = decode_value(body(text), ty, Strictness::Strict).unwrap().value;
            decoded["spec"]["limits"][0]["max"]["cpu"].as_str().unwrap().to_string()
        };
        let canonical = quantity(&text);
        prop_assert_eq!(quantity(&canonical), canonical.clone());
        prop_assert_eq!(api::quantity::Quantity::parse(&canonical), api::quantity::Quantity::parse(&text));
    }
}
