//! The group `batch`.

use serde_json::Value;

use super::core::fill_empty_map;
use super::fill::Fill;
use super::pod;

/// Job.
pub fn job(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() {
        fill_empty_map(object.filled("metadata"), "labels", &labels);
    }
    let spec = object.filled("spec");
    if spec.lacks("completions") && spec.lacks("parallelism") {
        spec.fill_nil("completions", 1);
    }
    spec.fill_nil("parallelism", 1);
    // With a limit per index, the limit of the whole job is out of the way.
    let backoff_limit = if spec.lacks("backoffLimitPerIndex") { 6 } else { i32::MAX };
    spec.fill_nil("backoffLimit", backoff_limit);
    spec.fill_nil("completionMode", "NonIndexed");
    spec.fill_nil("suspend", false);
    let replacement = if spec.lacks("podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    spec.fill_nil("podReplacementPolicy", replacement);
    spec.fill_nil("manualSelector", false);
    pod_failure_policy(spec);
    pod::template(spec.filled("template"));
}

fn pod_failure_policy(spec: &mut Value) {
    for rule in spec.field("podFailurePolicy").into_iter().flat_map(|policy| policy.items("rules")) {
        rule.items("onPodConditions").for_each(|pattern| pattern.fill("status", "True"));
    }
}

/// CronJob. Its job template gets only the defaults of the pod template, as upstream.
pub fn cron_job(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill("concurrencyPolicy", "Allow");
    spec.fill_nil("suspend", false);
    spec.fill_nil("successfulJobsHistoryLimit", 3);
    spec.fill_nil("failedJobsHistoryLimit", 1);
    let job = spec.filled("jobTemplate").filled("spec");
    pod_failure_policy(job);
    pod::template(job.filled("template"));
}
