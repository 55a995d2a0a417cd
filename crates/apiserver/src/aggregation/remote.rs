//! One group version that another server serves.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{ProxyClient, condition, proxy};
use crate::discovery::AGGREGATED_JSON;
use crate::object::meta;
use crate::server::Inner;
use crate::webhook_client::{self, Pool, Trust};

/// How long another server may take for a document.
pub(super) const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest document that is taken.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// A group version that another server serves.
pub(crate) struct Remote {
    pub group: String,
    pub version: String,
    /// Of its service.
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// `groupPriorityMinimum` and `versionPriority`.
    pub priority: (i64, i64),
    pub available: bool,
    /// Connections to it, or why there can be none.
    pub pool: Result<Pool, String>,
    /// What it says about itself; kept while its APIService says the same about it.
    pub(super) documents: Arc<Mutex<Documents>>,
    /// What it was made from, without the status.
    spec: Value,
}

/// What another server says about what it serves.
#[derive(Clone, Default)]
pub(super) struct Documents {
    /// The version's entry in aggregated discovery.
    pub discovery: Option<Value>,
    /// Where its OpenAPI v3 document is.
    pub v3_url: Option<String>,
    /// Its whole OpenAPI v2 document.
    pub v2: Option<Bytes>,
}

impl Remote {
    /// Reads an APIService; goes on with what is known of the same one.
    pub fn new(
        server: Weak<Inner>,
        service: &Value,
        client: Option<&ProxyClient>,
        known: Option<&Self>,
    ) -> Self {
        let spec = &service["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let port = spec["service"]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let (namespace, name) = (text(&spec["service"]["namespace"]), text(&spec["service"]["name"]));
        let known = known.filter(|known| known.spec == *spec);
        let (pool, documents) = match known {
            Some(known) => (known.pool.clone(), known.documents.clone()),
            None => {
                let bundle = base64::engine::general_purpose::STANDARD
                    .decode(spec["caBundle"].as_str().unwrap_or_default())
                    .unwrap_or_default();
                let trust = match spec["insecureSkipTLSVerify"] == true {
                    true => Trust::Anybody,
                    false => Trust::Bundle(&bundle),
                };
                let shown = client.map(|client| &client.client);
                let pool = webhook_client::service_pool(server, (&namespace, &name, port), trust, shown);
                (pool.map_err(|error| error.0), Arc::default())
            }
        };
        Self {
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            namespace,
            service: name,
            port,
            priority: (
                spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
                spec["versionPriority"].as_i64().unwrap_or(0),
            ),
            available: condition(service).is_some_and(|condition| condition["status"] == "True"),
            pool,
            documents,
            spec: spec.clone(),
        }
    }

    /// The name of its APIService.
    pub fn name(&self) -> String {
        super::service_name(&self.group, &self.version)
    }

    /// Whether it still is what an APIService says.
    pub fn is(&self, service: &Value) -> bool {
        self.name() == meta(service, "name") && self.spec == service["spec"]
    }

    pub fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// Asks the server behind in the name of the aggregator.
    pub async fn get(&self, path: &str, accept: &str) -> Result<Response<Incoming>, String> {
        let pool = self.pool.as_ref().map_err(Clone::clone)?;
        let mut headers = HeaderMap::new();
        proxy::identify(&mut headers, &proxy::aggregator());
        if let Ok(accept) = HeaderValue::from_str(accept) {
            headers.insert(ACCEPT, accept);
        }
        let uri = format!("https://{}.{}.svc:{}{path}", self.service, self.namespace, self.port);
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        *request.headers_mut() = headers;
        match tokio::time::timeout(DOCUMENT_TIMEOUT, pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(webhook_client::describe(&error)),
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    async fn document(&self, path: &str, accept: &str) -> Option<Bytes> {
        let response = self.get(path, accept).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut body = response.into_body();
        let read = async {
            let mut all = BytesMut::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.ok()?.into_data() {
                    all.extend_from_slice(&data);
                }
                if all.len() > DOCUMENT_BYTES_MAX {
                    return None;
                }
            }
            Some(all.freeze())
        };
        tokio::time::timeout(DOCUMENT_TIMEOUT, read).await.ok()?
    }

    /// Reads what the server behind says about itself. True if that has changed.
    pub async fn learn(&self) -> bool {
        let discovery = match self.aggregated().await {
            Some(found) => Some(found),
            None => self.legacy().await,
        };
        let index = self.document("/openapi/v3", "application/json").await;
        let index: Value = index.and_then(|index| serde_json::from_slice(&index).ok()).unwrap_or_default();
        let own = &index["paths"][self.path().trim_start_matches('/')]["serverRelativeURL"];
        let v3_url = own.as_str().map(str::to_owned);
        let v2 = self.document("/openapi/v2", "application/json").await;
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = documents.discovery != discovery || documents.v3_url != v3_url || documents.v2 != v2;
        // What could be read once is better than nothing.
        documents.discovery = discovery.or(documents.discovery.take());
        documents.v3_url = v3_url;
        documents.v2 = v2.or(documents.v2.take());
        changed
    }

    async fn aggregated(&self) -> Option<Value> {
        let all: Value = serde_json::from_slice(&self.document("/apis", AGGREGATED_JSON).await?).ok()?;
        let groups = all["items"].as_array()?;
        let group = groups.iter().find(|group| group["metadata"]["name"] == *self.group)?;
        let mut version =
            group["versions"].as_array()?.iter().find(|version| version["version"] == *self.version)?.clone();
        version["freshness"] = "Current".into();
        Some(version)
    }

    /// The same from the list of resources.
    async fn legacy(&self) -> Option<Value> {
        let list: Value =
            serde_json::from_slice(&self.document(&self.path(), "application/json").await?).ok()?;
        let resources = to_aggregated(list["resources"].as_array()?);
        Some(json!({"version": self.version, "resources": resources, "freshness": "Current"}))
    }
}

/// Resources of an APIResourceList as aggregated discovery shows them.
fn to_aggregated(resources: &[Value]) -> Vec<Value> {
    let kind = |resource: &Value| {
        json!({"group": resource["group"].as_str().unwrap_or_default(),
            "version": resource["version"].as_str().unwrap_or_default(), "kind": resource["kind"]})
    };
    let mut shown: Vec<Value> = Vec::new();
    for resource in resources {
        let name = resource["name"].as_str().unwrap_or_default();
        match name.split_once('/') {
            None => {
                let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
                let mut entry = json!({"resource": name, "responseKind": kind(resource), "scope": scope,
                    "singularResource": resource["singularName"], "verbs": resource["verbs"]});
                for field in ["shortNames", "categories"] {
                    if !resource[field].is_null() {
                        entry[field] = resource[field].clone();
                    }
                }
                shown.push(entry);
            }
            Some((parent, subresource)) => {
                let Some(parent) = shown.iter_mut().find(|entry| entry["resource"] == parent) else {
                    continue;
                };
                if !parent["subresources"].is_array() {
                    parent["subresources"] = json!([]);
                }
                if let Some(list) = parent["subresources"].as_array_mut() {
                    list.push(json!({"subresource": subresource, "responseKind": kind(resource),
                        "verbs": resource["verbs"]}));
                }
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_resources_become_trees() {
        let list = json!([
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["patch"]},
        ]);
        let shown = to_aggregated(list.as_array().unwrap());
        assert_eq!(shown.len(), 1);
        assert_eq!(
            (&shown[0]["scope"], &shown[0]["subresources"][0]["subresource"]),
            (&json!("Namespaced"), &json!("status"))
        );
    }
}
