//! From prices to whole machines with whole pods.
//!
//! By duality no content of a machine is worth more than its rent, so contents that are worth all
//! of it are optimal. Machines are bought in the order of worth per rent, each kind as often as its
//! content is there. When only ill-fitting rests remain, prices are computed anew for them, and at
//! the end every machine is exchanged for the cheapest one that holds its content.

use super::dual::{self, Column, Prices};
use super::shapes::{Amounts, DIMENSIONS, Group, Shape};
use crate::pool::Limits;

/// Below this worth per rent the prices are computed anew for what is left.
const EFFICIENCY: f64 = 0.975;
/// How often that is done.
const REPRICINGS_MAX: usize = 6;
/// Ways of following the relaxation: the least worth per rent of a machine, and whether room that its
/// mix leaves goes only to pods of the same kinds.
const FOLLOWINGS: [(f64, bool); 3] = [(0.95, false), (0.98, false), (0.9, true)];
/// With more groups than this only the first way is tried.
const GROUPS_FEW: usize = 128;
/// Single types that are tried for everything at once, the most promising first.
const ONE_TYPE_MAX: usize = 6;
/// All single types are tried when pods × shapes are not more than this.
const EXHAUSTIVE: u64 = 20_000;

/// Some equal machines with equal contents.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    /// Index of the shape.
    pub shape: usize,
    /// How many.
    pub machines: u32,
    /// Groups and numbers of pods in each.
    pub contents: Vec<(usize, u32)>,
}

impl Batch {
    /// Pods per machine.
    pub fn pods(&self) -> u64 {
        self.contents.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

/// The result.
pub(super) struct Packed {
    /// What to buy.
    pub batches: Vec<Batch>,
    /// What everything would cost on one shape alone: shape, price per hour, machines.
    pub one_type: Vec<(usize, f64, u32)>,
}

/// Packs the groups into machines, within the budgets of their pools.
pub(super) fn pack(groups: &[Group], shapes: &[Shape], prices: &Prices, budgets: &[Limits]) -> Packed {
    let mut batches = Vec::new();
    if groups.len() <= GROUPS_FEW {
        let mut packer = Packer::new(groups, shapes, prices.clone(), budgets.to_vec());
        packer.run();
        batches = packer.batches;
        shrink(&mut batches, groups, shapes, budgets);
    }
    // The same, but beginning with the whole machines of the relaxation: how strictly to follow it is
    // a matter of taste, so that several ways are tried.
    let ways = if groups.len() <= GROUPS_FEW { FOLLOWINGS.len() } else { 1 };
    for (worth_least, own_only) in FOLLOWINGS.into_iter().take(ways) {
        let mut packer = Packer::new(groups, shapes, prices.clone(), budgets.to_vec());
        packer.follow(worth_least, own_only);
        packer.run();
        let mut followed = packer.batches;
        shrink(&mut followed, groups, shapes, budgets);
        let (more, same) = (pods_in(&followed) > pods_in(&batches), pods_in(&followed) == pods_in(&batches));
        if more || same && cost_of(&followed, shapes) < cost_of(&batches, shapes) {
            batches = followed;
        }
    }
    let cost = cost_of(&batches, shapes);
    let placed = pods_in(&batches);
    let mut one_type = Vec::new();
    for shape in promising(groups, shapes, prices) {
        let alone = on_one_type(groups, shapes, prices, shape, budgets);
        if pods_in(&alone) < groups.iter().map(|group| u64::from(group.count)).sum() {
            continue;
        }
        let (alone_cost, machines) =
            (cost_of(&alone, shapes), alone.iter().map(|batch| batch.machines).sum());
        one_type.push((shape, alone_cost, machines, alone));
    }
    one_type.sort_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((_, alone_cost, _, alone)) = one_type.first()
        && (*alone_cost < cost || placed < pods_in(alone))
    {
        batches = alone.clone();
        shrink(&mut batches, groups, shapes, budgets);
    }
    let one_type = one_type.into_iter().map(|(shape, cost, machines, _)| (shape, cost, machines)).collect();
    Packed { batches, one_type }
}

fn cost_of(batches: &[Batch], shapes: &[Shape]) -> f64 {
    batches.iter().map(|batch| f64::from(batch.machines) * shapes[batch.shape].dollars_per_hour).sum()
}

fn pods_in(batches: &[Batch]) -> u64 {
    batches.iter().map(|batch| u64::from(batch.machines) * batch.pods()).sum()
}

/// A content that a shape could get.
#[derive(Clone, Debug, Default)]
struct Content {
    groups: Vec<(usize, u32)>,
    worth: f64,
}

struct Packer<'a> {
    groups: &'a [Group],
    shapes: &'a [Shape],
    prices: Prices,
    /// Pods of each group that have no machine yet.
    left: Vec<u32>,
    budgets: Vec<Limits>,
    /// For each shape the groups it takes, those that fit its prices best first.
    orders: Vec<Vec<usize>>,
    /// The best content of each shape, as long as there is enough left for it.
    contents: Vec<Option<Content>>,
    batches: Vec<Batch>,
}

impl<'a> Packer<'a> {
    fn new(groups: &'a [Group], shapes: &'a [Shape], prices: Prices, budgets: Vec<Limits>) -> Self {
        let orders = orders(groups, shapes, &prices);
        Self {
            left: groups.iter().map(|group| group.count).collect(),
            contents: vec![None; shapes.len()],
            batches: Vec::new(),
            groups,
            shapes,
            prices,
            budgets,
            orders,
        }
    }

    fn run(&mut self) {
        let mut repricings = 0;
        while self.left.iter().any(|left| *left > 0) {
            let Some((shape, efficiency)) = self.best() else { return };
            if efficiency < EFFICIENCY && repricings < REPRICINGS_MAX {
                repricings += 1;
                self.prices = dual::solve_rest(self.groups, self.shapes, &self.left);
                self.orders = orders(self.groups, self.shapes, &self.prices);
                self.contents.fill(None);
                continue;
            }
            self.buy(shape);
        }
    }

    /// Buys the whole machines of the relaxation, as far as whole pods make up their mixes; then those
    /// of the relaxation of what is left, as long as there are any.
    fn follow(&mut self, worth_least: f64, own_only: bool) {
        for _ in 0..REPRICINGS_MAX {
            for column in std::mem::take(&mut self.prices.columns) {
                let mut wanted = column.machines.floor().min(f64::from(u32::MAX)) as u32;
                while wanted > 0 {
                    let groups = self.mixed(&column, own_only);
                    let worth: f64 = groups
                        .iter()
                        .map(|(group, count)| self.prices.pods[*group] * f64::from(*count))
                        .sum();
                    if worth < worth_least * self.shapes[column.shape].dollars_per_hour {
                        break;
                    }
                    let before = self.batches.len();
                    self.contents[column.shape] = Some(Content { groups, worth });
                    wanted -= self.buy_up_to(column.shape, wanted);
                    if self.batches.len() == before {
                        break;
                    }
                }
            }
            self.prices = dual::solve_rest(self.groups, self.shapes, &self.left);
            self.orders = orders(self.groups, self.shapes, &self.prices);
            self.contents.fill(None);
            if self.left.iter().all(|left| *left == 0) {
                return;
            }
        }
    }

    /// Whole pods in the proportions of the column's mix; what room remains goes to what fits best.
    fn mixed(&self, column: &Column, own_only: bool) -> Vec<(usize, u32)> {
        let shape = &self.shapes[column.shape];
        let (mut free, mut contents) = (shape.room, Vec::new());
        for (members, share) in &column.mix {
            let mut budget: Amounts = std::array::from_fn(|d| share[d].ceil() as i64 + 1);
            let mut members = members.clone();
            members.sort_by(|a, b| {
                let size = |group: &usize| size(&self.groups[*group].requests, &shape.room);
                size(b).total_cmp(&size(a))
            });
            for group in members {
                let request = &self.groups[group].requests;
                let room = std::array::from_fn(|d| budget[d].min(free[d]));
                let mut count = times(request, &room).min(self.left[group]);
                if count == 0 || !ports_free(self.groups, &contents, group) {
                    continue;
                }
                if self.groups[group].ports.is_some() {
                    count = 1;
                }
                take(&mut free, request, count);
                take(&mut budget, request, count);
                add(&mut contents, group, count);
            }
        }
        if own_only {
            let own: Vec<usize> =
                column.mix.iter().flat_map(|(members, _)| members.iter().copied()).collect();
            return fill_greedily(self.groups, shape, &own, &self.left, &contents);
        }
        fill_greedily(self.groups, shape, &self.orders[column.shape], &self.left, &contents)
    }

    /// The shape whose content is worth most per rent; among about equals the larger one.
    fn best(&mut self) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64)> = None;
        for shape in 0..self.shapes.len() {
            let rent = self.shapes[shape].dollars_per_hour;
            if self.budgets[self.shapes[shape].pool].holds(&self.shapes[shape].capacity) < 1 {
                continue;
            }
            let is_current = self.contents[shape].as_ref().is_some_and(|content| self.is_available(content));
            if !is_current {
                self.contents[shape] = Some(self.fill(shape));
            }
            let Some(content) = self.contents[shape].as_ref().filter(|content| !content.groups.is_empty())
            else {
                continue;
            };
            let efficiency = content.worth / rent;
            let better = best.is_none_or(|(known, known_efficiency)| {
                let about_equal = (efficiency - known_efficiency).abs() < 0.001;
                if about_equal {
                    rent > self.shapes[known].dollars_per_hour
                } else {
                    efficiency > known_efficiency
                }
            });
            if better {
                best = Some((shape, efficiency));
            }
        }
        best
    }

    fn is_available(&self, content: &Content) -> bool {
        content.groups.iter().all(|(group, count)| self.left[*group] >= *count)
    }

    /// The better of two contents: one that balances the resources, one that takes what fits best.
    fn fill(&self, shape: usize) -> Content {
        let balanced = self.balanced(shape);
        let greedy = fill_greedily(self.groups, &self.shapes[shape], &self.orders[shape], &self.left, &[]);
        let worth = |groups: &[(usize, u32)]| -> f64 {
            groups.iter().map(|(group, count)| self.prices.pods[*group] * f64::from(*count)).sum()
        };
        let (balanced_worth, greedy_worth) = (worth(&balanced), worth(&greedy));
        if balanced_worth > greedy_worth {
            Content { groups: balanced, worth: balanced_worth }
        } else {
            Content { groups: greedy, worth: greedy_worth }
        }
    }

    /// Adds pods one group at a time such that the resources run out together: at each step the
    /// group, among those worth their resources here, whose requests point most in the direction of
    /// what is free.
    fn balanced(&self, shape: usize) -> Vec<(usize, u32)> {
        let machine = &self.shapes[shape];
        let mut free = machine.room;
        let mut contents: Vec<(usize, u32)> = Vec::new();
        let order = &self.orders[shape];
        let tight = |group: usize| self.prices.pods[group] >= 0.97 * self.rent(shape, group);
        let candidates: Vec<usize> =
            order.iter().copied().filter(|group| self.left[*group] > 0 && tight(*group)).take(48).collect();
        if candidates.len() < 2 {
            return fill_greedily(self.groups, machine, order, &self.left, &contents);
        }
        for _ in 0..64 {
            let next = candidates
                .iter()
                .copied()
                .filter(|group| {
                    let taken =
                        contents.iter().find(|(known, _)| known == group).map_or(0, |(_, count)| *count);
                    self.left[*group] > taken
                        && fits(&self.groups[*group].requests, &free)
                        && ports_free(self.groups, &contents, *group)
                })
                .max_by(|a, b| {
                    alignment(&self.groups[*a].requests, &free, &machine.room).total_cmp(&alignment(
                        &self.groups[*b].requests,
                        &free,
                        &machine.room,
                    ))
                });
            let Some(group) = next else { break };
            // An eighth of what would fit keeps the balance in few steps.
            let request = &self.groups[group].requests;
            let taken = contents.iter().find(|(known, _)| *known == group).map_or(0, |(_, count)| *count);
            let room = times(request, &free).min(self.left[group] - taken);
            let count = if self.groups[group].ports.is_some() { 1 } else { (room / 8).max(1) };
            take(&mut free, request, count);
            add(&mut contents, group, count);
        }
        fill_greedily(self.groups, machine, order, &self.left, &contents)
    }

    /// What the resources for one pod of the group cost in the shape.
    fn rent(&self, shape: usize, group: usize) -> f64 {
        rent(&self.prices.resources[shape], &self.groups[group].requests)
    }

    fn buy(&mut self, shape: usize) {
        self.buy_up_to(shape, u32::MAX);
    }

    /// Buys the shape with its present content as often as that is there and affordable, but not more
    /// often than `wanted`. Returns how often.
    fn buy_up_to(&mut self, shape: usize, wanted: u32) -> u32 {
        let content = self.contents[shape].take().unwrap_or_default();
        let machine = &self.shapes[shape];
        let times = content.groups.iter().map(|(group, count)| self.left[*group] / count).min().unwrap_or(0);
        let affordable = self.budgets[machine.pool].holds(&machine.capacity);
        let machines = times.min(u32::try_from(affordable).unwrap_or(u32::MAX)).min(wanted);
        if machines == 0 {
            return 0;
        }
        for (group, count) in &content.groups {
            self.left[*group] -= count * machines;
        }
        self.budgets[machine.pool].charge(&machine.capacity, i64::from(machines));
        self.contents[shape] = Some(content.clone());
        self.batches.push(Batch { shape, machines, contents: content.groups });
        machines
    }
}

fn rent(prices: &[f64; DIMENSIONS], requests: &Amounts) -> f64 {
    (0..DIMENSIONS).map(|d| prices[d] * requests[d] as f64).sum()
}

/// For each shape the groups it takes: those worth their resources there first, large ones first.
fn orders(groups: &[Group], shapes: &[Shape], prices: &Prices) -> Vec<Vec<usize>> {
    shapes
        .iter()
        .zip(&prices.resources)
        .map(|(shape, resources)| {
            let mut order: Vec<(i64, i64, usize)> = groups
                .iter()
                .enumerate()
                .filter(|(_, group)| shape.takes(group))
                .map(|(index, group)| {
                    let fit = prices.pods[index] / rent(resources, &group.requests).max(1e-12);
                    let band = (fit.min(1.0) * 50.0).round() as i64;
                    (-band, -(size(&group.requests, &shape.room) * 1e6) as i64, index)
                })
                .collect();
            order.sort_unstable();
            order.into_iter().map(|(_, _, index)| index).collect()
        })
        .collect()
}

/// The largest share of any resource of the room.
fn size(requests: &Amounts, room: &Amounts) -> f64 {
    (0..DIMENSIONS)
        .filter(|d| requests[*d] > 0)
        .map(|d| requests[d] as f64 / room[d].max(1) as f64)
        .fold(0.0, f64::max)
}

/// The cosine between requests and what is free, both as shares of the room.
fn alignment(requests: &Amounts, free: &Amounts, room: &Amounts) -> f64 {
    let (mut product, mut length) = (0.0, 0.0);
    for d in 0..DIMENSIONS {
        let whole = room[d].max(1) as f64;
        let (request, free) = (requests[d] as f64 / whole, free[d] as f64 / whole);
        product += request * free;
        length += request * request;
    }
    product / length.sqrt().max(1e-12)
}

fn fits(requests: &Amounts, free: &Amounts) -> bool {
    (0..DIMENSIONS).all(|d| requests[d] <= free[d])
}

/// How many such pods fit.
fn times(requests: &Amounts, free: &Amounts) -> u32 {
    let times =
        (0..DIMENSIONS).filter(|d| requests[*d] > 0).map(|d| free[d] / requests[d]).min().unwrap_or(0);
    u32::try_from(times.max(0)).unwrap_or(u32::MAX)
}

fn take(free: &mut Amounts, requests: &Amounts, count: u32) {
    for d in 0..DIMENSIONS {
        free[d] -= requests[d] * i64::from(count);
    }
}

fn add(contents: &mut Vec<(usize, u32)>, group: usize, count: u32) {
    match contents.iter_mut().find(|(known, _)| *known == group) {
        Some((_, known)) => *known += count,
        None => contents.push((group, count)),
    }
}

/// Whether no host port of the group is taken by the contents.
fn ports_free(groups: &[Group], contents: &[(usize, u32)], group: usize) -> bool {
    let Some(class) = &groups[group].ports else { return true };
    let taken = contents.iter().filter_map(|(other, _)| groups[*other].ports.as_ref());
    taken
        .flat_map(|other| &other.host_ports)
        .all(|port| class.host_ports.iter().all(|own| !own.conflicts(port)))
}

/// Fills a machine in the given order on top of what it has.
fn fill_greedily(
    groups: &[Group],
    shape: &Shape,
    order: &[usize],
    left: &[u32],
    start: &[(usize, u32)],
) -> Vec<(usize, u32)> {
    let mut contents = start.to_vec();
    let mut free = shape.room;
    for (group, count) in start {
        take(&mut free, &groups[*group].requests, *count);
    }
    for &index in order {
        let group = &groups[index];
        let taken = start.iter().find(|(known, _)| *known == index).map_or(0, |(_, count)| *count);
        let mut count = times(&group.requests, &free).min(left[index] - taken);
        if count == 0 || !ports_free(groups, &contents, index) {
            continue;
        }
        if group.ports.is_some() {
            count = 1;
        }
        take(&mut free, &group.requests, count);
        add(&mut contents, index, count);
    }
    contents
}

/// Exchanges each machine for the cheapest one of its pool that holds its content.
fn shrink(batches: &mut [Batch], groups: &[Group], shapes: &[Shape], budgets: &[Limits]) {
    for batch in batches {
        let mut asked = [0; DIMENSIONS];
        for (group, count) in &batch.contents {
            for (sum, request) in asked.iter_mut().zip(groups[*group].requests) {
                *sum += request * i64::from(*count);
            }
        }
        let signatures =
            batch.contents.iter().fold(0u128, |bits, (group, _)| bits | groups[*group].signature);
        let (pool, rent) = (shapes[batch.shape].pool, shapes[batch.shape].dollars_per_hour);
        let current = &shapes[batch.shape].capacity;
        let cheapest = shapes
            .iter()
            .enumerate()
            .filter(|(_, shape)| {
                shape.pool == pool
                    && shape.dollars_per_hour < rent
                    && signatures & !shape.admits == 0
                    && fits(&asked, &shape.room)
                    // Within limits only a smaller machine surely has a place.
                    && (budgets[pool].is_none()
                        || shape.capacity.cpu_milli <= current.cpu_milli
                            && shape.capacity.memory_bytes <= current.memory_bytes)
            })
            .min_by(|a, b| a.1.dollars_per_hour.total_cmp(&b.1.dollars_per_hour));
        if let Some((index, _)) = cheapest {
            batch.shape = index;
        }
    }
}

/// Shapes on which everything could run, the most promising first.
fn promising(groups: &[Group], shapes: &[Shape], prices: &Prices) -> Vec<usize> {
    let pods: u64 = groups.iter().map(|group| u64::from(group.count)).sum();
    let mut found: Vec<(f64, usize)> = shapes
        .iter()
        .enumerate()
        .filter(|(_, shape)| groups.iter().all(|group| shape.takes(group)))
        .map(|(index, shape)| {
            let machines = (0..DIMENSIONS)
                .map(|d| {
                    let asked: i64 =
                        groups.iter().map(|group| group.requests[d] * i64::from(group.count)).sum();
                    asked as f64 / shape.room[d].max(1) as f64
                })
                .fold(1.0, f64::max);
            (machines * shape.dollars_per_hour / prices.bound.max(1e-9), index)
        })
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let limit = if pods * shapes.len() as u64 <= EXHAUSTIVE { usize::MAX } else { ONE_TYPE_MAX };
    found.into_iter().take(limit).map(|(_, index)| index).collect()
}

/// Everything on machines of one shape, large pods first.
fn on_one_type(
    groups: &[Group],
    shapes: &[Shape],
    prices: &Prices,
    shape: usize,
    budgets: &[Limits],
) -> Vec<Batch> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| {
        let room = &shapes[shape].room;
        size(&groups[*b].requests, room).total_cmp(&size(&groups[*a].requests, room))
    });
    let mut packer = Packer {
        groups,
        shapes,
        prices: prices.clone(),
        left: groups.iter().map(|group| group.count).collect(),
        budgets: budgets.to_vec(),
        orders: Vec::new(),
        contents: vec![None; shapes.len()],
        batches: Vec::new(),
    };
    while packer.left.iter().any(|left| *left > 0)
        && packer.budgets[shapes[shape].pool].holds(&shapes[shape].capacity) > 0
    {
        let groups = fill_greedily(groups, &shapes[shape], &order, &packer.left, &[]);
        if groups.is_empty() {
            break;
        }
        packer.contents[shape] = Some(Content { groups, worth: 0.0 });
        packer.buy(shape);
    }
    packer.batches
}
