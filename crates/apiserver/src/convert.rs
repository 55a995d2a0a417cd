//! Conversion between the versions of kinds that have several.

use schema::decode::{Strictness, decode_value};
use schema::defaults::autoscaling::ROUND_TRIP_ANNOTATIONS;
use schema::types;
use serde_json::{Map, Value, json};

use crate::kind::Convert;

mod annotations;
use annotations::{behavior_text, ranked_text};

/// events.k8s.io/v1 Event, stored as core/v1.
pub const EVENTS_TO_CORE: Convert = Convert { to_storage: event_to_core, from_storage: event_from_core };
/// autoscaling/v1 HorizontalPodAutoscaler, stored as v2.
pub const HPA_V1_TO_V2: Convert = Convert { to_storage: hpa_v1_to_v2, from_storage: hpa_v2_to_v1 };

/// Names of Event fields: events.k8s.io/v1, core/v1.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// events.k8s.io/v1 Event to core/v1.
pub fn event_to_core(event: &mut Value) {
    let Some(event) = event.as_object_mut() else { return };
    set_api_version(event, "v1");
    for (newer, core) in EVENT_FIELDS {
        rename(event, newer, core);
    }
    // Fields that core/v1 always writes.
    event.entry("involvedObject").or_insert_with(|| json!({}));
    event.entry("source").or_insert_with(|| json!({}));
    for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        event.entry(field).or_insert(Value::Null);
    }
    for field in ["reportingComponent", "reportingInstance"] {
        event.entry(field).or_insert_with(|| json!(""));
    }
}

/// core/v1 Event to events.k8s.io/v1.
pub fn event_from_core(event: &mut Value) {
    let Some(event) = event.as_object_mut() else { return };
    set_api_version(event, "events.k8s.io/v1");
    for (newer, core) in EVENT_FIELDS {
        rename(event, core, newer);
    }
    // core/v1 always writes these two, the newer version omits empty ones.
    for field in ["reportingController", "reportingInstance"] {
        if event.get(field).and_then(Value::as_str) == Some("") {
            event.remove(field);
        }
    }
}

fn set_api_version(object: &mut Map<String, Value>, version: &str) {
    if let Some(current) = object.get_mut("apiVersion") {
        *current = Value::from(version);
    }
}

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

/// What autoscaling/v1 cannot express travels in annotations, as upstream's conversion does it.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
/// The target for CPU of an autoscaler that names no metric.
const DEFAULT_CPU_PERCENTAGE: i32 = 80;
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// autoscaling/v1 HorizontalPodAutoscaler to v2.
pub fn hpa_v1_to_v2(hpa: &mut Value) {
    let annotations = take_annotations(hpa);
    let Some(hpa) = hpa.as_object_mut() else { return };
    set_api_version(hpa, "autoscaling/v2");
    let text = |key: &str| annotations.iter().find(|(known, _)| known == key).map(|(_, text)| &**text);
    if let Some(spec) = hpa.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics: Vec<Value> = Vec::new();
        if let Some(others) = text(METRICS).and_then(|text| typed_list(text, "MetricSpec")) {
            metrics.extend(others.into_iter().map(spec_to_v2));
        }
        let percentage = spec.remove("targetCPUUtilizationPercentage");
        // What the controller once did when no metric was named.
        let percentage = percentage.or_else(|| metrics.is_empty().then(|| json!(DEFAULT_CPU_PERCENTAGE)));
        if let Some(percentage) = percentage {
            let target = json!({"type": "Utilization", "averageUtilization": percentage});
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        spec.insert("metrics".to_owned(), Value::Array(metrics));
        if let Some(behavior) = text(BEHAVIOR).and_then(behavior_of) {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut) {
        let percentage = status.remove("currentCPUUtilizationPercentage");
        let of_percentage = |percentage| {
            let current = json!({"averageUtilization": percentage});
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
        };
        // What the annotation says is better known.
        let metrics = text(CURRENT_METRICS).and_then(|text| typed_list(text, "MetricStatus"));
        let metrics = metrics.map(|metrics| metrics.into_iter().map(status_to_v2).collect());
        if let Some(metrics) = metrics.or_else(|| percentage.map(of_percentage)) {
            status.insert("currentMetrics".to_owned(), metrics);
        }
        let conditions =
            text(CONDITIONS).and_then(|text| typed_list(text, "HorizontalPodAutoscalerCondition"));
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), Value::Array(conditions));
        }
        // v2 always writes both.
        status.entry("currentMetrics").or_insert(Value::Null);
        status.entry("desiredReplicas").or_insert(json!(0));
    }
}

/// The list in an annotation, if it is one of this type of autoscaling/v1. Others are passed over.
fn typed_list(text: &str, name: &str) -> Option<Vec<Value>> {
    let ty = types::get(&format!("io.k8s.api.autoscaling.v1.{name}"))?;
    match serde_json::from_str(text).ok()? {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items.into_iter().map(|item| typed(item, ty)).collect(),
        _ => None,
    }
}

/// The value as Go would write it after reading it as this type.
fn typed(value: Value, ty: &types::Type) -> Option<Value> {
    let value = if value.is_null() { json!({}) } else { value };
    decode_value(value, ty, Strictness::Ignore).ok().map(|decoded| decoded.value)
}

/// The behavior in an annotation, unless it is none or an empty one.
fn behavior_of(text: &str) -> Option<Value> {
    let ty = types::get("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior")?;
    let value = lower_keys(serde_json::from_str(text).ok()?);
    typed(value, ty).filter(|behavior| behavior.as_object().is_some_and(|rules| !rules.is_empty()))
}

/// autoscaling/v2 HorizontalPodAutoscaler to v1.
pub fn hpa_v2_to_v1(hpa: &mut Value) {
    let mut annotations: Vec<(&str, String)> = Vec::new();
    if let Some(object) = hpa.as_object_mut() {
        set_api_version(object, "autoscaling/v1");
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec_to_v1(spec, &mut annotations);
        }
        if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
            status_to_v1(status, &mut annotations);
        }
    }
    if annotations.is_empty() {
        return;
    }
    let target = &mut hpa["metadata"]["annotations"];
    if target.is_null() {
        *target = json!({});
    }
    for (key, text) in annotations {
        target[key] = Value::from(text);
    }
}

fn spec_to_v1(spec: &mut Map<String, Value>, annotations: &mut Vec<(&str, String)>) {
    let mut others = Vec::new();
    if let Some(Value::Array(metrics)) = spec.remove("metrics") {
        for metric in metrics {
            let utilization =
                metric.pointer("/resource/target/averageUtilization").filter(|_| is_cpu(&metric));
            match utilization {
                // Upstream keeps the first of them.
                Some(percentage) => {
                    spec.entry("targetCPUUtilizationPercentage").or_insert_with(|| percentage.clone());
                }
                None => others.push(spec_from_v2(metric)),
            }
        }
    }
    if !others.is_empty() {
        annotations.push((METRICS, ranked_text(&Value::Array(others))));
    }
    if let Some(behavior) = spec.remove("behavior") {
        annotations.push((BEHAVIOR, behavior_text(&behavior)));
    }
}

fn status_to_v1(status: &mut Map<String, Value>, annotations: &mut Vec<(&str, String)>) {
    if let Some(Value::Array(metrics)) = status.remove("currentMetrics")
        && !metrics.is_empty()
    {
        let cpu = metrics.iter().filter(|metric| is_cpu(metric));
        if let Some(percentage) =
            cpu.filter_map(|cpu| cpu.pointer("/resource/current/averageUtilization")).next_back()
        {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percentage.clone());
        }
        let metrics = metrics.into_iter().map(status_from_v2).collect();
        annotations.push((CURRENT_METRICS, ranked_text(&Value::Array(metrics))));
    }
    if let Some(conditions) = status.remove("conditions")
        && conditions.as_array().is_some_and(|conditions| !conditions.is_empty())
    {
        annotations.push((CONDITIONS, ranked_text(&conditions)));
    }
    // v1 always writes both.
    for field in ["currentReplicas", "desiredReplicas"] {
        status.entry(field).or_insert(json!(0));
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric.pointer("/resource/name").is_some_and(|name| name == "cpu")
}

/// Removes the annotations that carry what v1 cannot express.
fn take_annotations(hpa: &mut Value) -> Vec<(String, String)> {
    let Some(metadata) = hpa.get_mut("metadata").and_then(Value::as_object_mut) else { return Vec::new() };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let taken = ROUND_TRIP_ANNOTATIONS
        .iter()
        .filter_map(|key| match annotations.remove(*key) {
            Some(Value::String(text)) => Some(((*key).to_owned(), text)),
            _ => None,
        })
        .collect();
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken
}

/// The annotation holds metrics in the shape of autoscaling/v2beta1, with flat targets.
fn spec_from_v2(mut metric: Value) -> Value {
    let Some((field, source)) = source(&mut metric) else { return metric };
    let target = source.remove("target").unwrap_or_default();
    let mut set = |key: &str, value: Option<&Value>| {
        if let Some(value) = value {
            source.insert(key.to_owned(), value.clone());
        }
    };
    match field {
        "resource" | "containerResource" => {
            set("targetAverageUtilization", target.get("averageUtilization"));
            set("targetAverageValue", target.get("averageValue"));
        }
        "pods" => set("targetAverageValue", Some(target.get("averageValue").unwrap_or(&json!("0")))),
        "object" => {
            set("targetValue", Some(target.get("value").unwrap_or(&json!("0"))));
            set("averageValue", target.get("averageValue"));
        }
        _ => {
            set("targetValue", target.get("value"));
            set("targetAverageValue", target.get("averageValue"));
        }
    }
    flatten_metric(field, source);
    metric
}

fn spec_to_v2(mut metric: Value) -> Value {
    let Some((field, source)) = source(&mut metric) else { return metric };
    let utilization = source.remove("targetAverageUtilization");
    let average = source.remove("targetAverageValue").or_else(|| source.remove("averageValue"));
    let value = source.remove("targetValue");
    // v1 always writes the value of an object's metric.
    let is_zero = value.as_ref().is_some_and(|value| value == "0");
    let (kind, value) = match field {
        "resource" | "containerResource" if utilization.is_some() => ("Utilization", None),
        "resource" | "containerResource" | "pods" => ("AverageValue", None),
        "object" if average.is_none() => ("Value", value),
        "object" => ("AverageValue", value.filter(|_| !is_zero)),
        _ if value.is_none() => ("AverageValue", None),
        _ => ("Value", value),
    };
    let mut target = Map::new();
    target.insert("type".to_owned(), Value::from(kind));
    let fields = [("averageUtilization", utilization), ("averageValue", average), ("value", value)];
    for (key, value) in fields {
        if let Some(value) = value {
            target.insert(key.to_owned(), value);
        }
    }
    unflatten_metric(field, source);
    source.insert("target".to_owned(), Value::Object(target));
    metric
}

fn status_from_v2(mut metric: Value) -> Value {
    let Some((field, source)) = source(&mut metric) else { return metric };
    let current = source.remove("current").unwrap_or_default();
    let mut set = |key: &str, value: Option<&Value>| {
        if let Some(value) = value {
            source.insert(key.to_owned(), value.clone());
        }
    };
    match field {
        "resource" | "containerResource" => {
            set("currentAverageUtilization", current.get("averageUtilization"));
            set("currentAverageValue", Some(current.get("averageValue").unwrap_or(&json!("0"))));
        }
        "pods" => set("currentAverageValue", Some(current.get("averageValue").unwrap_or(&json!("0")))),
        "object" => {
            set("currentValue", Some(current.get("value").unwrap_or(&json!("0"))));
            set("averageValue", current.get("averageValue"));
        }
        _ => {
            set("currentValue", Some(current.get("value").unwrap_or(&json!("0"))));
            set("currentAverageValue", current.get("averageValue"));
        }
    }
    flatten_metric(field, source);
    metric
}

fn status_to_v2(mut metric: Value) -> Value {
    let Some((field, source)) = source(&mut metric) else { return metric };
    let mut current = Map::new();
    let fields = [
        ("averageUtilization", source.remove("currentAverageUtilization")),
        ("averageValue", source.remove("currentAverageValue").or_else(|| source.remove("averageValue"))),
        ("value", source.remove("currentValue")),
    ];
    for (key, value) in fields {
        if let Some(value) = value {
            current.insert(key.to_owned(), value);
        }
    }
    unflatten_metric(field, source);
    source.insert("current".to_owned(), Value::Object(current));
    metric
}

/// The member of a metric that its type names.
fn source(metric: &mut Value) -> Option<(&'static str, &mut Map<String, Value>)> {
    let field = ["resource", "containerResource", "pods", "object", "external"]
        .into_iter()
        .find(|field| metric.get(field).is_some_and(Value::is_object))?;
    Some((field, metric.get_mut(field)?.as_object_mut()?))
}

/// `metric: {name, selector}` becomes `metricName` and `selector`.
fn flatten_metric(field: &str, source: &mut Map<String, Value>) {
    if field == "object"
        && let Some(described) = source.remove("describedObject")
    {
        source.insert("target".to_owned(), described);
    }
    let Some(Value::Object(mut metric)) = source.remove("metric") else { return };
    let selector = if field == "external" { "metricSelector" } else { "selector" };
    for (from, to) in [("name", "metricName"), ("selector", selector)] {
        if let Some(value) = metric.remove(from) {
            source.insert(to.to_owned(), value);
        }
    }
}

fn unflatten_metric(field: &str, source: &mut Map<String, Value>) {
    if field == "object"
        && let Some(described) = source.remove("target")
    {
        source.insert("describedObject".to_owned(), described);
    }
    let mut metric = Map::new();
    for (from, to) in [("metricName", "name"), ("selector", "selector"), ("metricSelector", "selector")] {
        if let Some(value) = source.remove(from) {
            metric.insert(to.to_owned(), value);
        }
    }
    if !metric.is_empty() {
        source.insert("metric".to_owned(), Value::Object(metric));
    }
}

/// The behavior annotation is written from upstream's internal type, whose keys are capitalised and
/// always there.
fn lower_keys(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let set = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(key, value)| (lower_first(&key), lower_keys(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(lower_keys).collect()),
        other => other,
    }
}

fn lower_first(key: &str) -> String {
    let mut letters = key.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_round_trip() {
        let newer = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod"}, "note": "hi",
            "eventTime": null, "deprecatedSource": {}, "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null,
            "reportingController": "kubelet"});
        let mut event = newer.clone();
        event_to_core(&mut event);
        assert_eq!(event["involvedObject"]["kind"], "Pod");
        assert_eq!(event["message"], "hi");
        event_from_core(&mut event);
        assert_eq!(event, newer);
    }

    #[test]
    fn an_hpa_survives_the_round_trip() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "7"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}},
            "status": {"currentMetrics": null, "desiredReplicas": 0, "currentReplicas": 0}});
        let mut hpa = v2.clone();
        hpa_v2_to_v1(&mut hpa);
        assert_eq!(hpa["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(hpa["apiVersion"], "autoscaling/v1");
        hpa_v1_to_v2(&mut hpa);
        assert_eq!(hpa, v2);
    }
}
