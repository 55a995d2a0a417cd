//! HorizontalPodAutoscaler in the shape of `autoscaling/v2`, to which v1 is converted first.

use serde_json::{Value, json};

use super::fill::Fill;

/// HorizontalPodAutoscaler: 80 % CPU unless it says otherwise.
pub fn horizontal_pod_autoscaler(object: &mut Value) {
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
