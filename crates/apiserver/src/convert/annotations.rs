//! The texts of the annotations in which autoscaling/v1 carries what it cannot express: JSON with the
//! fields in the order of upstream's types, since clients may compare it byte by byte.

use serde_json::Value;

/// The fields of all types that occur, in an order that agrees with each of them.
const ORDER: &[&str] = &[
    "type",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "target",
    "kind",
    "name",
    "apiVersion",
    "metricName",
    "metricSelector",
    "targetValue",
    "targetAverageUtilization",
    "targetAverageValue",
    "currentValue",
    "currentAverageUtilization",
    "currentAverageValue",
    "selector",
    "averageValue",
    "container",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
];

/// Metrics and conditions.
pub(super) fn ranked_text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(ranked_text).collect::<Vec<_>>().join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
            fields.sort_by_key(|(name, _)| (rank(name), *name));
            let texts = fields.into_iter().map(|(name, value)| {
                // Labels are in the order of their keys.
                let text = if name == "matchLabels" { value.to_string() } else { ranked_text(value) };
                format!("{}:{text}", Value::from(name.as_str()))
            });
            format!("{{{}}}", texts.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// A behavior, whose annotation upstream writes from its internal type.
pub(super) fn behavior_text(behavior: &Value) -> String {
    let rules = |direction: &str| {
        let rules = &behavior[direction];
        if rules.is_null() {
            return "null".to_owned();
        }
        let policy = |policy: &Value| {
            format!(
                "{{\"Type\":{},\"Value\":{},\"PeriodSeconds\":{}}}",
                policy["type"], policy["value"], policy["periodSeconds"]
            )
        };
        let policies = rules["policies"].as_array();
        let policies = policies.map(|all| all.iter().map(policy).collect::<Vec<_>>().join(","));
        format!(
            "{{\"StabilizationWindowSeconds\":{},\"SelectPolicy\":{},\"Policies\":{},\"Tolerance\":{}}}",
            rules["stabilizationWindowSeconds"],
            rules["selectPolicy"],
            policies.map_or_else(|| "null".to_owned(), |policies| format!("[{policies}]")),
            rules["tolerance"]
        )
    };
    format!("{{\"ScaleUp\":{},\"ScaleDown\":{}}}", rules("scaleUp"), rules("scaleDown"))
}
