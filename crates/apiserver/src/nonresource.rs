//! Everything that is not a resource: health, version, discovery, OpenAPI, metrics, token keys.

use std::sync::Arc;

use api::user::UserInfo;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::aggregation::Found;
use crate::body::Body;
use crate::negotiate::{Endpoint, Output, negotiate, unroutable};
use crate::query::Query;
use crate::server::Inner;
use crate::service::plain;
use crate::status::ApiError;
use crate::{aggregation, discovery, health, openapi};

/// Answers a path that names no resource.
pub(crate) async fn handle(
    server: &Arc<Inner>,
    user: &UserInfo,
    path: &str,
    parts: &mut Parts,
    query: &Query,
) -> Result<Response<Body>, ApiError> {
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
                .unwrap_or_default();
            if !accepts(accept, "application/json") {
                return Err(unroutable(&["application/json"]));
            }
            Ok(Output { pretty: true, ..Output::default() }.respond(StatusCode::OK, &version()))
        }
        "/" => Ok(Output { pretty: true, ..Output::default() }
            .respond(StatusCode::OK, &json!({"paths": discovery::paths(&registry)}))),
        // Counters are for good here.
        "/metrics" if parts.method == Method::DELETE => Ok(plain(StatusCode::OK, "metrics reset\n")),
        "/metrics" => Ok(metrics(server)),
        "/metrics/slis" => Ok(metrics_text(crate::counters::slis())),
        "/.well-known/openid-configuration" => {
            let mut answer = Output::default().respond(StatusCode::OK, &openid_configuration(server));
            let caching = HeaderValue::from_static("public, max-age=3600");
            answer.headers_mut().insert(http::header::CACHE_CONTROL, caching);
            Ok(answer)
        }
        "/openid/v1/jwks" => {
            let accept = parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
            if !accepts(accept.unwrap_or_default(), "application/jwk-set+json") {
                return Err(unroutable(&["application/jwk-set+json"]));
            }
            let mut answer = Output::default().respond(StatusCode::OK, server.authn.signer.jwks());
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
            Ok(answer)
        }
        _ if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
            if path.ends_with("//") {
                return Ok(not_found());
            }
            // Upstream's router, which knows methods, is only in front of some.
            let known = registry.documents().plain(path).is_some();
            if known && discovery::is_routed(path) && !reads {
                return Err(ApiError::method_not_allowed());
            }
            let behind = server.aggregation.routes();
            if let Some(found) = behind.and_then(|behind| behind.discovery(&registry, path, &parts.headers)) {
                return merged(&found, parts, query);
            }
            let address = server.external_url.trim_start_matches("https://");
            let found = discovery::respond(&registry, path, &parts.headers, query, address);
            found.unwrap_or_else(|| Ok(not_found()))
        }
        _ if path.starts_with("/openapi/") => {
            let behind = server.aggregation.routes();
            if let Some(remote) = behind.as_ref().and_then(|behind| behind.openapi(path)) {
                return Ok(aggregation::forward(server, &remote, user, parts, Bytes::new()).await);
            }
            let own = openapi::respond(registry.clone(), path, &parts.headers, query).await;
            let own = own.unwrap_or_else(|| Ok(not_found()))?;
            Ok(match behind {
                Some(behind) => behind.extend(&registry, path, own).await,
                None => own,
            })
        }
        _ if path.starts_with("/debug/api_priority_and_fairness/") => {
            Ok(server.flow.respond(path).unwrap_or_else(not_found))
        }
        _ => Ok(health::respond(path, query).unwrap_or_else(not_found)),
    }
}

/// A discovery document of this server and those behind it.
fn merged(found: &Found, parts: &Parts, query: &Query) -> Result<Response<Body>, ApiError> {
    match found {
        Found::Plain(document) => {
            let endpoint = Endpoint { routed: false, ..Endpoint::PLAIN };
            let output = negotiate(&parts.headers, query, endpoint)?;
            Ok(discovery::respond_plain(document, output))
        }
        Found::Aggregated(merged) => Ok(merged.discovery().respond(&parts.headers)),
    }
}

/// Whether a header takes a media type, or anything; an absent one does.
fn accepts(accept: &str, media_type: &str) -> bool {
    let mut clauses = accept.split(',').map(|clause| clause.split(';').next().unwrap_or_default().trim());
    accept.is_empty() || clauses.any(|media| media == "*/*" || media == media_type)
}

/// The plain 404 of paths and groups that nobody serves.
pub(crate) fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// `version.Info`.
pub(crate) fn version() -> Value {
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.2+kobune", "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-11-20T00:00:00Z",
        "goVersion": "go1.26.0", "compiler": "gc", "platform": platform,
    })
}

fn openid_configuration(server: &Inner) -> Value {
    json!({
        "issuer": server.authn.signer.issuer(),
        "jwks_uri": format!("{}/openid/v1/jwks", server.external_url),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": server.authn.signer.algorithms(),
    })
}

fn metrics(server: &Arc<Inner>) -> Response<Body> {
    let registry = server.registry();
    let count = |kind: &Arc<crate::kind::Kind>| {
        let resource = server.cache_of(kind).resource(&kind.storage.dir)?;
        Some((kind.storage.group.to_string(), kind.plural.to_string(), resource.count()))
    };
    let objects: Vec<(String, String, usize)> = registry.stored().filter_map(count).collect();
    let mut text = server.counters.render(&objects);
    server.flow.render(&mut text);
    metrics_text(text)
}

fn metrics_text(text: String) -> Response<Body> {
    let mut answer = plain(StatusCode::OK, text);
    let prometheus =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    answer.headers_mut().insert(CONTENT_TYPE, prometheus);
    answer
}
