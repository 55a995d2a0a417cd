//! What the viewer sees while the demo runs: what happened, above one line of how things stand.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::world::View;

/// Without a terminal, the standing line is printed this often.
const PLAIN_EVERY: Duration = Duration::from_secs(3);

/// The screen.
pub struct Screen {
    line: ProgressBar,
    is_terminal: bool,
    last_plain: std::cell::Cell<Option<tokio::time::Instant>>,
}

impl Screen {
    /// An empty screen.
    pub fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let line = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            line.set_style(style);
        }
        Self { line, is_terminal, last_plain: std::cell::Cell::new(None) }
    }

    /// Prints a line that stays.
    pub fn say(&self, text: &str) {
        if self.is_terminal {
            self.line.println(text);
        } else {
            println!("{text}");
        }
    }

    /// Shows how things stand.
    pub fn show(&self, elapsed: Duration, view: &View) {
        let text = format!(
            "{:>5.1} s │ {:>5.0} rps, {:>3.0} % served │ cpu {:>4.0}m │ pods {:>3} ready, {:>3} {}, {:>3} wanted │ {}",
            elapsed.as_secs_f64(),
            view.rps,
            view.served * 100.0,
            view.cpu_milli,
            view.ready,
            if view.requests.is_some() { view.pods.saturating_sub(view.ready) } else { view.pending },
            if view.requests.is_some() { "starting" } else { "pending" },
            view.wanted,
            match &view.requests {
                None => format!("nodes {} │ ${:.3}/h", view.nodes_text(), view.dollars_per_hour),
                Some(requests) => format!("answers in {}", requests.latency_text()),
            }
        );
        if self.is_terminal {
            self.line.set_message(text);
            self.line.tick();
            return;
        }
        let now = tokio::time::Instant::now();
        if self.last_plain.get().is_none_or(|last| now.duration_since(last) >= PLAIN_EVERY) {
            self.last_plain.set(Some(now));
            println!("{text}");
        }
    }

    /// Removes the standing line.
    pub fn finish(&self) {
        self.line.finish_and_clear();
    }
}
