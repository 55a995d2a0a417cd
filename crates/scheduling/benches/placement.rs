//! What a placement costs: `cargo bench -p scheduling`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark measures real time"
)]

use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, PodSpec};
use scheduling::{Cluster, Engine, NodeInfo};
use serde_json::json;

fn main() {
    for nodes in [1_000, 5_000, 50_000] {
        let pods = nodes * 10;
        println!("{nodes} nodes");
        for (name, classes) in [("one class", 1), ("20 classes in turn", 20)] {
            let mut engine = engine(nodes);
            let classes: Vec<_> = (0..classes).map(|number| engine.class_of_spec(&spec(number))).collect();
            measure(&format!("  place and add, {name}"), pods, |index| {
                engine.place_and_add(&classes[index % classes.len()]).unwrap();
            });
        }
        let mut engine = engine(nodes);
        measure("  first placement of a new class", 20, |index| {
            let class = engine.class_of_spec(&spec(index));
            engine.place(&class).unwrap();
        });
        let huge = engine.class_of_spec(&spec(1 << 20));
        measure("  failed placement, class known", 100_000, |_| assert!(engine.place(&huge).is_none()));
        measure("  explanation", 20, |_| assert!(engine.explain(&huge).nodes == nodes));
        measure("  fork", 20, |_| assert!(engine.fork().snapshot().len() == nodes));
        let parsed = spec(3);
        measure("  compiling a pod", 100_000, |_| drop(engine.class_of_spec(&parsed)));
        let mut cluster = Cluster::new(1);
        for number in 0..nodes {
            cluster.set_node(node(number));
        }
        let class = cluster.engine_mut().class_of_spec(&spec(0));
        measure("  place and set in a cluster", pods, |index| {
            let placement = cluster.engine_mut().place(&class).unwrap();
            let name = cluster.engine().snapshot().node(placement.node).unwrap().name.clone();
            cluster.set_pod(&format!("default/pod-{index}").into(), &class, &name, 0);
        });
    }
}

fn measure(name: &str, times: usize, mut run: impl FnMut(usize)) {
    let start = Instant::now();
    for index in 0..times {
        run(index);
    }
    println!("{name}: {:.2} µs", start.elapsed().as_secs_f64() * 1e6 / times as f64);
}

fn engine(nodes: usize) -> Engine {
    let mut engine = Engine::new(1);
    for number in 0..nodes {
        engine.set_node(node(number));
    }
    engine
}

fn node(number: usize) -> NodeInfo {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": format!("node-{number}"), "labels": {
            "topology.kubernetes.io/zone": format!("z{}", number % 3), "kubernetes.io/hostname": format!("node-{number}"),
            "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "m7g.4xlarge"}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}},
    }))
    .unwrap();
    NodeInfo::of(&node)
}

fn spec(number: usize) -> PodSpec {
    serde_json::from_value(json!({
        "containers": [{"name": "c", "image": "app", "resources": {"requests": {"cpu": format!("{}m", 100 + number), "memory": "256Mi"}}}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
    }))
    .unwrap()
}
