//! Provisioning: the cheapest machines for pods that have no place.
//!
//! Cutting-stock, in three steps. [`shapes`] reduces pools × types × offerings to the few machines
//! that differ for these pods. [`dual`] solves the linear relaxation by column generation: what each
//! pod is worth and what each resource of each machine costs at the optimum; that is also the lower
//! bound on the price of any plan. [`pack`] then buys machines whose contents are worth their price.
//!
//! Pools are tried in the order of their weights, as Karpenter's are: pods go to a pool of lower
//! weight only if those of higher weight cannot take them. "On-demand base, spot on top" is
//! therefore two pools: one of weight 100 that requires `karpenter.sh/capacity-type In [on-demand]`
//! with `limits`, one of weight 10 that admits `[spot, on-demand]`, whose cheapest offering is spot
//! as long as there is capacity. Pods that must not be interrupted select `on-demand` themselves.

mod dual;
mod pack;
mod shapes;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::instance::{InstanceType, MachineResources, OfferingKey};
use scheduling::PodClass;

use crate::pool::{Limits, Pool};
use shapes::{Group, Shape};

/// Pods of one class that have no place.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What each of them needs.
    pub class: PodClass,
    /// How many they are.
    pub count: u32,
}

/// What provisioning has to go by.
pub struct Input<'a> {
    /// The pods.
    pub demands: &'a [Demand],
    /// The pools with what they have already.
    pub pools: &'a [(Pool, Limits)],
    /// What can be rented.
    pub catalogue: &'a [InstanceType],
    /// Offerings that had no capacity a moment ago.
    pub backed_off: &'a (dyn Fn(&OfferingKey) -> bool + Sync),
    /// Pods that run on every node which admits them.
    pub daemons: &'a [PodClass],
    /// Only offerings below this price per hour, if set. For replacements.
    pub price_below: Option<f64>,
}

/// What to buy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The machines, equal ones together.
    pub purchases: Vec<Purchase>,
    /// Pods that no purchase helps.
    pub unplaced: Vec<Unplaced>,
    /// Price of all purchases together in US dollars per hour.
    pub dollars_per_hour: f64,
    /// No plan for the placed pods can be cheaper than this (the linear relaxation).
    pub bound_dollars_per_hour: f64,
    /// What else was considered, cheapest first.
    pub alternatives: Vec<Alternative>,
}

/// Some equal machines with equal contents.
#[derive(Clone, Debug, PartialEq)]
pub struct Purchase {
    /// Index of the pool in the input.
    pub pool: usize,
    /// Index of the type in the catalogue.
    pub kind: usize,
    /// The cheapest offering that suits.
    pub offering: OfferingKey,
    /// Price of one machine in US dollars per hour.
    pub dollars_per_hour: f64,
    /// How many machines.
    pub count: u32,
    /// Labels of the pool for these nodes.
    pub labels: BTreeMap<String, String>,
    /// What each machine gets: index of the demand and number of its pods.
    pub contents: Vec<(usize, u32)>,
    /// What the contents and the daemons of one machine need together.
    pub requests: MachineResources,
    /// The largest share of any resource of one machine that is asked for, from 0 to 1.
    pub fill: f64,
}

/// Pods that could not be provided for.
#[derive(Clone, Debug, PartialEq)]
pub struct Unplaced {
    /// Index of the demand.
    pub demand: usize,
    /// How many of its pods.
    pub count: u32,
    /// Why, for each pool.
    pub reasons: Vec<(Arc<str>, Refusal)>,
}

/// Why a pool cannot take a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The pod does not tolerate a taint of the pool.
    Taint(String),
    /// No offering satisfies both the pod's selectors and the pool's requirements.
    NoOffering,
    /// Every offering that would do had no capacity a moment ago.
    NoCapacity,
    /// The pod is larger than every machine that would do.
    TooLarge {
        /// The largest machine by CPU.
        largest: Arc<str>,
    },
    /// The pool's limits leave no room for another machine.
    Limits,
    /// Machines that would do cost too much (replacements only).
    Price,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Taint(taint) => write!(f, "the pod does not tolerate the pool's taint {taint}"),
            Refusal::NoOffering => {
                f.write_str("no offering satisfies the pod's selectors and the pool's requirements")
            }
            Refusal::NoCapacity => f.write_str("the cloud has no capacity for any offering that would do"),
            Refusal::TooLarge { largest } => {
                write!(f, "the pod is too large for every machine that would do, even {largest}")
            }
            Refusal::Limits => f.write_str("the pool's limits leave no room for a machine that would do"),
            Refusal::Price => f.write_str("no machine that would do is cheap enough"),
        }
    }
}

/// Something else that could be bought.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// What it is, e.g. `all on 5 × m6g.xlarge spot`.
    pub option: String,
    /// Price of the whole in US dollars per hour.
    pub dollars_per_hour: f64,
}

/// Signatures that one round of packing tells apart; a pool of pods with more is packed in rounds.
const SIGNATURES_PER_ROUND: usize = 128;

/// Finds the cheapest machines for the pods.
pub fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut left: Vec<u32> = input.demands.iter().map(|demand| demand.count).collect();
    let mut budgets: Vec<Limits> = input.pools.iter().map(|(pool, used)| pool.limits.less(used)).collect();
    let mut weights: Vec<i32> = input.pools.iter().map(|(pool, _)| pool.weight).collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    weights.dedup();
    for weight in weights {
        let tier: Vec<usize> =
            (0..input.pools.len()).filter(|index| input.pools[*index].0.weight == weight).collect();
        for demands in rounds(input.demands, &left) {
            let (groups, shapes) = shapes::build(input, &tier, &demands, &left);
            buy(&mut plan, input, &groups, &shapes, &mut left, &mut budgets);
        }
    }
    for (demand, count) in left.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let reasons = shapes::refusals(input, &input.demands[demand].class, &budgets);
        plan.unplaced.push(Unplaced { demand, count, reasons });
    }
    plan.alternatives.sort_by(|a, b| a.dollars_per_hour.total_cmp(&b.dollars_per_hour));
    plan
}

/// Every offering that would do for one machine of the purchase, whatever its capacity at the moment,
/// cheapest first: what a claim may fall back on.
pub fn offerings_for(input: &Input<'_>, purchase: &Purchase) -> Vec<(f64, OfferingKey)> {
    shapes::offerings_for(input, purchase.pool, &purchase.labels, &purchase.contents, &purchase.requests)
}

/// The demands with pods left, in rounds of not too many different signatures.
fn rounds(demands: &[Demand], left: &[u32]) -> Vec<Vec<usize>> {
    let open: Vec<usize> = (0..demands.len()).filter(|index| left[*index] > 0).collect();
    // Each demand has one signature, so that many demands never have more.
    if open.len() <= SIGNATURES_PER_ROUND {
        return if open.is_empty() { Vec::new() } else { vec![open] };
    }
    let signatures = shapes::signatures(demands, &open);
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (demand, signature) in open.into_iter().zip(signatures) {
        let round = signature / SIGNATURES_PER_ROUND;
        if rounds.len() <= round {
            rounds.resize(round + 1, Vec::new());
        }
        rounds[round].push(demand);
    }
    rounds
}

/// Packs one tier of pools and enters the result.
fn buy(
    plan: &mut Plan,
    input: &Input<'_>,
    groups: &[Group],
    shapes: &[Shape],
    left: &mut [u32],
    budgets: &mut [Limits],
) {
    if groups.is_empty() || shapes.is_empty() {
        return;
    }
    let prices = dual::solve(groups, shapes);
    let packed = pack::pack(groups, shapes, &prices, budgets);
    let placed_all = packed.batches.iter().map(|batch| u64::from(batch.machines) * batch.pods()).sum::<u64>()
        == groups.iter().map(|group| u64::from(group.count)).sum::<u64>();
    if placed_all {
        plan.bound_dollars_per_hour += prices.bound;
    }
    for batch in &packed.batches {
        let shape = &shapes[batch.shape];
        let kind = &input.catalogue[shape.kind];
        for purchase in split_by_demand(groups, batch, left) {
            let (count, contents) = purchase;
            let requests = shapes::requests(input, shape, &contents);
            let fill = shapes::fill(&requests, &kind.allocatable);
            plan.dollars_per_hour += shape.dollars_per_hour * f64::from(count);
            budgets[shape.pool].charge(&kind.capacity, i64::from(count));
            plan.purchases.push(Purchase {
                pool: shape.pool,
                kind: shape.kind,
                offering: shape.offering.clone(),
                dollars_per_hour: shape.dollars_per_hour,
                count,
                labels: input.pools[shape.pool].0.variants[shape.variant].clone(),
                contents,
                requests,
                fill,
            });
        }
    }
    if !placed_all {
        // The bound is for all groups; without some of them it would promise too much.
        plan.bound_dollars_per_hour = 0.0;
    }
    for (shape, cost, machines) in packed.one_type {
        let shape = &shapes[shape];
        plan.alternatives.push(Alternative {
            option: format!(
                "all on {machines} × {} {}",
                shape.offering.instance_type, shape.offering.capacity_type
            ),
            dollars_per_hour: cost,
        });
    }
}

/// Turns pods of groups into pods of demands: equal machines as long as one demand lasts.
fn split_by_demand(groups: &[Group], batch: &pack::Batch, left: &mut [u32]) -> Vec<(u32, Vec<(usize, u32)>)> {
    let mut purchases: Vec<(u32, Vec<(usize, u32)>)> = Vec::new();
    let mut machines = batch.machines;
    while machines > 0 {
        // The machines that can be filled alike before some demand runs out; at least one.
        let alike = batch
            .contents
            .iter()
            .map(|(group, count)| {
                let first = groups[*group].demands.iter().find(|demand| left[**demand] > 0);
                first.map_or(1, |demand| left[*demand] / count)
            })
            .min()
            .unwrap_or(1)
            .clamp(1, machines);
        let mut contents = Vec::new();
        for (group, count) in &batch.contents {
            let mut wanted = count * alike;
            for demand in &groups[*group].demands {
                let taken = wanted.min(left[*demand]);
                if taken > 0 {
                    left[*demand] -= taken;
                    wanted -= taken;
                    contents.push((*demand, taken / alike.max(1)));
                }
                if wanted == 0 {
                    break;
                }
            }
        }
        purchases.push((alike, contents));
        machines -= alike;
    }
    purchases
}
