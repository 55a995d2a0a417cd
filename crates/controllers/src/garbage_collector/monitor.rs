//! Follows the metadata of one resource.

use std::time::Duration;

use base::backoff::{Backoff, Policy};
use futures::{AsyncBufReadExt, TryStreamExt};
use http::Request;
use serde::Deserialize;

use super::graph::Meta;
use crate::discovery::Resource;

const PAGE: usize = 2000;
const WATCH_SECONDS: u64 = 285;
/// Asks for metadata only; a server that cannot do so sends whole objects, which are read the same.
const ACCEPT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const ACCEPT_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// What a monitor tells.
pub enum Observation {
    /// A complete list.
    Listed(Vec<Meta>),
    /// An object appeared or changed.
    Applied(Meta),
    /// An object is gone.
    Deleted(Meta),
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    metadata: Meta,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

#[derive(Deserialize)]
struct WatchEvent {
    r#type: String,
    object: Item,
}

/// Lists and watches a resource for good, reporting to `observe`.
pub async fn follow(client: kube::Client, resource: &Resource, mut observe: impl FnMut(Observation)) {
    let mut backoff = Backoff::new(Policy::RECONNECT);
    loop {
        let version = match list(&client, resource).await {
            Ok((objects, version)) => {
                observe(Observation::Listed(objects));
                version
            }
            Err(error) => {
                tracing::debug!(resource = %resource.api.plural, %error, "listing metadata failed; trying again");
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        };
        backoff.reset();
        watch(&client, resource, version, &mut observe, &mut backoff).await;
    }
}

fn uri(resource: &Resource) -> String {
    let api = &resource.api;
    if api.group.is_empty() {
        format!("/api/{}/{}?", api.version, api.plural)
    } else {
        format!("/apis/{}/{}/{}?", api.group, api.version, api.plural)
    }
}

fn get(uri: &str, accept: &str) -> Result<Request<Vec<u8>>, kube::Error> {
    Request::get(uri)
        .header(http::header::ACCEPT, accept)
        .body(Vec::new())
        .map_err(|error| kube::Error::Service(error.into()))
}

async fn list(client: &kube::Client, resource: &Resource) -> Result<(Vec<Meta>, String), kube::Error> {
    let (mut objects, mut token) = (Vec::new(), String::new());
    loop {
        let mut uri = format!("{}limit={PAGE}", uri(resource));
        if !token.is_empty() {
            uri.push_str(&format!("&continue={token}"));
        }
        let page: Page = client.request(get(&uri, ACCEPT_LIST)?).await?;
        objects.extend(page.items.into_iter().map(|item| item.metadata));
        // Tokens are base64; of its alphabet only these need escapes in a query.
        token = page.metadata.r#continue.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        if token.is_empty() {
            return Ok((objects, page.metadata.resource_version));
        }
    }
}

/// Watches from `version` on, reconnecting, until a new list is needed.
async fn watch(
    client: &kube::Client,
    resource: &Resource,
    mut version: String,
    observe: &mut impl FnMut(Observation),
    backoff: &mut Backoff,
) {
    loop {
        let result = watch_once(client, resource, &mut version, observe);
        let limit = Duration::from_secs(WATCH_SECONDS + 30);
        match tokio::time::timeout(limit, result).await {
            Err(_) => {}
            Ok(Ok(true)) => backoff.reset(),
            Ok(Ok(false)) => return,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 410) => return,
            Ok(Err(error)) => {
                tracing::debug!(resource = %resource.api.plural, %error, "watching metadata broke; reconnecting");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// One watch request; whether it may be resumed from `version`.
async fn watch_once(
    client: &kube::Client,
    resource: &Resource,
    version: &mut String,
    observe: &mut impl FnMut(Observation),
) -> Result<bool, kube::Error> {
    let uri = format!(
        "{}watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
        uri(resource)
    );
    let mut lines = client.request_stream(get(&uri, ACCEPT)?).await?.lines();
    while let Some(line) = lines.try_next().await.map_err(|error| kube::Error::Service(error.into()))? {
        if line.is_empty() {
            continue;
        }
        let event: WatchEvent = serde_json::from_str(&line).map_err(kube::Error::SerdeError)?;
        let meta = event.object.metadata;
        match event.r#type.as_str() {
            "ERROR" => return Ok(false),
            _ if !meta.resource_version.is_empty() => version.clone_from(&meta.resource_version),
            _ => {}
        }
        match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => observe(Observation::Applied(meta)),
            "DELETED" => observe(Observation::Deleted(meta)),
            _ => {}
        }
    }
    Ok(true)
}
