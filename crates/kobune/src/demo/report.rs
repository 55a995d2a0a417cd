//! The table at the end.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::load::Requests;
use super::story::Told;
use super::world::View;

/// Prints when each step happened, and what it cost.
pub fn print(told: &Told) {
    let mut steps = table(&["step", "after", "what"]);
    let rises = format!("traffic ×{}", told.peak.rps / told.before.rps);
    let up = told.up.iter().map(|step| (rises.as_str(), step));
    let down = told.down.iter().map(|step| ("traffic back", step));
    let mut phase = "";
    for (name, (what, after, detail)) in up.chain(down) {
        if phase != name {
            phase = name;
            steps.add_row([name, "0.00 s", ""]);
        }
        steps.add_row([format!("  {what}"), format!("{:.2} s", after.as_secs_f64()), detail.clone()]);
    }
    right_align(&mut steps, &[1]);
    println!("\n{steps}\n");

    match &told.after.requests {
        None => print_costs(told),
        Some(requests) => print_requests(told, requests),
    }
}

fn print_costs(told: &Told) {
    let mut costs = table(&["", "requests/s", "pods", "nodes", "$/h"]);
    for (when, view) in moments(told) {
        costs.add_row([
            when.to_owned(),
            format!("{:.0}", view.rps),
            view.ready.to_string(),
            view.nodes_text(),
            format!("{:.3}", view.dollars_per_hour),
        ]);
    }
    right_align(&mut costs, &[1, 2, 4]);
    println!("{costs}\n");
    println!(
        "At most {} nodes and ${:.3}/h at once, {} pods without a node; {:.1} s in all.",
        told.peak_nodes,
        told.peak_dollars,
        told.peak_pending,
        told.took.as_secs_f64()
    );
}

fn print_requests(told: &Told, total: &Requests) {
    let mut table = table(&["", "requests/s", "served", "answered in", "CPU per pod", "pods"]);
    for (when, view) in moments(told) {
        table.add_row([
            when.to_owned(),
            format!("{:.0}", view.rps),
            format!("{:.0} %", view.served * 100.0),
            view.requests.map(|requests| requests.latency_text()).unwrap_or_default(),
            format!("{:.0}m", view.cpu_milli),
            view.ready.to_string(),
        ]);
    }
    right_align(&mut table, &[1, 2, 3, 4, 5]);
    println!("{table}\n");
    let failed = |view: &View| view.requests.map_or(0, |requests| requests.failed);
    println!(
        "{} requests answered; {} turned away or failed, {} of them while there were too few pods; {:.1} s in all.",
        total.answered,
        total.failed,
        failed(&told.peak) - failed(&told.before),
        told.took.as_secs_f64()
    );
}

fn moments(told: &Told) -> [(&'static str, &View); 3] {
    [("before", &told.before), ("peak", &told.peak), ("after", &told.after)]
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

fn right_align(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
