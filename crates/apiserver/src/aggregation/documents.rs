//! Discovery and OpenAPI documents of this server and those behind it, merged.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::Routes;
use super::priorities;
use super::remote::{Documents, Remote};
use crate::body::Body;
use crate::discovery::{Aggregated, etag, is_aggregated};
use crate::kind::{Registry, version_priority};

/// The merged documents for one registry.
pub(crate) struct Merged {
    /// What they were merged for: as long as this is held, no other registry is at its address.
    registry: Arc<Registry>,
    discovery: Aggregated,
    /// `/apis` and `/apis/<group>` of groups that are not only served here.
    plain: BTreeMap<String, Bytes>,
    v2: OnceLock<Bytes>,
}

fn documents(remote: &Remote) -> Documents {
    remote.documents.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn to_bytes(document: &Value) -> Bytes {
    let mut bytes = document.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.into()
}

impl Routes {
    /// The merged documents, made when they are first asked for.
    pub(super) fn merged(&self, registry: &Arc<Registry>) -> Arc<Merged> {
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        match &*merged {
            Some(present) if Arc::ptr_eq(&present.registry, registry) => present.clone(),
            _ => merged.insert(Arc::new(Merged::new(self, registry))).clone(),
        }
    }

    /// The merged form of a discovery document, if others serve a part of it.
    pub fn discovery(&self, registry: &Arc<Registry>, path: &str, headers: &HeaderMap) -> Option<Found> {
        let is_list = path == "/apis";
        let path = path.strip_suffix('/').unwrap_or(path);
        if path != "/apis" {
            let merged = self.merged(registry);
            return merged.plain.get(path).cloned().map(Found::Plain);
        }
        if is_list && is_aggregated(headers) {
            return Some(Found::Aggregated(self.merged(registry)));
        }
        self.merged(registry).plain.get(path).cloned().map(Found::Plain)
    }

    /// Who serves an OpenAPI document.
    pub fn openapi(&self, path: &str) -> Option<Arc<Remote>> {
        let (group, version) = path.strip_prefix("/openapi/v3/apis/")?.split_once('/')?;
        self.get(group, version)
    }

    /// Adds what the others serve to an OpenAPI document of this server.
    pub async fn extend(
        &self,
        registry: &Arc<Registry>,
        path: &str,
        answer: Response<Body>,
    ) -> Response<Body> {
        let is_json = answer.headers().get(CONTENT_TYPE).is_some_and(|media_type| {
            media_type.as_bytes().starts_with(b"application/json") || path == "/openapi/v3"
        });
        if !answer.status().is_success() || !is_json {
            return answer;
        }
        let (mut parts, body) = answer.into_parts();
        let Ok(own) = body.into_parts() else { return Response::from_parts(parts, Body::empty()) };
        let bytes = match path {
            "/openapi/v3" => self.index(&own),
            _ => self.merged(registry).v2.get_or_init(|| self.swagger(&own)).clone(),
        };
        parts.headers.remove(CONTENT_LENGTH);
        if parts.headers.contains_key(ETAG)
            && let Ok(tag) = HeaderValue::from_str(&etag(&bytes))
        {
            parts.headers.insert(ETAG, tag);
        }
        Response::from_parts(parts, Body::full(bytes))
    }

    /// The index of OpenAPI v3 documents.
    fn index(&self, own: &[u8]) -> Bytes {
        let mut index: Value = serde_json::from_slice(own).unwrap_or_default();
        for remote in self.remotes() {
            let path = remote.path();
            let key = path.trim_start_matches('/');
            match documents(remote).v3_url.filter(|url| url.starts_with("/openapi/v3/")) {
                Some(url) => index["paths"][key] = json!({"serverRelativeURL": url}),
                None => {
                    if let Some(paths) = index["paths"].as_object_mut() {
                        paths.remove(key);
                    }
                }
            }
        }
        index.to_string().into()
    }

    /// The OpenAPI v2 document, with the paths of the others and what they refer to.
    fn swagger(&self, own: &Bytes) -> Bytes {
        let Ok(mut all) = serde_json::from_slice::<Value>(own) else { return own.clone() };
        for remote in self.remotes() {
            let theirs = documents(remote).v2.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let Some(mut theirs) = theirs else { continue };
            let prefix = format!("{}/", remote.path());
            let paths = theirs["paths"].as_object_mut().map(std::mem::take).unwrap_or_default();
            if let Some(into) = all["paths"].as_object_mut() {
                into.retain(|path, _| !path.starts_with(&prefix));
                into.extend(paths.into_iter().filter(|(path, _)| path.starts_with(&prefix)));
            }
            let definitions = theirs["definitions"].as_object_mut().map(std::mem::take).unwrap_or_default();
            if let Some(into) = all["definitions"].as_object_mut() {
                // What both have is upstream's, and this server's form of it is as good.
                for (name, definition) in definitions {
                    into.entry(name).or_insert(definition);
                }
            }
        }
        all.to_string().into()
    }
}

/// A discovery document.
pub(crate) enum Found {
    Plain(Bytes),
    Aggregated(Arc<Merged>),
}

impl Merged {
    /// Aggregated `/apis`.
    pub fn discovery(&self) -> &Aggregated {
        &self.discovery
    }

    fn new(routes: &Routes, registry: &Arc<Registry>) -> Self {
        let own = registry.documents().aggregated("/apis").map(|document| document.bytes.clone());
        let own: Value = own.and_then(|own| serde_json::from_slice(&own).ok()).unwrap_or_default();
        let mut items = own["items"].as_array().cloned().unwrap_or_default();
        for remote in routes.remotes() {
            add(&mut items, remote);
        }
        let list = |group: &Value| {
            let entry = group_entry(group);
            let path = format!("/apis/{}", group["metadata"]["name"].as_str().unwrap_or_default());
            let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
            if let Some(document) = document.as_object_mut() {
                document.extend(entry);
            }
            (path, to_bytes(&document))
        };
        let is_shared = |group: &&Value| {
            routes.remotes().any(|remote| group["metadata"]["name"] == remote.group.as_str())
        };
        let mut plain: BTreeMap<String, Bytes> = items.iter().filter(is_shared).map(list).collect();
        let groups: Vec<Map<String, Value>> = items.iter().map(group_entry).collect();
        let all = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
        plain.insert("/apis".to_owned(), to_bytes(&all));
        let bytes = to_bytes(&json!({"kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}));
        let discovery = Aggregated::new(bytes);
        Self { registry: registry.clone(), discovery, plain, v2: OnceLock::new() }
    }
}

/// A group of aggregated discovery as plain discovery lists it.
fn group_entry(group: &Value) -> Map<String, Value> {
    let name = &group["metadata"]["name"];
    let versions: Vec<Value> = group["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|version| version["version"].as_str())
        .map(|version| {
            let group_version = format!("{}/{version}", name.as_str().unwrap_or_default());
            json!({"groupVersion": group_version, "version": version})
        })
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    Map::from_iter([
        ("name".to_owned(), name.clone()),
        ("versions".to_owned(), versions.into()),
        ("preferredVersion".to_owned(), preferred),
    ])
}

/// Adds a group version of another server, or puts it where this server's was.
fn add(items: &mut Vec<Value>, remote: &Remote) {
    let mut entry = documents(remote)
        .discovery
        .unwrap_or_else(|| json!({"version": remote.version, "resources": [], "freshness": "Stale"}));
    if !remote.available {
        entry["freshness"] = "Stale".into();
    }
    let is_group = |group: &Value| group["metadata"]["name"] == remote.group.as_str();
    let Some(group) = items.iter_mut().find(|group| is_group(group)) else {
        let place = items.iter().position(|other| priority_of(other) < remote.priority.0);
        let group = json!({"metadata": {"name": remote.group}, "versions": [entry]});
        items.insert(place.unwrap_or(items.len()), group);
        return;
    };
    let Some(versions) = group["versions"].as_array_mut() else { return };
    if let Some(present) = versions.iter_mut().find(|version| version["version"] == remote.version.as_str()) {
        *present = entry;
        return;
    }
    let own = version_priority(&remote.version);
    let name = |version: &Value| version["version"].as_str().unwrap_or_default().to_owned();
    let place = versions.iter().position(|other| version_priority(&name(other)) < own);
    versions.insert(place.unwrap_or(versions.len()), entry);
}

/// The priority of a group that is served here.
fn priority_of(group: &Value) -> i64 {
    let name = group["metadata"]["name"].as_str().unwrap_or_default();
    let versions = group["versions"].as_array().into_iter().flatten();
    let priorities = versions.filter_map(|version| version["version"].as_str()).map(|version| {
        // Groups without an APIService of their own are as important as can be.
        priorities::of(name, version).map_or(i64::MAX, |(group, _)| i64::from(group))
    });
    priorities.max().unwrap_or(0)
}
