//! What the server counts about itself, as Prometheus text at `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the duration histogram, in seconds.
const BOUNDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Requests by verb, resource and code.
#[derive(Default)]
pub(crate) struct Counters {
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    durations: Mutex<BTreeMap<(String, String), Histogram>>,
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Counters {
    /// One request was answered. Watches have no duration worth a histogram.
    pub fn request(&self, verb: &str, resource: &str, code: u16, took: Option<Duration>) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((verb.to_owned(), resource.to_owned(), code)).or_default() += 1;
        drop(requests);
        if let Some(took) = took {
            let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
            let histogram = durations.entry((verb.to_owned(), resource.to_owned())).or_default();
            histogram.count += 1;
            histogram.sum_seconds += took.as_secs_f64();
            for (bucket, _) in
                histogram.buckets.iter_mut().zip(BOUNDS).filter(|(_, bound)| took.as_secs_f64() <= *bound)
            {
                *bucket += 1;
            }
        }
    }

    /// Prometheus text format.
    pub fn render(&self, objects: &[(String, usize)]) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total Requests by verb, resource and code.\n# TYPE apiserver_request_total counter\n",
        );
        for ((verb, resource, code), count) in
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let _ = writeln!(
                out,
                "apiserver_request_total{{verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"}} {count}"
            );
        }
        out.push_str("# HELP apiserver_request_duration_seconds Time to answer.\n# TYPE apiserver_request_duration_seconds histogram\n");
        for ((verb, resource), histogram) in
            self.durations.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let name = "apiserver_request_duration_seconds";
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\"");
            for (bound, count) in BOUNDS.iter().zip(histogram.buckets) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum_seconds);
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", histogram.count);
        }
        out.push_str("# HELP apiserver_resource_objects Objects in the watch cache.\n# TYPE apiserver_resource_objects gauge\n");
        for (resource, count) in objects {
            let _ = writeln!(out, "apiserver_resource_objects{{resource=\"{resource}\"}} {count}");
        }
        out
    }
}
