//! Which pods a scale-down removes first, in upstream's order (`ActivePodsWithRanks`).

use std::cmp::Ordering;
use std::sync::Arc;

use base::map::HashMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// The annotation that makes a pod cheaper (negative) or dearer to delete than its siblings.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods to delete. `related` are the active pods of all ReplicaSets with the same
/// owner: a pod that shares its node with more of them goes first.
pub fn choose(mut pods: Vec<Arc<Pod>>, related: &[Arc<Pod>], count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::default();
        for related in related.iter().filter(|related| pod::is_active(related)) {
            *on_node.entry(pod::node_name(related).unwrap_or("")).or_default() += 1;
        }
        let rank = |p: &Pod| on_node.get(pod::node_name(p).unwrap_or("")).copied().unwrap_or(0);
        pods.sort_by(|a, b| compare(a, rank(a), b, rank(b), now));
        pods.truncate(count);
    }
    pods
}

/// `Less` when `a` should be deleted before `b`.
///
/// Upstream compares ages by orders of magnitude and then by uid, but only where the times differ, which
/// is no total order; here restarts and creation decide before the uid does, always.
fn compare(a: &Pod, rank_a: usize, b: &Pod, rank_b: usize, now: Timestamp) -> Ordering {
    let assigned = |p: &Pod| pod::node_name(p).is_some();
    let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let magnitude = |time: Option<Timestamp>| time.map(|time| age_magnitude(time, now));
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_ordinal(a).cmp(&phase_ordinal(b)))
        .then_with(|| pod::is_ready(a).cmp(&pod::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| magnitude(pod::ready_since(a)).cmp(&magnitude(pod::ready_since(b))))
        .then_with(|| pod::max_restarts(b).cmp(&pod::max_restarts(a)))
        .then_with(|| magnitude(created(a)).cmp(&magnitude(created(b))))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// The order of magnitude of an age: younger pods go first, but within one magnitude the uid decides,
/// which is as good as random, so that scale-downs do not always hit the pods of the youngest node.
fn age_magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let nanoseconds = now.duration_since(since).as_nanos();
    if nanoseconds > 0 { i64::from(nanoseconds.ilog2()) } else { -1 }
}

fn phase_ordinal(p: &Pod) -> u8 {
    match pod::phase(p) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(p: &Pod) -> i32 {
    p.metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures::pod;

    fn check(pods: Vec<Pod>, count: usize, expected: &[&str]) {
        let pods: Vec<Arc<Pod>> = pods.into_iter().map(Arc::new).collect();
        let now = Timestamp::from_second(2_000).unwrap();
        let mut chosen: Vec<String> = choose(pods.clone(), &pods, count, now)
            .iter()
            .map(|p| p.metadata.name.clone().unwrap())
            .collect();
        chosen.sort();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn unassigned_then_pending_then_unready_go_first() {
        let pods = || {
            vec![
                pod("ready", "Running", "n1", Some(1_500)),
                pod("unready", "Running", "n2", None),
                pod("pending", "Pending", "n3", None),
                pod("unassigned", "Pending", "", None),
            ]
        };
        check(pods(), 1, &["unassigned"]);
        check(pods(), 2, &["pending", "unassigned"]);
        check(pods(), 3, &["pending", "unassigned", "unready"]);
    }

    #[test]
    fn a_lower_deletion_cost_goes_first() {
        let mut cheap = pod("cheap", "Running", "n1", Some(1_100));
        cheap.metadata.annotations = Some([(DELETION_COST.to_string(), "-5".to_string())].into());
        check(vec![pod("a", "Running", "n2", Some(1_900)), cheap], 1, &["cheap"]);
    }

    #[test]
    fn doubled_up_pods_go_before_younger_ones() {
        check(
            vec![
                pod("alone", "Running", "n1", Some(1_999)),
                pod("pair-1", "Running", "n2", Some(1_001)),
                pod("pair-2", "Running", "n2", Some(1_999)),
            ],
            1,
            &["pair-2"],
        );
    }

    #[test]
    fn more_restarts_go_first() {
        let mut flaky = pod("flaky", "Running", "n1", None);
        flaky.status.as_mut().unwrap().container_statuses =
            Some(vec![k8s_openapi::api::core::v1::ContainerStatus {
                restart_count: 3,
                ..Default::default()
            }]);
        check(vec![pod("a", "Running", "n2", None), flaky], 1, &["flaky"]);
    }
}
