//! Any document with any patch, both split at a zero byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::decode::{Strictness, decode_json, json_to_value};
use schema::{patch, types};

fuzz_target!(|data: &[u8]| {
    let Some(split) = data.iter().position(|byte| *byte == 0) else { return };
    let (document, body) = (&data[..split], &data[split + 1..]);
    if let Ok(document) = json_to_value(document) {
        if let Ok((operations, _)) = patch::parse_json(body, schema::decode::Strictness::Warn) {
            let _ = patch::json(&document, &operations);
        }
        if let Ok((merge, _)) = patch::parse_merge(body, schema::decode::Strictness::Warn)
            && let Ok(once) = patch::merge(&document, &merge)
        {
            assert_eq!(
                patch::merge(&once, &merge).ok().as_ref(),
                Some(&once),
                "a merge patch says what is there after it"
            );
        }
    }
    let Some(pod) = types::of_kind("", "v1", "Pod") else { return };
    if let Ok(document) = decode_json(document, pod, Strictness::Ignore)
        && let Ok((strategic, _)) = patch::parse_strategic(body)
    {
        let _ = patch::strategic(&document.value, &strategic, pod);
    }
});
