//! HorizontalPodAutoscaler in the shape of `autoscaling/v2`, to which v1 is converted first.

use serde_json::{Value, json};

use super::fill::Fill;

/// The annotations in which older versions carry what they cannot express. The stored version never has them.
pub const ROUND_TRIP_ANNOTATIONS: [&str; 6] = [
    "autoscaling.alpha.kubernetes.io/metrics",
    "autoscaling.alpha.kubernetes.io/current-metrics",
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/behavior",
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// HorizontalPodAutoscaler: 80 % CPU unless it says otherwise.
pub fn horizontal_pod_autoscaler(object: &mut Value) {
    if let Some(metadata) = object.field("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.retain(|key, _| !ROUND_TRIP_ANNOTATIONS.contains(&key.as_str()));
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let spec = object.filled("spec");
    spec.fill_nil("minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    let Some(behavior) = spec.field("behavior") else { return };
    let rule = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
    let up = behavior.filled("scaleUp");
    up.fill_nil("stabilizationWindowSeconds", 0);
    up.fill_nil("selectPolicy", "Max");
    up.fill_nil("policies", json!([rule("Pods", 4), rule("Percent", 100)]));
    let down = behavior.filled("scaleDown");
    down.fill_nil("selectPolicy", "Max");
    down.fill_nil("policies", json!([rule("Percent", 100)]));
}
