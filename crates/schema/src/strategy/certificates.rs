//! Preparing CertificateSigningRequests: each of their three endpoints writes one part.

use serde_json::{Value, json};

use super::prepare;

/// The request itself never changes.
pub fn update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "spec");
    prepare::keep(new, old, "status");
}

/// The status changes but for what was approved or denied.
pub fn status_update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "spec");
    for decision in ["Approved", "Denied"] {
        let of = |object: &Value| -> Vec<usize> {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten().enumerate();
            conditions.filter(|(_, c)| c["type"] == decision).map(|(index, _)| index).collect()
        };
        let (now, before) = (of(new), of(old));
        // If there are more or fewer, validation says so.
        if now.len() == before.len() {
            for (now, before) in now.into_iter().zip(before) {
                new["status"]["conditions"][now] = old["status"]["conditions"][before].clone();
            }
        }
    }
    date_conditions(new, old);
}

/// An approval changes the conditions.
pub fn approval_update(new: &mut Value, old: &Value) {
    date_conditions(new, old);
    let conditions = new["status"]["conditions"].take();
    prepare::keep(new, old, "spec");
    prepare::keep(new, old, "status");
    if !new["status"].is_object() {
        new["status"] = json!({});
    }
    new["status"]["conditions"] = conditions;
}

/// Conditions say when they were written and when they came about.
fn date_conditions(new: &mut Value, old: &Value) {
    let now = base::clock::rfc3339(base::clock::now());
    let before: Vec<&Value> = old["status"]["conditions"].as_array().into_iter().flatten().collect();
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|condition| condition.is_object()) {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = json!(now);
        }
        if condition["lastTransitionTime"].is_null() {
            let known = before.iter().find(|known| {
                known["type"] == condition["type"]
                    && known["status"] == condition["status"]
                    && !known["lastTransitionTime"].is_null()
            });
            condition["lastTransitionTime"] =
                known.map_or_else(|| json!(now), |known| known["lastTransitionTime"].clone());
        }
    }
}
