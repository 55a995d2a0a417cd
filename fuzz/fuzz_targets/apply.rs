//! Two configurations applied to a Deployment one after the other: the second time changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::apply::{self, ApplyRequest, Set};
use schema::decode::{Strictness, decode_value, json_to_value};
use schema::types;
use serde_json::Value;

const NOW: &str = "2026-01-02T03:04:05Z";

fn apply(live: Option<&Value>, config: &Value, manager: &str) -> Option<Value> {
    let ty = types::of_kind("apps", "v1", "Deployment")?;
    let mut patch = config.clone();
    patch.as_object_mut()?.insert("apiVersion".into(), "apps/v1".into());
    let request = ApplyRequest {
        live,
        patch,
        ty,
        manager,
        api_version: "apps/v1",
        subresource: "",
        force: true,
        ignored: &Set::default(),
        now: NOW,
        convert: None,
    };
    let merged = apply::apply(&request).ok()?;
    decode_value(merged, ty, Strictness::Ignore).ok().map(|decoded| decoded.value)
}

fuzz_target!(|data: &[u8]| {
    let Some(split) = data.iter().position(|byte| *byte == 0) else { return };
    let (Ok(first), Ok(second)) = (json_to_value(&data[..split]), json_to_value(&data[split + 1..])) else {
        return;
    };
    let Some(live) = apply(None, &first, "one") else { return };
    let Some(live) = apply(Some(&live), &second, "two") else { return };
    let again = apply(Some(&live), &second, "two");
    assert_eq!(again.as_ref(), Some(&live), "applying the same again changes nothing");
});
