//! RuntimeClass: the overhead of a pod's runtime, and the nodes that have it.

use api::resource_list as lists;
use serde_json::{Value, json};

use super::lookup::{RUNTIME_CLASSES, path_fault};
use super::{Attributes, Operation};
use crate::status::ApiError;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

async fn class_of(attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, ApiError> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(None) };
    if let Some(fault) = path_fault(name) {
        // Upstream passes on what its client says.
        return Err(ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(fault) });
    }
    match RUNTIME_CLASSES.get(attributes.call, "", name).await? {
        Some(entry) => entry.try_value().map(Some),
        None => {
            let why = format!("pod rejected: RuntimeClass {} not found", schema::gotext::quote(name));
            Err(attributes.forbidden(pod, why))
        }
    }
}

fn is_new_pod(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Create && attributes.is("", "pods")
}

/// Fills in the overhead, and what the scheduler must know.
pub(super) async fn admit(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !is_new_pod(attributes) {
        return Ok(());
    }
    let Some(class) = class_of(attributes, pod).await? else { return Ok(()) };
    if class["overhead"].is_object() {
        let given = lists::read(&pod["spec"]["overhead"]);
        let defined = lists::read(&class["overhead"]["podFixed"]);
        if !given.is_empty() && given != defined {
            return Err(attributes.forbidden(pod, MISMATCH));
        }
        pod["spec"]["overhead"] = lists::write(&defined);
    }
    let scheduling = &class["scheduling"];
    if !scheduling.is_object() {
        return Ok(());
    }
    for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let wanted = wanted.as_str().unwrap_or_default();
        let given = pod["spec"]["nodeSelector"].get(key).and_then(Value::as_str);
        if let Some(given) = given.filter(|given| *given != wanted) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
            );
            return Err(attributes.forbidden(pod, why));
        }
        pod["spec"]["nodeSelector"][key] = wanted.into();
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let all = [list(&pod["spec"]["tolerations"]), list(&scheduling["tolerations"])].concat();
    if !all.is_empty() {
        pod["spec"]["tolerations"] = json!(merge(&all));
    }
    Ok(())
}

/// All that is tolerated, without what something else in the list includes.
fn merge(all: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let redundant = merged.iter().any(|other| includes(other, toleration))
            // Of equal ones the first stays.
            || all[index + 1..].iter().any(|other| other != toleration && includes(other, toleration));
        if !redundant {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Whether `wide` tolerates everything that `narrow` does.
fn includes(wide: &Value, narrow: &Value) -> bool {
    fn text<'a>(toleration: &'a Value, field: &str) -> &'a str {
        toleration[field].as_str().unwrap_or_default()
    }
    if wide == narrow {
        return true;
    }
    let every_key = text(wide, "key").is_empty() && text(wide, "operator") == "Exists";
    if text(narrow, "key") != text(wide, "key") && !every_key {
        return false;
    }
    let effect = text(wide, "effect");
    if !effect.is_empty() && effect != text(narrow, "effect") {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = wide["tolerationSeconds"].as_i64()
        && narrow["tolerationSeconds"].as_i64().is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match text(wide, "operator") {
        "" | "Equal" => text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value"),
        operator => operator == "Exists",
    }
}

/// Overhead comes from the class and from nowhere else.
pub(super) async fn validate(attributes: &Attributes<'_>, pod: &Value) -> Result<(), ApiError> {
    if !is_new_pod(attributes) {
        return Ok(());
    }
    let class = class_of(attributes, pod).await?;
    let overhead = &pod["spec"]["overhead"];
    match class.map(|class| class["overhead"].clone()).filter(Value::is_object) {
        Some(defined) if lists::read(&defined["podFixed"]) != lists::read(overhead) => {
            Err(attributes.forbidden(pod, MISMATCH))
        }
        None if !overhead.is_null() => Err(attributes.forbidden(
            pod,
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_are_merged() {
        let narrow = json!({"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"});
        let wide = json!({"key": "a", "operator": "Exists"});
        let other = json!({"key": "b", "operator": "Exists"});
        let all = [narrow, other.clone(), wide.clone(), other.clone()];
        assert_eq!(merge(&all), [other, wide]);
    }
}
