//! `/debug/api_priority_and_fairness/…`: the state of levels and queues, in upstream's tables.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use http::{Response, StatusCode};

use super::Flow;
use crate::body::Body;
use crate::service::plain;

const PREFIX: &str = "/debug/api_priority_and_fairness/";

impl Flow {
    /// Answers below `/debug/api_priority_and_fairness/`; `None` where there is nothing.
    pub fn respond(&self, path: &str) -> Option<Response<Body>> {
        let rows = match path.strip_prefix(PREFIX)? {
            "dump_priority_levels" => self.dump_levels(),
            "dump_queues" => self.dump_queues(),
            _ => return None,
        };
        Some(plain(StatusCode::OK, table(&rows)))
    }

    fn dump_levels(&self) -> Vec<Vec<String>> {
        let header = "PriorityLevelName ActiveQueues IsIdle IsQuiescing WaitingRequests ExecutingRequests \
            DispatchedRequests RejectedRequests TimedoutRequests CancelledRequests";
        let mut rows = vec![header.split_whitespace().map(str::to_owned).collect()];
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, state) in levels.iter() {
            let (level, counts) = (&state.level, &state.level.counts);
            let active = level.dump_queues().iter().filter(|(waiting, ..)| *waiting > 0).count();
            rows.push(vec![
                name.clone(),
                active.to_string(),
                level.is_idle().to_string(),
                "false".to_owned(),
                level.waiting().to_string(),
                counts.executing.load(Relaxed).to_string(),
                counts.dispatched.load(Relaxed).to_string(),
                counts.rejected.load(Relaxed).to_string(),
                counts.timed_out.load(Relaxed).to_string(),
                counts.cancelled.load(Relaxed).to_string(),
            ]);
        }
        rows
    }

    fn dump_queues(&self) -> Vec<Vec<String>> {
        let header = "PriorityLevelName Index PendingRequests SeatsSum NextDispatchR CurrentCL";
        let mut rows = vec![header.split_whitespace().map(str::to_owned).collect()];
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, state) in levels.iter() {
            for (index, (waiting, seats, start)) in state.level.dump_queues().into_iter().enumerate() {
                rows.push(vec![
                    name.clone(),
                    index.to_string(),
                    waiting.to_string(),
                    seats.to_string(),
                    format!("{start:.8}ss"),
                    state.level.limit().to_string(),
                ]);
            }
        }
        rows
    }
}

/// Cells end with a comma and are padded to the widest of their column, at least eight wide.
fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.len() + 2).max().unwrap_or(0).max(8)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{:<width$}", format!("{cell},"));
        }
        text.push('\n');
    }
    text
}
