//! LimitRanger: what containers ask for where they say nothing, and how much anybody may ask for.

use api::quantity::Quantity;
use api::resource_list::{self as lists, Half, PodOptions, ResourceList};
use serde_json::Value;

use super::lookup::LIMIT_RANGES;
use super::{Attributes, Operation};
use crate::object::{meta, meta_mut};
use crate::status::ApiError;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// `resource.MaxMilliValue`: what is larger is compared in whole units.
const MILLI_MAX: i64 = i64::MAX / 1000;

/// One item of `spec.limits`.
struct Limit {
    r#type: String,
    default: ResourceList,
    default_request: ResourceList,
    min: ResourceList,
    max: ResourceList,
    ratio: ResourceList,
}

/// A LimitRange, parsed.
struct Limits(Vec<Limit>);

impl Limits {
    fn parse(range: &Value) -> Self {
        let limits = range["spec"]["limits"].as_array().into_iter().flatten();
        Self(
            limits
                .map(|limit| Limit {
                    r#type: limit["type"].as_str().unwrap_or_default().to_owned(),
                    default: lists::read(&limit["default"]),
                    default_request: lists::read(&limit["defaultRequest"]),
                    min: lists::read(&limit["min"]),
                    max: lists::read(&limit["max"]),
                    ratio: lists::read(&limit["maxLimitRequestRatio"]),
                })
                .collect(),
        )
    }
}

/// Whether limit ranges apply to such a request at all.
fn applies(attributes: &Attributes<'_>) -> bool {
    let concerned = match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => {
            attributes.is_resource("", "pods") || attributes.is_resource("", "persistentvolumeclaims")
        }
        (Operation::Update, "") => attributes.is_resource("", "persistentvolumeclaims"),
        (Operation::Update, "resize") => attributes.is_resource("", "pods"),
        _ => false,
    };
    concerned && attributes.old.is_none_or(|old| meta(old, "deletionTimestamp").is_empty())
}

/// Fills in the defaults of the namespace.
pub(super) fn admit(attributes: &Attributes<'_>, object: &mut Value) {
    if !applies(attributes) || !attributes.is_resource("", "pods") {
        return;
    }
    for range in LIMIT_RANGES.list(attributes.call, attributes.namespace) {
        fill(object, &range.parsed(Limits::parse));
    }
}

fn fill(pod: &mut Value, limits: &Limits) {
    let (mut requests, mut most) = (ResourceList::new(), ResourceList::new());
    for limit in limits.0.iter().filter(|limit| limit.r#type == "Container") {
        requests.extend(limit.default_request.clone());
        most.extend(limit.default.clone());
    }
    let mut notes: Vec<String> = Vec::new();
    for (field, word) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"][field].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            // The limits are filled in first and told last.
            let set_limits = fill_half(container, "limits", &most);
            let set_requests = fill_half(container, "requests", &requests);
            for (set, half) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    notes.push(format!("{} {half} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let annotations = meta_mut(pod).entry("annotations").or_insert(Value::Null);
        if !annotations.is_object() {
            *annotations = serde_json::json!({});
        }
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", notes.join("; ")).into();
    }
}

/// Adds what is missing; says what that was.
fn fill_half(container: &mut Value, half: &str, defaults: &ResourceList) -> Vec<String> {
    let mut set = Vec::new();
    for (name, quantity) in defaults {
        if container["resources"][half].get(name).is_none() {
            container["resources"][half][name] = quantity.to_string().into();
            set.push(name.clone());
        }
    }
    set
}

/// Refuses what is beyond the limits.
pub(super) fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    if !applies(attributes) {
        return Ok(());
    }
    let is_pod = attributes.is_resource("", "pods");
    for range in LIMIT_RANGES.list(attributes.call, attributes.namespace) {
        let limits = range.parsed(Limits::parse);
        let faults = if is_pod { check_pod(&limits, object) } else { check_claim(&limits, object) };
        if let Some(text) = aggregate(faults) {
            return Err(attributes.forbidden(object, text));
        }
    }
    Ok(())
}

/// `utilerrors.NewAggregate(…).Error()`: each text once, in brackets if there are several.
fn aggregate(faults: Vec<String>) -> Option<String> {
    let mut distinct: Vec<String> = Vec::new();
    for fault in faults {
        if !distinct.contains(&fault) {
            distinct.push(fault);
        }
    }
    match distinct.len() {
        0 => None,
        1 => distinct.pop(),
        _ => Some(format!("[{}]", distinct.join(", "))),
    }
}

fn check_claim(limits: &Limits, claim: &Value) -> Vec<String> {
    let requests = lists::read(&claim["spec"]["resources"]["requests"]);
    let mut faults = Vec::new();
    for limit in limits.0.iter().filter(|limit| limit.r#type == "PersistentVolumeClaim") {
        let subject =
            Subject { r#type: &limit.r#type, requests: requests.clone(), limits: ResourceList::new() };
        faults.extend(limit.min.iter().filter_map(|(name, min)| subject.check_min(name, min)));
        faults.extend(limit.max.iter().filter_map(|(name, max)| subject.check_max_request(name, max)));
    }
    faults
}

fn check_pod(limits: &Limits, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in &limits.0 {
        let subjects: Vec<Subject<'_>> = match limit.r#type.as_str() {
            "Container" => ["containers", "initContainers"]
                .into_iter()
                .flat_map(|field| pod["spec"][field].as_array().into_iter().flatten())
                .map(|container| Subject {
                    r#type: &limit.r#type,
                    requests: lists::read(&container["resources"]["requests"]),
                    limits: lists::read(&container["resources"]["limits"]),
                })
                .collect(),
            "Pod" => {
                let options = PodOptions { status: false, overhead: false, huge_pages: false };
                vec![Subject {
                    r#type: &limit.r#type,
                    requests: lists::of_pod(pod, Half::Requests, options),
                    limits: lists::of_pod(pod, Half::Limits, options),
                }]
            }
            _ => continue,
        };
        for subject in subjects {
            faults.extend(limit.min.iter().filter_map(|(name, min)| subject.check_min(name, min)));
            faults.extend(limit.max.iter().filter_map(|(name, max)| subject.check_max(name, max)));
            faults.extend(limit.ratio.iter().filter_map(|(name, ratio)| subject.check_ratio(name, ratio)));
        }
    }
    faults
}

/// Whatever a limit is about, and what it asks for.
struct Subject<'a> {
    r#type: &'a str,
    requests: ResourceList,
    limits: ResourceList,
}

/// Values at one precision: thousandths unless one of them is too large for that.
fn comparable(request: Option<&Quantity>, limit: Option<&Quantity>, enforced: &Quantity) -> (i64, i64, i64) {
    let request = request.copied().unwrap_or_default();
    let limit = limit.copied().unwrap_or_default();
    let all = [&request, &limit, enforced];
    if all.iter().all(|quantity| quantity.units() <= MILLI_MAX) {
        (request.milli(), limit.milli(), enforced.milli())
    } else {
        (request.units(), limit.units(), enforced.units())
    }
}

impl Subject<'_> {
    fn check_min(&self, name: &str, min: &Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let (request_value, limit_value, enforced) = comparable(request, limit, min);
        let start = format!("minimum {name} usage per {} is {min}", self.r#type);
        let Some(request) = request else { return Some(format!("{start}.  No request is specified")) };
        if request_value < enforced {
            return Some(format!("{start}, but request is {request}"));
        }
        let limit = limit.filter(|_| limit_value < enforced)?;
        Some(format!("{start}, but limit is {limit}"))
    }

    fn check_max_request(&self, name: &str, max: &Quantity) -> Option<String> {
        let request = self.requests.get(name);
        let (value, _, enforced) = comparable(request, None, max);
        let start = format!("maximum {name} usage per {} is {max}", self.r#type);
        let Some(request) = request else { return Some(format!("{start}.  No request is specified")) };
        (value > enforced).then(|| format!("{start}, but request is {request}"))
    }

    fn check_max(&self, name: &str, max: &Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let (request_value, limit_value, enforced) = comparable(request, limit, max);
        let start = format!("maximum {name} usage per {} is {max}", self.r#type);
        let Some(limit) = limit else { return Some(format!("{start}.  No limit is specified")) };
        if limit_value > enforced {
            return Some(format!("{start}, but limit is {limit}"));
        }
        let request = request.filter(|_| request_value > enforced)?;
        Some(format!("{start}, but request is {request}"))
    }

    fn check_ratio(&self, name: &str, ratio: &Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let (request_value, limit_value, _) = comparable(request, limit, ratio);
        let start = format!("{name} max limit to request ratio per {} is {ratio}", self.r#type);
        if request_value == 0 {
            return Some(format!("{start}, but no request is specified or request is 0"));
        }
        if limit_value == 0 {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        }
        let observed = limit_value as f64 / request_value as f64;
        let exceeded = if ratio.units() <= MILLI_MAX {
            observed * 1000.0 > ratio.milli() as f64
        } else {
            observed > ratio.units() as f64
        };
        exceeded.then(|| format!("{start}, but provided ratio is {observed:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_told_in_an_annotation() {
        let limits = Limits::parse(&json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m", "memory": "0.5Gi"}}]}}));
        let mut pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1", "memory": "1"}}}]}});
        fill(&mut pod, &limits);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; \
             memory request for container b; memory limit for container b; \
             cpu, memory request for init container i"
        );
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "512Mi"})
        );
    }
}
