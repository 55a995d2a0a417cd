//! What objects count for in a ResourceQuota: one evaluator per resource.
//!
//! Source: `k8s.io/kubernetes/pkg/quota/v1/evaluator/core` and `k8s.io/apiserver/pkg/quota/v1/generic`.
//! Pure functions over JSON trees: the API server's admission and the quota controller must agree.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::quantity::Quantity;
use crate::resource_list::{self as lists, HUGE_PAGES, Half, PodOptions, ResourceList};

/// Prefix of the resources that pods request.
const REQUESTS: &str = "requests.";
/// Prefix of extended resources that stand for device classes.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";
/// Suffix of the resources that count devices per class.
const DEVICES_OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Infix of the resources that count claims per storage class.
const OF_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// `AllocationResultsMaxSize`: the most devices that one request can get.
const DEVICES_MAX: i64 = 32;

const POD_RESOURCES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// A quota on one of these obliges every container to say how much it wants.
const OBLIGATORY: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const CLAIM_RESOURCES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const SERVICE_RESOURCES: [&str; 4] =
    ["count/services", "services", "services.nodeports", "services.loadbalancers"];

/// Resources that quotas never count.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("", "events"),
    ("events.k8s.io", "events"),
];

/// What happens to an object, as far as quotas care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The object is new.
    Create,
    /// The object replaces this one.
    Update(&'a Value),
}

/// Knows what the objects of one resource count for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods.
    Pods,
    /// Services.
    Services,
    /// Persistent volume claims.
    Claims,
    /// Resource claims.
    ResourceClaims,
    /// Anything else: objects are counted, under these names.
    Count(Vec<String>),
}

/// One requirement of a quota on the objects that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Such as `BestEffort`.
    pub name: String,
    /// `Exists`, `DoesNotExist`, `In` or `NotIn`.
    pub operator: String,
    /// For `In` and `NotIn`.
    pub values: Vec<String>,
}

impl Scope {
    /// The scopes of a quota's spec.
    pub fn of_spec(spec: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let plain = items(&spec["scopes"]).map(|name| Self {
            name: text(name),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        });
        let selected = items(&spec["scopeSelector"]["matchExpressions"]).map(|expression| Self {
            name: text(&expression["scopeName"]),
            operator: text(&expression["operator"]),
            values: items(&expression["values"]).map(text).collect(),
        });
        plain.chain(selected).collect()
    }

    /// Whether an object with these names (at most one at a time) is meant.
    fn selects(&self, names: &BTreeSet<&str>) -> bool {
        let one = |name: Option<&str>| {
            let listed = name.is_some_and(|name| self.values.iter().any(|value| value == name));
            match self.operator.as_str() {
                "Exists" => name.is_some(),
                "DoesNotExist" => name.is_none(),
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        };
        if names.is_empty() { one(None) } else { names.iter().any(|name| one(Some(name))) }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// `count/deployments.apps`: the resource that counts all objects of a kind.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

impl Evaluator {
    /// The evaluator of a resource, unless quotas never count it.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        if IGNORED.contains(&(group, resource)) {
            return None;
        }
        Some(match (group, resource) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::Claims,
            ("resource.k8s.io", "resourceclaims") => Self::ResourceClaims,
            ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
                Self::Count(vec![count_name(group, resource), resource.to_owned()])
            }
            _ => Self::Count(vec![count_name(group, resource)]),
        })
    }

    /// Whether such a change can make anything count more.
    pub fn handles(&self, change: Change<'_>, subresource: &str, object: &Value) -> bool {
        match (self, change, subresource) {
            (Self::Pods, Change::Update(old), "") => is_terminating(old) != is_terminating(object),
            (Self::Pods, Change::Update(_), "resize") => true,
            (Self::Claims, Change::Update(old), "status") => recounts_claim(old, object),
            (Self::Services | Self::Claims | Self::ResourceClaims, Change::Update(_), "") => true,
            (_, Change::Create, "") => true,
            _ => false,
        }
    }

    /// Whether objects of this kind count for a resource.
    pub fn counts(&self, resource: &str) -> bool {
        match self {
            Self::Pods => {
                POD_RESOURCES.contains(&resource)
                    || resource.starts_with(HUGE_PAGES)
                    || resource.strip_prefix(REQUESTS).is_some_and(|rest| rest.starts_with(HUGE_PAGES))
                    || is_extended(resource)
            }
            Self::Services => SERVICE_RESOURCES.contains(&resource),
            Self::Claims => {
                resource == "count/persistentvolumeclaims"
                    || CLAIM_RESOURCES.contains(&resource)
                    || CLAIM_RESOURCES.iter().any(|name| {
                        resource.strip_suffix(name).is_some_and(|rest| rest.ends_with(OF_STORAGE_CLASS))
                    })
            }
            Self::ResourceClaims => {
                resource == "count/resourceclaims.resource.k8s.io" || resource.ends_with(DEVICES_OF_CLASS)
            }
            Self::Count(names) => names.iter().any(|name| name == resource),
        }
    }

    /// Whether the object is among those that a scope selects.
    pub fn in_scope(&self, scope: &Scope, object: &Value) -> bool {
        match self {
            Self::Pods => pod_in_scope(scope, object),
            Self::Claims if scope.name == "VolumeAttributesClass" => {
                scope.selects(&volume_attributes_classes(object))
            }
            _ => false,
        }
    }

    /// What the object must say because a quota counts these resources.
    ///
    /// # Errors
    /// What is missing, in upstream's words.
    pub fn check<'a>(&self, counted: impl Iterator<Item = &'a str>, object: &Value) -> Result<(), String> {
        if *self != Self::Pods || lists::has_pod_level(object) {
            return Ok(());
        }
        let required: BTreeSet<&str> = counted.filter(|name| OBLIGATORY.contains(name)).collect();
        if required.is_empty() {
            return Ok(());
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for container in items(&object["spec"]["containers"]).chain(items(&object["spec"]["initContainers"]))
        {
            let resources = &container["resources"];
            let given = compute(&lists::read(&resources["requests"]), &lists::read(&resources["limits"]));
            for name in required.iter().filter(|name| !given.contains_key(**name)) {
                missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = missing
            .iter()
            .map(|(name, containers)| {
                let containers: Vec<&str> = containers.iter().copied().collect();
                format!("{name} for: {}", containers.join(","))
            })
            .collect();
        Err(format!("must specify {}", texts.join("; ")))
    }

    /// What the object counts for.
    pub fn usage(&self, object: &Value, now: Timestamp) -> ResourceList {
        match self {
            Self::Pods => pod_usage(object, now),
            Self::Services => service_usage(object),
            Self::Claims => claim_usage(object),
            Self::ResourceClaims => resource_claim_usage(object),
            Self::Count(names) => names.iter().map(|name| (name.clone(), one())).collect(),
        }
    }
}

fn one() -> Quantity {
    Quantity::from_units(1)
}

/// Whether a quota's resource is an extended one that pods request.
fn is_extended(resource: &str) -> bool {
    let Some(rest) = resource.strip_prefix(REQUESTS) else { return false };
    is_foreign(resource) || rest.starts_with(DEVICE_CLASS)
}

/// `helper.IsNativeResource`, negated.
fn is_foreign(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

fn pod_in_scope(scope: &Scope, pod: &Value) -> bool {
    match scope.name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod["spec"]["priorityClassName"].as_str().filter(|class| !class.is_empty());
            scope.selects(&class.into_iter().collect())
        }
        "CrossNamespacePodAffinity" => uses_cross_namespace_affinity(&pod["spec"]["affinity"]),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod["status"]["qosClass"].as_str().filter(|class| !class.is_empty()) {
        return class == "BestEffort";
    }
    let asks = |resources: &Value| {
        ["requests", "limits"].iter().any(|half| {
            let list = lists::read(&resources[*half]);
            ["cpu", "memory"].iter().any(|name| list.get(*name).is_some_and(|value| !value.is_zero()))
        })
    };
    let spec = &pod["spec"];
    let mut containers = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    !asks(&spec["resources"]) && !containers.any(|container| asks(&container["resources"]))
}

fn uses_cross_namespace_affinity(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty())
            || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|side| {
        let side = &affinity[*side];
        items(&side["requiredDuringSchedulingIgnoredDuringExecution"]).any(crosses)
            || items(&side["preferredDuringSchedulingIgnoredDuringExecution"])
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

/// Whether a pod still uses anything: it has not ended, and its kubelet is not long overdue.
fn is_alive(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return false;
    }
    let meta = &pod["metadata"];
    let deleted = meta["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match (deleted, meta["deletionGracePeriodSeconds"].as_i64()) {
        (Some(deleted), Some(grace)) => now.duration_since(deleted) <= SignedDuration::from_secs(grace),
        _ => true,
    }
}

fn pod_usage(pod: &Value, now: Timestamp) -> ResourceList {
    let mut usage = ResourceList::from([("count/pods".to_owned(), one())]);
    if is_alive(pod, now) {
        let options = PodOptions { status: true, overhead: true, huge_pages: true };
        let requests = lists::of_pod(pod, Half::Requests, options);
        let limits = lists::of_pod(pod, Half::Limits, options);
        lists::add(&mut usage, &compute(&requests, &limits));
    }
    usage
}

/// Requests and limits under the names that quotas use.
fn compute(requests: &ResourceList, limits: &ResourceList) -> ResourceList {
    let mut usage = ResourceList::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            usage.insert(name.to_owned(), *request);
            usage.insert(format!("{REQUESTS}{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        if name.starts_with(HUGE_PAGES) {
            usage.insert(name.clone(), *request);
            usage.insert(format!("{REQUESTS}{name}"), *request);
        } else if is_foreign(name) && !name.starts_with(REQUESTS) || name.starts_with(DEVICE_CLASS) {
            usage.insert(format!("{REQUESTS}{name}"), *request);
        }
    }
    usage
}

fn service_usage(service: &Value) -> ResourceList {
    let spec = &service["spec"];
    let ports = |filter: fn(&&Value) -> bool| {
        i64::try_from(items(&spec["ports"]).filter(filter).count()).unwrap_or(i64::MAX)
    };
    let explicit = |port: &&Value| port["nodePort"].as_i64().is_some_and(|number| number != 0);
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (ports(|_| true), 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => (ports(explicit), 1),
        Some("LoadBalancer") => (ports(|_| true), 1),
        _ => (0, 0),
    };
    let units = Quantity::from_units;
    [
        ("count/services", one()),
        ("services", one()),
        ("services.loadbalancers", units(balancers)),
        ("services.nodeports", units(node_ports)),
    ]
    .map(|(name, quantity)| (name.to_owned(), quantity))
    .into()
}

fn claim_usage(claim: &Value) -> ResourceList {
    let annotated = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default();
    let mut usage = ResourceList::new();
    let mut charge = |name: &str, quantity: Quantity| {
        if !class.is_empty() {
            usage.insert(format!("{class}{OF_STORAGE_CLASS}{name}"), quantity);
        }
        usage.insert(name.to_owned(), quantity);
    };
    charge("persistentvolumeclaims", one());
    if let Some(requested) = lists::quantity(&claim["spec"]["resources"]["requests"]["storage"]) {
        // A volume that is being expanded, or failed to be, counts as what was set aside for it.
        let allocated = lists::quantity(&claim["status"]["allocatedResources"]["storage"]);
        let larger = allocated.filter(|allocated| *allocated > requested).unwrap_or(requested);
        charge("requests.storage", larger.rounded_up());
    }
    usage.insert("count/persistentvolumeclaims".to_owned(), one());
    usage
}

fn volume_attributes_classes(claim: &Value) -> BTreeSet<&str> {
    let status = &claim["status"];
    [
        &claim["spec"]["volumeAttributesClassName"],
        &status["currentVolumeAttributesClassName"],
        &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ]
    .into_iter()
    .filter_map(|name| name.as_str().filter(|name| !name.is_empty()))
    .collect()
}

/// Whether a claim's new status makes it count differently.
fn recounts_claim(old: &Value, new: &Value) -> bool {
    let allocated = |claim: &Value| lists::quantity(&claim["status"]["allocatedResources"]["storage"]);
    allocated(old) != allocated(new) || volume_attributes_classes(old) != volume_attributes_classes(new)
}

fn resource_claim_usage(claim: &Value) -> ResourceList {
    let devices = |request: &Value| match request["allocationMode"].as_str() {
        Some("ExactCount") => request["count"].as_i64().unwrap_or(0),
        Some("All") => DEVICES_MAX,
        _ => 0,
    };
    let class = |request: &Value| {
        format!("{}{DEVICES_OF_CLASS}", request["deviceClassName"].as_str().unwrap_or_default())
    };
    let mut usage = ResourceList::from([("count/resourceclaims.resource.k8s.io".to_owned(), one())]);
    for request in items(&claim["spec"]["devices"]["requests"]) {
        // Of alternatives, the worst of each class counts.
        let mut worst = ResourceList::new();
        for choice in items(&request["firstAvailable"]) {
            let count = Quantity::from_units(devices(choice));
            if !count.is_zero() {
                lists::raise(&mut worst, &ResourceList::from([(class(choice), count)]));
            }
        }
        if worst.is_empty() && request["exactly"].is_object() {
            let exactly = &request["exactly"];
            worst.insert(class(exactly), Quantity::from_units(devices(exactly)));
        }
        lists::add(&mut usage, &worst);
    }
    for (name, count) in usage.clone() {
        if let Some(class) = name.strip_suffix(DEVICES_OF_CLASS).filter(|class| !class.is_empty()) {
            usage.insert(format!("{REQUESTS}{DEVICE_CLASS}{class}"), count);
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn usage(group: &str, resource: &str, object: &Value) -> String {
        lists::show(&Evaluator::of(group, resource).unwrap().usage(object, Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn a_pod_counts_until_it_has_ended() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "1", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}, "limits": {"memory": "1Gi"}}}]}});
        assert_eq!(
            usage("", "pods", &pod),
            "count/pods=1,cpu=1,hugepages-2Mi=4Mi,limits.memory=1Gi,pods=1,requests.cpu=1,\
             requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi"
        );
        pod["status"]["phase"] = "Failed".into();
        assert_eq!(usage("", "pods", &pod), "count/pods=1");
    }

    #[test]
    fn services_count_their_ports_and_claims_their_class() {
        let service = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 1}, {"port": 2, "nodePort": 30000}]}});
        assert_eq!(
            usage("", "services", &service),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"
        );
        let claim =
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5"}}}});
        assert_eq!(
            usage("", "persistentvolumeclaims", &claim),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2"
        );
        assert_eq!(usage("", "secrets", &json!({})), "count/secrets=1,secrets=1");
        assert_eq!(
            usage("stable.example.com", "crontabs", &json!({})),
            "count/crontabs.stable.example.com=1"
        );
    }

    #[test]
    fn what_a_quota_counts_must_be_said() {
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"memory": "1"}}}]}});
        let counted = ["pods", "requests.cpu", "limits.memory", "requests.example.com/gpu"];
        assert_eq!(
            Evaluator::Pods.check(counted.into_iter(), &pod),
            Err("must specify limits.memory for: b; requests.cpu for: a,b".to_owned())
        );
    }

    #[test]
    fn scopes_select() {
        let spec = json!({"scopes": ["NotBestEffort"], "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["low"]}]}});
        let scopes = Scope::of_spec(&spec);
        let selects = |pod: &Value| scopes.iter().all(|scope| Evaluator::Pods.in_scope(scope, pod));
        let mut pod = json!({"status": {"qosClass": "Burstable"}});
        assert!(selects(&pod));
        pod["spec"]["priorityClassName"] = "low".into();
        assert!(!selects(&pod));
        pod["status"]["qosClass"] = "BestEffort".into();
        pod["spec"]["priorityClassName"] = "high".into();
        assert!(!selects(&pod));
    }
}
