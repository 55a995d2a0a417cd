//! Everything that is not a resource: health, version, discovery, OpenAPI.

use std::sync::Arc;

use api::user::UserInfo;
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::negotiate::Output;
use crate::query::Query;
use crate::server::Inner;
use crate::service::plain;
use crate::status::ApiError;
use crate::{discovery, openapi};

/// Answers a path that names no resource.
pub(crate) async fn handle(
    server: &Arc<Inner>,
    parts: &Parts,
    query: &Query,
    _user: &Arc<UserInfo>,
) -> Result<Response<Body>, ApiError> {
    let path = parts.uri.path();
    match path {
        "/healthz" | "/livez" | "/readyz" => Ok(health(path, query)),
        "/version" | "/version/" => {
            Ok(Output { pretty: true, ..Output::default() }.respond(StatusCode::OK, &version()))
        }
        _ => {
            let registry = server.registry();
            if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") {
                if let Some(answer) = discovery::respond(&registry, path, &parts.headers, query) {
                    return answer;
                }
            } else if path.starts_with("/openapi/")
                && let Some(answer) = openapi::respond(registry, path, &parts.headers, query).await
            {
                return answer;
            }
            Ok(plain(StatusCode::NOT_FOUND, "404 page not found\n"))
        }
    }
}

fn health(path: &str, query: &Query) -> Response<Body> {
    if query.get("verbose").is_none() {
        return plain(StatusCode::OK, "ok");
    }
    let name = path.trim_start_matches('/');
    plain(StatusCode::OK, format!("[+]ping ok\n[+]log ok\n[+]etcd ok\n{name} check passed\n"))
}

/// `version.Info`.
fn version() -> serde_json::Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.2+kobune", "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-11-20T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}
