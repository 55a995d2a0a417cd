//! What flow control counts, as Prometheus text. Names and labels are upstream's `util/flowcontrol/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::level::Refusal;
use super::{Flow, level};
use crate::counters::{Histogram, describe};

/// The counts of one flow schema at one level.
#[derive(Default)]
pub(super) struct Counts {
    waiting: AtomicU64,
    executing: AtomicU64,
    seats: AtomicU64,
    dispatched: AtomicU64,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    waits: Mutex<Option<Histogram>>,
    executions: Mutex<Option<Histogram>>,
}

/// By level and flow schema. They outlive changes of the configuration; schemas are objects, so that there is an
/// end to them.
#[derive(Default)]
pub(super) struct AllCounts(Mutex<BTreeMap<(String, String), Arc<Counts>>>);

impl AllCounts {
    pub fn of(&self, level: &str, schema: &str) -> Arc<Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((level.to_owned(), schema.to_owned())).or_default().clone()
    }
}

/// Seats of a request, counted while they are held.
pub(crate) struct Seats {
    permit: level::Permit,
    counts: Arc<Counts>,
    since: Instant,
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.counts.executing.fetch_sub(1, Relaxed);
        self.counts.seats.fetch_sub(self.permit.seats(), Relaxed);
        observe(&self.counts.executions, &EXECUTION_BOUNDS, self.since.elapsed().as_secs_f64());
    }
}

const WAIT_BOUNDS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];
const EXECUTION_BOUNDS: [f64; 14] =
    [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];

fn observe(into: &Mutex<Option<Histogram>>, bounds: &'static [f64], seconds: f64) {
    let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
    into.get_or_insert_with(|| Histogram::new(bounds)).observe(seconds);
}

/// A request that waits for its seats.
pub(super) struct Waiting<'a> {
    counts: &'a Arc<Counts>,
    since: Instant,
}

impl Counts {
    /// From now on a request waits.
    pub fn wait(self: &Arc<Self>) -> Waiting<'_> {
        self.waiting.fetch_add(1, Relaxed);
        Waiting { counts: self, since: Instant::now() }
    }
}

impl Waiting<'_> {
    /// The request has its seats.
    pub fn dispatched(self, permit: level::Permit) -> Seats {
        let counts = self.counts.clone();
        counts.dispatched.fetch_add(1, Relaxed);
        counts.executing.fetch_add(1, Relaxed);
        counts.seats.fetch_add(permit.seats(), Relaxed);
        observe(&counts.waits, &WAIT_BOUNDS, self.since.elapsed().as_secs_f64());
        Seats { permit, counts, since: Instant::now() }
    }

    /// The request is refused.
    pub fn rejected(self, why: Refusal) {
        let reason = match why {
            Refusal::ConcurrencyLimit => "concurrency-limit",
            Refusal::QueueFull => "queue-full",
            Refusal::TimeOut => "time-out",
        };
        let mut rejected = self.counts.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        *rejected.entry(reason).or_default() += 1;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Relaxed);
    }
}

impl Flow {
    /// Appends all figures.
    pub fn render(&self, out: &mut String) {
        self.render_levels(out);
        let all = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = |(level, schema): &(String, String)| {
            format!("flow_schema=\"{schema}\",priority_level=\"{level}\"")
        };
        type Figure = fn(&Counts) -> u64;
        let figures: [(&str, &str, &str, Figure); 4] = [
            (
                "apiserver_flowcontrol_current_executing_requests",
                "gauge",
                "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
                |counts| counts.executing.load(Relaxed),
            ),
            (
                "apiserver_flowcontrol_current_executing_seats",
                "gauge",
                "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
                |counts| counts.seats.load(Relaxed),
            ),
            (
                "apiserver_flowcontrol_current_inqueue_requests",
                "gauge",
                "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
                |counts| counts.waiting.load(Relaxed),
            ),
            (
                "apiserver_flowcontrol_dispatched_requests_total",
                "counter",
                "Number of requests executed by API Priority and Fairness subsystem",
                |counts| counts.dispatched.load(Relaxed),
            ),
        ];
        for (name, kind, help, figure) in figures {
            describe(out, name, kind, help);
            for (key, counts) in all.iter() {
                out.push_str(&format!("{name}{{{}}} {}\n", labels(key), figure(counts)));
            }
        }
        let name = "apiserver_flowcontrol_rejected_requests_total";
        describe(out, name, "counter", "Number of requests rejected by API Priority and Fairness subsystem");
        for (key, counts) in all.iter() {
            for (reason, count) in counts.rejected.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                out.push_str(&format!("{name}{{{},reason=\"{reason}\"}} {count}\n", labels(key)));
            }
        }
        type Times = fn(&Counts) -> &Mutex<Option<Histogram>>;
        let times: [(&str, &str, &str, Times); 2] = [
            (
                "apiserver_flowcontrol_request_wait_duration_seconds",
                "Length of time a request spent waiting in its queue",
                "execute=\"true\",",
                |counts| &counts.waits,
            ),
            (
                "apiserver_flowcontrol_request_execution_seconds",
                "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
                "",
                |counts| &counts.executions,
            ),
        ];
        for (name, help, more, histogram) in times {
            describe(out, name, "histogram", help);
            for (key, counts) in all.iter() {
                let histogram = histogram(counts).lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(histogram) = &*histogram {
                    histogram.render(name, &format!("{more}{}", labels(key)), out);
                }
            }
        }
    }

    fn render_levels(&self, out: &mut String) {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        type Figure = fn(&super::State) -> f64;
        let figures: [(&str, &str, Figure); 6] = [
            (
                "apiserver_flowcontrol_nominal_limit_seats",
                "Nominal number of execution seats configured for each priority level",
                |state| state.nominal,
            ),
            (
                "apiserver_flowcontrol_lower_limit_seats",
                "Configured lower bound on number of execution seats available to each priority level",
                |state| state.lower,
            ),
            (
                "apiserver_flowcontrol_upper_limit_seats",
                "Configured upper bound on number of execution seats available to each priority level",
                |state| state.upper,
            ),
            (
                "apiserver_flowcontrol_current_limit_seats",
                "current derived number of execution seats available to each priority level",
                |state| state.level.limit() as f64,
            ),
            (
                "apiserver_flowcontrol_demand_seats_high_watermark",
                "High watermark, over last adjustment period, of demand_seats",
                |state| state.watermark,
            ),
            ("apiserver_flowcontrol_demand_seats_smoothed", "Smoothed seat demands", |state| state.smoothed),
        ];
        for (name, help, figure) in figures {
            describe(out, name, "gauge", help);
            for (level, state) in levels.iter() {
                out.push_str(&format!("{name}{{priority_level=\"{level}\"}} {}\n", figure(state)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_schema() {
        let flow = Flow::new(10);
        let counts = flow.counts.of("exempt", "s");
        let level = Arc::new(level::Level::new("exempt", true));
        let permit = level.acquire(1, || 0, std::time::Duration::ZERO).await;
        let seats = counts.wait().dispatched(permit.ok().unwrap());
        counts.wait().rejected(Refusal::QueueFull);
        let mut text = String::new();
        flow.render(&mut text);
        drop(seats);
        for line in [
            "apiserver_flowcontrol_current_executing_requests{flow_schema=\"s\",priority_level=\"exempt\"} 1",
            "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"s\",priority_level=\"exempt\",reason=\"queue-full\"} 1",
            "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"catch-all\"} 10",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
