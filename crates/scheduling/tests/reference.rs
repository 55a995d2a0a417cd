//! The engine against a naive scheduler that looks at one node at a time and remembers nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, PodSpec};
use proptest::prelude::*;
use scheduling::{Engine, NodeId, NodeInfo, PodClass, PodRequirements, Scores};
use serde_json::json;

/// A step in the life of a cluster.
#[derive(Clone, Debug)]
enum Step {
    SetNode { name: u8, shape: u8 },
    RemoveNode(u8),
    Place(u8),
    RemovePod(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..12, 0u8..48).prop_map(|(name, shape)| Step::SetNode { name, shape }),
        1 => (0u8..12).prop_map(Step::RemoveNode),
        8 => (0u8..10).prop_map(Step::Place),
        2 => any::<u16>().prop_map(Step::RemovePod),
    ]
}

fn node(name: u8, shape: u8) -> NodeInfo {
    let zone = ["a", "b", "c"][usize::from(shape % 3)];
    let taints = match shape / 3 % 4 {
        0 => json!([{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]),
        1 => json!([{"key": "spot", "value": "", "effect": "PreferNoSchedule"}]),
        _ => json!([]),
    };
    let big = shape / 12 % 2 == 1;
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": format!("n{name}"), "labels": {"zone": zone, "size": if big { "8" } else { "4" }}},
        "spec": {"taints": taints, "unschedulable": shape >= 44},
        "status": {"allocatable": {
            "cpu": if big { "8" } else { "4" }, "memory": "8Gi", "pods": "6", "example.com/gpu": if shape.is_multiple_of(5) { "2" } else { "0" }}},
    }))
    .unwrap();
    NodeInfo::of(&node)
}

fn specs() -> Vec<PodSpec> {
    let requests = |cpu: &str, memory: &str| json!([{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]);
    let affinity = |kind: &str, value: serde_json::Value| json!({"nodeAffinity": {kind: value}});
    let zone =
        |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    [
        json!({"containers": [{"name": "c"}]}),
        json!({"containers": requests("500m", "1Gi")}),
        json!({"containers": requests("3", "512Mi")}),
        json!({"containers": requests("100m", "3Gi"), "nodeSelector": {"zone": "b"}}),
        json!({"containers": requests("1", "1Gi"), "tolerations": [{"key": "dedicated", "operator": "Exists"}]}),
        json!({"containers": requests("1", "1Gi"), "affinity": affinity("requiredDuringSchedulingIgnoredDuringExecution",
            json!({"nodeSelectorTerms": [zone("a"), {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["5"]}]}]}))}),
        json!({"containers": requests("250m", "256Mi"), "affinity": affinity("preferredDuringSchedulingIgnoredDuringExecution",
            json!([{"weight": 7, "preference": zone("a")}, {"weight": 3, "preference": zone("c")}]))}),
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}],
            "tolerations": [{"operator": "Exists"}]}),
        json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]}),
        json!({"containers": requests("100m", "64Mi"), "affinity": affinity("requiredDuringSchedulingIgnoredDuringExecution",
            json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]}))}),
    ]
    .into_iter()
    .map(|spec| serde_json::from_value(spec).unwrap())
    .collect()
}

/// Everything, computed from scratch with other means than the engine's: a map of nodes, lists of
/// pods, floating-point-free shares where upstream has them.
#[derive(Default)]
struct Naive {
    nodes: BTreeMap<String, NodeInfo>,
    pods: Vec<(String, PodClass)>,
}

impl Naive {
    fn used(&self, node: &str, amount: impl Fn(&PodRequirements) -> i64) -> i64 {
        self.pods.iter().filter(|(on, _)| on == node).map(|(_, pod)| amount(pod)).sum()
    }

    fn fits(&self, pod: &PodRequirements, node: &NodeInfo) -> bool {
        let name = node.name.as_ref();
        let room = |request: i64, allocatable: i64, used: i64| request == 0 || request <= allocatable - used;
        let gpu = "example.com/gpu";
        (!node.unschedulable || tolerates_all(pod))
            && pod.untolerated(node).is_none()
            && pod.selects(node)
            && self.used(name, |_| 1) < node.pods_max
            && room(
                pod.requests.cpu_milli,
                node.allocatable.cpu_milli,
                self.used(name, |pod| pod.requests.cpu_milli),
            )
            && room(
                pod.requests.memory_bytes,
                node.allocatable.memory_bytes,
                self.used(name, |pod| pod.requests.memory_bytes),
            )
            && room(
                pod.requests.extended(gpu),
                node.allocatable.extended(gpu),
                self.used(name, |pod| pod.requests.extended(gpu)),
            )
            && !self.pods.iter().any(|(on, other)| {
                on == name
                    && other
                        .host_ports
                        .iter()
                        .any(|port| pod.host_ports.iter().any(|wanted| wanted.port == port.port))
            })
    }

    /// The nodes with the best total score, and that score.
    fn best(&self, spec: &PodSpec, pod: &PodRequirements) -> (Vec<String>, i64) {
        let possible: Vec<&NodeInfo> = self.nodes.values().filter(|node| self.fits(pod, node)).collect();
        let preference = |node: &NodeInfo| -> i64 {
            let terms = spec
                .affinity
                .iter()
                .filter_map(|a| a.node_affinity.as_ref())
                .filter_map(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
            terms
                .flatten()
                .filter(|term| {
                    let expression = &term.preference.match_expressions.as_ref().unwrap()[0];
                    expression
                        .values
                        .as_ref()
                        .unwrap()
                        .iter()
                        .any(|value| node.label(&expression.key) == Some(value))
                })
                .map(|term| i64::from(term.weight))
                .sum()
        };
        let intolerable = |node: &NodeInfo| -> i64 {
            i64::from(node.taints.iter().any(|taint| &*taint.key == "spot") && !tolerates_all(pod))
        };
        let max_preference = possible.iter().map(|node| preference(node)).max().unwrap_or(0);
        let max_intolerable = possible.iter().map(|node| intolerable(node)).max().unwrap_or(0);
        let mut best = (Vec::new(), -1);
        for node in possible {
            let taint =
                if max_intolerable == 0 { 100 } else { 100 - 100 * intolerable(node) / max_intolerable };
            let affinity = if max_preference == 0 { 0 } else { 100 * preference(node) / max_preference };
            let total = 3 * taint + 2 * affinity + self.least(pod, node) + self.balanced(pod, node);
            if total > best.1 {
                best = (Vec::new(), total);
            }
            if total == best.1 {
                best.0.push(node.name.to_string());
            }
        }
        best
    }

    fn least(&self, pod: &PodRequirements, node: &NodeInfo) -> i64 {
        let name = node.name.as_ref();
        let share = |free: i64, of: i64| if free < 0 { 0 } else { free * 100 / of };
        let cpu = node.allocatable.cpu_milli;
        let memory = node.allocatable.memory_bytes;
        let cpu_share = share(cpu - self.used(name, |pod| pod.non_zero.0) - pod.non_zero.0, cpu);
        let memory_share = share(memory - self.used(name, |pod| pod.non_zero.1) - pod.non_zero.1, memory);
        (cpu_share + memory_share) / 2
    }

    fn balanced(&self, pod: &PodRequirements, node: &NodeInfo) -> i64 {
        if pod.requests.cpu_milli == 0 && pod.requests.memory_bytes == 0 {
            return 0;
        }
        let name = node.name.as_ref();
        let cpu = self.used(name, |pod| pod.requests.cpu_milli);
        let memory = self.used(name, |pod| pod.requests.memory_bytes);
        let even = |cpu: i64, memory: i64| {
            let cpu = (cpu as f64 / node.allocatable.cpu_milli as f64).min(1.0);
            let memory = (memory as f64 / node.allocatable.memory_bytes as f64).min(1.0);
            ((1.0 - ((cpu - memory) / 2.0).abs()) * 100.0) as i64
        };
        50 + (50 + even(cpu + pod.requests.cpu_milli, memory + pod.requests.memory_bytes) - even(cpu, memory))
            / 2
    }
}

fn tolerates_all(pod: &PodRequirements) -> bool {
    // Only the host-port spec tolerates everything.
    !pod.host_ports.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_a_naive_scheduler(steps in proptest::collection::vec(step(), 1..120), seed: u64) {
        let specs = specs();
        let mut engine = Engine::new(seed);
        let mut naive = Naive::default();
        let mut ids: BTreeMap<String, NodeId> = BTreeMap::new();
        for step in steps {
            match step {
                Step::SetNode { name, shape } => {
                    let info = node(name, shape);
                    naive.nodes.insert(info.name.to_string(), info.clone());
                    let (id, _) = engine.set_node(info);
                    ids.insert(format!("n{name}"), id);
                }
                Step::RemoveNode(name) => {
                    let name = format!("n{name}");
                    if let Some(id) = ids.remove(&name) {
                        engine.remove_node(id);
                        naive.nodes.remove(&name);
                        naive.pods.retain(|(on, _)| *on != name);
                    }
                }
                Step::Place(kind) => {
                    let spec = &specs[usize::from(kind)];
                    let class = engine.class_of_spec(spec);
                    let (best, total) = naive.best(spec, &class);
                    let in_a_fork = engine.fork().place(&class);
                    let placement = engine.place(&class);
                    prop_assert_eq!(placement, in_a_fork);
                    prop_assert_eq!(placement.is_some(), engine.is_placeable(&class));
                    match placement {
                        Some(placement) => {
                            let name = engine.snapshot().node(placement.node).unwrap().name.to_string();
                            prop_assert_eq!(placement.scores.total(), total);
                            prop_assert!(best.contains(&name), "{} is none of {:?}", name, best);
                            prop_assert!(engine.reasons(&class, placement.node).is_empty());
                            engine.add_pod(placement.node, &class);
                            naive.pods.push((name, class));
                        }
                        None => {
                            prop_assert!(best.is_empty(), "{:?} were possible", best);
                            let failed: usize = naive.nodes.len();
                            let explained = engine.explain(&class);
                            prop_assert_eq!(explained.nodes, failed);
                            for (id, _) in engine.snapshot().nodes() {
                                prop_assert!(!engine.reasons(&class, id).is_empty());
                            }
                        }
                    }
                }
                Step::RemovePod(number) => {
                    if !naive.pods.is_empty() {
                        let (name, class) = naive.pods.swap_remove(usize::from(number) % naive.pods.len());
                        engine.remove_pod(ids[&name], &class);
                    }
                }
            }
        }
    }
}

#[test]
fn equal_nodes_take_turns() {
    let mut engine = Engine::new(7);
    for name in 0..10 {
        engine.set_node(node(name, 9));
    }
    // Explicit zeros move no score at all, so that only the tie-break spreads.
    let tiny: PodSpec = serde_json::from_value(
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "0", "memory": "0"}}}]}),
    )
    .unwrap();
    let class = engine.class_of_spec(&tiny);
    for round in 1..=5 {
        for _ in 0..10 {
            engine.place_and_add(&class).unwrap();
        }
        let snapshot = engine.snapshot();
        assert!(snapshot.nodes().all(|(id, _)| snapshot.pods_on(id) == round));
    }
}

#[test]
fn scores_are_upstreams() {
    let mut engine = Engine::new(0);
    let (id, _) = engine.set_node(node(1, 9));
    let spec: PodSpec = serde_json::from_value(
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}),
    )
    .unwrap();
    let class = engine.class_of_spec(&spec);
    let placement = engine.place(&class).unwrap();
    assert_eq!(placement.node, id);
    // CPU 3 of 4 free is 75, memory 7 of 8 is 87; 1/4 against 1/8 deviates by 1/16: 93 after 100,
    // and 50 + (50 - 7) / 2 is 71.
    assert_eq!(
        placement.scores,
        Scores {
            taint_toleration: 100,
            node_affinity: 0,
            least_allocated: 81,
            balanced_allocation: 71,
            ..Scores::default()
        }
    );
}
