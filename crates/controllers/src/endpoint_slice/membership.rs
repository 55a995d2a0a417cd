//! Which pods each Service selects, kept up to date event by event: with many pods in a namespace,
//! matching all of them for every change would cost more than everything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use client::{Event, Informer, key_of, object_key};
use k8s_openapi::api::core::v1::{Pod, Service};

use super::endpoints::fingerprint;

/// The selected pods of all Services.
#[derive(Default)]
pub struct Membership {
    /// By namespace and name.
    services: Mutex<BTreeMap<String, BTreeMap<String, Members>>>,
}

struct Members {
    selector: BTreeMap<String, String>,
    /// By name.
    pods: BTreeMap<String, Arc<Pod>>,
}

impl Members {
    fn selects(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        self.selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    }
}

/// A Service whose endpoints may have changed, and how long to gather further changes.
pub type Affected = (String, Duration);

impl Membership {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Members>>> {
        self.services.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The pods a Service selects; `None` when it is unknown or has no selector.
    pub fn of(&self, namespace: &str, name: &str) -> Option<Vec<Arc<Pod>>> {
        let services = self.lock();
        Some(services.get(namespace)?.get(name)?.pods.values().cloned().collect())
    }

    /// Takes in a change of a Service.
    pub fn service_event(&self, event: &Event<'_, Service>, pods: &Informer<Pod>) {
        let service = event.object();
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let name = service.metadata.name.clone().unwrap_or_default();
        let selector = service
            .spec
            .as_ref()
            .filter(|spec| spec.type_.as_deref() != Some("ExternalName"))
            .and_then(|spec| spec.selector.clone())
            .filter(|selector| !selector.is_empty() && !matches!(event, Event::Deleted(_)));
        let mut services = self.lock();
        let Some(selector) = selector else {
            if let Some(known) = services.get_mut(&namespace) {
                known.remove(&name);
                if known.is_empty() {
                    services.remove(&namespace);
                }
            }
            return;
        };
        let known = services.entry(namespace.clone()).or_default();
        if known.get(&name).is_some_and(|members| members.selector == selector) {
            return;
        }
        let mut members = Members { selector, pods: BTreeMap::new() };
        for pod in pods.in_namespace(&namespace) {
            if members.selects(&pod) {
                members.pods.insert(pod.metadata.name.clone().unwrap_or_default(), pod);
            }
        }
        known.insert(name, members);
    }

    /// Takes in a change of a pod and tells whose endpoints it concerns.
    pub fn pod_event(&self, event: &Event<'_, Pod>) -> Vec<Affected> {
        let pod = event.object();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let name = pod.metadata.name.as_deref().unwrap_or("");
        let changed = match event {
            Event::Applied { old: Some(old), new } => fingerprint(old) != fingerprint(new),
            _ => true,
        };
        let mut services = self.lock();
        let mut affected = Vec::new();
        for (service, members) in services.get_mut(namespace).into_iter().flatten() {
            let selected = !matches!(event, Event::Deleted(_)) && members.selects(pod);
            let before = if selected {
                members.pods.insert(name.to_string(), pod.clone()).is_some()
            } else {
                members.pods.remove(name).is_some()
            };
            if changed && (selected || before) {
                // The more endpoints, the costlier a write, so the longer it is worth waiting.
                let gather = Duration::from_millis(10 + (members.pods.len() as u64 / 10).min(200));
                affected.push((object_key(namespace, service), gather));
            }
        }
        affected
    }

    /// Whether the Service is (still) to be served.
    pub fn knows(&self, service: &Service) -> bool {
        let key = key_of(service);
        let (namespace, name) = crate::context::split_key(&key);
        self.lock().get(namespace).is_some_and(|known| known.contains_key(name))
    }
}
