//! The load model: what pods use, given the requests that their Services receive.
//!
//! Pure. A Service says with `sim.kobune.dev/rps` how many requests per second are offered to it;
//! they are spread evenly over its ready pods. A pod says with `sim.kobune.dev/cpu-per-request` what one
//! request costs in CPU-seconds, and with `sim.kobune.dev/cpu` and `sim.kobune.dev/memory` what it uses anyway.
//! CPU use is cut at the pod's CPU limit, as the kernel would throttle it.

use std::collections::BTreeMap;

use api::names;
use api::quantity::Quantity;
use api::usage::{ContainerUsage, PodUsage};
use k8s_openapi::api::core::v1::{Container, Pod, Service};

/// Memory of a container that does not say what it uses.
const MEMORY_DEFAULT: i64 = 32 << 20;

/// A Service with its offered load.
pub(crate) struct LoadedService {
    pub namespace: String,
    pub selector: BTreeMap<String, String>,
    pub rps: f64,
}

impl LoadedService {
    /// The load of a Service; `None` if it has none, or no selector to spread it by.
    pub fn of(service: &Service) -> Option<Self> {
        let rps = number(service.metadata.annotations.as_ref(), names::SIM_RPS)?;
        let selector = service.spec.as_ref()?.selector.clone().filter(|selector| !selector.is_empty())?;
        Some(Self { namespace: service.metadata.namespace.clone()?, selector, rps })
    }

    fn selects(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        pod.metadata.namespace.as_deref() == Some(self.namespace.as_str())
            && self.selector.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
    }
}

/// Requests per second that each pod receives, in the order of `pods`, which must all be ready.
pub(crate) fn spread(services: &[LoadedService], pods: &[&Pod]) -> Vec<f64> {
    let mut received = vec![0.0; pods.len()];
    for service in services {
        let members: Vec<usize> = (0..pods.len()).filter(|&i| service.selects(pods[i])).collect();
        for &i in &members {
            received[i] += service.rps / members.len() as f64;
        }
    }
    received
}

/// What a running pod uses that receives `rps` requests per second.
pub(crate) fn usage(pod: &Pod, rps: f64) -> PodUsage {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = number(annotations, names::SIM_CPU_PER_REQUEST).unwrap_or(0.0);
    let base = number(annotations, names::SIM_CPU).unwrap_or(0.0);
    let memory = number(annotations, names::SIM_MEMORY);
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let used = containers
        .iter()
        .enumerate()
        .map(|(i, container)| {
            // The first container serves the requests; the others idle.
            let wanted = if i == 0 { (base + cost * rps) * 1000.0 } else { 0.0 };
            let cpu_milli = cpu_limit_milli(container).map_or(wanted, |limit| wanted.min(limit));
            let memory_bytes = if i == 0 { memory.map(|bytes| bytes as i64) } else { None };
            ContainerUsage {
                name: container.name.clone(),
                cpu_milli: cpu_milli.round() as i64,
                memory_bytes: memory_bytes.unwrap_or(MEMORY_DEFAULT),
            }
        })
        .collect();
    PodUsage {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        containers: used,
    }
}

fn cpu_limit_milli(container: &Container) -> Option<f64> {
    let limit = container.resources.as_ref()?.limits.as_ref()?.get("cpu")?;
    Some(Quantity::try_from(limit).ok()?.milli() as f64)
}

fn number(annotations: Option<&BTreeMap<String, String>>, key: &str) -> Option<f64> {
    let text = annotations?.get(key)?;
    Quantity::parse(text).ok().map(|quantity| quantity.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, limit: Option<&str>) -> Pod {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"},
                "annotations": {names::SIM_CPU_PER_REQUEST: "10m", names::SIM_CPU: "5m", names::SIM_MEMORY: "64Mi"}},
            "spec": {"containers": [{"name": "web"}, {"name": "sidecar"}]}
        }))
        .unwrap();
        if let Some(limit) = limit {
            let resources = serde_json::from_value(serde_json::json!({"limits": {"cpu": limit}})).unwrap();
            pod.spec.as_mut().unwrap().containers[0].resources = resources;
        }
        pod
    }

    fn service(rps: f64) -> LoadedService {
        let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        LoadedService { namespace: "default".to_owned(), selector, rps }
    }

    #[test]
    fn requests_are_spread_over_the_selected_pods() {
        let (one, two, mut other) = (pod("a", None), pod("b", None), pod("c", None));
        other.metadata.labels = None;
        let received = spread(&[service(100.0), service(20.0)], &[&one, &two, &other]);
        assert_eq!(received, [60.0, 60.0, 0.0]);
    }

    #[test]
    fn usage_follows_requests_up_to_the_limit() {
        let used = usage(&pod("a", None), 50.0);
        assert_eq!(used.containers[0].cpu_milli, 505);
        assert_eq!(used.containers[0].memory_bytes, 64 << 20);
        assert_eq!(used.containers[1].cpu_milli, 0);
        assert_eq!(usage(&pod("a", Some("200m")), 50.0).containers[0].cpu_milli, 200);
    }
}
