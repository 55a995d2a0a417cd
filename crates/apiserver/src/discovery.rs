//! Discovery: what `/api`, `/apis` and below tell clients about the served kinds.
//!
//! The documents are derived from a [`Registry`] once and served as bytes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::health;
use crate::kind::{Backend, Group, Kind, Registry, Text, Verbs, Version, group_version};
use crate::negotiate::{self, Endpoint, Media, Output, negotiate as negotiate_object, routable};
use crate::query::Query;
use crate::status::ApiError;

/// `Content-Type` of aggregated discovery as JSON.
pub const AGGREGATED_JSON: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// What it says beside the encoding.
const AGGREGATED: &str = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The discovery documents of one registry, as JSON.
pub struct Documents {
    /// By path without trailing slash: `/api`, `/api/v1`, `/apis`, `/apis/apps`, `/apis/apps/v1`.
    plain: BTreeMap<String, Bytes>,
    /// Aggregated `/api`.
    core: Aggregated,
    /// Aggregated `/apis`.
    named: Aggregated,
}

/// One aggregated document.
pub struct Aggregated {
    /// JSON.
    pub bytes: Bytes,
    /// Value of the `ETag` header, with its quotes.
    etag: String,
    /// The same as protobuf, made when it is first asked for.
    protobuf: OnceLock<Bytes>,
}

impl Documents {
    /// Prepares the documents.
    pub fn new(registry: &Registry) -> Documents {
        let mut plain = BTreeMap::new();
        let mut add = |path: String, document: &Value| plain.insert(path, to_bytes(document));
        let groups = || registry.groups().iter().map(|group| &**group);
        let named: Vec<&Group> = groups().filter(|group| !group.name.is_empty()).collect();
        let core: Vec<&Group> = groups().filter(|group| group.name.is_empty()).collect();

        add("/api".to_owned(), &api_versions(&core));
        let groups: Vec<Value> = named.iter().map(|group| group_entry(group)).collect();
        add("/apis".to_owned(), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
        for group in &named {
            let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
            document.as_object_mut().into_iter().for_each(|into| into.append(&mut entry_fields(group)));
            add(format!("/apis/{}", group.name), &document);
        }
        for group in core.iter().chain(&named) {
            for version in &group.versions {
                let root = if group.name.is_empty() { "/api" } else { "/apis" };
                let path = format!("{root}/{}", group_version(&group.name, &version.name));
                add(path, &resource_list(group, version));
            }
        }
        Documents { plain, core: aggregated(&core), named: aggregated(&named) }
    }

    /// The plain document at `path`, with or without a trailing slash.
    pub fn plain(&self, path: &str) -> Option<&Bytes> {
        self.plain.get(path.strip_suffix('/').unwrap_or(path))
    }

    /// The aggregated document at `path`, which is `/api` or `/apis`.
    pub fn aggregated(&self, path: &str) -> Option<&Aggregated> {
        match path {
            "/api" | "/api/" => Some(&self.core),
            "/apis" => Some(&self.named),
            _ => None,
        }
    }
}

/// Answers a GET below `/api` or `/apis` that names no resource. `None` where upstream's answer is its
/// plain-text 404: groups that nobody serves.
pub(crate) fn respond(
    registry: &Registry,
    path: &str,
    headers: &HeaderMap,
    query: &Query,
    address: &str,
) -> Option<Result<Response<Body>, ApiError>> {
    let documents = registry.documents();
    let routed = is_routed(path);
    if let Some(document) = documents.aggregated(path)
        && is_aggregated(headers)
    {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let refused = if routed { routable(accept, false).err() } else { None };
        return Some(refused.map_or_else(|| Ok(document.respond(headers)), Err));
    }
    if let Some(document) = documents.plain(path) {
        let own = (path.trim_end_matches('/') == "/api").then(|| with_address(document, address));
        let document = own.as_ref().unwrap_or(document);
        let endpoint = Endpoint { routed, ..Endpoint::PLAIN };
        return Some(
            negotiate_object(headers, query, endpoint).map(|output| respond_plain(document, output)),
        );
    }
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["api", ..] => Some(Err(ApiError::no_such_path())),
        ["apis", group, ..] if registry.group(group).is_some_and(|group| !group.is_custom()) => {
            Some(Err(ApiError::no_such_path()))
        }
        _ => None,
    }
}

/// Whether upstream's router is in front of a document: not of the lists of groups, nor of single groups.
pub(crate) fn is_routed(path: &str) -> bool {
    path.trim_matches('/').split('/').count() > 2 || path.starts_with("/api/") || path == "/api"
}

/// Whether the `Accept` header asks for the aggregated form.
pub(crate) fn is_aggregated(headers: &HeaderMap) -> bool {
    aggregated_media(headers).is_some()
}

fn aggregated_media(headers: &HeaderMap) -> Option<Media> {
    negotiate::aggregated(headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default())
}

/// `/api` says where this server is.
fn with_address(document: &Bytes, address: &str) -> Bytes {
    let mut document: Value = serde_json::from_slice(document).unwrap_or_default();
    document["serverAddressByClientCIDRs"][0]["serverAddress"] = address.into();
    to_bytes(&document)
}

/// What `/` lists: every path that is no resource.
pub(crate) fn paths(registry: &Registry) -> Vec<String> {
    const OTHERS: [&str; 9] = [
        "/.well-known/openid-configuration",
        "/apis/",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
    ];
    let health = ["healthz", "livez", "readyz"].into_iter().flat_map(|name| {
        let checks = health::checks(name).into_iter().map(move |check| format!("/{name}/{check}"));
        std::iter::once(format!("/{name}")).chain(checks)
    });
    let documents = registry.documents().plain.keys().cloned();
    let mut all: Vec<String> =
        documents.chain(OTHERS.iter().map(|path| (*path).to_owned())).chain(health).collect();
    all.sort_unstable();
    all
}

pub(crate) fn respond_plain(document: &Bytes, output: Output) -> Response<Body> {
    if output.is_plain() {
        return output.respond_bytes(StatusCode::OK, document.clone());
    }
    output.respond(StatusCode::OK, &serde_json::from_slice(document).unwrap_or_default())
}

impl Aggregated {
    /// From the document's JSON.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { etag: etag(&bytes), bytes, protobuf: OnceLock::new() }
    }

    /// The document, or 304 to a client that has it.
    pub(crate) fn respond(&self, headers: &HeaderMap) -> Response<Body> {
        let known = headers.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == self.etag.as_bytes());
        let output = Output { media: aggregated_media(headers).unwrap_or_default(), ..Output::default() };
        let mut response = if known {
            output.respond_bytes(StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            output.respond_bytes(StatusCode::OK, self.encoded(output))
        };
        let headers = response.headers_mut();
        let media = output.content_type();
        let media = format!("{}{AGGREGATED}", media.to_str().unwrap_or_default());
        if let (Ok(media), Ok(etag)) = (HeaderValue::from_str(&media), HeaderValue::from_str(&self.etag)) {
            headers.insert(CONTENT_TYPE, media);
            headers.insert(ETAG, etag);
        }
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }

    fn encoded(&self, output: Output) -> Bytes {
        let encode = || {
            let document = serde_json::from_slice(&self.bytes).unwrap_or_default();
            output.encode(&document).unwrap_or_default()
        };
        match output.media {
            Media::Json => self.bytes.clone(),
            Media::Yaml => encode(),
            Media::Protobuf => self.protobuf.get_or_init(encode).clone(),
        }
    }
}

fn to_bytes(document: &Value) -> Bytes {
    let mut bytes = document.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.into()
}

fn api_versions(core: &[&Group]) -> Value {
    let versions: Vec<&Text> =
        core.iter().flat_map(|group| &group.versions).map(|version| &version.name).collect();
    json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    })
}

fn group_entry(group: &Group) -> Value {
    Value::Object(entry_fields(group))
}

fn entry_fields(group: &Group) -> Map<String, Value> {
    let version = |version: &Version| json!({"groupVersion": group_version(&group.name, &version.name), "version": version.name});
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(group.name));
    fields.insert("versions".to_owned(), group.versions.iter().map(version).collect());
    fields.insert("preferredVersion".to_owned(), group.versions.first().map_or(Value::Null, version));
    fields
}

fn resource_list(group: &Group, version: &Version) -> Value {
    let mut document = json!({"kind": "APIResourceList"});
    // Upstream forgets the apiVersion of core's list only.
    if !group.name.is_empty() {
        document["apiVersion"] = json!("v1");
    }
    document["groupVersion"] = json!(group_version(&group.name, &version.name));
    document["resources"] = version.kinds.values().flat_map(|kind| resources(kind)).collect();
    document
}

/// The resource and its subresources.
fn resources(kind: &Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs(kind),
    });
    add_names(&mut main, kind);
    if kind.storage.backend != Backend::Virtual && kind.verbs != Verbs::Create && stores_what_it_serves(kind)
    {
        main["storageVersionHash"] = json!(storage_version_hash(kind));
    }
    let mut all = vec![main];
    for sub in &kind.subresources {
        let mut entry = json!({
            "name": format!("{}/{}", kind.plural, sub.name),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": sub.kind,
            "verbs": sub.verbs,
        });
        if !sub.version.is_empty() {
            entry["group"] = json!(sub.group);
            entry["version"] = json!(sub.version);
        }
        all.push(entry);
    }
    all
}

/// Upstream knows the stored version of custom kinds from the versions that are served.
fn stores_what_it_serves(kind: &Kind) -> bool {
    kind.custom.as_ref().is_none_or(|handler| handler.definition().serves_storage())
}

/// Verbs in the order in which upstream lists them: custom resources have their own.
fn verbs(kind: &Kind) -> &'static [&'static str] {
    // Of a definition that is being deleted, nothing can be made or changed any more.
    if kind.custom.as_ref().is_some_and(|handler| handler.definition().is_terminating()) {
        return &["delete", "deletecollection", "get", "list", "watch"];
    }
    if kind.is_custom() {
        return &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    }
    kind.verbs.names()
}

fn add_names(entry: &mut Value, kind: &Kind) {
    if !kind.short_names.is_empty() {
        entry["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        entry["categories"] = json!(kind.categories);
    }
}

/// The first eight bytes of the hash of the stored group, version and kind.
fn storage_version_hash(kind: &Kind) -> String {
    let stored = format!("{}/{}/{}", kind.storage.group, kind.storage.upstream_version, kind.kind);
    STANDARD.encode(&digest(&SHA256, stored.as_bytes()).as_ref()[..8])
}

fn aggregated(groups: &[&Group]) -> Aggregated {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            let versions: Vec<Value> = group.versions.iter().map(aggregated_version).collect();
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let bytes = to_bytes(&json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }));
    Aggregated::new(bytes)
}

/// An `ETag` for `bytes`, with its quotes.
pub(crate) fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", hash(bytes))
}

/// A hash of `bytes` in upper-case hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    digest(&SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn aggregated_version(version: &Version) -> Value {
    let resources: Vec<Value> = version.kinds.values().map(|kind| aggregated_resource(kind)).collect();
    json!({"version": version.name, "resources": resources, "freshness": "Current"})
}

fn aggregated_resource(kind: &Kind) -> Value {
    // Of built-in kinds, the group and version are those of the list.
    let (group, version) = if kind.is_custom() { (&*kind.group, &*kind.version) } else { ("", "") };
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": {"group": group, "version": version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(kind),
    });
    add_names(&mut entry, kind);
    if !kind.subresources.is_empty() {
        let subresource = |sub: &crate::kind::Subresource| {
            let own = sub.version.is_empty();
            let (group, version) = if own { (group, version) } else { (&*sub.group, &*sub.version) };
            json!({
                "subresource": sub.name,
                "responseKind": {"group": group, "version": version, "kind": sub.kind},
                "verbs": sub.verbs,
            })
        };
        entry["subresources"] = kind.subresources.iter().map(subresource).collect();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str) -> Value {
        serde_json::from_slice(Registry::with_platform().documents().plain(path).unwrap()).unwrap()
    }

    #[test]
    fn versions_of_a_kind_share_a_storage_version() {
        let hash = |path| document(path)["resources"][0]["storageVersionHash"].clone();
        assert_eq!(hash("/apis/autoscaling/v1"), "qwQve8ut294=");
        assert_eq!(hash("/apis/autoscaling/v2"), "qwQve8ut294=");
        assert_eq!(hash("/apis/events.k8s.io/v1"), "r2yiGXH7wu8=");
    }

    #[test]
    fn preferred_versions_come_first() {
        assert_eq!(document("/apis/autoscaling")["preferredVersion"]["version"], "v2");
        let groups = document("/apis/");
        assert_eq!(groups["groups"][0]["name"], "apiregistration.k8s.io");
    }

    #[test]
    fn subresources_of_other_groups_say_so() {
        let pods = document("/api/v1");
        let eviction =
            pods["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "pods/eviction");
        assert_eq!(eviction.unwrap()["group"], "policy");
    }

    #[test]
    fn accept_headers_choose_the_form() {
        let form = negotiate::aggregated;
        let json = format!("application/json{AGGREGATED}");
        assert_eq!((form(""), form("*/*")), (None, None));
        assert_eq!(form(&json), Some(Media::Json));
        assert_eq!(form(&format!("application/json;q=0.5,{json}")), Some(Media::Json));
        assert_eq!(form(&json.replace("v=v2", "v=v9")), None);
        let client = format!("application/vnd.kubernetes.protobuf{AGGREGATED},application/json");
        assert_eq!(form(&client), Some(Media::Protobuf));
    }

    #[test]
    fn aggregated_discovery_has_messages() {
        let registry = Registry::with_platform();
        let document = registry.documents().aggregated("/apis").unwrap();
        let output = Output { media: Media::Protobuf, ..Output::default() };
        let bytes = document.encoded(output);
        assert!(bytes.starts_with(b"k8s\0"));
        let read = crate::protobuf::to_json(&bytes, ("", "")).unwrap();
        assert_eq!(read["items"][0]["versions"][0]["resources"][0]["responseKind"]["kind"], "APIService");
    }
}
