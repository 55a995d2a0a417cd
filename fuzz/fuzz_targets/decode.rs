//! Any bytes as JSON and as YAML of a type: what is accepted decodes to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::decode::{Strictness, decode_json, decode_value, decode_yaml, tidy};
use schema::types;

const KINDS: [(&str, &str, &str); 6] = [
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("apps", "v1", "Deployment"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("events.k8s.io", "v1", "Event"),
];

fuzz_target!(|data: &[u8]| {
    let [choice, body @ ..] = data else { return };
    let (group, version, kind) = KINDS[usize::from(choice & 7) % KINDS.len()];
    let Some(ty) = types::of_kind(group, version, kind) else { return };
    let strictness = [Strictness::Ignore, Strictness::Warn, Strictness::Strict][usize::from(choice >> 6) % 3];
    let decoded =
        if choice & 8 == 0 { decode_json(body, ty, strictness) } else { decode_yaml(body, ty, strictness) };
    let Ok(decoded) = decoded else { return };
    let again = decode_value(decoded.value.clone(), ty, Strictness::Strict);
    assert_eq!(again.map(|decoded| decoded.value).as_ref(), Ok(&decoded.value));
    let text = decoded.value.to_string();
    let again = decode_json(text.as_bytes(), ty, Strictness::Strict);
    assert_eq!(again.map(|decoded| decoded.value).as_ref(), Ok(&decoded.value));
    let mut tidied = decoded.value.clone();
    tidy(&mut tidied, ty);
    assert_eq!(tidied, decoded.value);
});
