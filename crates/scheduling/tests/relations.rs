//! Rules between pods: topology spread, affinity, anti-affinity.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::{Engine, NodeInfo, PodClass};
use serde_json::{Value, json};

/// Two zones with three nodes each, and one node without a zone.
fn engine() -> Engine {
    let mut engine = Engine::new(3);
    for (zone, names) in [("a", ["a1", "a2", "a3"]), ("b", ["b1", "b2", "b3"])] {
        for name in names {
            engine.set_node(node(name, json!({"zone": zone, "kubernetes.io/hostname": name})));
        }
    }
    engine.set_node(node("lone", json!({"kubernetes.io/hostname": "lone"})));
    engine
}

fn node(name: &str, labels: Value) -> NodeInfo {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "20"}}}))
    .unwrap();
    NodeInfo::of(&node)
}

fn pod(engine: &mut Engine, app: &str, spec: Value) -> PodClass {
    let mut pod = json!({"metadata": {"namespace": "default", "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}});
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    engine.class_of(&serde_json::from_value::<Pod>(pod).unwrap())
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn required(kind: &str, term: Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

fn place(engine: &mut Engine, class: &PodClass) -> Option<String> {
    let placement = engine.place_and_add(class)?;
    Some(engine.snapshot().node(placement.node)?.name.to_string())
}

fn zone_of(node: &str) -> &str {
    &node[..1]
}

#[test]
fn hard_spread_keeps_zones_level_and_leaves_out_nodes_without_the_key() {
    let mut engine = engine();
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let web = pod(&mut engine, "web", spread);
    let mut zones = BTreeMap::<String, i32>::new();
    for _ in 0..20 {
        let node = place(&mut engine, &web).unwrap();
        *zones.entry(zone_of(&node).to_owned()).or_default() += 1;
        let counts: Vec<i32> = ["a", "b"].iter().map(|zone| zones.get(*zone).copied().unwrap_or(0)).collect();
        assert!((counts[0] - counts[1]).abs() <= 1);
    }
    assert_eq!(zones, BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 10)]));
    // With zone b closed, zone a may only be one ahead.
    for name in ["b1", "b2", "b3"] {
        let mut info = node(name, json!({"zone": "b", "kubernetes.io/hostname": name}));
        info.unschedulable = true;
        engine.set_node(info);
    }
    assert!(place(&mut engine, &web).is_some());
    assert!(place(&mut engine, &web).is_none());
    assert_eq!(
        engine.explain(&web).to_string(),
        "0/7 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), \
         3 node(s) didn't match pod topology spread constraints, 3 node(s) were unschedulable."
    );
}

#[test]
fn soft_spread_is_a_preference() {
    let mut engine = engine();
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let web = pod(&mut engine, "web", spread);
    let zones: Vec<String> = (0..6).map(|_| zone_of(&place(&mut engine, &web).unwrap()).to_owned()).collect();
    assert_eq!(zones.iter().filter(|zone| *zone == "a").count(), 3);
    assert_eq!(zones.iter().filter(|zone| *zone == "b").count(), 3);
}

#[test]
fn anti_affinity_allows_one_per_host_and_binds_both_sides() {
    let mut engine = engine();
    let web = pod(&mut engine, "web", required("podAntiAffinity", term("web", "kubernetes.io/hostname")));
    let mut nodes: Vec<String> = (0..7).map(|_| place(&mut engine, &web).unwrap()).collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes.len(), 7);
    assert!(place(&mut engine, &web).is_none());
    assert_eq!(
        engine.explain(&web).to_string(),
        "0/7 nodes are available: 7 node(s) didn't match pod anti-affinity rules."
    );
    // A pod of the same labels without the rule is kept away by those who have it.
    let plain = pod(&mut engine, "web", json!({}));
    assert!(place(&mut engine, &plain).is_none());
    assert_eq!(
        engine.explain(&plain).to_string(),
        "0/7 nodes are available: 7 node(s) didn't satisfy existing pods anti-affinity rules."
    );
    let other = pod(&mut engine, "other", json!({}));
    assert!(place(&mut engine, &other).is_some());
    // Once one has left, there is room for one.
    let id = engine.snapshot().id("b2").unwrap();
    engine.remove_pod(id, &web);
    assert_eq!(place(&mut engine, &plain).as_deref(), Some("b2"));
}

#[test]
fn affinity_follows_company_and_the_first_of_a_kind_may_begin() {
    let mut engine = engine();
    let follower = pod(&mut engine, "follower", required("podAffinity", term("leader", "zone")));
    assert!(place(&mut engine, &follower).is_none());
    assert_eq!(
        engine.explain(&follower).to_string(),
        "0/7 nodes are available: 7 node(s) didn't match pod affinity rules."
    );
    let series = pod(&mut engine, "series", required("podAffinity", term("series", "zone")));
    let first = place(&mut engine, &series).unwrap();
    for _ in 0..5 {
        assert_eq!(zone_of(&place(&mut engine, &series).unwrap()), zone_of(&first));
    }
    let leader = pod(&mut engine, "leader", json!({}));
    let id = engine.snapshot().id("b3").unwrap();
    engine.add_pod(id, &leader);
    for _ in 0..3 {
        assert_eq!(zone_of(&place(&mut engine, &follower).unwrap()), "b");
    }
}

#[test]
fn preferred_terms_move_the_score() {
    let mut engine = engine();
    let leader = pod(&mut engine, "leader", json!({}));
    let id = engine.snapshot().id("a2").unwrap();
    engine.add_pod(id, &leader);
    let preferred = |kind: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 100, "podAffinityTerm": term("leader", "kubernetes.io/hostname")}]}}})
    };
    let near = pod(&mut engine, "near", preferred("podAffinity"));
    assert_eq!(place(&mut engine, &near).as_deref(), Some("a2"));
    let far = pod(&mut engine, "far", preferred("podAntiAffinity"));
    assert_ne!(place(&mut engine, &far).as_deref(), Some("a2"));
}
