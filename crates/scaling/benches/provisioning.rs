//! Time and price of a provisioning decision: `cargo bench -p scaling [catalogue.csv]`.
//!
//! Without an argument the types are made up in the proportions of EC2's.

use std::sync::Arc;

use api::instance::{CapacityType, InstanceType, MachineResources, Offering};
use api::karpenter::NodePool;
use scaling::pool::{Limits, Pool};
use scaling::provision::{Demand, Input, plan};
use scheduling::Engine;
use serde_json::json;

fn main() {
    let catalogue = match std::env::args().skip(1).find(|argument| !argument.starts_with('-')) {
        Some(path) => read(&std::fs::read_to_string(path).expect("the catalogue can be read")),
        None => made_up(),
    };
    println!("{} instance types", catalogue.len());
    let pool: NodePool = serde_json::from_value(json!({
        "metadata": {"name": "default"},
        "spec": {"template": {"spec": {"requirements": [
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}]}}}}))
    .expect("the pool is well formed");
    let pools = [(Pool::of(&pool).expect("its requirements are"), Limits::ZERO)];
    for (pods, classes) in [(100, 10), (1000, 30), (10_000, 1), (10_000, 50), (10_000, 400), (10_000, 3000)] {
        let mut engine = Engine::new(1);
        let mut seed = 42u64;
        let mut random = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        let demands: Vec<Demand> = (0..classes)
            .map(|index| {
                let cpu = if classes > 100 { 50 + random(4000) } else { [100, 250, 500, 1000, 1500, 2000, 4000][random(7) as usize] };
                let memory = if classes > 100 { 64 + random(16_000) } else { [128, 256, 512, 1024, 2048, 4096, 8192][random(7) as usize] };
                let arch = match index % 5 {
                    0 => json!({"kubernetes.io/arch": "amd64"}),
                    1 => json!({"topology.kubernetes.io/zone": "us-east-1b"}),
                    2 if index % 10 == 2 => json!({"karpenter.sh/capacity-type": "on-demand"}),
                    _ => json!({}),
                };
                let spec = serde_json::from_value(json!({"nodeSelector": arch, "containers": [{"name": "c",
                    "resources": {"requests": {"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")}}}]}))
                .expect("the pod is well formed");
                Demand { class: engine.class_of_spec(&spec), count: pods / classes }
            })
            .collect();
        let input = Input {
            demands: &demands,
            pools: &pools,
            catalogue: &catalogue,
            backed_off: &|_| false,
            daemons: &[],
            price_below: None,
        };
        #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
        let start = std::time::Instant::now();
        let found = plan(&input);
        let took = start.elapsed();
        let machines: u32 = found.purchases.iter().map(|purchase| purchase.count).sum();
        println!(
            "{pods:>6} pods in {classes:>4} classes: {:>7.1} ms, {machines:>4} machines, ${:.2}/h = {:.4} × LP bound, unplaced {}, best single type {}",
            took.as_secs_f64() * 1e3,
            found.dollars_per_hour,
            found.dollars_per_hour / found.bound_dollars_per_hour,
            found.unplaced.len(),
            found
                .alternatives
                .first()
                .map_or("-".to_owned(), |a| format!("{} ${:.2}", a.option, a.dollars_per_hour)),
        );
    }
}

fn kind(name: &str, cpu: i64, memory_mib: i64, pods: i64, arch: &str, price: f64) -> InstanceType {
    let capacity = MachineResources {
        cpu_milli: cpu * 1000,
        memory_bytes: memory_mib << 20,
        ephemeral_bytes: 100 << 30,
        pods,
        extended: Default::default(),
    };
    let mut allocatable = capacity.clone();
    allocatable.cpu_milli = capacity.cpu_milli * 95 / 100;
    allocatable.memory_bytes = capacity.memory_bytes / 100 * 95;
    let offerings = ["us-east-1a", "us-east-1b", "us-east-1c"]
        .iter()
        .flat_map(|zone| {
            [(CapacityType::Spot, 0.4), (CapacityType::OnDemand, 1.0)].map(|(capacity_type, share)| {
                Offering {
                    zone: Arc::from(*zone),
                    capacity_type,
                    dollars_per_hour: price * share,
                    available: true,
                }
            })
        })
        .collect();
    InstanceType {
        name: name.into(),
        arch: arch.into(),
        capacity,
        allocatable,
        labels: Default::default(),
        offerings,
    }
}

fn made_up() -> Vec<InstanceType> {
    let mut kinds = Vec::new();
    for (family, ratio, dollars_per_cpu) in
        [("c", 2, 0.0425), ("m", 4, 0.048), ("r", 8, 0.063), ("x", 16, 0.0834)]
    {
        for generation in 0..7 {
            for (arch, letter, discount) in [("amd64", "i", 1.0), ("arm64", "g", 0.8)] {
                for (size, cpu) in [1, 2, 4, 8, 16, 32, 64].into_iter().enumerate() {
                    let price =
                        dollars_per_cpu * cpu as f64 * discount * (1.0 + 0.01 * f64::from(generation));
                    let name = format!("{family}{generation}{letter}.{size}");
                    let pods = [8, 29, 58, 58, 234, 234, 737][size];
                    kinds.push(kind(&name, cpu, cpu * ratio * 1024, pods, arch, price));
                }
            }
        }
    }
    kinds
}

fn read(text: &str) -> Vec<InstanceType> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let field: Vec<&str> = line.split(',').collect();
            if field[4] != "0" || field[6] != "no" {
                return None;
            }
            let number = |at: usize| field[at].parse::<f64>().ok();
            Some(kind(
                field[0],
                number(1)? as i64,
                number(2)? as i64,
                number(7)? as i64,
                field[3],
                number(8)?,
            ))
        })
        .take(400)
        .collect()
}
