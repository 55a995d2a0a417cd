//! HorizontalPodAutoscalers.

use super::*;

/// HorizontalPodAutoscaler.
pub const HPA: &[Heading] = &[
    NAME,
    column(
        "Reference",
        "string",
        "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
    ),
    column(
        "Targets",
        "string",
        "metrics contains the specifications for which to use to calculate the desired replica count (the maximum replica count across all metrics will be used).  The desired replica count is calculated multiplying the ratio between the target value and the current value by the current number of pods.  Ergo, metrics used must decrease as the pod count is increased, and vice-versa.  See the individual metric source types for more information about how each type of metric must respond. If not set, the default metric will be set to 80% average CPU utilization.",
    ),
    column(
        "MinPods",
        "string",
        "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.  It defaults to 1 pod.  minReplicas is allowed to be 0 if the alpha feature gate HPAScaleToZero is enabled and at least one Object or External metric is configured.  Scaling is active as long as at least one metric value is available.",
    ),
    column(
        "MaxPods",
        "string",
        "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up. It cannot be less that minReplicas.",
    ),
    column(
        "Replicas",
        "string",
        "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
    ),
    AGE,
];

/// One autoscaling/v2 HorizontalPodAutoscaler.
pub fn hpa(object: &Value, now: Timestamp) -> Row {
    let reference = format!(
        "{}/{}",
        text(object, "/spec/scaleTargetRef/kind"),
        text(object, "/spec/scaleTargetRef/name")
    );
    row![
        name(object),
        reference,
        metrics(list(object, "/spec/metrics"), list(object, "/status/currentMetrics")),
        plain(object, "/spec/minReplicas", "<unset>"),
        number(object, "/spec/maxReplicas"),
        number(object, "/status/currentReplicas"),
        age(object, now),
    ]
}

/// The first two metrics as `current/target`.
fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> =
        specs.iter().enumerate().map(|(index, spec)| metric(spec, statuses.get(index))).collect();
    let shown = all.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len() {
        0..=2 => shown,
        count => format!("{shown} + {} more...", count - 2),
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let field = match text(spec, "/type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = &spec[field]["target"];
    let current = status.map(|status| &status[field]["current"]).filter(|current| current.is_object());
    let average = target.get("averageValue").is_some();
    let unknown = "<unknown>";
    let value =
        |which: &str| current.map_or_else(|| unknown.to_owned(), |current| plain(current, which, unknown));
    let quantity = |which: &str| plain(target, which, "0");
    match field {
        "external" | "object" if average => {
            format!("{}/{} (avg)", value("/averageValue"), quantity("/averageValue"))
        }
        "external" | "object" => format!("{}/{}", value("/value"), quantity("/value")),
        "pods" => format!("{}/{}", value("/averageValue"), quantity("/averageValue")),
        _ => {
            let resource = text(&spec[field], "/name");
            if average {
                return format!("{resource}: {}/{}", value("/averageValue"), quantity("/averageValue"));
            }
            let percent = |object: Option<&Value>, missing: &str| {
                let utilization =
                    object.and_then(|object| object.get("averageUtilization")).and_then(Value::as_i64);
                utilization.map_or_else(|| missing.to_owned(), |utilization| format!("{utilization}%"))
            };
            format!("{resource}: {}/{}", percent(current, unknown), percent(Some(target), "<auto>"))
        }
    }
}
