//! Definitions on their way to the store.

use serde_json::{Value, json};

use crate::strategy::prepare;

const STATUS_TYPE: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus";

/// A new definition has no status but for the version that is stored, and generation 1.
pub fn prepare_create(object: &mut Value) {
    let status = crate::types::get(STATUS_TYPE).map(|ty| ty.zero()).unwrap_or_else(|| json!({}));
    object["status"] = status;
    prepare::start_generation(object);
    store_version(object);
}

/// A changed definition keeps its status, to which the stored version is added; changes count.
pub fn prepare_update(new: &mut Value, old: &Value) {
    prepare::update(new, old);
    store_version(new);
}

/// The storage version is one of those that are stored.
fn store_version(object: &mut Value) {
    let versions = object["spec"]["versions"].as_array().into_iter().flatten();
    let Some(name) = versions.into_iter().find(|v| v["storage"] == true).map(|v| v["name"].clone()) else {
        return;
    };
    let status = &mut object["status"];
    if !status.is_object() {
        *status = json!({});
    }
    let stored = &mut status["storedVersions"];
    match stored {
        Value::Array(stored) if stored.contains(&name) => {}
        Value::Array(stored) => stored.push(name),
        other => *other = json!([name]),
    }
}
