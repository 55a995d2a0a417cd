//! `metrics.k8s.io/v1beta1`: nodes and pods, computed from the NodeUsage objects that nodes write.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use api::usage::{NodeUsage, PodUsage};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::cache::{Entry, ResourceCache, range};
use crate::call::Call;
use crate::handlers::options::ListOptions;
use crate::status::ApiError;
use crate::storage::store_error;
use crate::tables;

/// The group that this module answers for.
pub(crate) const GROUP: &str = "metrics.k8s.io";

/// GET of one NodeMetrics or PodMetrics.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let sources = Sources::of(call).await?;
    let key = call.kind.key(&call.info.namespace, &call.info.name);
    let entry = sources.described.get(&stored_key(&key)).ok_or_else(|| call.not_found())?;
    let found = if call.kind.namespaced {
        sources.pod(&entry)
    } else {
        sources
            .usage_of(entry.name())
            .map(|usage| node_metrics(&entry, &labels(&entry, &sources.described), &usage))
    };
    let found = found.ok_or_else(|| call.not_found())?;
    Ok(call.respond_object(StatusCode::OK, &found))
}

/// GET of all of them that selectors choose.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut filter = ListOptions::parse(call, false)?.filter;
    filter.prefix = stored_key(&filter.prefix);
    let sources = Sources::of(call).await?;
    let objects = sources.described.snapshot(0).objects;
    let selected = range(&objects, &filter.prefix, None)
        .filter(|entry| filter.matches(entry, &sources.described.kind()));
    let items: Vec<Value> = if call.kind.namespaced {
        let usages = sources.all();
        let by_pod: BTreeMap<(&str, &str), (&NodeUsage, &PodUsage)> = usages
            .iter()
            .flat_map(|usage| {
                usage.pods.iter().map(move |pod| ((pod.namespace.as_str(), pod.name.as_str()), (usage, pod)))
            })
            .collect();
        selected
            .filter_map(|entry| {
                let (usage, pod) = by_pod.get(&(entry.namespace(), entry.name()))?;
                Some(pod_metrics(entry, &labels(entry, &sources.described), usage, pod))
            })
            .collect()
    } else {
        selected
            .filter_map(|entry| {
                let usage = sources.usage_of(entry.name())?;
                Some(node_metrics(entry, &labels(entry, &sources.described), &usage))
            })
            .collect()
    };
    Ok(call.output.respond(StatusCode::OK, &tables::list(call, json!({}), items.into_iter())?))
}

/// Where the figures come from.
struct Sources {
    /// Pods or nodes: whatever the metrics describe.
    described: Arc<ResourceCache>,
    usage: Arc<ResourceCache>,
}

impl Sources {
    async fn of(call: &Call) -> Result<Sources, ApiError> {
        let unavailable = || ApiError::service_unavailable("usage is not collected by this server");
        let registry = call.server.registry();
        let kind =
            registry.resource("metrics.kobune.dev", "v1alpha1", "nodeusages").ok_or_else(unavailable)?;
        let usage = call.server.cache_of(kind);
        let durable = call.cache();
        usage.fresh().await.map_err(store_error)?;
        durable.fresh().await.map_err(store_error)?;
        Ok(Sources {
            described: durable.resource(&call.kind.plural).ok_or_else(unavailable)?,
            usage: usage.resource(&kind.storage.dir).ok_or_else(unavailable)?,
        })
    }

    fn usage_of(&self, node: &str) -> Option<NodeUsage> {
        let entry = self.usage.get(&self.usage.kind().key("", node))?;
        serde_json::from_slice(entry.bytes()).ok()
    }

    fn all(&self) -> Vec<NodeUsage> {
        let objects = self.usage.snapshot(0).objects;
        objects.values().filter_map(|entry| serde_json::from_slice(entry.bytes()).ok()).collect()
    }

    fn pod(&self, entry: &Arc<Entry>) -> Option<Value> {
        let kind = &self.described.kind();
        let node = kind.fields.labels.iter().position(|label| label == "spec.nodeName")?;
        let usage = self.usage_of(entry.selectable(kind).fields.get(node)?)?;
        let pod =
            usage.pods.iter().find(|pod| pod.namespace == entry.namespace() && pod.name == entry.name())?;
        Some(pod_metrics(entry, &labels(entry, &self.described), &usage, pod))
    }
}

/// The key of the pod or node whose metrics would have `key`.
fn stored_key(key: &str) -> String {
    key.replacen(".metrics.k8s.io/", "/", 1)
}

fn labels(entry: &Entry, cache: &ResourceCache) -> Value {
    json!(entry.selectable(&cache.kind()).labels)
}

fn node_metrics(entry: &Entry, labels: &Value, usage: &NodeUsage) -> Value {
    let metadata = json!({"name": entry.name()});
    let mut object = frame("NodeMetrics", metadata, labels, usage);
    object["usage"] = amounts(usage.cpu_milli, usage.memory_bytes);
    object
}

fn pod_metrics(entry: &Entry, labels: &Value, usage: &NodeUsage, pod: &PodUsage) -> Value {
    let metadata = json!({"name": entry.name(), "namespace": entry.namespace()});
    let mut object = frame("PodMetrics", metadata, labels, usage);
    let containers = pod.containers.iter();
    object["containers"] = containers
        .map(|container| json!({"name": container.name, "usage": amounts(container.cpu_milli, container.memory_bytes)}))
        .collect();
    object
}

fn frame(kind: &str, mut metadata: Value, labels: &Value, usage: &NodeUsage) -> Value {
    let end = usage.timestamp.as_ref().map_or_else(base::clock::now, |timestamp| timestamp.0);
    let end = base::clock::rfc3339(end);
    metadata["creationTimestamp"] = json!(end);
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        metadata["labels"] = labels.clone();
    }
    json!({"kind": kind, "apiVersion": format!("{GROUP}/v1beta1"), "metadata": metadata, "timestamp": end,
        "window": window(usage.window_milliseconds)})
}

/// Milliseconds as a Go duration.
fn window(milliseconds: i64) -> String {
    match (milliseconds / 1000, milliseconds % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}s", milliseconds as f64 / 1000.0),
    }
}

fn amounts(cpu_milli: i64, memory_bytes: i64) -> Value {
    // Whole kibibytes, as the kubelet's figures are shown elsewhere.
    let memory = format!("{}Ki", (memory_bytes + 512) / 1024);
    json!({"cpu": Quantity::from_milli(cpu_milli).to_string(), "memory": memory})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_go_durations() {
        assert_eq!(window(15_000), "15s");
        assert_eq!(window(1_500), "1.5s");
    }

    #[test]
    fn amounts_are_quantities() {
        assert_eq!(amounts(250, 1 << 20), json!({"cpu": "250m", "memory": "1024Ki"}));
        assert_eq!(amounts(2000, 0), json!({"cpu": "2", "memory": "0Ki"}));
    }
}
