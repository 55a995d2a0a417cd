//! The table at the end.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::story::Told;
use super::world::View;

/// Prints when each step happened, and what it cost.
pub fn print(told: &Told) {
    let mut steps = table(&["step", "after", "what"]);
    let up = told.up.iter().map(|step| ("traffic ×10", step));
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

    let mut costs = table(&["", "requests/s", "pods", "nodes", "$/h"]);
    for (when, view) in [("before", &told.before), ("peak", &told.peak), ("after", &told.after)] {
        costs.add_row(row(when, view));
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

fn row(when: &str, view: &View) -> [String; 5] {
    [
        when.to_owned(),
        format!("{:.0}", view.rps),
        view.ready.to_string(),
        view.nodes_text(),
        format!("{:.3}", view.dollars_per_hour),
    ]
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
