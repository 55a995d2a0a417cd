//! What the server counts about itself, as Prometheus text at `/metrics`. Names and labels are
//! upstream's, because dashboards and alerts ask for them.

mod access;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::call::Call;

pub(crate) use webhooks::Called;

/// Upper bounds of the duration histogram, in seconds.
const BOUNDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// Those of the same durations for service levels.
const SLI_BOUNDS: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Upper bounds of answers' sizes, in bytes.
const SIZE_BOUNDS: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Requests by what they were about. Only kinds, verbs and subresources that exist get here, so that
/// there is an end to them.
#[derive(Default)]
pub(crate) struct Counters {
    /// By label text, so that looking one up makes no strings.
    series: Mutex<BTreeMap<String, Series>>,
    reading: AtomicI64,
    mutating: AtomicI64,
    /// What admission webhooks were called for.
    pub webhooks: webhooks::Webhooks,
    /// Who was recognised and allowed.
    pub access: access::Access,
}

struct Series {
    /// By status code.
    answers: BTreeMap<u16, u64>,
    durations: Histogram,
    service_levels: Histogram,
    sizes: Histogram,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            answers: BTreeMap::new(),
            durations: Histogram::new(BOUNDS),
            service_levels: Histogram::new(SLI_BOUNDS),
            sizes: Histogram::new(SIZE_BOUNDS),
        }
    }
}

pub(crate) struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<u64>,
    count: u64,
    sum_seconds: f64,
}

/// A request that is being answered.
pub(crate) struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Counts a request until the answer is dropped. Watches are none of them.
    pub fn begin(&self, verb: &str) -> Option<InFlight<'_>> {
        let counter = match verb {
            "watch" => return None,
            "get" | "list" => &self.reading,
            _ => &self.mutating,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Some(InFlight(counter))
    }

    /// One request was answered. Watches have no duration worth a histogram.
    pub fn answered(&self, call: &Call, code: StatusCode, took: Option<Duration>, size: Option<u64>) {
        let labels = labels(call);
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = match series.get_mut(&labels) {
            Some(series) => series,
            None => series.entry(labels).or_default(),
        };
        *series.answers.entry(code.as_u16()).or_default() += 1;
        if let Some(took) = took {
            series.durations.observe(took.as_secs_f64());
            series.service_levels.observe(took.as_secs_f64());
        }
        if let Some(size) = size {
            series.sizes.observe(size as f64);
        }
    }

    /// Prometheus text format. `objects` are group, resource and number.
    pub fn render(&self, objects: &[(String, String, usize)]) -> String {
        let mut out = String::with_capacity(16 << 10);
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        describe(
            &mut out,
            "apiserver_request_total",
            "counter",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        );
        for (labels, series) in series.iter() {
            for (code, count) in &series.answers {
                let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{labels}}} {count}");
            }
        }
        let name = "apiserver_request_duration_seconds";
        describe(
            &mut out,
            name,
            "histogram",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        );
        for (labels, series) in series.iter().filter(|(_, series)| series.durations.count > 0) {
            series.durations.render(name, labels, &mut out);
        }
        let name = "apiserver_request_sli_duration_seconds";
        describe(
            &mut out,
            name,
            "histogram",
            "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
        );
        let real = || series.iter().filter(|(labels, _)| labels.contains("dry_run=\"\""));
        for (labels, series) in real().filter(|(_, series)| series.service_levels.count > 0) {
            series.service_levels.render(name, &without_dry_run(labels), &mut out);
        }
        let name = "apiserver_response_sizes";
        describe(
            &mut out,
            name,
            "histogram",
            "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
        );
        for (labels, series) in real().filter(|(_, series)| series.sizes.count > 0) {
            series.sizes.render(name, &without_dry_run(labels), &mut out);
        }
        drop(series);
        describe(
            &mut out,
            "apiserver_current_inflight_requests",
            "gauge",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        );
        for (kind, counter) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let count = counter.load(Ordering::Relaxed);
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}");
        }
        describe(
            &mut out,
            "apiserver_resource_objects",
            "gauge",
            "Number of stored objects at the time of last check split by kind.",
        );
        for (group, resource, count) in objects {
            let _ = writeln!(
                out,
                "apiserver_resource_objects{{group=\"{group}\",resource=\"{resource}\"}} {count}"
            );
        }
        describe(
            &mut out,
            "apiserver_storage_objects",
            "gauge",
            "Number of stored objects at the time of last check split by kind.",
        );
        for (group, resource, count) in objects {
            let dot = if group.is_empty() { "" } else { "." };
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}{dot}{group}\"}} {count}");
        }
        self.webhooks.render(&mut out);
        self.access.render(&mut out);
        access::build(&mut out);
        process(&mut out);
        out
    }
}

/// The labels of the metrics that do not tell dry runs apart; theirs are left out.
fn without_dry_run(labels: &str) -> String {
    labels.replacen("dry_run=\"\",", "", 1)
}

/// What upstream tells series apart by, the code aside, in alphabetical order.
fn labels(call: &Call) -> String {
    let info = &call.info;
    let verb = match info.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "patch" if crate::codec::content_type(&call.headers).starts_with("application/apply-patch") => {
            "APPLY"
        }
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        other => other,
    };
    let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    let dry_run = if call.query.get("dryRun").is_some() { "All" } else { "" };
    let kind = &call.kind;
    let mut labels = String::with_capacity(192);
    let _ = write!(
        labels,
        "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{}\",resource=\"{}\",scope=\"{scope}\",subresource=\"{}\",verb=\"{verb}\",version=\"{}\"",
        kind.group, kind.plural, info.subresource, kind.version
    );
    labels
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len()], count: 0, sum_seconds: 0.0 }
    }

    pub fn observe(&mut self, seconds: f64) {
        self.count += 1;
        self.sum_seconds += seconds;
        if let Some(bucket) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
    }

    pub fn render(&self, name: &str, labels: &str, out: &mut String) {
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.buckets) {
            below += count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.sum_seconds);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", self.count);
    }
}

pub(crate) fn describe(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// What the kernel knows about this process; nothing where there is no `/proc`.
fn process(out: &mut String) {
    /// Clock ticks of a second and bytes of a page: what Linux tells programs on all its platforms
    /// that we run on.
    const TICKS: f64 = 100.0;
    const PAGE_BYTES: u64 = 4096;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // The name in parentheses may hold spaces.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return };
    let fields: Vec<u64> = fields.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let booted: u64 = read("/proc/stat")
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .unwrap_or(0);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let started = booted as f64 + field(22) as f64 / TICKS;
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            (field(14) + field(15)) as f64 / TICKS,
        ),
        ("process_open_fds", "gauge", "Number of open file descriptors.", open as f64),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            (field(24) * PAGE_BYTES) as f64,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            started,
        ),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23) as f64),
    ];
    for (name, kind, help, figure) in figures {
        describe(out, name, kind, help);
        let _ = writeln!(out, "{name} {figure}");
    }
}

/// `/metrics/slis`: the outcome of the health checks.
pub(crate) fn slis() -> String {
    let mut out = String::new();
    describe(
        &mut out,
        "kubernetes_healthcheck",
        "gauge",
        "This metric records the result of a single healthcheck.",
    );
    for kind in ["healthz", "livez", "readyz"] {
        for check in crate::health::checks(kind) {
            let _ = writeln!(out, "kubernetes_healthcheck{{name=\"{check}\",type=\"{kind}\"}} 1");
        }
    }
    out
}
