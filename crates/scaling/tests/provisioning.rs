//! Provisioning as a whole: what is bought for which pods.
#![allow(clippy::unwrap_used, reason = "fixtures are well formed")]

use std::collections::BTreeMap;
use std::sync::Arc;

use api::instance::{CapacityType, InstanceType, MachineResources, Offering, OfferingKey};
use api::karpenter::NodePool;
use proptest::prelude::*;
use scaling::pool::{Limits, Pool};
use scaling::provision::{Demand, Input, Plan, Refusal, plan};
use scheduling::Engine;
use serde_json::{Value, json};

/// A type with 1 GiB = 1 unit of memory, offered as spot at 40 % in two zones.
fn kind(name: &str, arch: &str, cpu: i64, memory_gib: i64, price: f64) -> InstanceType {
    let capacity = MachineResources {
        cpu_milli: cpu * 1000,
        memory_bytes: memory_gib << 30,
        ephemeral_bytes: 100 << 30,
        pods: 110,
        extended: BTreeMap::new(),
    };
    let offerings = ["us-east-1a", "us-east-1b"]
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
        allocatable: capacity.clone(),
        capacity,
        labels: BTreeMap::new(),
        offerings,
    }
}

fn catalogue() -> Vec<InstanceType> {
    let mut kinds = Vec::new();
    for (family, arch, ratio, dollars) in [
        ("c", "amd64", 2, 0.0425),
        ("cg", "arm64", 2, 0.034),
        ("m", "amd64", 4, 0.048),
        ("mg", "arm64", 4, 0.0385),
        ("r", "amd64", 8, 0.063),
    ] {
        for cpu in [1, 2, 4, 8, 16, 32] {
            kinds.push(kind(&format!("{family}.{cpu}"), arch, cpu, cpu * ratio, dollars * cpu as f64));
        }
    }
    kinds
}

fn pool(name: &str, spec: Value) -> (Pool, Limits) {
    let pool: NodePool = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    (Pool::of(&pool).unwrap(), Limits::ZERO)
}

fn any_pool() -> (Pool, Limits) {
    pool("default", json!({"template": {"spec": {"requirements": []}}}))
}

fn demand(engine: &mut Engine, count: u32, cpu_milli: i64, memory_mib: i64, more: Value) -> Demand {
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": {
        "cpu": format!("{cpu_milli}m"), "memory": format!("{memory_mib}Mi")}}}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    Demand { class: engine.class_of_spec(&serde_json::from_value(spec).unwrap()), count }
}

fn decide(
    demands: &[Demand],
    pools: &[(Pool, Limits)],
    backed_off: &(dyn Fn(&OfferingKey) -> bool + Sync),
) -> Plan {
    let catalogue = catalogue();
    let input = Input { demands, pools, catalogue: &catalogue, backed_off, daemons: &[], price_below: None };
    let found = plan(&input);
    check(&input, &found);
    found
}

/// What must hold of every plan.
fn check(input: &Input<'_>, plan: &Plan) {
    let mut placed = vec![0u32; input.demands.len()];
    let mut price = 0.0;
    let mut used: Vec<Limits> = input.pools.iter().map(|(_, used)| *used).collect();
    for purchase in &plan.purchases {
        let kind = &input.catalogue[purchase.kind];
        let (pool, _) = &input.pools[purchase.pool];
        let offering =
            kind.offerings.iter().find(|offering| kind.key(offering) == purchase.offering).unwrap();
        assert!(pool.accepts(kind, offering), "the pool accepts what is bought for it");
        assert!(!(input.backed_off)(&purchase.offering), "offerings without capacity are left alone");
        used[purchase.pool].add(&kind.capacity, i64::from(purchase.count));
        price += purchase.dollars_per_hour * f64::from(purchase.count);
        // The scheduler's own engine must be able to put the contents on the new node.
        let mut engine = Engine::new(0);
        let mut node = scaling::pool::hypothetical("n", kind, &purchase.labels, &pool.taints);
        scaling::pool::set_offering(&mut node, offering);
        engine.set_node(node);
        for (demand, count) in &purchase.contents {
            placed[*demand] += count * purchase.count;
            let class = input.demands[*demand].class.clone();
            for _ in 0..*count {
                assert!(engine.place_and_add(&class).is_some(), "the contents fit: {purchase:?}");
            }
        }
    }
    for unplaced in &plan.unplaced {
        placed[unplaced.demand] += unplaced.count;
        assert_eq!(unplaced.reasons.len(), input.pools.len(), "every pool says why not");
    }
    for (demand, placed) in input.demands.iter().zip(placed) {
        assert_eq!(demand.count, placed, "every pod is placed or reported");
    }
    assert!((price - plan.dollars_per_hour).abs() < 1e-9);
    assert!(plan.bound_dollars_per_hour <= plan.dollars_per_hour * (1.0 + 1e-6), "{plan:?}");
    for ((pool, before), used) in input.pools.iter().zip(used) {
        let bought = used != *before;
        assert!(!bought || used.cpu_milli <= pool.limits.cpu_milli && used.nodes <= pool.limits.nodes);
    }
}

/// First fit decreasing on one type, as somebody would do it by hand.
fn naive(demands: &[Demand], kind: &InstanceType, price: f64) -> Option<f64> {
    let mut pods: Vec<(i64, i64)> = demands
        .iter()
        .flat_map(|demand| {
            let requests = &demand.class.requests;
            std::iter::repeat_n((requests.cpu_milli, requests.memory_bytes), demand.count as usize)
        })
        .collect();
    let all = &kind.allocatable;
    pods.sort_by_key(|(cpu, memory)| {
        std::cmp::Reverse((cpu * 1000 / all.cpu_milli).max(memory * 1000 / all.memory_bytes))
    });
    let mut machines: Vec<(i64, i64, i64)> = Vec::new();
    for (cpu, memory) in pods {
        if cpu > all.cpu_milli || memory > all.memory_bytes {
            return None;
        }
        match machines.iter_mut().find(|machine| machine.0 >= cpu && machine.1 >= memory && machine.2 > 0) {
            Some(machine) => *machine = (machine.0 - cpu, machine.1 - memory, machine.2 - 1),
            None => machines.push((all.cpu_milli - cpu, all.memory_bytes - memory, all.pods - 1)),
        }
    }
    Some(machines.len() as f64 * price)
}

#[test]
fn the_cheapest_offering_is_bought() {
    let mut engine = Engine::new(0);
    let demands = [demand(&mut engine, 8, 1000, 2048, json!({}))];
    let found = decide(&demands, &[any_pool()], &|_| false);
    let purchase = &found.purchases[0];
    assert_eq!((&*purchase.offering.instance_type, purchase.count), ("cg.8", 1), "{found:?}");
    assert_eq!(purchase.offering.capacity_type, CapacityType::Spot);
    assert!((found.dollars_per_hour - 8.0 * 0.034 * 0.4).abs() < 1e-9);
}

#[test]
fn selectors_decide_architecture_zone_and_capacity_type() {
    let mut engine = Engine::new(0);
    let selector = json!({"nodeSelector": {
        "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "us-east-1b",
        "karpenter.sh/capacity-type": "on-demand"}});
    let demands = [demand(&mut engine, 3, 900, 1000, selector)];
    let found = decide(&demands, &[any_pool()], &|_| false);
    for purchase in &found.purchases {
        assert!(purchase.offering.instance_type.starts_with("c."), "{found:?}");
        assert_eq!(
            (&*purchase.offering.zone, purchase.offering.capacity_type),
            ("us-east-1b", CapacityType::OnDemand)
        );
    }
}

#[test]
fn a_base_on_demand_and_spot_on_top_are_two_pools() {
    let mut engine = Engine::new(0);
    let requirement =
        |values: Value| json!([{"key": "karpenter.sh/capacity-type", "operator": "In", "values": values}]);
    let pools = [
        pool(
            "base",
            json!({"weight": 100, "limits": {"cpu": "4"},
            "template": {"spec": {"requirements": requirement(json!(["on-demand"]))}}}),
        ),
        pool(
            "burst",
            json!({"weight": 10,
            "template": {"spec": {"requirements": requirement(json!(["spot", "on-demand"]))}}}),
        ),
    ];
    let demands = [demand(&mut engine, 12, 1000, 2048, json!({}))];
    let found = decide(&demands, &pools, &|_| false);
    let cpu = |pool: usize| -> u32 {
        let of = found.purchases.iter().filter(|purchase| purchase.pool == pool);
        of.map(|purchase| purchase.contents.iter().map(|(_, count)| count).sum::<u32>() * purchase.count)
            .sum()
    };
    assert_eq!((cpu(0), cpu(1)), (4, 8), "{found:?}");
    let spot_is_gone = |key: &OfferingKey| key.capacity_type == CapacityType::Spot;
    let found = decide(&demands, &pools, &spot_is_gone);
    assert!(found.unplaced.is_empty(), "on-demand steps in: {found:?}");
}

#[test]
fn taints_keep_pods_out_and_tolerations_let_them_in() {
    let mut engine = Engine::new(0);
    let tainted = pool(
        "gpu",
        json!({"template": {"spec": {"requirements": [],
        "taints": [{"key": "team", "value": "ml", "effect": "NoSchedule"}]}}}),
    );
    let tolerant = json!({"tolerations": [{"key": "team", "operator": "Exists"}]});
    let demands = [demand(&mut engine, 1, 500, 100, json!({})), demand(&mut engine, 1, 500, 100, tolerant)];
    let found = decide(&demands, &[tainted], &|_| false);
    assert_eq!(found.unplaced.len(), 1);
    assert_eq!(found.unplaced[0].reasons[0].1, Refusal::Taint("team=ml".to_owned()));
}

#[test]
fn what_cannot_be_placed_is_told_why() {
    let mut engine = Engine::new(0);
    let demands = [
        demand(&mut engine, 1, 64_000, 100, json!({})),
        demand(&mut engine, 1, 100, 100, json!({"nodeSelector": {"disk": "ssd"}})),
    ];
    let found = decide(&demands, &[any_pool()], &|_| false);
    let reasons: Vec<&Refusal> = found.unplaced.iter().map(|unplaced| &unplaced.reasons[0].1).collect();
    assert!(matches!(reasons[0], Refusal::TooLarge { largest } if largest.ends_with(".32")), "{reasons:?}");
    assert_eq!(reasons[1], &Refusal::NoOffering);
    let limited = pool("small", json!({"limits": {"cpu": "0"}, "template": {"spec": {"requirements": []}}}));
    let demands = [demand(&mut engine, 1, 100, 100, json!({}))];
    assert_eq!(decide(&demands, &[limited], &|_| false).unplaced[0].reasons[0].1, Refusal::Limits);
    assert_eq!(decide(&demands, &[any_pool()], &|_| true).unplaced[0].reasons[0].1, Refusal::NoCapacity);
}

#[test]
fn pods_with_one_host_port_get_a_node_each() {
    let mut engine = Engine::new(0);
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}],
        "resources": {"requests": {"cpu": "100m"}}}]});
    let demands = [demand(&mut engine, 5, 0, 0, port)];
    let found = decide(&demands, &[any_pool()], &|_| false);
    assert_eq!(found.purchases.iter().map(|purchase| purchase.count).sum::<u32>(), 5);
}

#[test]
fn labels_that_the_pool_leaves_open_follow_the_pods() {
    let mut engine = Engine::new(0);
    let teams = pool(
        "teams",
        json!({"template": {"spec": {"requirements": [
        {"key": "team", "operator": "In", "values": ["red", "blue"]}]}}}),
    );
    let demands = [demand(&mut engine, 1, 500, 100, json!({"nodeSelector": {"team": "red"}}))];
    let found = decide(&demands, &[teams], &|_| false);
    assert_eq!(found.purchases[0].labels["team"], "red");
}

#[test]
fn many_pods_cost_little_more_than_the_relaxation() {
    let mut engine = Engine::new(0);
    let demands: Vec<Demand> = (0..40i64)
        .map(|index| {
            let cpu = [100, 250, 500, 1000, 2000][(index % 5) as usize];
            let memory = [256, 512, 1024, 3000, 7000, 14_000, 100][(index * 3 % 7) as usize];
            demand(&mut engine, 100, cpu, memory, json!({}))
        })
        .collect();
    let found = decide(&demands, &[any_pool()], &|_| false);
    let ratio = found.dollars_per_hour / found.bound_dollars_per_hour;
    assert!(ratio < 1.03, "{ratio}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_sound_and_no_dearer_than_one_type(
        pods in prop::collection::vec((1u32..30, 1i64..80, 1i64..200, 0usize..4), 1..8),
        limit in prop::option::of(1i64..60),
    ) {
        let mut engine = Engine::new(0);
        let demands: Vec<Demand> = pods
            .into_iter()
            .map(|(count, cpu, memory, selector)| {
                let more = match selector {
                    0 => json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}),
                    1 => json!({"nodeSelector": {"karpenter.sh/capacity-type": "on-demand"}}),
                    _ => json!({}),
                };
                demand(&mut engine, count, cpu * 50, memory * 64, more)
            })
            .collect();
        let limits = limit.map_or(json!({}), |cpu| json!({"cpu": cpu.to_string()}));
        let pools = [pool("p", json!({"limits": limits, "template": {"spec": {"requirements": []}}}))];
        let found = decide(&demands, &pools, &|_| false);
        if limit.is_none() {
            prop_assert!(found.unplaced.is_empty());
            for kind in catalogue().iter().filter(|kind| &*kind.arch == "amd64") {
                // On-demand on amd64 suits every selector above.
                if let Some(naive) = naive(&demands, kind, kind.offerings[1].dollars_per_hour) {
                    prop_assert!(found.dollars_per_hour <= naive + 1e-9, "{} {naive} {found:?}", kind.name);
                }
            }
        }
    }
}
