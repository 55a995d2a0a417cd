//! What a DaemonSet needs on each node.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::placement::{self, Fit};
use crate::history::REVISION_HASH;
use crate::int_or_percent::{Round, resolve};
use crate::pod;

/// The pods to create and delete, and the status as it is before that.
#[derive(Debug, Default)]
pub struct Plan {
    /// Names of nodes that get a pod.
    pub create: Vec<String>,
    /// Pods that go.
    pub delete: Vec<Arc<Pod>>,
    /// The status to write.
    pub status: DaemonSetStatus,
}

/// Plans one pass. `hash` is that of the current template; `deleting` tells which pods' deletion is
/// under way.
pub fn plan(
    set: &DaemonSet,
    hash: &str,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    deleting: impl Fn(&Pod) -> bool,
    now: Timestamp,
) -> Plan {
    let Some(spec) = &set.spec else { return Plan::default() };
    let default = Default::default();
    let pod_spec = spec.template.spec.as_ref().unwrap_or(&default);
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for p in pods {
        by_node.entry(placement::target(p).unwrap_or("")).or_default().push(p);
    }
    let mut plan = Plan::default();
    let mut places = Vec::with_capacity(nodes.len());
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or("");
        let here = by_node.remove(name).unwrap_or_default();
        let fit = placement::fit(pod_spec, node);
        manage(name, fit, &here, spec, hash, now, &mut plan);
        places.push((fit, here));
    }
    // Pods tied to nodes that are gone would stay pending for ever.
    let lost = by_node.into_values().flatten().filter(|p| pod::node_name(p).is_none());
    plan.delete.extend(lost.cloned());
    roll(spec, hash, &places, now, &mut plan);
    plan.delete.retain(|p| !pod::is_deleted(p) && !deleting(p));
    plan.status = status(set, hash, &places, now);
    plan
}

fn manage(
    node: &str,
    fit: Fit,
    here: &[&Arc<Pod>],
    spec: &DaemonSetSpec,
    hash: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    if !fit.may_stay {
        plan.delete.extend(here.iter().map(|p| Arc::clone(p)));
        return;
    }
    if here.is_empty() {
        if fit.should_run {
            plan.create.push(node.to_string());
        }
        return;
    }
    let (ended, mut running): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        here.iter().partition(|p| pod::is_terminal(p));
    plan.delete.extend(ended.into_iter().cloned());
    running.retain(|p| !pod::is_deleted(p));
    // While a surge is under way, a node has an old and a new pod.
    let (max_surge, _) = limits(spec, 1);
    if max_surge > 0 {
        let is_new = |p: &&&Arc<Pod>| has_hash(p, hash);
        let new_is_available =
            running.iter().filter(is_new).any(|p| pod::is_available(p, min_ready(spec), now));
        let mut seen_old = false;
        for p in running.iter().filter(|p| !has_hash(p, hash)) {
            if new_is_available || seen_old {
                plan.delete.push(Arc::clone(p));
            }
            seen_old = true;
        }
        running.retain(|p| has_hash(p, hash));
    }
    // The oldest stays.
    running.sort_by_key(|p| {
        (pod::node_name(p).is_none(), p.metadata.creation_timestamp.clone(), p.metadata.name.clone())
    });
    plan.delete.extend(running.into_iter().skip(1).cloned());
}

fn min_ready(spec: &DaemonSetSpec) -> i32 {
    spec.min_ready_seconds.unwrap_or(0)
}

fn has_hash(p: &Pod, hash: &str) -> bool {
    p.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).map(String::as_str) == Some(hash)
}

/// How many pods may exist beyond one per node, and how many may be unavailable, during an update.
fn limits(spec: &DaemonSetSpec, desired: i32) -> (i32, i32) {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let one = IntOrString::Int(1);
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&one);
    let surge = surge.and_then(|surge| resolve(surge, desired, Round::Up)).unwrap_or(0);
    let unavailable = resolve(unavailable, desired, Round::Up).unwrap_or(1);
    if surge == 0 { (0, unavailable.max(1)) } else { (surge, unavailable) }
}

/// Replaces pods of old templates, within what the update may cost.
fn roll(spec: &DaemonSetSpec, hash: &str, places: &[(Fit, Vec<&Arc<Pod>>)], now: Timestamp, plan: &mut Plan) {
    if spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return;
    }
    let desired = places.iter().filter(|(fit, _)| fit.should_run).count();
    let (max_surge, max_unavailable) = limits(spec, i32::try_from(desired).unwrap_or(i32::MAX));
    let available = |p: &Pod| pod::is_available(p, min_ready(spec), now);
    let mut candidates: Vec<Arc<Pod>> = Vec::new();
    let (mut unavailable, mut surging) = (0, 0);
    for (fit, here) in places {
        let mut alive = here.iter().filter(|p| pod::is_active(p));
        let new = alive.clone().find(|p| has_hash(p, hash));
        let old = alive.find(|p| !has_hash(p, hash));
        match (new, old) {
            (Some(new), None) => unavailable += i32::from(!available(new)),
            (Some(_), Some(_)) => surging += 1,
            (None, Some(old)) if max_surge > 0 => {
                if fit.should_run {
                    // An unavailable old pod costs nothing to replace at once.
                    if available(old) {
                        candidates.push(Arc::clone(old))
                    } else {
                        plan.delete.push(Arc::clone(old))
                    }
                }
            }
            (None, Some(old)) if available(old) => candidates.push(Arc::clone(old)),
            (None, Some(old)) => {
                unavailable += 1;
                plan.delete.push(Arc::clone(old));
            }
            (None, None) => unavailable += i32::from(fit.should_run),
        }
    }
    if max_surge > 0 {
        let room = usize::try_from(max_surge - surging).unwrap_or(0);
        let targets = candidates.iter().take(room).filter_map(|p| placement::target(p));
        plan.create.extend(targets.map(str::to_string));
    } else {
        let room = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
        plan.delete.extend(candidates.into_iter().take(room));
    }
}

fn status(set: &DaemonSet, hash: &str, places: &[(Fit, Vec<&Arc<Pod>>)], now: Timestamp) -> DaemonSetStatus {
    let min_ready_seconds = set.spec.as_ref().map_or(0, min_ready);
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: set.status.as_ref().and_then(|status| status.collision_count),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..Default::default()
    };
    let (mut available, mut updated) = (0, 0);
    for (fit, here) in places {
        if !fit.should_run {
            status.number_misscheduled += i32::from(!here.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let mut by_age: Vec<&&Arc<Pod>> = here.iter().collect();
        by_age.sort_by_key(|p| (!pod::is_ready(p), p.metadata.creation_timestamp.clone()));
        let Some(p) = by_age.first() else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod::is_ready(p));
        available += i32::from(pod::is_available(p, min_ready_seconds, now));
        updated += i32::from(here.iter().any(|p| has_hash(p, hash)));
    }
    let nonzero = |count: i32| (count != 0).then_some(count);
    status.number_available = nonzero(available);
    status.updated_number_scheduled = nonzero(updated);
    status.number_unavailable = nonzero(status.desired_number_scheduled - available);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures;
    use k8s_openapi::api::core::v1::{NodeSpec, Taint};

    fn nodes(count: usize) -> Vec<Arc<Node>> {
        (0..count)
            .map(|i| {
                let mut node = Node::default();
                node.metadata.name = Some(format!("n{i}"));
                Arc::new(node)
            })
            .collect()
    }

    fn daemon(node: usize, hash: &str, ready: bool) -> Arc<Pod> {
        let ready = ready.then_some(1);
        let mut pod = fixtures::pod(&format!("d-{node}-{hash}"), "Running", &format!("n{node}"), ready);
        pod.metadata.labels = Some([(REVISION_HASH.to_string(), hash.to_string())].into());
        Arc::new(pod)
    }

    fn planned(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Plan {
        let set = DaemonSet { spec: Some(DaemonSetSpec::default()), ..Default::default() };
        plan(&set, "new", nodes, pods, |_| false, Timestamp::from_second(100).unwrap())
    }

    #[test]
    fn every_fitting_node_gets_a_pod() {
        let mut nodes = nodes(3);
        let tainted = Arc::make_mut(&mut nodes[2]);
        tainted.spec = Some(NodeSpec {
            taints: Some(vec![Taint {
                key: "own".into(),
                effect: "NoSchedule".into(),
                ..Default::default()
            }]),
            ..Default::default()
        });
        let plan = planned(&nodes, &[daemon(0, "new", true)]);
        assert_eq!(plan.create, ["n1"]);
        assert!(plan.delete.is_empty());
        assert_eq!(plan.status.desired_number_scheduled, 2);
        assert_eq!(plan.status.number_ready, 1);
        // A pod that runs on a node tainted later stays.
        assert!(planned(&nodes, &[daemon(2, "new", true)]).delete.is_empty());
    }

    #[test]
    fn an_update_takes_one_node_at_a_time() {
        let old: Vec<Arc<Pod>> = (0..3).map(|i| daemon(i, "old", true)).collect();
        assert_eq!(planned(&nodes(3), &old).delete.len(), 1);
        // One new pod is not ready yet: wait.
        let pods = [daemon(0, "new", false), old[1].clone(), old[2].clone()];
        assert_eq!(planned(&nodes(3), &pods).delete.len(), 0);
        let pods = [daemon(0, "new", true), old[1].clone(), old[2].clone()];
        assert_eq!(planned(&nodes(3), &pods).delete.len(), 1);
    }

    #[test]
    fn duplicates_and_ended_pods_go() {
        let mut ended = fixtures::pod("ended", "Failed", "n0", None);
        ended.metadata.labels = Some([(REVISION_HASH.to_string(), "new".to_string())].into());
        let plan = planned(
            &nodes(1),
            &[Arc::new(ended), daemon(0, "new", true), {
                let mut second = Pod::clone(&daemon(0, "new", true));
                second.metadata.name = Some("later".into());
                second.metadata.creation_timestamp = Some(crate::pod::now());
                Arc::new(second)
            }],
        );
        let mut names: Vec<_> = plan.delete.iter().filter_map(|p| p.metadata.name.clone()).collect();
        names.sort();
        assert_eq!(names, ["ended", "later"]);
    }
}
