//! Consolidation: which nodes are not worth their price.
//!
//! Empty nodes go first. Then each node is thought away in turn: if its pods find places on the
//! others it can go; if not, a cheaper machine for it or for what is left over may replace it. A
//! move must pay for itself: what it saves over the time that it will probably last has to exceed
//! the price of restarting pods and of renting two machines while the new one boots. That, and not
//! a fixed waiting time, is what keeps consolidation from churning.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::Budget;
use api::names;
use scheduling::{Engine, NodeId, NodeInfo, PodClass, PodKey};

use crate::provision::{self, Demand, Input, Plan};

/// What a move costs and how long it pays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Economics {
    /// How long the situation will probably last.
    pub expected_lifetime: Duration,
    /// What the restart of one pod costs in US dollars: lost work, cold caches, somebody's attention.
    pub dollars_per_restart: f64,
    /// How long a new machine is paid for before it takes pods.
    pub boot: Duration,
    /// Savings below this share of the node's price are not worth a replacement.
    pub least_share: f64,
}

impl Default for Economics {
    fn default() -> Self {
        Self {
            expected_lifetime: Duration::from_secs(3600),
            dollars_per_restart: 0.0005,
            boot: Duration::from_secs(120),
            least_share: 0.1,
        }
    }
}

/// A node that may be given back.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in the engine.
    pub node: Arc<str>,
    /// Its price in US dollars per hour.
    pub dollars_per_hour: f64,
    /// The pods that would have to move.
    pub pods: Vec<(PodKey, PodClass)>,
}

/// What to do with a node.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It stays.
    Keep {
        /// Why.
        reason: String,
    },
    /// Its pods find places elsewhere.
    Delete {
        /// Pods and the nodes that would take them.
        moves: Vec<(PodKey, Arc<str>)>,
        /// In US dollars per hour.
        saving: f64,
    },
    /// Something cheaper takes its place.
    Replace {
        /// The pods that fit on no other node.
        demands: Vec<Demand>,
        /// What to buy for them first.
        plan: Box<Plan>,
        /// In US dollars per hour.
        saving: f64,
    },
}

/// How many more nodes of a pool may be disrupted for `reason` now, given how many there are and how
/// many are being disrupted already.
///
/// Percentages round up, as Karpenter's do. `is_active` says whether a budget with a schedule holds
/// at the moment.
pub fn allowance(
    budgets: &[Budget],
    reason: &str,
    nodes: usize,
    disrupting: usize,
    is_active: impl Fn(&Budget) -> bool,
) -> usize {
    budgets
        .iter()
        .filter(|budget| {
            budget.reasons.as_ref().is_none_or(|reasons| reasons.iter().any(|known| known == reason))
        })
        .filter(|budget| budget.schedule.is_none() || is_active(budget))
        .map(|budget| match budget.nodes.strip_suffix('%') {
            Some(percent) => {
                percent.parse::<f64>().map_or(0, |percent| (nodes as f64 * percent / 100.0).ceil() as usize)
            }
            None => budget.nodes.parse().unwrap_or(0),
        })
        .min()
        .unwrap_or(usize::MAX)
        .saturating_sub(disrupting)
}

/// Decides about one node. `engine` is the cluster without nodes that are going away; `input` has
/// pools and catalogue, and no demands. Nodes of pools that `input` lacks take none of the pods: the
/// caller leaves out pools of a lower weight than the candidate's. Karpenter does not look at weights
/// when it consolidates; a base on demand, which always costs more, would melt away into spot there. `replaceable` is false where a replacement is out of the
/// question, e.g. because the node is itself one.
pub fn consider(
    engine: &Engine,
    candidate: &Candidate,
    input: &Input<'_>,
    economics: &Economics,
    replaceable: bool,
) -> Verdict {
    let keep = |reason: String| Verdict::Keep { reason };
    let hours = economics.expected_lifetime.as_secs_f64() / 3600.0;
    let restarts = economics.dollars_per_restart * candidate.pods.len() as f64;
    let mut without = engine.fork();
    if let Some(id) = without.snapshot().id(&candidate.node) {
        without.remove_node(id);
    }
    for id in foreign(&without, input) {
        without.remove_node(id);
    }
    // Large pods first: they have the fewest places to go to.
    let mut pods: Vec<&(PodKey, PodClass)> = candidate.pods.iter().collect();
    pods.sort_by(|(key_a, a), (key_b, b)| {
        let size = |class: &PodClass| (class.requests.cpu_milli, class.requests.memory_bytes);
        size(b).cmp(&size(a)).then_with(|| key_a.cmp(key_b))
    });
    let (mut moves, mut stranded) = (Vec::new(), Vec::new());
    for (key, class) in pods {
        match without.place_and_add(class) {
            Some(placement) => {
                let node = without.snapshot().node(placement.node).map(|node| node.name.clone());
                moves.push((key.clone(), node.unwrap_or_default()));
            }
            None => stranded.push(class.clone()),
        }
    }
    if stranded.is_empty() {
        let saving = candidate.dollars_per_hour;
        if saving * hours <= restarts {
            return keep(format!(
                "${:.4} saved in {hours:.1} h do not pay for {} restarts",
                saving * hours,
                candidate.pods.len()
            ));
        }
        return Verdict::Delete { moves, saving };
    }
    if !replaceable {
        return keep(format!("{} of its pods fit nowhere else", stranded.len()));
    }
    let demands = demands(&stranded);
    let plan = provision::plan(&Input {
        demands: &demands,
        price_below: Some(candidate.dollars_per_hour),
        pools: input.pools,
        catalogue: input.catalogue,
        backed_off: input.backed_off,
        daemons: input.daemons,
    });
    let saving = candidate.dollars_per_hour - plan.dollars_per_hour;
    if !plan.unplaced.is_empty() || saving <= 0.0 {
        return keep(format!("{} of its pods fit nowhere else and on nothing cheaper", stranded.len()));
    }
    if plan.purchases.iter().map(|purchase| purchase.count).sum::<u32>() > 1 {
        return keep("only several machines together would be cheaper".to_owned());
    }
    let boot = plan.dollars_per_hour * economics.boot.as_secs_f64() / 3600.0;
    if saving < economics.least_share * candidate.dollars_per_hour || saving * hours <= restarts + boot {
        return keep(format!(
            "a replacement would save ${saving:.4}/h, which does not pay for {} restarts and the boot",
            candidate.pods.len()
        ));
    }
    Verdict::Replace { demands, plan: Box::new(plan), saving }
}

/// The nodes of pools that are not among the input's. Nodes without a pool are nobody's.
fn foreign(engine: &Engine, input: &Input<'_>) -> Vec<NodeId> {
    let is_foreign = |node: &NodeInfo| {
        let pool = node.labels.iter().find(|(key, _)| **key == *names::NODE_POOL);
        pool.is_some_and(|(_, name)| input.pools.iter().all(|(pool, _)| pool.name != *name))
    };
    engine.snapshot().nodes().filter(|(_, node)| is_foreign(node)).map(|(id, _)| id).collect()
}

/// Pods of one class together.
fn demands(classes: &[PodClass]) -> Vec<Demand> {
    let mut demands: Vec<Demand> = Vec::new();
    for class in classes {
        match demands.iter_mut().find(|demand| demand.class == *class) {
            Some(demand) => demand.count += 1,
            None => demands.push(Demand { class: class.clone(), count: 1 }),
        }
    }
    demands
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pool::{Limits, Pool};

    fn budget(nodes: &str, reasons: Option<&[&str]>) -> Budget {
        let reasons = reasons.map(|reasons| reasons.iter().map(|&reason| reason.to_owned()).collect());
        Budget { nodes: nodes.to_owned(), reasons, ..Budget::default() }
    }

    #[test]
    fn the_tightest_budget_for_the_reason_counts() {
        let always = |_: &Budget| true;
        let budgets = [budget("10%", None), budget("0", Some(&["Drifted"])), budget("3", Some(&["Empty"]))];
        for (reason, nodes, disrupting, expected) in [
            ("Empty", 15, 0, 2),
            ("Empty", 15, 1, 1),
            ("Empty", 100, 0, 3),
            ("Underutilized", 100, 0, 10),
            ("Underutilized", 3, 0, 1),
            ("Drifted", 100, 0, 0),
        ] {
            assert_eq!(allowance(&budgets, reason, nodes, disrupting, always), expected, "{reason} {nodes}");
        }
        assert_eq!(allowance(&[], "Empty", 5, 0, always), usize::MAX);
    }

    /// Nodes of 1.9 cores, each with a pool's name.
    fn engine(nodes: &[(&str, &str)]) -> Engine {
        let mut engine = Engine::new(1);
        for (name, pool) in nodes {
            let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"karpenter.sh/nodepool": pool}},
                "status": {"allocatable": {"cpu": "1900m", "memory": "7Gi", "pods": "110"}}}))
            .unwrap();
            engine.set_node(NodeInfo::of(&node));
        }
        engine
    }

    fn pool(name: &str) -> (Pool, Limits) {
        let pool = serde_json::from_value(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name},
            "spec": {"template": {"spec": {"requirements": []}}}}));
        (Pool::of(&pool.unwrap()).unwrap(), Limits::ZERO)
    }

    fn verdict(engine: &mut Engine, pods: usize, pools: &[(Pool, Limits)]) -> Verdict {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "10m"}}}]}});
        let class = engine.class_of(&serde_json::from_value(pod).unwrap());
        let n1 = engine.snapshot().id("n1").unwrap();
        (0..pods).for_each(|_| engine.add_pod(n1, &class));
        let candidate = Candidate {
            node: "n1".into(),
            dollars_per_hour: 0.02,
            pods: (0..pods).map(|index| (PodKey::from(format!("default/p{index}")), class.clone())).collect(),
        };
        let input = Input {
            demands: &[],
            pools,
            catalogue: &[],
            backed_off: &|_| false,
            daemons: &[],
            price_below: None,
        };
        consider(engine, &candidate, &input, &Economics::default(), true)
    }

    #[test]
    fn a_small_machine_pays_for_the_move_of_the_few_pods_it_has() {
        let pools = [pool("spot")];
        for (pods, goes) in [(1, true), (10, true), (30, true), (60, false)] {
            let mut engine = engine(&[("n1", "spot"), ("n2", "spot")]);
            let verdict = verdict(&mut engine, pods, &pools);
            assert_eq!(matches!(verdict, Verdict::Delete { .. }), goes, "{pods} pods: {verdict:?}");
        }
    }

    #[test]
    fn pods_do_not_move_to_nodes_of_pools_that_are_left_out() {
        let pools = [pool("base")];
        for (other, goes) in [("base", true), ("burst", false)] {
            let mut engine = engine(&[("n1", "base"), ("n2", other)]);
            let verdict = verdict(&mut engine, 1, &pools);
            assert_eq!(matches!(verdict, Verdict::Delete { .. }), goes, "{other}: {verdict:?}");
        }
    }
}
