//! Everything that is not a resource: health, version, discovery, OpenAPI, metrics, token keys.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::authn::service_account::ISSUER;
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
) -> Result<Response<Body>, ApiError> {
    let path = parts.uri.path();
    let reads = matches!(parts.method, Method::GET);
    let registry = server.registry();
    match path {
        "/version" | "/version/" => {
            if !reads {
                return Err(ApiError::method_not_allowed());
            }
            let accept = parts
                .headers
                .get(http::header::ACCEPT)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("*/*");
            if !accept.is_empty() && !accept.contains("json") && !accept.contains("*/*") {
                return Err(ApiError::new(
                    406,
                    "NotAcceptable",
                    "406: Not Acceptable\n\nAvailable representations: application/json",
                )
                .about("", "", ""));
            }
            Ok(Output { pretty: true, ..Output::default() }.respond(StatusCode::OK, &version()))
        }
        "/metrics" => Ok(metrics(server)),
        "/.well-known/openid-configuration" => {
            Ok(Output::default().respond(StatusCode::OK, &openid_configuration(server)))
        }
        "/openid/v1/jwks" => {
            let accept = parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
            if accept.is_some_and(|accept| !accept.contains("jwk-set+json") && !accept.contains("*/*")) {
                return Err(ApiError::new(
                    406,
                    "NotAcceptable",
                    "406: Not Acceptable\n\nAvailable representations: application/jwk-set+json",
                )
                .about("", "", ""));
            }
            let mut answer = Output::default().respond(StatusCode::OK, server.signer.jwks());
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
            Ok(answer)
        }
        _ if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
            // The lists of groups answer every method but the ones that would change something.
            let list_of_groups = path.trim_end_matches('/') == "/apis";
            let answers = reads || (list_of_groups && parts.method == Method::POST);
            if !answers {
                return Err(ApiError::method_not_allowed());
            }
            if path.ends_with("//") {
                return Ok(not_found());
            }
            discovery::respond(&registry, path, &parts.headers, query).unwrap_or_else(|| Ok(not_found()))
        }
        _ if path.starts_with("/openapi/") => {
            openapi::respond(registry, path, &parts.headers, query).await.unwrap_or_else(|| Ok(not_found()))
        }
        _ => Ok(health(path, query).unwrap_or_else(not_found)),
    }
}

/// The plain 404 of paths and groups that nobody serves.
pub(crate) fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

/// `/healthz`, `/livez`, `/readyz` and their single checks. An answer at all means health: the store closes
/// itself, and with it the server, when it cannot write.
fn health(path: &str, query: &Query) -> Option<Response<Body>> {
    let (name, check) = match path.trim_start_matches('/').split_once('/') {
        Some((name, check)) => (name, Some(check)),
        None => (path.trim_start_matches('/'), None),
    };
    if !matches!(name, "healthz" | "livez" | "readyz") {
        return None;
    }
    if let Some(check) = check {
        let mut answer = CHECKS.contains(&check).then(|| plain(StatusCode::OK, "ok"))?;
        answer.headers_mut().remove(http::header::X_CONTENT_TYPE_OPTIONS);
        return Some(answer);
    }
    if query.get("verbose").is_none() {
        return Some(plain(StatusCode::OK, "ok"));
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let line = |check: &&str| {
        if excluded.contains(check) {
            format!("[+]{check} excluded: ok\n")
        } else {
            format!("[+]{check} ok\n")
        }
    };
    let lines: String = CHECKS.iter().map(line).collect();
    Some(plain(StatusCode::OK, format!("{lines}{name} check passed\n")))
}

/// `version.Info`.
fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.2+kobune", "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-11-20T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

fn openid_configuration(server: &Inner) -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{}/openid/v1/jwks", server.external_url),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn metrics(server: &Arc<Inner>) -> Response<Body> {
    let registry = server.registry();
    let count = |kind: &Arc<crate::kind::Kind>| {
        let resource = server.cache_of(kind).resource(&kind.storage.dir)?;
        Some((kind.qualified_resource(), resource.count()))
    };
    let objects: Vec<(String, usize)> = registry.stored().filter_map(count).collect();
    let mut answer = plain(StatusCode::OK, server.counters.render(&objects));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    answer
}
