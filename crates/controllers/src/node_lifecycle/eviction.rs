//! When a pod has to leave a node whose taints it does not tolerate. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// Whether the node has taints that make pods leave.
pub(super) fn evicts(node: &Node) -> bool {
    evicting(node).next().is_some()
}

fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

/// How long until the pod has to leave; zero for at once, `None` for never.
///
/// It has to leave at once if it does not tolerate one of the NoExecute taints, else when the
/// shortest of its toleration times since the taint was added is over.
pub(super) fn due(node: &Node, pod: &Pod, now: Timestamp) -> Option<Duration> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut due: Option<Duration> = None;
    for taint in evicting(node) {
        let mut matching = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if matching.peek().is_none() {
            return Some(Duration::ZERO);
        }
        let Some(seconds) = matching.filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
        let left = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(elapsed);
        due = Some(due.map_or(left, |due| due.min(left)));
    }
    due
}

/// Whether the toleration is for the taint. Source: `ToleratesTaint` of `k8s.io/api/core/v1`.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let unset_or =
        |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w.is_empty() || w == value);
    if !unset_or(&toleration.effect, &taint.effect) || !unset_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "" | "Equal" => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(added: &str) -> Node {
        let taint =
            json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": added});
        serde_json::from_value(json!({"spec": {"taints": [taint]}})).unwrap()
    }

    fn pod(tolerations: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
    }

    #[test]
    fn pods_leave_when_their_tolerance_is_used_up() {
        let (node, now) = (node("2026-01-01T00:00:00Z"), "2026-01-01T00:01:40Z".parse().unwrap());
        let exists = |seconds: Option<i64>| json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        assert_eq!(due(&node, &pod(json!([])), now), Some(Duration::ZERO));
        assert_eq!(due(&node, &pod(json!([exists(Some(300))])), now), Some(Duration::from_secs(200)));
        assert_eq!(due(&node, &pod(json!([exists(Some(60))])), now), Some(Duration::ZERO));
        assert_eq!(due(&node, &pod(json!([exists(None)])), now), None);
        assert_eq!(due(&node, &pod(json!([{"operator": "Exists"}])), now), None);
        assert_eq!(
            due(&node, &pod(json!([{"key": "other", "operator": "Exists"}])), now),
            Some(Duration::ZERO)
        );
    }
}
