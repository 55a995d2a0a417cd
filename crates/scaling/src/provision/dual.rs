//! The linear relaxation: pods may be cut in pieces, machines rented by fractions.
//!
//! Solved by column generation. A column is one machine with a mix of pods; the master problem
//! picks columns that cover all pods at the least price, its prices for pods tell each machine which
//! mix to offer next (a linear knapsack), and so on until no mix is worth more than its machine.
//! Since pods may be cut, only their proportions matter: groups of about the same proportions that
//! the same shapes take are one row of the master, which keeps it small.
//!
//! The prices that come out are exact for every group, so that the bound they give holds whatever
//! was lumped together: any assignment of resource prices by which each machine costs no more than
//! its rent is a feasible dual solution.

use std::collections::BTreeMap;

use super::shapes::{DIMENSIONS, Group, Shape};

pub(super) type Vector = [f64; DIMENSIONS];

/// Rows of the master problem; beyond that, proportions are told apart more coarsely.
const ROWS_MAX: usize = 96;
/// The master is left when its price is within this share of the bound.
const GAP: f64 = 0.002;
/// Rounds of column generation.
const ROUNDS_MAX: usize = 200;

/// What the relaxation says.
#[derive(Clone, Debug)]
pub(super) struct Prices {
    /// What one pod of each group is worth in US dollars per hour.
    pub pods: Vec<f64>,
    /// What one unit of each resource of each shape costs.
    pub resources: Vec<Vector>,
    /// No plan costs less, in US dollars per hour.
    pub bound: f64,
    /// The machines of the optimum, in fractions.
    pub columns: Vec<Column>,
}

/// Some machines of the optimum with one mix of pods.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Index of the shape.
    pub shape: usize,
    /// How many machines.
    pub machines: f64,
    /// For each part of the mix the groups that it may come from, and what of each resource of one
    /// machine it takes.
    pub mix: Vec<(Vec<usize>, Vector)>,
}

/// Solves the relaxation for the groups' counts.
pub(super) fn solve(groups: &[Group], shapes: &[Shape]) -> Prices {
    let counts: Vec<u32> = groups.iter().map(|group| group.count).collect();
    solve_rest(groups, shapes, &counts)
}

/// Solves the relaxation for what is left of each group.
pub(super) fn solve_rest(groups: &[Group], shapes: &[Shape], counts: &[u32]) -> Prices {
    let scale = scale(shapes);
    let scaled =
        |amounts: &[i64; DIMENSIONS]| -> Vector { std::array::from_fn(|d| amounts[d] as f64 / scale[d]) };
    let rooms: Vec<Vector> = shapes.iter().map(|shape| scaled(&shape.room)).collect();
    let requests: Vec<Vector> = groups.iter().map(|group| scaled(&group.requests)).collect();
    let rows = rows(groups, shapes, counts, &requests);
    let mut master = Master::new(&rows, shapes, &rooms);
    let mut resources = vec![[0.0; DIMENSIONS]; shapes.len()];
    for _ in 0..ROUNDS_MAX {
        let worth = master.prices();
        let mut columns = Vec::new();
        let mut best_ratio: f64 = 0.0;
        for (index, shape) in shapes.iter().enumerate() {
            let (mix, prices) = knapsack(&worth, &rows, index, &rooms[index]);
            let value: f64 = mix.iter().map(|(row, amount)| worth[*row] * amount).sum();
            let ratio = value / shape.dollars_per_hour;
            resources[index] = prices;
            best_ratio = best_ratio.max(ratio);
            if ratio > 1.0 + 1e-7 {
                columns.push((ratio, index, mix));
            }
        }
        // Worth scaled down by the best ratio is feasible in the dual, hence a bound.
        if columns.is_empty() || best_ratio <= 1.0 + GAP {
            break;
        }
        // Among about equals the largest machine: whole pods fill it best.
        columns.sort_by_key(|(ratio, shape, _)| {
            let rent = shapes[*shape].dollars_per_hour;
            std::cmp::Reverse(((ratio * 1e4) as i64, (rent * 1e6) as i64))
        });
        for (_, shape, mix) in columns.into_iter().take(8) {
            master.enter(shape, shapes[shape].dollars_per_hour, &mix);
        }
    }
    let columns = master.columns(&rows, &scale);
    Prices { columns, ..prices(groups, shapes, counts, &scale, &rooms, &requests, resources) }
}

/// Exact prices of pods from feasible prices of resources.
fn prices(
    groups: &[Group],
    shapes: &[Shape],
    counts: &[u32],
    scale: &Vector,
    rooms: &[Vector],
    requests: &[Vector],
    mut resources: Vec<Vector>,
) -> Prices {
    for (index, shape) in shapes.iter().enumerate() {
        let rent = dot(&resources[index], &rooms[index]);
        if rent > 0.0 {
            // Neither dearer than the machine nor cheaper: the bound is best where it is tight.
            let factor = shape.dollars_per_hour / rent;
            resources[index].iter_mut().for_each(|price| *price *= factor);
        } else {
            let used = (0..DIMENSIONS).filter(|d| rooms[index][*d] > 0.0).count().max(1) as f64;
            for d in (0..DIMENSIONS).filter(|d| rooms[index][*d] > 0.0) {
                resources[index][d] = shape.dollars_per_hour / used / rooms[index][d];
            }
        }
    }
    let pods: Vec<f64> = groups
        .iter()
        .zip(requests)
        .map(|(group, requests)| {
            shapes
                .iter()
                .zip(&resources)
                .filter(|(shape, _)| shape.takes(group))
                .map(|(_, prices)| dot(prices, requests))
                .fold(f64::INFINITY, f64::min)
        })
        .map(|worth| if worth.is_finite() { worth } else { 0.0 })
        .collect();
    let bound = pods.iter().zip(counts).map(|(worth, count)| worth * f64::from(*count)).sum();
    for prices in &mut resources {
        for d in 0..DIMENSIONS {
            prices[d] /= scale[d];
        }
    }
    Prices { pods, resources, bound, columns: Vec::new() }
}

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn scale(shapes: &[Shape]) -> Vector {
    std::array::from_fn(|d| shapes.iter().map(|shape| shape.room[d]).max().unwrap_or(0).max(1) as f64)
}

/// Groups of about the same proportions that the same shapes take, added up.
struct Row {
    /// The groups with pods left.
    groups: Vec<usize>,
    demand: Vector,
    /// Which shapes take it.
    takers: Vec<bool>,
}

/// What groups of one row have in common: their takers and their proportions.
type Alike<'a> = (&'a [bool], [i64; DIMENSIONS]);

/// Shares of rows that one machine holds.
type Mix = Vec<(usize, f64)>;

fn rows(groups: &[Group], shapes: &[Shape], counts: &[u32], requests: &[Vector]) -> Vec<Row> {
    let takers: Vec<Vec<bool>> =
        groups.iter().map(|group| shapes.iter().map(|shape| shape.takes(group)).collect()).collect();
    let mut steps = 16.0;
    loop {
        let mut rows: BTreeMap<Alike<'_>, (Vec<usize>, Vector)> = BTreeMap::new();
        for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let sum: f64 = requests[index].iter().sum();
            let proportions = std::array::from_fn(|d| {
                let share = requests[index][d] / sum.max(1e-12);
                if share < 1e-6 { i64::MIN } else { (share.log2() * steps).round() as i64 }
            });
            let (members, demand) = rows.entry((&takers[index], proportions)).or_default();
            members.push(index);
            for d in 0..DIMENSIONS {
                demand[d] += requests[index][d] * f64::from(*count);
            }
        }
        if rows.len() <= ROWS_MAX || steps < 0.2 {
            return rows
                .into_iter()
                .map(|((takers, _), (groups, demand))| Row { groups, demand, takers: takers.to_vec() })
                .collect();
        }
        steps /= 2.0;
    }
}

/// The master problem: min price·x over columns, each row covered once. Revised simplex with a
/// dense inverse of the basis.
struct Master {
    inverse: Vec<Vec<f64>>,
    /// How much of each basic column is used.
    level: Vec<f64>,
    /// Price of each basic column.
    cost: Vec<f64>,
    /// Shape and mix of each basic column; none for those that the master began with.
    content: Vec<Option<(usize, Mix)>>,
}

impl Master {
    /// Starts with one column per row: the machine that serves the row alone at the least price.
    fn new(rows: &[Row], shapes: &[Shape], rooms: &[Vector]) -> Self {
        let size = rows.len();
        let mut master = Self {
            inverse: vec![vec![0.0; size]; size],
            level: vec![1.0; size],
            cost: Vec::with_capacity(size),
            content: vec![None; size],
        };
        for (index, row) in rows.iter().enumerate() {
            let alone = shapes
                .iter()
                .zip(rooms)
                .zip(&row.takers)
                .filter(|(_, takes)| **takes)
                .map(|((shape, room), _)| {
                    let machines = (0..DIMENSIONS)
                        .filter(|d| row.demand[*d] > 0.0)
                        .map(|d| row.demand[d] / room[d].max(1e-12))
                        .fold(0.0, f64::max);
                    machines * shape.dollars_per_hour
                })
                .fold(f64::INFINITY, f64::min);
            // The column covers the whole row, so that it is used once at the price of all of it.
            master.inverse[index][index] = 1.0;
            master.cost.push(if alone.is_finite() { alone } else { 0.0 });
        }
        master
    }

    /// What covering each row is worth.
    fn prices(&self) -> Vec<f64> {
        let size = self.cost.len();
        let mut prices = vec![0.0; size];
        for (cost, row) in self.cost.iter().zip(&self.inverse) {
            for (price, entry) in prices.iter_mut().zip(row) {
                *price += cost * entry;
            }
        }
        prices.iter_mut().for_each(|price| *price = price.max(0.0));
        prices
    }

    /// Brings a column into the basis if that still lowers the price.
    fn enter(&mut self, shape: usize, price: f64, column: &[(usize, f64)]) {
        let size = self.cost.len();
        let mut direction = vec![0.0; size];
        for (value, row) in direction.iter_mut().zip(&self.inverse) {
            *value = column.iter().map(|(index, amount)| row[*index] * amount).sum();
        }
        let worth: f64 = self.cost.iter().zip(&direction).map(|(cost, d)| cost * d).sum();
        if worth <= price * (1.0 + 1e-9) {
            return;
        }
        let leaving = (0..size)
            .filter(|index| direction[*index] > 1e-9)
            .min_by(|a, b| (self.level[*a] / direction[*a]).total_cmp(&(self.level[*b] / direction[*b])));
        let Some(leaving) = leaving else { return };
        let pivot = direction[leaving];
        let step = self.level[leaving] / pivot;
        let pivot_row: Vec<f64> = self.inverse[leaving].iter().map(|entry| entry / pivot).collect();
        for index in (0..size).filter(|index| *index != leaving) {
            let factor = direction[index];
            if factor != 0.0 {
                self.level[index] = (self.level[index] - factor * step).max(0.0);
                for (entry, pivot) in self.inverse[index].iter_mut().zip(&pivot_row) {
                    *entry -= factor * pivot;
                }
            }
        }
        self.inverse[leaving] = pivot_row;
        self.level[leaving] = step;
        self.cost[leaving] = price;
        self.content[leaving] = Some((shape, column.to_vec()));
    }

    /// The machines in use, those used most first.
    fn columns(&self, rows: &[Row], scale: &Vector) -> Vec<Column> {
        let mut columns: Vec<Column> = self
            .content
            .iter()
            .zip(&self.level)
            .filter_map(|(content, level)| {
                let (shape, mix) = content.as_ref()?;
                let part = |(row, share): &(usize, f64)| {
                    let row = &rows[*row];
                    (row.groups.clone(), std::array::from_fn(|d| row.demand[d] * share * scale[d]))
                };
                Some(Column { shape: *shape, machines: *level, mix: mix.iter().map(part).collect() })
            })
            .collect();
        columns.sort_by(|a, b| b.machines.total_cmp(&a.machines));
        columns
    }
}

/// The most valuable mix of rows (in shares of their whole demand) that one machine holds, and the
/// prices of its resources. A primal simplex with one row per resource.
fn knapsack(worth: &[f64], rows: &[Row], shape: usize, room: &Vector) -> (Mix, Vector) {
    // Basic variables: a row of the master, or the slack of the resource.
    let mut basis: [Option<usize>; DIMENSIONS] = [None; DIMENSIONS];
    let mut inverse = [[0.0; DIMENSIONS]; DIMENSIONS];
    (0..DIMENSIONS).for_each(|d| inverse[d][d] = 1.0);
    let mut level = *room;
    let mut prices = [0.0; DIMENSIONS];
    for _ in 0..64 {
        prices = [0.0; DIMENSIONS];
        for (b, row) in basis.iter().enumerate() {
            if let Some(row) = row {
                for d in 0..DIMENSIONS {
                    prices[d] += worth[*row] * inverse[b][d];
                }
            }
        }
        let entering_row = rows
            .iter()
            .enumerate()
            .filter(|(index, row)| row.takers[shape] && worth[*index] > 0.0)
            .map(|(index, row)| (index, 1.0 - dot(&prices, &row.demand) / worth[index]))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, gain)| *gain > 1e-7);
        let entering_slack = (0..DIMENSIONS).find(|d| prices[*d] < -1e-9);
        let (variable, column) = match (entering_row, entering_slack) {
            (_, Some(slack)) => (None, std::array::from_fn(|d| if d == slack { 1.0 } else { 0.0 })),
            (Some((row, _)), None) => (Some(row), rows[row].demand),
            (None, None) => break,
        };
        let direction: Vector = std::array::from_fn(|b| dot(&inverse[b], &column));
        let leaving = (0..DIMENSIONS)
            .filter(|b| direction[*b] > 1e-12)
            .min_by(|a, b| (level[*a] / direction[*a]).total_cmp(&(level[*b] / direction[*b])));
        let Some(leaving) = leaving else { break };
        let pivot = direction[leaving];
        let step = (level[leaving] / pivot).max(0.0);
        let pivot_row: Vector = std::array::from_fn(|d| inverse[leaving][d] / pivot);
        for b in (0..DIMENSIONS).filter(|b| *b != leaving) {
            level[b] = (level[b] - direction[b] * step).max(0.0);
            for d in 0..DIMENSIONS {
                inverse[b][d] -= direction[b] * pivot_row[d];
            }
        }
        inverse[leaving] = pivot_row;
        level[leaving] = step;
        basis[leaving] = variable;
    }
    prices.iter_mut().for_each(|price| *price = price.max(0.0));
    let mix = basis
        .iter()
        .zip(level)
        .filter_map(|(variable, level)| variable.filter(|_| level > 0.0).map(|row| (row, level)))
        .collect();
    (mix, prices)
}
