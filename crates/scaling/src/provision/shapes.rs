//! From pools, types and offerings to the machines that differ for the pods at hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::instance::{InstanceType, MachineResources, OfferingKey};
use base::map::HashMap;
use scheduling::{Effect, NodeInfo, PodClass, PodRequirements};

use super::{Demand, Input, Refusal};
use crate::pool::{self, Limits, Pool};

/// Resources told apart: CPU, memory, pods, ephemeral storage and some extended ones.
pub(super) const DIMENSIONS: usize = 8;
const EXTENDED: usize = DIMENSIONS - 4;

/// Amounts by dimension: milli-CPU, bytes, pods, bytes, extended resources in their own units.
pub(super) type Amounts = [i64; DIMENSIONS];

/// Pods that provisioning cannot tell apart.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The demands that the pods come from.
    pub demands: Vec<usize>,
    /// How many pods.
    pub count: u32,
    /// What each asks for.
    pub requests: Amounts,
    /// The bit of its signature in [`Shape::admits`].
    pub signature: u128,
    /// Whose host ports keep pods of the group apart.
    pub ports: Option<PodClass>,
}

/// A machine that differs from others for the pods at hand.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Index of the pool in the input.
    pub pool: usize,
    /// Index of the pool's variant.
    pub variant: usize,
    /// Index of the type in the catalogue.
    pub kind: usize,
    /// The cheapest offering among those that make no difference.
    pub offering: OfferingKey,
    /// Its price in US dollars per hour.
    pub dollars_per_hour: f64,
    /// What is free for the pods, daemons taken off.
    pub room: Amounts,
    /// What the machine counts for in the pool's limits.
    pub capacity: MachineResources,
    /// The signatures that it admits.
    pub admits: u128,
}

impl Shape {
    /// Whether a pod of the group can run on the empty machine.
    pub fn takes(&self, group: &Group) -> bool {
        self.admits & group.signature != 0 && (0..DIMENSIONS).all(|d| group.requests[d] <= self.room[d])
    }
}

impl Limits {
    /// Takes `count` machines off what is left.
    pub(super) fn charge(&mut self, machine: &MachineResources, count: i64) {
        let mut used = Limits::ZERO;
        used.add(machine, count);
        *self = self.less(&used);
    }
}

/// What of a class decides which nodes admit it, whatever it asks for.
fn signature_of(class: &PodClass) -> PodRequirements {
    let mut signature = PodRequirements::clone(class);
    signature.requests = scheduling::Resources::default();
    signature.non_zero = (0, 0);
    signature.priority = 0;
    signature.may_preempt = false;
    signature.host_ports.clear();
    signature
}

/// For each of the demands, the number of its signature in the order of appearance.
pub(super) fn signatures(demands: &[Demand], which: &[usize]) -> Vec<usize> {
    let mut known: HashMap<PodRequirements, usize> = HashMap::default();
    which
        .iter()
        .map(|index| {
            let next = known.len();
            *known.entry(signature_of(&demands[*index].class)).or_insert(next)
        })
        .collect()
}

/// The groups of the demands and the shapes of the pools in `tier`.
pub(super) fn build(
    input: &Input<'_>,
    tier: &[usize],
    which: &[usize],
    left: &[u32],
) -> (Vec<Group>, Vec<Shape>) {
    let signatures = signatures(input.demands, which);
    let names = extended_names(input.demands, which);
    let mut groups: Vec<Group> = Vec::new();
    let mut known: BTreeMap<(usize, Amounts), usize> = BTreeMap::new();
    let mut examples: BTreeMap<usize, &PodClass> = BTreeMap::new();
    for (&demand, &signature) in which.iter().zip(&signatures) {
        let class = &input.demands[demand].class;
        // The round numbers signatures from zero; the caller keeps them below the number of bits.
        let signature = signature % 128;
        examples.insert(signature, class);
        let Some(requests) = amounts(class, &names) else { continue };
        let ports = (!class.host_ports.is_empty()).then(|| class.clone());
        let group = Group {
            demands: vec![demand],
            count: left[demand],
            requests,
            signature: 1 << signature,
            ports: ports.clone(),
        };
        match known.get(&(signature, requests)).filter(|_| ports.is_none()) {
            Some(&index) => {
                groups[index].demands.push(demand);
                groups[index].count += left[demand];
            }
            None => {
                if ports.is_none() {
                    known.insert((signature, requests), groups.len());
                }
                groups.push(group);
            }
        }
    }
    let examples: Vec<(usize, &PodClass)> = examples.into_iter().collect();
    let mut shapes = Vec::new();
    for &pool in tier {
        shapes.extend(shapes_of(input, pool, &examples, &names));
    }
    shapes.retain(|shape| groups.iter().any(|group| shape.takes(group)));
    drop_dominated(&mut shapes, input);
    groups.retain(|group| shapes.iter().any(|shape| shape.takes(group)));
    (groups, shapes)
}

/// The extended resources that pods ask for.
fn extended_names(demands: &[Demand], which: &[usize]) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = which
        .iter()
        .flat_map(|demand| demands[*demand].class.requests.extended.iter().map(|(name, _)| name.clone()))
        .collect();
    names.sort();
    names.dedup();
    names.truncate(EXTENDED);
    names
}

/// What a pod asks for; `None` if it asks for more kinds of resources than are told apart.
fn amounts(class: &PodClass, names: &[Arc<str>]) -> Option<Amounts> {
    let requests = &class.requests;
    if requests.extended.iter().any(|(name, _)| !names.contains(name)) {
        return None;
    }
    let mut amounts = [0; DIMENSIONS];
    amounts[..4].copy_from_slice(&[
        requests.cpu_milli.max(0),
        requests.memory_bytes.max(0),
        1,
        requests.ephemeral_bytes.max(0),
    ]);
    for (amount, name) in amounts[4..].iter_mut().zip(names) {
        *amount = requests.extended(name).max(0);
    }
    Some(amounts)
}

fn machine_amounts(machine: &MachineResources, names: &[Arc<str>]) -> Amounts {
    let mut amounts = [0; DIMENSIONS];
    amounts[..4].copy_from_slice(&[
        machine.cpu_milli,
        machine.memory_bytes,
        machine.pods,
        machine.ephemeral_bytes,
    ]);
    for (amount, name) in amounts[4..].iter_mut().zip(names) {
        *amount = machine.extended.get(&**name).copied().unwrap_or(0);
    }
    amounts
}

/// Whether the node admits the class, apart from room. The scheduler's own filters decide.
fn admits(class: &PodRequirements, node: &NodeInfo) -> bool {
    class.untolerated(node).is_none() && class.selects(node)
}

/// What the daemons that would run on the node take there.
fn daemons_on(daemons: &[PodClass], node: &NodeInfo, names: &[Arc<str>]) -> Amounts {
    let mut sum = [0; DIMENSIONS];
    for daemon in daemons.iter().filter(|daemon| admits(daemon, node)) {
        let taken = amounts(daemon, names).unwrap_or_default();
        for (sum, taken) in sum.iter_mut().zip(taken) {
            *sum += taken;
        }
    }
    sum
}

fn shapes_of(
    input: &Input<'_>,
    pool_index: usize,
    examples: &[(usize, &PodClass)],
    names: &[Arc<str>],
) -> Vec<Shape> {
    let pool = &input.pools[pool_index].0;
    let mut shapes: Vec<Shape> = Vec::new();
    for (variant, labels) in pool.variants.iter().enumerate() {
        for (kind_index, kind) in input.catalogue.iter().enumerate() {
            let mut node: Option<NodeInfo> = None;
            let first = shapes.len();
            for offering in &kind.offerings {
                let too_dear = input.price_below.is_some_and(|price| offering.dollars_per_hour >= price);
                if !offering.available || too_dear || !pool.accepts(kind, offering) {
                    continue;
                }
                let key = kind.key(offering);
                if (input.backed_off)(&key) {
                    continue;
                }
                let node = node
                    .get_or_insert_with(|| pool::hypothetical("hypothetical", kind, labels, &pool.taints));
                pool::set_offering(node, offering);
                let admitted = examples
                    .iter()
                    .filter(|(_, class)| admits(class, node))
                    .fold(0u128, |bits, (signature, _)| bits | 1 << signature);
                if admitted == 0 {
                    continue;
                }
                let mut room = machine_amounts(&kind.allocatable, names);
                for (room, taken) in room.iter_mut().zip(daemons_on(input.daemons, node, names)) {
                    *room -= taken;
                }
                let shape = Shape {
                    pool: pool_index,
                    variant,
                    kind: kind_index,
                    offering: key,
                    dollars_per_hour: offering.dollars_per_hour,
                    room,
                    capacity: kind.capacity.clone(),
                    admits: admitted,
                };
                keep_cheapest(&mut shapes, first, shape);
            }
        }
    }
    shapes
}

/// Among offerings of one type that make no difference to the pods only the cheapest counts.
fn keep_cheapest(shapes: &mut Vec<Shape>, first: usize, shape: Shape) {
    let same =
        shapes[first..].iter_mut().find(|known| known.admits == shape.admits && known.room == shape.room);
    match same {
        Some(known) if shape.dollars_per_hour < known.dollars_per_hour => *known = shape,
        Some(_) => {}
        None => shapes.push(shape),
    }
}

/// Drops shapes for which another one of the pool has all that they have and costs no more.
fn drop_dominated(shapes: &mut Vec<Shape>, input: &Input<'_>) {
    let dominated: Vec<bool> = (0..shapes.len())
        .map(|index| {
            let shape = &shapes[index];
            if !input.pools[shape.pool].0.limits.is_none() {
                return false;
            }
            shapes.iter().enumerate().any(|(other_index, other)| {
                let no_worse = other.pool == shape.pool
                    && other.dollars_per_hour <= shape.dollars_per_hour
                    && shape.admits & !other.admits == 0
                    && (0..DIMENSIONS).all(|d| other.room[d] >= shape.room[d]);
                let better = other.dollars_per_hour < shape.dollars_per_hour
                    || other.room != shape.room
                    || other.admits != shape.admits;
                other_index != index && no_worse && (better || other_index < index)
            })
        })
        .collect();
    let mut keep = dominated.iter().map(|dominated| !dominated);
    shapes.retain(|_| keep.next().unwrap_or(true));
}

/// What the contents and the daemons of one machine ask for.
pub(super) fn requests(input: &Input<'_>, shape: &Shape, contents: &[(usize, u32)]) -> MachineResources {
    let kind = &input.catalogue[shape.kind];
    let mut sum = MachineResources::default();
    let mut add = |class: &PodClass, count: i64| {
        sum.cpu_milli += class.requests.cpu_milli * count;
        sum.memory_bytes += class.requests.memory_bytes * count;
        sum.ephemeral_bytes += class.requests.ephemeral_bytes * count;
        sum.pods += count;
        for (name, amount) in &class.requests.extended {
            *sum.extended.entry(name.to_string()).or_default() += amount * count;
        }
    };
    for (demand, count) in contents {
        add(&input.demands[*demand].class, i64::from(*count));
    }
    let pool = &input.pools[shape.pool].0;
    if let Some(offering) = kind.offerings.iter().find(|offering| kind.key(offering) == shape.offering) {
        let mut node = pool::hypothetical("hypothetical", kind, &pool.variants[shape.variant], &pool.taints);
        pool::set_offering(&mut node, offering);
        for daemon in input.daemons.iter().filter(|daemon| admits(daemon, &node)) {
            add(daemon, 1);
        }
    }
    sum
}

/// The largest share of any resource that is asked for.
pub(super) fn fill(requests: &MachineResources, allocatable: &MachineResources) -> f64 {
    let share = |asked: i64, there: i64| if there > 0 { asked as f64 / there as f64 } else { 0.0 };
    share(requests.cpu_milli, allocatable.cpu_milli)
        .max(share(requests.memory_bytes, allocatable.memory_bytes))
        .max(share(requests.pods, allocatable.pods))
}

/// Why each pool cannot take a pod of the class.
pub(super) fn refusals(input: &Input<'_>, class: &PodClass, budgets: &[Limits]) -> Vec<(Arc<str>, Refusal)> {
    input
        .pools
        .iter()
        .zip(budgets)
        .map(|((pool, _), budget)| (pool.name.clone(), refusal(input, pool, class, budget)))
        .collect()
}

fn refusal(input: &Input<'_>, pool: &Pool, class: &PodClass, budget: &Limits) -> Refusal {
    let untolerated =
        pool.taints.iter().find(|taint| taint.effect != Effect::PreferNoSchedule && !class.tolerates(taint));
    if let Some(taint) = untolerated {
        return Refusal::Taint(format!("{}={}", taint.key, taint.value));
    }
    let names: Vec<Arc<str>> = class.requests.extended.iter().map(|(name, _)| name.clone()).collect();
    let names = &names[..names.len().min(EXTENDED)];
    let asked = amounts(class, names).unwrap_or([i64::MAX; DIMENSIONS]);
    // The furthest that any offering got decides what is said.
    let (mut suits, mut largest, mut fits, mut has_capacity, mut affordable) =
        (false, None::<&InstanceType>, false, false, false);
    for kind in input.catalogue {
        let room = machine_amounts(&kind.allocatable, names);
        for labels in &pool.variants {
            let mut node = None;
            for offering in kind.offerings.iter().filter(|offering| pool.accepts(kind, offering)) {
                let node = node
                    .get_or_insert_with(|| pool::hypothetical("hypothetical", kind, labels, &pool.taints));
                pool::set_offering(node, offering);
                if !class.selects(node) {
                    continue;
                }
                suits = true;
                if largest.is_none_or(|known| known.capacity.cpu_milli < kind.capacity.cpu_milli) {
                    largest = Some(kind);
                }
                let daemons = daemons_on(input.daemons, node, names);
                if !(0..DIMENSIONS).all(|d| asked[d] <= room[d] - daemons[d]) {
                    continue;
                }
                fits = true;
                if !offering.available || (input.backed_off)(&kind.key(offering)) {
                    continue;
                }
                has_capacity = true;
                affordable |= input.price_below.is_none_or(|price| offering.dollars_per_hour < price)
                    && budget.holds(&kind.capacity) > 0;
            }
        }
    }
    match (suits, largest) {
        (false, _) | (_, None) => Refusal::NoOffering,
        (true, Some(largest)) if !fits => Refusal::TooLarge { largest: largest.name.clone() },
        _ if !has_capacity => Refusal::NoCapacity,
        _ if !affordable && input.price_below.is_some() => Refusal::Price,
        _ => Refusal::Limits,
    }
}

/// Every offering that would do for one machine of a purchase, cheapest first.
pub(super) fn offerings_for(
    input: &Input<'_>,
    pool_index: usize,
    labels: &BTreeMap<String, String>,
    contents: &[(usize, u32)],
    asked: &MachineResources,
) -> Vec<(f64, OfferingKey)> {
    let pool = &input.pools[pool_index].0;
    let names: Vec<Arc<str>> = asked.extended.keys().map(|name| name.as_str().into()).collect();
    let names = &names[..names.len().min(EXTENDED)];
    let asked = machine_amounts(asked, names);
    let mut classes: Vec<PodRequirements> =
        contents.iter().map(|(demand, _)| signature_of(&input.demands[*demand].class)).collect();
    let mut known = base::map::HashSet::default();
    classes.retain(|class| known.insert(class.clone()));
    let mut found = Vec::new();
    for kind in input.catalogue {
        let room = machine_amounts(&kind.allocatable, names);
        if !(0..DIMENSIONS).all(|d| asked[d] <= room[d]) {
            continue;
        }
        let mut node = pool::hypothetical("hypothetical", kind, labels, &pool.taints);
        for offering in kind.offerings.iter().filter(|offering| pool.accepts(kind, offering)) {
            pool::set_offering(&mut node, offering);
            if classes.iter().all(|class| admits(class, &node)) {
                found.push((offering.dollars_per_hour, kind.key(offering)));
            }
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    found
}
