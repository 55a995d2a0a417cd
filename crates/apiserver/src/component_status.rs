//! `componentstatuses`: deprecated, computed, and still asked for.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::handlers::options::ListOptions;
use crate::status::ApiError;
use crate::tables;

/// The parts of the control plane; they live and die with this server.
const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

fn status(name: &str) -> Value {
    json!({"metadata": {"name": name}, "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
}

/// GET of one.
pub(crate) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let name = call.info.name.as_str();
    if !COMPONENTS.contains(&name) {
        return Err(ApiError::not_found("", "componentstatus", name));
    }
    let mut found = status(name);
    found["kind"] = json!("ComponentStatus");
    found["apiVersion"] = json!("v1");
    Ok(call.respond_object(StatusCode::OK, &found))
}

/// GET of all.
pub(crate) fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = ListOptions::parse(call, false)?;
    let (labels, fields) = (&options.filter.labels, &options.filter.fields);
    let selected = |name: &'static str| {
        labels.matches(&BTreeMap::new())
            && fields.matches(|field| if field == "metadata.name" { name } else { "" })
    };
    let items = COMPONENTS.into_iter().filter(|name| selected(name)).map(|name| {
        let mut item = status(name);
        item["kind"] = json!("ComponentStatus");
        item["apiVersion"] = json!("v1");
        item
    });
    Ok(call.output.respond(StatusCode::OK, &tables::list(call, json!({}), items)?))
}
