//! Resource vectors: what a pod asks for and what a node has.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// CPU that a container without a request counts for in scores, in thousandths of a core.
/// Source: upstream `pkg/scheduler/util/pod_resources.go`.
pub const DEFAULT_CPU_REQUEST_MILLI: i64 = 100;
/// Memory that a container without a request counts for in scores, in bytes (same source).
pub const DEFAULT_MEMORY_REQUEST_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of everything that is counted per node, except the number of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Node-local ephemeral storage in bytes.
    pub ephemeral_bytes: i64,
    /// Extended resources, huge pages and attachable volumes by name, sorted, without zeros.
    pub extended: Vec<(Arc<str>, i64)>,
}

impl Resources {
    /// Reads a Kubernetes resource list. `pods` and unknown native resources are left out; amounts
    /// that are no quantities count as zero, as the API server does not let them in.
    pub fn from_list(list: &BTreeMap<String, Quantity>) -> Self {
        let mut result = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => result.cpu_milli = milli_value(quantity),
                "memory" => result.memory_bytes = value(quantity),
                "ephemeral-storage" => result.ephemeral_bytes = value(quantity),
                name if is_scalar_resource(name) => {
                    let amount = value(quantity);
                    if amount != 0 {
                        result.extended.push((Arc::from(name), amount));
                    }
                }
                _ => {}
            }
        }
        result
    }

    /// The amount of an extended resource; zero when it is not listed.
    pub fn extended(&self, name: &str) -> i64 {
        match self.extended.binary_search_by(|(known, _)| known.as_ref().cmp(name)) {
            Ok(index) => self.extended[index].1,
            Err(_) => 0,
        }
    }

    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.saturating_add(other.ephemeral_bytes);
        for (name, amount) in &other.extended {
            *self.extended_entry(name) += amount;
        }
    }

    /// Takes `other` away from this; entries that reach zero disappear.
    pub fn subtract(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.saturating_sub(other.ephemeral_bytes);
        for (name, amount) in &other.extended {
            *self.extended_entry(name) -= amount;
        }
        if !other.extended.is_empty() {
            self.extended.retain(|(_, amount)| *amount != 0);
        }
    }

    /// Raises each entry to the one in `other` where that is greater.
    pub fn raise_to(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.max(other.ephemeral_bytes);
        for (name, amount) in &other.extended {
            let entry = self.extended_entry(name);
            *entry = (*entry).max(*amount);
        }
    }

    /// Whether nothing at all is asked for.
    pub fn is_zero(&self) -> bool {
        self.cpu_milli == 0 && self.memory_bytes == 0 && self.ephemeral_bytes == 0 && self.extended.is_empty()
    }

    fn extended_entry(&mut self, name: &Arc<str>) -> &mut i64 {
        let index = match self.extended.binary_search_by(|(known, _)| known.as_ref().cmp(name)) {
            Ok(index) => index,
            Err(index) => {
                self.extended.insert(index, (Arc::clone(name), 0));
                index
            }
        };
        &mut self.extended[index].1
    }
}

/// What a pod asks for: the sum of its containers and sidecars or, where it is more, what one of
/// its init containers needs next to the sidecars before it; plus the overhead. Requests of the
/// whole pod replace the sum. Source: upstream `component-helpers/resource.PodRequests`.
pub(crate) fn pod_requests(spec: &PodSpec) -> Resources {
    let mut total = aggregate(spec, |container| {
        container_requests(container).map_or_else(Resources::default, Resources::from_list)
    });
    apply_pod_level(spec, &mut total);
    total
}

/// CPU (milli) and memory (bytes) of a pod for scoring, where containers without a request count
/// as if they asked for a little, so that they are not all put on the same node.
pub(crate) fn non_zero_requests(spec: &PodSpec) -> (i64, i64) {
    let mut total = aggregate(spec, |container| {
        let list = container_requests(container);
        let mut requests = list.map_or_else(Resources::default, Resources::from_list);
        let has = |name: &str| list.is_some_and(|list| list.contains_key(name));
        if !has("cpu") {
            requests.cpu_milli = DEFAULT_CPU_REQUEST_MILLI;
        }
        if !has("memory") {
            requests.memory_bytes = DEFAULT_MEMORY_REQUEST_BYTES;
        }
        requests
    });
    apply_pod_level(spec, &mut total);
    (total.cpu_milli, total.memory_bytes)
}

fn aggregate(spec: &PodSpec, requests_of: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&requests_of(container));
    }
    let mut sidecars = Resources::default();
    let mut init = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let requests = requests_of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&requests);
            sidecars.add(&requests);
            init.raise_to(&sidecars);
        } else {
            let mut running = requests;
            running.add(&sidecars);
            init.raise_to(&running);
        }
    }
    total.raise_to(&init);
    total
}

fn apply_pod_level(spec: &PodSpec, total: &mut Resources) {
    if let Some(list) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => total.cpu_milli = milli_value(quantity),
                "memory" => total.memory_bytes = value(quantity),
                name if name.starts_with("hugepages-") => {
                    *total.extended_entry(&Arc::from(name)) = value(quantity)
                }
                _ => {}
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_list(overhead));
    }
}

fn container_requests(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref().and_then(|resources| resources.requests.as_ref())
}

/// Extended resources, huge pages, prefixed native resources and attachable volumes: everything
/// that upstream counts besides CPU, memory, ephemeral storage and pods.
fn is_scalar_resource(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

fn milli_value(quantity: &Quantity) -> i64 {
    api::quantity::Quantity::parse(&quantity.0).map_or(0, |parsed| parsed.milli())
}

pub(crate) fn value(quantity: &Quantity) -> i64 {
    api::quantity::Quantity::parse(&quantity.0).map_or(0, |parsed| parsed.units())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn init_containers_count_where_they_need_more() {
        // The example in upstream's fit.go.
        let spec = spec(json!({
            "initContainers": [
                {"name": "i1", "resources": {"requests": {"cpu": "2", "memory": "1G"}}},
                {"name": "i2", "resources": {"requests": {"cpu": "2", "memory": "3G"}}}],
            "containers": [
                {"name": "c1", "resources": {"requests": {"cpu": "2", "memory": "1G"}}},
                {"name": "c2", "resources": {"requests": {"cpu": "1", "memory": "1G"}}}],
        }));
        let requests = pod_requests(&spec);
        assert_eq!((requests.cpu_milli, requests.memory_bytes), (3000, 3_000_000_000));
    }

    #[test]
    fn sidecars_run_next_to_what_starts_after_them() {
        let spec = spec(json!({
            "initContainers": [
                {"name": "before", "resources": {"requests": {"cpu": "5"}}},
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"name": "after", "resources": {"requests": {"cpu": "4500m"}}}],
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}],
            "overhead": {"cpu": "250m", "memory": "120Mi"},
        }));
        let requests = pod_requests(&spec);
        assert_eq!(requests.cpu_milli, 5500 + 250);
        assert_eq!(requests.memory_bytes, 120 << 20);
    }

    #[test]
    fn containers_without_requests_count_a_little_in_scores() {
        let spec = spec(json!({"containers": [
            {"name": "none"},
            {"name": "zero", "resources": {"requests": {"cpu": "0", "memory": "1Mi"}}}]}));
        assert!(pod_requests(&spec).cpu_milli == 0);
        assert_eq!(non_zero_requests(&spec), (100, (200 << 20) + (1 << 20)));
    }

    #[test]
    fn extended_resources_are_sorted_and_never_zero() {
        let spec = spec(json!({"containers": [{"name": "c", "resources": {"requests": {
            "nvidia.com/gpu": "2", "hugepages-2Mi": "4Mi", "example.com/zero": "0", "pods": "3"}}}]}));
        let requests = pod_requests(&spec);
        let names: Vec<&str> = requests.extended.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["hugepages-2Mi", "nvidia.com/gpu"]);
        assert_eq!(requests.extended("nvidia.com/gpu"), 2);
    }
}
