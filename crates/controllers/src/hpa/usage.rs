//! What pods use: pushed by our nodes, or fetched from `metrics.k8s.io` where nobody pushes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::quantity::Quantity;
use api::usage::{ContainerUsage, NodeUsage, PodMetrics};
use client::{Event, Informer, WorkQueue, key_of, object_key};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler as Hpa;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use scaling::hpa::Usage;

use super::GATHER;
use crate::Context;

/// How often `metrics.k8s.io` is asked where usage is not pushed.
const POLL: Duration = Duration::from_secs(15);

/// The latest usage of each pod, by `namespace/name`.
#[derive(Clone, Default)]
pub(super) struct Usages {
    pods: Arc<RwLock<BTreeMap<String, Measured>>>,
}

struct Measured {
    /// Who reported it; empty if it was fetched.
    node: String,
    at: Timestamp,
    window: Duration,
    containers: Vec<ContainerUsage>,
}

impl Usages {
    /// Starts to follow usage. Whenever some arrives, the autoscalers of its namespaces are queued.
    pub async fn start(context: &Context, hpas: &Informer<Hpa>, queue: &WorkQueue<String>) -> Self {
        let usages = Self::default();
        let nodes: Api<NodeUsage> = Api::all(context.client.clone());
        let pushed = nodes.list(&ListParams::default().limit(1)).await.is_ok();
        let (followed, hpas, queue) = (usages.clone(), hpas.clone(), queue.clone());
        if pushed {
            context.informers.of::<NodeUsage>().on_event(move |event| {
                followed.take_node(event);
                let namespaces = event.object().pods.iter().map(|pod| pod.namespace.as_str());
                wake(&hpas, &queue, namespaces);
            });
        } else {
            let (client, stop) = (context.client.clone(), context.stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(followed.poll(client, hpas, queue)).await });
        }
        usages
    }

    /// What a pod uses of a resource, in millicores or bytes, in all containers or one.
    pub fn of(&self, pod: &Pod, resource: &str, container: Option<&str>) -> Option<Usage> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        let measured = pods.get(&key_of(pod))?;
        let amount = |used: &ContainerUsage| match resource {
            "cpu" => Some(used.cpu_milli),
            "memory" => Some(used.memory_bytes),
            _ => None,
        };
        let mut counted = measured
            .containers
            .iter()
            .filter(|used| container.is_none_or(|name| used.name == name))
            .peekable();
        counted.peek()?;
        let value = counted.map(amount).sum::<Option<i64>>()?;
        Some(Usage { value, at: measured.at, window: measured.window })
    }

    fn take_node(&self, event: &Event<'_, NodeUsage>) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let former = match event {
            Event::Applied { old, .. } => *old,
            Event::Deleted(last) => Some(*last),
        };
        let node = key_of(event.object().as_ref());
        for pod in former.iter().flat_map(|former| &former.pods) {
            let key = object_key(&pod.namespace, &pod.name);
            // Another node may have reported a successor of the same name meanwhile.
            if pods.get(&key).is_some_and(|measured| measured.node == node) {
                pods.remove(&key);
            }
        }
        let Event::Applied { new, .. } = event else { return };
        let at = new.timestamp.as_ref().map_or_else(base::clock::now, |time| time.0);
        let window = Duration::from_millis(u64::try_from(new.window_milliseconds).unwrap_or(0));
        for pod in &new.pods {
            let measured = Measured { node: node.clone(), at, window, containers: pod.containers.clone() };
            pods.insert(object_key(&pod.namespace, &pod.name), measured);
        }
    }

    async fn poll(self, client: kube::Client, hpas: Informer<Hpa>, queue: WorkQueue<String>) {
        loop {
            let mut namespaces: Vec<String> =
                hpas.list().iter().filter_map(|hpa| hpa.metadata.namespace.clone()).collect();
            namespaces.dedup();
            for namespace in &namespaces {
                let api: Api<PodMetrics> = Api::namespaced(client.clone(), namespace);
                match api.list(&ListParams::default()).await {
                    Ok(list) => self.take_list(namespace, list.items),
                    Err(error) => tracing::warn!(%namespace, %error, "metrics.k8s.io gives no pod metrics"),
                }
            }
            wake(&hpas, &queue, namespaces.iter().map(String::as_str));
            tokio::time::sleep(POLL).await;
        }
    }

    fn take_list(&self, namespace: &str, list: Vec<PodMetrics>) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{namespace}/");
        pods.retain(|key, _| !key.starts_with(&prefix));
        for metrics in list {
            let read = |usage: &BTreeMap<String, _>, name: &str| {
                usage.get(name).and_then(|quantity| Quantity::try_from(quantity).ok()).unwrap_or_default()
            };
            let containers = metrics.containers.iter().map(|container| ContainerUsage {
                name: container.name.clone(),
                cpu_milli: read(&container.usage, "cpu").milli(),
                memory_bytes: read(&container.usage, "memory").units(),
            });
            let measured = Measured {
                node: String::new(),
                at: metrics.timestamp.as_ref().map_or_else(base::clock::now, |time| time.0),
                window: go_duration(&metrics.window),
                containers: containers.collect(),
            };
            pods.insert(object_key(namespace, metrics.metadata.name.as_deref().unwrap_or("")), measured);
        }
    }
}

/// Queues the autoscalers of the namespaces, soon.
fn wake<'a>(hpas: &Informer<Hpa>, queue: &WorkQueue<String>, namespaces: impl Iterator<Item = &'a str>) {
    let mut former = "";
    for namespace in namespaces {
        if namespace != former {
            former = namespace;
            for hpa in hpas.in_namespace(namespace) {
                queue.add_after(key_of(hpa.as_ref()), GATHER);
            }
        }
    }
}

/// A window such as `15.2s` or `1m30s`, as the metrics server writes it; zero if it is none.
fn go_duration(text: &str) -> Duration {
    let mut total = 0.0;
    let mut rest = text;
    while let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let Ok(number) = rest[..end].parse::<f64>() else { return Duration::ZERO };
        let unit_end = rest[end..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |at| end + at);
        total += number
            * match &rest[end..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "ms" => 0.001,
                _ => 1.0,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read() {
        for (text, millis) in [("15.2s", 15_200), ("1m30s", 90_000), ("500ms", 500), ("", 0), ("x", 0)] {
            assert_eq!(go_duration(text).as_millis(), millis, "{text}");
        }
    }
}
