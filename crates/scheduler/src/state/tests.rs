use std::collections::BTreeSet;

use serde_json::json;

use super::*;

/// A world that does at once what the scheduler asks for, unless told otherwise.
struct World {
    state: State,
    now: Instant,
    /// What was asked since the last look.
    bound: Vec<(String, String)>,
    told: Vec<(String, String)>,
    evicted: Vec<String>,
    bindings: Vec<Binding>,
}

impl World {
    fn new() -> Self {
        Self {
            state: State::new("default-scheduler".to_owned(), 1),
            now: Instant::now(),
            bound: Vec::new(),
            told: Vec::new(),
            evicted: Vec::new(),
            bindings: Vec::new(),
        }
    }

    fn node(&mut self, name: &str, cpu: &str) {
        self.node_with(name, cpu, json!({}));
    }

    fn node_with(&mut self, name: &str, cpu: &str, spec: serde_json::Value) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": spec,
            "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"}},
        }))
        .unwrap();
        self.state.node_applied(&node);
    }

    fn pod(&mut self, name: &str, cpu: &str) {
        self.apply(name, json!({"spec": spec(cpu, 0)}));
    }

    fn pod_of_priority(&mut self, name: &str, cpu: &str, priority: i32) {
        self.apply(name, json!({"spec": spec(cpu, priority)}));
    }

    fn apply(&mut self, name: &str, pod: serde_json::Value) {
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("default".to_owned());
        pod.metadata.uid.get_or_insert_with(|| format!("uid-{name}"));
        self.state.pod_applied(&pod);
    }

    fn delete(&mut self, name: &str) {
        self.state.pod_deleted(&key(name));
    }

    /// Lets the scheduler work until it has nothing more to do.
    fn run(&mut self) {
        self.state.schedule(usize::MAX, self.now);
        for action in self.state.take_actions() {
            match action {
                Action::Bind(binding) => {
                    self.bound.push((binding.pod.name().to_owned(), binding.node.to_string()));
                    self.bindings.push(binding);
                }
                Action::Report(report) => {
                    self.told.push((report.pod.name().to_owned(), report.refusal.message.to_string()));
                }
                Action::Evict { victims, .. } => {
                    self.evicted.extend(victims.iter().map(|victim| victim["default/".len()..].to_owned()));
                }
            }
        }
    }

    fn bound(&mut self) -> Vec<String> {
        self.run();
        let mut bound: Vec<String> =
            self.bound.drain(..).map(|(pod, node)| format!("{pod}@{node}")).collect();
        bound.sort();
        bound
    }

    fn told(&mut self) -> Vec<(String, String)> {
        self.run();
        std::mem::take(&mut self.told)
    }
}

fn key(name: &str) -> PodKey {
    PodKey::from(format!("default/{name}"))
}

fn spec(cpu: &str, priority: i32) -> serde_json::Value {
    json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

#[test]
fn pods_are_bound_and_spread() {
    let mut world = World::new();
    world.node("n1", "4");
    world.node("n2", "4");
    for pod in ["a", "b", "c", "d"] {
        world.pod(pod, "1");
    }
    let nodes: Vec<_> =
        world.bound().iter().map(|bound| bound.split_once('@').unwrap().1.to_owned()).collect();
    assert_eq!(nodes.iter().filter(|node| *node == "n1").count(), 2);
    assert_eq!(nodes.len(), 4);
    assert!(world.bound().is_empty(), "nothing is bound twice");
}

#[test]
fn without_nodes_and_without_room_the_reason_is_told_once() {
    let mut world = World::new();
    world.pod("a", "1");
    assert_eq!(world.told(), [("a".to_owned(), "no nodes available to schedule pods".to_owned())]);
    let mut world = World::new();
    world.node("n1", "1");
    world.node_with("n2", "4", json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}));
    world.node_with("n3", "4", json!({"unschedulable": true}));
    world.pod("a", "2");
    let message = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
                   preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(world.told(), [("a".to_owned(), message.to_owned())]);
    // A change that does not help is no reason to try again or to say the same thing twice.
    world.node_with("n3", "5", json!({"unschedulable": true}));
    assert!(world.told().is_empty());
    // A pod like it is told the same without being tried.
    world.pod("b", "2");
    assert_eq!(world.told(), [("b".to_owned(), message.to_owned())]);
}

#[test]
fn a_pod_that_was_told_before_a_restart_is_not_told_again() {
    let mut world = World::new();
    world.apply(
        "a",
        json!({"spec": spec("1", 0), "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no nodes available to schedule pods"}]}}),
    );
    assert!(world.told().is_empty());
}

#[test]
fn new_nodes_and_freed_room_wake_those_who_fit() {
    let mut world = World::new();
    world.node("n1", "2");
    world.pod("first", "2");
    assert_eq!(world.bound(), ["first@n1"]);
    world.pod("small", "1");
    world.pod("large", "4");
    assert!(world.bound().is_empty());
    world.delete("first");
    assert_eq!(world.bound(), ["small@n1"]);
    world.node("n2", "3");
    assert!(world.bound().is_empty());
    world.node("n2", "4");
    assert_eq!(world.bound(), ["large@n2"]);
}

#[test]
fn reasons_are_brought_up_to_date_in_bounded_rounds() {
    let mut world = World::new();
    world.node("n1", "1");
    for pod in 0..100 {
        world.pod(&format!("p{pod}"), "2");
    }
    assert_eq!(world.told().len(), 100);
    world.node("n2", "1");
    assert!(world.told().is_empty());
    assert!(world.state.is_outdated());
    let mut told = BTreeSet::new();
    for expected in [RESTATED_PER_ROUND, 100 - RESTATED_PER_ROUND] {
        world.state.restate();
        let round = world.told();
        assert_eq!(round.len(), expected);
        assert!(
            round
                .iter()
                .all(|(_, message)| message.starts_with("0/2 nodes are available: 2 Insufficient cpu."))
        );
        told.extend(round.into_iter().map(|(pod, _)| pod));
    }
    assert_eq!(told.len(), 100);
    assert!(!world.state.is_outdated());
}

#[test]
fn a_failed_binding_is_forgotten_and_tried_again_later() {
    let mut world = World::new();
    world.node("n1", "1");
    world.pod("a", "1");
    assert_eq!(world.bound(), ["a@n1"]);
    let binding = world.bindings.pop().unwrap();
    world.state.bound(&binding.pod, BindOutcome::Failed, world.now);
    assert!(world.bound().is_empty());
    // The room is free for somebody else meanwhile.
    world.pod("b", "1");
    assert_eq!(world.bound(), ["b@n1"]);
    assert_eq!(world.state.next_deadline(), Some(world.now + Duration::from_secs(1)));
    world.now += Duration::from_secs(1);
    assert!(world.bound().is_empty());
    world.delete("b");
    assert_eq!(world.bound(), ["a@n1"]);
}

#[test]
fn the_api_server_has_the_last_word() {
    let mut world = World::new();
    world.node("n1", "1");
    world.node("n2", "1");
    world.pod("a", "1");
    let first = world.bound();
    let elsewhere = if first == ["a@n1"] { "n2" } else { "n1" };
    let mut bound = spec("1", 0);
    bound["nodeName"] = elsewhere.into();
    world.apply("a", json!({"spec": bound}));
    world.pod("b", "1");
    let free = if elsewhere == "n1" { "n2" } else { "n1" };
    assert_eq!(world.bound(), [format!("b@{free}")]);
    // A late outcome changes nothing.
    let binding = world.bindings.remove(0);
    world.state.bound(&binding.pod, BindOutcome::Failed, world.now);
    world.pod("c", "1");
    assert!(world.bound().is_empty());
}

#[test]
fn higher_priority_goes_first_and_arrival_decides_among_equals() {
    let mut world = World::new();
    world.pod_of_priority("low", "1", 0);
    world.pod_of_priority("early", "1", 5);
    world.apply("late", json!({"spec": {"priority": 5, "containers": [{"name": "c", "resources": {"requests": {"cpu": "900m"}}}]}}));
    world.node("n1", "1");
    assert_eq!(world.bound(), ["early@n1"]);
}

#[test]
fn gated_finished_foreign_and_leaving_pods_are_left_alone() {
    let mut world = World::new();
    world.node("n1", "4");
    let with = |field: &str, value: serde_json::Value| {
        let mut spec = spec("1", 0);
        spec[field] = value;
        json!({"spec": spec})
    };
    world.apply("gated", with("schedulingGates", json!([{"name": "wait"}])));
    world.apply("foreign", with("schedulerName", json!("other")));
    world.apply("finished", json!({"spec": spec("1", 0), "status": {"phase": "Failed"}}));
    world.apply(
        "leaving",
        json!({"metadata": {"deletionTimestamp": "2026-11-20T17:31:00Z"}, "spec": spec("1", 0)}),
    );
    assert!(world.bound().is_empty());
    world.pod("gated", "1");
    assert_eq!(world.bound(), ["gated@n1"]);
}

#[test]
fn finished_pods_give_their_room_back() {
    let mut world = World::new();
    world.node("n1", "1");
    let mut running = spec("1", 0);
    running["nodeName"] = "n1".into();
    world.apply("job", json!({"spec": running, "status": {"phase": "Running"}}));
    world.pod("next", "1");
    assert!(world.bound().is_empty());
    world.apply("job", json!({"spec": running, "status": {"phase": "Succeeded"}}));
    assert_eq!(world.bound(), ["next@n1"]);
}

#[test]
fn important_pods_preempt_and_their_room_is_held() {
    let mut world = World::new();
    world.node("n1", "2");
    world.pod_of_priority("low-1", "1", 0);
    world.pod_of_priority("low-2", "1", 1);
    assert_eq!(world.bound().len(), 2);
    world.pod_of_priority("high", "1", 10);
    let told = world.told();
    assert_eq!(told, [("high".to_owned(), "0/1 nodes are available: 1 Insufficient cpu.".to_owned())]);
    assert_eq!(world.evicted, ["low-1"], "the least important one has to go");
    // While the victim is leaving, nobody takes the room.
    world.pod_of_priority("other", "1", 0);
    assert!(world.bound().is_empty());
    world.delete("low-1");
    assert_eq!(world.bound(), ["high@n1"]);
}

#[test]
fn a_nominated_pod_takes_other_room_and_is_not_held_for_ever() {
    let mut world = World::new();
    world.node("n1", "1");
    world.pod_of_priority("low", "1", 0);
    world.run();
    world.pod_of_priority("high", "1", 10);
    world.run();
    assert_eq!(world.evicted, ["low"]);
    world.bound.clear();
    world.node("n2", "1");
    assert_eq!(world.bound(), ["high@n2"]);
    // The nomination is over: n1 is held for nobody.
    world.delete("low");
    world.pod("next", "1");
    assert_eq!(world.bound(), ["next@n1"]);
}

#[test]
fn a_recreated_pod_is_another_pod() {
    let mut world = World::new();
    world.node("n1", "1");
    let mut bound = spec("1", 0);
    bound["nodeName"] = "n1".into();
    world.apply("a", json!({"metadata": {"uid": "old"}, "spec": bound}));
    world.apply("a", json!({"metadata": {"uid": "new"}, "spec": spec("1", 0)}));
    assert_eq!(world.bound(), ["a@n1"]);
}

#[test]
fn pods_of_nodes_that_are_not_known_yet_count_once_they_are() {
    let mut world = World::new();
    let mut bound = spec("1", 0);
    bound["nodeName"] = "n1".into();
    world.apply("a", json!({"spec": bound}));
    world.node("n1", "1");
    world.pod("b", "1");
    assert!(world.bound().is_empty());
    world.state.node_deleted("n1");
    world.node("n1", "2");
    assert_eq!(world.bound(), ["b@n1"]);
}

#[test]
fn rules_between_pods_are_looked_at_again_when_anything_moves() {
    let mut world = World::new();
    world.node("n1", "4");
    let with = |app: &str, affinity: serde_json::Value| {
        let mut spec = spec("1", 0);
        spec["affinity"] = affinity;
        json!({"metadata": {"labels": {"app": app}}, "spec": spec})
    };
    let near_leader = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "leader"}}, "topologyKey": "kubernetes.io/hostname"}]}});
    let mut node = json!({"metadata": {"name": "n2", "labels": {"kubernetes.io/hostname": "n2"}}});
    node["status"] = json!({"allocatable": {"cpu": "4", "memory": "64Gi", "pods": "110"}});
    world.state.node_applied(&serde_json::from_value(node).unwrap());
    world.apply("follower", with("follower", near_leader));
    assert!(world.bound().is_empty());
    let mut leader = with("leader", json!({}));
    leader["spec"]["nodeName"] = "n2".into();
    world.apply("leader", leader);
    world.run();
    assert_eq!(world.state.next_deadline(), Some(world.now + RELATED_EVERY));
    world.now += RELATED_EVERY;
    assert_eq!(world.bound(), ["follower@n2"]);
}
