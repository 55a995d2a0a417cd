//! Lists of resources (`requests`, `hard`, …) and what a pod asks for as a whole.
//!
//! Source: `k8s.io/apiserver/pkg/quota/v1/resources.go` and `k8s.io/component-helpers/resource`. The
//! functions read JSON trees, so that the API server and the controllers share them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Quantities by the name of the resource.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Reads a list; what is no quantity is left out.
pub fn read(value: &Value) -> ResourceList {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

/// A quantity, which clients may also write as a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// The list as JSON, in canonical notation.
pub fn write(list: &ResourceList) -> Value {
    Value::Object(list.iter().map(|(name, quantity)| (name.clone(), quantity.to_string().into())).collect())
}

/// `name=value,…`, as messages show a list.
pub fn show(list: &ResourceList) -> String {
    list.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect::<Vec<_>>().join(",")
}

/// Adds `more` to `list`.
pub fn add(list: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        match list.get_mut(name) {
            Some(sum) => *sum = sum.plus(quantity),
            None => {
                list.insert(name.clone(), *quantity);
            }
        }
    }
}

/// Raises `list` to at least `other`.
pub fn raise(list: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        match list.get_mut(name) {
            Some(known) if *known >= *quantity => {}
            Some(known) => *known = *quantity,
            None => {
                list.insert(name.clone(), *quantity);
            }
        }
    }
}

/// `a - b`, but nothing below zero.
pub fn increase(a: &ResourceList, b: &ResourceList) -> ResourceList {
    let mut result = ResourceList::new();
    for (name, quantity) in a {
        let difference = b.get(name).map_or(*quantity, |before| quantity.minus(before));
        let difference = if difference > Quantity::ZERO { difference } else { Quantity::ZERO };
        result.insert(name.clone(), difference);
    }
    for name in b.keys() {
        result.entry(name.clone()).or_insert(Quantity::ZERO);
    }
    result
}

/// The part of `list` whose names `keep` knows.
pub fn mask(list: &ResourceList, keep: impl Fn(&str) -> bool) -> ResourceList {
    list.iter().filter(|(name, _)| keep(name)).map(|(name, quantity)| (name.clone(), *quantity)).collect()
}

/// Which half of `resources` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// What is asked for.
    Requests,
    /// What may be used at most.
    Limits,
}

impl Half {
    fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// How a pod's containers are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodOptions {
    /// While a resize is under way, what containers have counts as well as what they are to get.
    pub status: bool,
    /// The overhead of the pod's runtime class is added.
    pub overhead: bool,
    /// Huge pages of the pod as a whole override those of its containers, as cpu and memory do.
    pub huge_pages: bool,
}

/// What a whole pod asks for.
pub fn of_pod(pod: &Value, half: Half, options: PodOptions) -> ResourceList {
    let spec = &pod["spec"];
    let own = |container: &Value, statuses: &str| {
        let given = read(&container["resources"][half.field()]);
        if options.status { effective(pod, container, statuses, half, given) } else { given }
    };
    let mut sum = ResourceList::new();
    for container in items(&spec["containers"]) {
        add(&mut sum, &own(container, "containerStatuses"));
    }
    // Ordinary init containers run one after another, beside the sidecars started so far.
    let (mut sidecars, mut peak) = (ResourceList::new(), ResourceList::new());
    for container in items(&spec["initContainers"]) {
        if container["restartPolicy"] == "Always" {
            let own = own(container, "initContainerStatuses");
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut with_sidecars = read(&container["resources"][half.field()]);
            add(&mut with_sidecars, &sidecars);
            raise(&mut peak, &with_sidecars);
        }
    }
    raise(&mut sum, &peak);
    for (name, quantity) in read(&spec["resources"][half.field()]) {
        if is_pod_level(&name) && (options.huge_pages || !name.starts_with(HUGE_PAGES)) {
            sum.insert(name, quantity);
        }
    }
    if options.overhead {
        let overhead = read(&spec["overhead"]);
        match half {
            Half::Requests => add(&mut sum, &overhead),
            Half::Limits => {
                for (name, quantity) in overhead {
                    if let Some(limit) = sum.get_mut(&name).filter(|limit| !limit.is_zero()) {
                        *limit = limit.plus(&quantity);
                    }
                }
            }
        }
    }
    sum
}

/// Prefix of the names of huge pages.
pub const HUGE_PAGES: &str = "hugepages-";

/// Whether a pod as a whole can ask for the resource.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)
}

/// Whether the pod as a whole asks for anything.
pub fn has_pod_level(pod: &Value) -> bool {
    let resources = &pod["spec"]["resources"];
    ["requests", "limits"].iter().any(|half| {
        resources[*half].as_object().is_some_and(|list| list.keys().any(|name| is_pod_level(name)))
    })
}

/// The elements of a list that may be missing.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// What counts for a container that is being resized.
fn effective(
    pod: &Value,
    container: &Value,
    statuses: &str,
    half: Half,
    given: ResourceList,
) -> ResourceList {
    let status = items(&pod["status"][statuses]).find(|status| status["name"] == container["name"]);
    let Some(status) = status.filter(|status| status["resources"].is_object()) else { return given };
    let infeasible = items(&pod["status"]["conditions"])
        .find(|condition| condition["type"] == "PodResizePending")
        .is_some_and(|condition| condition["reason"] == "Infeasible");
    let mut result = if infeasible { ResourceList::new() } else { given };
    raise(&mut result, &read(&status["resources"][half.field()]));
    if half == Half::Requests {
        raise(&mut result, &read(&status["allocatedResources"]));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_where_they_need_more() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("200m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {"containers": [container("300m"), container("100m")],
            "initContainers": [container("900m"), sidecar, container("500m")], "overhead": {"cpu": "10m"}}});
        let options = PodOptions { status: false, overhead: true, huge_pages: true };
        assert_eq!(show(&of_pod(&pod, Half::Requests, options)), "cpu=910m");
        assert_eq!(show(&of_pod(&pod, Half::Limits, options)), "");
    }

    #[test]
    fn a_resize_counts_what_is_there_and_what_is_wanted() {
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "2"}},
                "allocatedResources": {"cpu": "3"}}]}});
        let options = PodOptions { status: true, overhead: false, huge_pages: true };
        assert_eq!(show(&of_pod(&pod, Half::Requests, options)), "cpu=3");
    }
}
