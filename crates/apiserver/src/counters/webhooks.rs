//! What admission webhooks cost and refuse. Names and labels are those of `k8s.io/apiserver/pkg/admission/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Histogram, describe};

const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Webhooks come and go under names that users choose: beyond this, new ones are not counted.
const SERIES_MAX: usize = 5000;

/// How a call of a webhook ended.
pub(crate) struct Called<'a> {
    /// The webhook's name.
    pub name: &'a str,
    /// `admit` or `validating`.
    pub sort: &'static str,
    /// `CREATE` and so on.
    pub operation: &'static str,
    /// HTTP status of the outcome.
    pub code: u16,
    /// The webhook could not be asked, or made no sense.
    pub failed: bool,
    /// The request went on all the same.
    pub passed: bool,
}

#[derive(Default)]
pub(crate) struct Webhooks(Mutex<Series>);

#[derive(Default)]
struct Series {
    durations: BTreeMap<String, Histogram>,
    /// By metric and label text.
    counts: BTreeMap<(&'static str, String), u64>,
}

const REQUESTS: &str = "apiserver_admission_webhook_request_total";
const REJECTIONS: &str = "apiserver_admission_webhook_rejection_count";
const FAIL_OPEN: &str = "apiserver_admission_webhook_fail_open_count";
const COUNTERS: [(&str, &str); 3] = [
    (
        REQUESTS,
        "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    ),
    (
        REJECTIONS,
        "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    ),
    (
        FAIL_OPEN,
        "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
    ),
];

impl Webhooks {
    /// One webhook was called.
    pub fn called(&self, call: &Called<'_>, took: Duration) {
        let Called { name, sort, operation, failed, passed, .. } = *call;
        let (code, rejected) = (call.code.min(600), !passed);
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels =
            format!("name={name:?},operation=\"{operation}\",rejected=\"{rejected}\",type=\"{sort}\"");
        if series.durations.len() >= SERIES_MAX && !series.durations.contains_key(&labels) {
            return;
        }
        let durations = series.durations.entry(labels).or_insert_with(|| Histogram::new(BOUNDS));
        durations.observe(took.as_secs_f64());
        let mut count = |metric, labels: String| *series.counts.entry((metric, labels)).or_default() += 1;
        count(
            REQUESTS,
            format!(
                "code=\"{code}\",name={name:?},operation=\"{operation}\",rejected=\"{rejected}\",type=\"{sort}\""
            ),
        );
        if rejected {
            let error = if failed { "calling_webhook_error" } else { "no_error" };
            count(
                REJECTIONS,
                format!(
                    "error_type=\"{error}\",name={name:?},operation=\"{operation}\",rejection_code=\"{code}\",type=\"{sort}\""
                ),
            );
        } else if failed {
            count(FAIL_OPEN, format!("name={name:?},type=\"{sort}\""));
        }
    }

    /// Nothing, where no webhook was called yet.
    pub fn render(&self, out: &mut String) {
        let series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if series.durations.is_empty() {
            return;
        }
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        describe(
            out,
            name,
            "histogram",
            "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
        );
        for (labels, durations) in &series.durations {
            durations.render(name, labels, out);
        }
        for (metric, help) in COUNTERS {
            describe(out, metric, "counter", help);
            for ((_, labels), count) in series.counts.iter().filter(|((of, _), _)| *of == metric) {
                let _ = writeln!(out, "{metric}{{{labels}}} {count}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_outcome() {
        let webhooks = Webhooks::default();
        let call = Called {
            name: "a.example.com",
            sort: "validating",
            operation: "CREATE",
            code: 403,
            failed: false,
            passed: false,
        };
        webhooks.called(&call, Duration::from_millis(30));
        webhooks.called(&Called { code: 500, failed: true, passed: true, ..call }, Duration::ZERO);
        let mut text = String::new();
        webhooks.render(&mut text);
        for line in [
            "apiserver_admission_webhook_rejection_count{error_type=\"no_error\",name=\"a.example.com\",operation=\"CREATE\",rejection_code=\"403\",type=\"validating\"} 1",
            "apiserver_admission_webhook_fail_open_count{name=\"a.example.com\",type=\"validating\"} 1",
            "apiserver_admission_webhook_admission_duration_seconds_bucket{name=\"a.example.com\",operation=\"CREATE\",rejected=\"true\",type=\"validating\",le=\"0.1\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
