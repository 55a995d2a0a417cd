//! OpenAPI documents: `/openapi/v3`, one document per group version below it, and `/openapi/v2`.
//!
//! Documents are made when first asked for, away from the event loop, and kept as bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{Response, StatusCode};
use schema::structural::openapi::Document as Edition;
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::compress;
use crate::discovery::hash;
use crate::kind::{Group, Registry, Version, group_version};
use crate::negotiate;
use crate::query::Query;
use crate::status::ApiError;

mod extensions;
mod gnostic;
mod parameters;
mod paths;
mod schemas;
mod swagger;

/// What documents are offered as: first JSON, then protobuf by its name and by the one it had, which
/// is no media type.
type MediaTypes = [&'static str; 3];

const JSON: &str = "application/json";

const V2: MediaTypes = [
    JSON,
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

const V3: MediaTypes = [
    JSON,
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
];

/// The version that the documents are of.
const VERSION: &str = "1.36";

/// The OpenAPI documents of one registry.
pub struct OpenApi {
    registry_hash: String,
    /// By path below `/openapi/v3/`.
    v3: BTreeMap<String, Document>,
    v2: OnceLock<Bytes>,
    v2_protobuf: OnceLock<Bytes>,
}

struct Document {
    /// Changes when the document does.
    hash: String,
    source: Source,
    bytes: OnceLock<Bytes>,
}

/// What a document describes.
enum Source {
    Version(Arc<Group>, Version),
    Group(Arc<Group>),
    /// What lists the groups: path, operation id and kind of the answer.
    Lists(&'static str, &'static str, &'static str),
    /// Something else.
    Path(OtherPath),
}

/// A path that belongs to no group.
struct OtherPath {
    path: &'static str,
    description: &'static str,
    id: &'static str,
    tag: &'static str,
    media_type: &'static str,
    /// OpenAPI name of what it answers, empty for text.
    schema: &'static str,
}

/// Index entries that belong to no group.
const OTHER: [(&str, Source); 5] = [
    (
        ".well-known/openid-configuration",
        Source::Path(OtherPath {
            path: "/.well-known/openid-configuration/",
            description: "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            id: "getServiceAccountIssuerOpenIDConfiguration",
            tag: "WellKnown",
            media_type: "application/json",
            schema: "",
        }),
    ),
    ("api", Source::Lists("/api/", "getCoreAPIVersions", "APIVersions")),
    ("apis", Source::Lists("/apis/", "getAPIVersions", "APIGroupList")),
    (
        "openid/v1/jwks",
        Source::Path(OtherPath {
            path: "/openid/v1/jwks/",
            description: "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            id: "getServiceAccountIssuerOpenIDKeyset",
            tag: "openid",
            media_type: "application/jwk-set+json",
            schema: "",
        }),
    ),
    (
        "version",
        Source::Path(OtherPath {
            path: "/version/",
            description: "get the version information for this server",
            id: "getCodeVersion",
            tag: "version",
            media_type: "application/json",
            schema: VERSION_INFO,
        }),
    ),
];

const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

impl OtherPath {
    fn paths(&self) -> Map<String, Value> {
        let schema = match self.schema {
            "" => json!({"type": "string"}),
            name => json!({"$ref": format!("#/components/schemas/{name}")}),
        };
        let answer = json!({"description": "OK", "content": {self.media_type: {"schema": schema}}});
        let get = json!({"tags": [self.tag], "description": self.description, "operationId": self.id,
            "responses": {"200": answer, "401": {"description": "Unauthorized"}}});
        Map::from_iter([(self.path.to_owned(), json!({"get": get}))])
    }

    fn schemas(&self) -> Map<String, Value> {
        if self.schema == VERSION_INFO { schemas::of_version_info() } else { Map::new() }
    }
}

impl OpenApi {
    /// Lists the documents; none is made yet.
    pub fn new(registry: &Registry) -> OpenApi {
        let mut v3 = BTreeMap::new();
        let mut all = String::new();
        let mut add = |path: String, identity: &[u8], source: Source| {
            // The document follows from the kinds and from this program.
            let hash = hash(&[env!("CARGO_PKG_VERSION").as_bytes(), path.as_bytes(), identity].concat());
            all.push_str(&hash);
            v3.insert(path, Document { hash, source, bytes: OnceLock::new() });
        };
        for (path, source) in OTHER {
            add(path.to_owned(), b"", source);
        }
        for group in registry.groups() {
            let root = if group.name.is_empty() { "api" } else { "apis" };
            if !group.name.is_empty() && !group.is_custom() {
                add(format!("apis/{}", group.name), b"", Source::Group(group.clone()));
            }
            for version in &group.versions {
                let path = format!("{root}/{}", group_version(&group.name, &version.name));
                let resources = registry.documents().plain(&format!("/{path}")).cloned().unwrap_or_default();
                let mut identity = Vec::from(resources);
                let custom = version.kinds.values().filter_map(|kind| kind.custom.as_ref());
                custom.for_each(|handler| identity.extend(handler.definition().identity().bytes()));
                add(path, &identity, Source::Version(group.clone(), version.clone()));
            }
        }
        OpenApi { registry_hash: hash(all.as_bytes()), v3, v2: OnceLock::new(), v2_protobuf: OnceLock::new() }
    }

    /// `/openapi/v3`: where each document is, with a hash that clients cache by.
    fn index(&self) -> Value {
        let paths: Map<String, Value> = self
            .v3
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }

    fn swagger(&self, media_type: &str) -> &Bytes {
        let json = || {
            self.v2.get_or_init(|| {
                let documents = self.v3.values().map(|document| document.value(Edition::V2));
                swagger::merge(documents).into()
            })
        };
        match media_type {
            JSON => json(),
            _ => self.v2_protobuf.get_or_init(|| gnostic::v2_document(&parse(json())).into()),
        }
    }
}

/// A document of our own making.
fn parse(json: &Bytes) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

impl Document {
    fn bytes(&self) -> &Bytes {
        self.bytes.get_or_init(|| self.value(Edition::V3).to_string().into())
    }

    /// The document in version 3, but with custom kinds as `edition` shows them.
    fn value(&self, edition: Edition) -> Value {
        let (paths, schemas) = match &self.source {
            Source::Version(group, version) => {
                (paths::of_version(group, version), schemas::of_version(version, edition))
            }
            Source::Group(group) => (paths::of_group(group), schemas::of_discovery("APIGroup")),
            Source::Lists(path, id, kind) => (paths::of_lists(path, id, kind), schemas::of_discovery(kind)),
            Source::Path(other) => (other.paths(), other.schemas()),
        };
        let of_custom = matches!(&self.source, Source::Version(group, _) if group.is_custom());
        let mut document = if of_custom {
            // Upstream builds these elsewhere, and says less.
            json!({
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
                "paths": paths,
                "components": {},
            })
        } else {
            json!({
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": VERSION},
                "paths": paths,
                "components": {"securitySchemes": {"BearerToken": bearer_token()}},
            })
        };
        if !schemas.is_empty() {
            document["components"]["schemas"] = Value::Object(schemas);
        }
        document
    }
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"})
}

/// Answers a GET below `/openapi`. `None` where there is nothing (upstream's plain-text 404).
pub(crate) async fn respond(
    registry: Arc<Registry>,
    path: &str,
    headers: &HeaderMap,
    query: &Query,
) -> Option<Result<Response<Body>, ApiError>> {
    let api = registry.openapi().clone();
    match path {
        "/openapi/v3" => {
            let mut response = Response::new(Body::full(api.index().to_string()));
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, text);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(PRIVATE));
            Some(Ok(response))
        }
        "/openapi/v2" => {
            let Some(media_type) = media_type(headers, V2) else {
                return Some(Ok(empty(StatusCode::NOT_ACCEPTABLE)));
            };
            let etag = format!("\"{}\"", api.registry_hash);
            if let Some(unchanged) = not_modified(headers, &etag) {
                return Some(Ok(unchanged));
            }
            let answer = made(move || api.swagger(media_type).clone(), media_type, etag).await;
            let compressed = compress::accepted(headers);
            Some(answer.map(|answer| if compressed { compress::compress(answer) } else { answer }))
        }
        _ => {
            let path = path.strip_prefix("/openapi/v3/")?.to_owned();
            let known = match api.v3.get(&path) {
                Some(document) => document.hash.clone(),
                None => return Some(Ok(empty(StatusCode::NOT_FOUND))),
            };
            let Some(media_type) = media_type(headers, V3) else {
                return Some(Ok(empty(StatusCode::NOT_ACCEPTABLE)));
            };
            let wanted = query.text("hash");
            if !wanted.is_empty() && wanted != known {
                return Some(Ok(moved(&format!("/openapi/v3/{path}?hash={known}"))));
            }
            let etag = format!("\"{known}\"");
            if let Some(unchanged) = not_modified(headers, &etag) {
                return Some(Ok(unchanged));
            }
            let named = !wanted.is_empty();
            let answer = made(
                move || {
                    let json = api.v3.get(&path).map(|document| document.bytes().clone()).unwrap_or_default();
                    if media_type == JSON { json } else { gnostic::v3_document(&parse(&json)).into() }
                },
                media_type,
                etag,
            );
            Some(answer.await.map(|mut response| {
                let caching = if named { "public, immutable" } else { PRIVATE };
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
                response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
                response
            }))
        }
    }
}

/// Makes the document on a thread where it may take its time.
async fn made(
    make: impl FnOnce() -> Bytes + Send + 'static,
    media_type: &'static str,
    etag: String,
) -> Result<Response<Body>, ApiError> {
    let bytes = tokio::task::spawn_blocking(make).await.map_err(ApiError::internal)?;
    let mut response = Response::new(Body::full(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(PRIVATE));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.append(VARY, HeaderValue::from_static("Accept"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    Ok(response)
}

/// How a client wants a document; protobuf goes by its proper name.
fn media_type(headers: &HeaderMap, offered: MediaTypes) -> Option<&'static str> {
    match negotiate::best(headers, &offered)? {
        JSON => Some(JSON),
        _ => Some(offered[1]),
    }
}

fn not_modified(headers: &HeaderMap, etag: &str) -> Option<Response<Body>> {
    let known = headers.get(IF_NONE_MATCH)?.to_str().ok()?;
    let is_it = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
    known.split(',').any(|tag| is_it(tag.trim())).then(|| {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(PRIVATE));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        if let Ok(etag) = HeaderValue::from_str(etag) {
            headers.insert(ETAG, etag);
        }
        response
    })
}

/// What may be kept of documents that change.
const PRIVATE: &str = "no-cache, private";

fn moved(to: &str) -> Response<Body> {
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn empty(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str) -> Value {
        let registry = Registry::with_platform();
        serde_json::from_slice(registry.openapi().v3[path].bytes()).unwrap()
    }

    #[test]
    fn patches_can_be_validated() {
        // What kubectl looks for before it sends fieldValidation.
        let apps = document("apis/apps/v1");
        let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
    }

    #[test]
    fn operations_are_named_as_upstream_names_them() {
        let rbac = document("apis/rbac.authorization.k8s.io/v1");
        let roles = &rbac["paths"]["/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"];
        assert_eq!(roles["post"]["operationId"], "createRbacAuthorizationV1NamespacedRole");
        assert_eq!(roles["post"]["tags"][0], "rbacAuthorization_v1");
        let core = document("api/v1");
        let exec = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"];
        assert_eq!(exec["get"]["operationId"], "connectCoreV1GetNamespacedPodExec");
        let logs = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"];
        assert!(logs["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "follow"));
    }

    #[test]
    fn references_of_a_document_are_resolved_in_it() {
        for (path, source) in &Registry::with_platform().openapi().v3 {
            let document = source.value(Edition::V3);
            let mut missing = Vec::new();
            visit(&document, &mut |reference| {
                let name = reference.trim_start_matches("#/components/schemas/");
                if document["components"]["schemas"].get(name).is_none() {
                    missing.push(name.to_owned());
                }
            });
            assert!(missing.is_empty(), "{path}: {missing:?}");
        }
    }

    fn visit(value: &Value, found: &mut impl FnMut(&str)) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        ("$ref", Value::String(reference)) => found(reference),
                        _ => visit(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, found)),
            _ => {}
        }
    }
}
