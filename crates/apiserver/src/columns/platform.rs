//! Kinds of the platform's own groups, karpenter.sh and metrics.k8s.io.

use super::*;

/// NodePool, as Karpenter's definition prints it.
pub const NODE_POOL: &[Heading] = &[
    NAME,
    column("NodeClass", "string", ""),
    column("Nodes", "string", ""),
    column("Ready", "string", ""),
    column("Age", "date", ""),
    wide("Weight", "integer", ""),
    wide("CPU", "string", ""),
    wide("Memory", "string", ""),
];

/// One NodePool.
pub fn node_pool(object: &Value, now: Timestamp) -> Row {
    row![
        name(object),
        text(object, "/spec/template/spec/nodeClassRef/name"),
        plain(object, "/status/resources/nodes", "0"),
        condition(object, "Ready").map_or("", |ready| text(ready, "/status")),
        age(object, now),
        object.pointer("/spec/weight").cloned().unwrap_or(Value::Null),
        plain(object, "/status/resources/cpu", ""),
        plain(object, "/status/resources/memory", ""),
    ]
}

/// NodeClaim, as Karpenter's definition prints it.
pub const NODE_CLAIM: &[Heading] = &[
    NAME,
    column("Type", "string", ""),
    column("Capacity", "string", ""),
    column("Zone", "string", ""),
    column("Node", "string", ""),
    column("Ready", "string", ""),
    column("Age", "date", ""),
    wide("ImageID", "string", ""),
    wide("ID", "string", ""),
    wide("NodePool", "string", ""),
    wide("NodeClass", "string", ""),
    wide("Drifted", "string", ""),
];

/// One NodeClaim.
pub fn node_claim(object: &Value, now: Timestamp) -> Row {
    let label = |key: &str| {
        let labels = object.pointer("/metadata/labels");
        labels.and_then(|labels| labels.get(key)).and_then(Value::as_str).unwrap_or_default()
    };
    row![
        name(object),
        label("node.kubernetes.io/instance-type"),
        label("karpenter.sh/capacity-type"),
        label("topology.kubernetes.io/zone"),
        text(object, "/status/nodeName"),
        condition(object, "Ready").map_or("", |ready| text(ready, "/status")),
        age(object, now),
        text(object, "/status/imageID"),
        text(object, "/status/providerID"),
        label("karpenter.sh/nodepool"),
        text(object, "/spec/nodeClassRef/name"),
        condition(object, "Drifted").map_or("", |drifted| text(drifted, "/status")),
    ]
}

/// Decision.
pub const DECISION: &[Heading] = &[
    NAME,
    column("Subject", "string", "The object that was decided about."),
    column("Summary", "string", "What was decided."),
    AGE,
];

/// One Decision.
pub fn decision(object: &Value, now: Timestamp) -> Row {
    let subject = format!("{}/{}", text(object, "/subject/kind"), text(object, "/subject/name"));
    row![name(object), subject, text(object, "/latest/summary"), age(object, now)]
}

/// NodeMetrics.
pub const NODE_METRICS: &[Heading] = &[
    NAME,
    column("cpu", "string", "CPU in use."),
    column("memory", "string", "Memory in use."),
    column("Window", "string", "Time over which the use was averaged."),
];

/// One NodeMetrics.
pub fn node_metrics(object: &Value, _: Timestamp) -> Row {
    row![
        name(object),
        plain(object, "/usage/cpu", "0"),
        plain(object, "/usage/memory", "0"),
        text(object, "/window"),
    ]
}

/// PodMetrics.
pub const POD_METRICS: &[Heading] = &[
    NAME,
    column("Containers", "integer", "Number of containers."),
    column("Window", "string", "Time over which the use was averaged."),
];

/// One PodMetrics.
pub fn pod_metrics(object: &Value, _: Timestamp) -> Row {
    row![name(object), list(object, "/containers").len(), text(object, "/window")]
}
