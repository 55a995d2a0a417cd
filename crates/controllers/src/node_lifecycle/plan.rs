//! What a node's conditions and taints should be. Pure.

use api::names;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Conditions that a silent node's kubelet would write; they become unknown with it.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Taints that follow a condition: the condition, the status that brings the taint, the taint.
const TAINT_BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", names::NOT_READY_TAINT),
    ("Ready", "Unknown", names::UNREACHABLE_TAINT),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Taints that also evict.
const EVICTING: [&str; 2] = [names::NOT_READY_TAINT, names::UNREACHABLE_TAINT];

/// The conditions to write on a node that fell silent; `None` if they are written already.
pub(super) fn unknown_conditions(node: &Node) -> Option<Vec<NodeCondition>> {
    let now = Time::from(base::clock::now());
    let changed: Vec<NodeCondition> = KUBELET_CONDITIONS
        .iter()
        .filter(|type_| status_of(node, type_) != Some("Unknown"))
        .map(|type_| NodeCondition {
            type_: (*type_).to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_heartbeat_time: heartbeat(node, type_),
            last_transition_time: Some(now.clone()),
        })
        .collect();
    (!changed.is_empty()).then_some(changed)
}

/// The taints that the node should have; `None` if it has them.
pub(super) fn taints(node: &Node) -> Option<Vec<Taint>> {
    let known = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (condition, status, key) in TAINT_BY_CONDITION {
        // A node that says nothing of its readiness is not ready.
        let silent = condition == "Ready" && status == "False" && status_of(node, condition).is_none();
        if silent || status_of(node, condition) == Some(status) {
            wanted.push((key, "NoSchedule"));
            if EVICTING.contains(&key) {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((names::UNSCHEDULABLE_TAINT, "NoSchedule"));
    }
    let is_ours = |taint: &Taint| {
        taint.key == names::UNSCHEDULABLE_TAINT
            || TAINT_BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> =
        known.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time::from(base::clock::now())),
            });
        }
    }
    (taints != known).then_some(taints)
}

/// Whether the node's Ready condition is true.
pub(super) fn is_ready(node: &Node) -> bool {
    status_of(node, "Ready") == Some("True")
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn status_of<'a>(node: &'a Node, type_: &str) -> Option<&'a str> {
    condition(node, type_).map(|condition| condition.status.as_str())
}

fn heartbeat(node: &Node, type_: &str) -> Option<Time> {
    condition(node, type_)
        .and_then(|condition| condition.last_heartbeat_time.clone())
        .or_else(|| node.metadata.creation_timestamp.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)], unschedulable: bool) -> Node {
        let conditions: Vec<_> =
            conditions.iter().map(|(t, s)| serde_json::json!({"type": t, "status": s})).collect();
        let taints: Vec<_> = taints.iter().map(|(k, e)| serde_json::json!({"key": k, "effect": e})).collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n"},
            "spec": {"taints": taints, "unschedulable": unschedulable},
            "status": {"conditions": conditions}
        }))
        .unwrap()
    }

    fn pairs(taints: Option<Vec<Taint>>) -> Option<Vec<(String, String)>> {
        taints.map(|taints| taints.into_iter().map(|taint| (taint.key, taint.effect)).collect())
    }

    fn owned(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(pairs.iter().map(|(key, effect)| ((*key).to_owned(), (*effect).to_owned())).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn taints_follow_conditions_and_leave_foreign_ones_alone() {
        let mine = ("team", "NoSchedule");
        assert_eq!(taints(&node(&[("Ready", "True")], &[mine], false)), None);
        assert_eq!(
            pairs(taints(&node(&[("Ready", "Unknown")], &[mine], false))),
            owned(&[mine, (names::UNREACHABLE_TAINT, "NoSchedule"), (names::UNREACHABLE_TAINT, "NoExecute")])
        );
        let stale = [(names::NOT_READY_TAINT, "NoSchedule"), mine];
        assert_eq!(pairs(taints(&node(&[("Ready", "True")], &stale, false))), owned(&[mine]));
        let pressed = node(&[("Ready", "True"), ("DiskPressure", "True")], &[], true);
        assert_eq!(
            pairs(taints(&pressed)),
            owned(&[
                ("node.kubernetes.io/disk-pressure", "NoSchedule"),
                (names::UNSCHEDULABLE_TAINT, "NoSchedule")
            ])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_becomes_unknown_once() {
        let changed =
            unknown_conditions(&node(&[("Ready", "True"), ("PIDPressure", "Unknown")], &[], false)).unwrap();
        let types: Vec<_> = changed.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "MemoryPressure", "DiskPressure"]);
        let all: Vec<_> = KUBELET_CONDITIONS.iter().map(|type_| (*type_, "Unknown")).collect();
        assert!(unknown_conditions(&node(&all, &[], false)).is_none());
    }
}
