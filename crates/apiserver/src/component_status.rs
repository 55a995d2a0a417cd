//! `componentstatuses`: deprecated, computed, and still asked for.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::negotiate::Shape;
use crate::status::ApiError;
use crate::tables::{self, IncludeObject};

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
pub(crate) fn list(call: &Call) -> Response<Body> {
    let items = COMPONENTS.map(status);
    let body = match call.output.shape {
        Shape::Object => {
            json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items})
        }
        Shape::Metadata(version) => {
            let items = items.each_ref().map(|item| tables::partial(item, version, false));
            json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": {}, "items": items})
        }
        Shape::Table(version) => {
            let include = IncludeObject::of(call);
            let rows = items.iter().map(|item| tables::row(&call.kind, item, include, version)).collect();
            tables::table(json!({}), tables::columns(&call.kind), rows, version)
        }
    };
    call.output.respond(StatusCode::OK, &body)
}
