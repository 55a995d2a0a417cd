//! The status of a Job, whose parts must fit one another.
//!
//! Most rules hold only for what an update changes, so that a status that was bad before can still be
//! written.

use super::super::{metadata, rules};
use super::{indexes_count, interval, intervals};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// Whether the status has that condition.
pub(super) fn is(status: &Node, kind: &str) -> bool {
    has(status, kind, "True")
}

fn has(status: &Node, kind: &str, value: &str) -> bool {
    status.at("conditions").items().any(|c| c.at("type").str() == kind && c.at("status").str() == value)
}

/// A changed status of a Job.
pub fn job_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let change = Change { spec: new.at("spec"), now: new.at("status"), was: old.at("status") };
    rules::nonnegative_fields(
        &change.now,
        &["active", "succeeded", "failed", "ready", "terminating"],
        &mut errs,
    );
    uncounted(&change.now.at("uncountedTerminatedPods"), &mut errs);
    change.ends(&mut errs);
    change.indexes(&mut errs);
    change.counts(&mut errs);
    change.success(&mut errs);
    change.transitions(&mut errs);
    errs
}

struct Change<'a> {
    spec: Node<'a>,
    now: Node<'a>,
    was: Node<'a>,
}

impl<'a> Change<'a> {
    /// The field, if it is not what it was.
    fn changed(&self, field: &'a str) -> bool {
        self.now.at(field).value() != self.was.at(field).value()
    }

    fn turned(&self, kind: &str) -> bool {
        is(&self.now, kind) != is(&self.was, kind)
    }

    fn finished(&self) -> bool {
        is(&self.now, "Complete") || is(&self.now, "Failed")
    }

    fn just_finished(&self) -> bool {
        self.finished() != (is(&self.was, "Complete") || is(&self.was, "Failed"))
    }

    fn conditions(&self, detail: &str, errs: &mut ErrorList) {
        errs.push(Error { value: None, ..self.now.at("conditions").invalid(detail) });
    }

    fn is_indexed(&self) -> bool {
        self.spec.at("completionMode").str() == "Indexed"
    }

    /// What being complete or failed asks for.
    fn ends(&self, errs: &mut ErrorList) {
        let (complete, failed) = (is(&self.now, "Complete"), is(&self.now, "Failed"));
        let (completed, targeted) = (self.turned("Complete"), self.turned("FailureTarget"));
        if (completed || self.turned("Failed")) && complete && failed {
            self.conditions("cannot set Complete=True and Failed=true conditions", errs);
        }
        if (completed || targeted) && complete && is(&self.now, "FailureTarget") {
            self.conditions("cannot set Complete=True and FailureTarget=true conditions", errs);
        }
        let (start, end) = (self.now.at("startTime"), self.now.at("completionTime"));
        if completed || self.changed("completionTime") {
            if end.is_set() && !complete {
                errs.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
            }
            if !end.is_set() && complete {
                errs.push(end.required("completionTime is required for Complete jobs"));
            }
        }
        let timed = self.changed("startTime") || self.changed("completionTime");
        if timed && start.is_set() && end.is_set() && end.str() < start.str() {
            errs.push(end.invalid("must be equal to or after `startTime`"));
        }
        if (self.turned("Failed") || self.changed("failedIndexes"))
            && failed
            && !is(&self.now, "FailureTarget")
        {
            let text = "cannot set Failed=True condition without the FailureTarget=true condition";
            self.conditions(text, errs);
        }
        if (completed || self.turned("SuccessCriteriaMet"))
            && complete
            && !is(&self.now, "SuccessCriteriaMet")
        {
            let text = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            self.conditions(text, errs);
        }
        let (active, ended) = (self.now.at("active"), self.just_finished());
        if (ended || self.changed("active")) && self.finished() && active.i64() > 0 {
            errs.push(active.invalid("active>0 is invalid for finished job"));
        }
        let never_runs = self.spec.at("suspend").bool() && self.spec.at("completions").opt_i64() == Some(0);
        if (ended || self.changed("startTime")) && !never_runs && self.finished() && !start.is_set() {
            errs.push(start.required("startTime is required for finished job"));
        }
        let uncounted = self.now.at("uncountedTerminatedPods");
        let any = ["failed", "succeeded"].iter().any(|list| !uncounted.at(list).is_empty());
        if (ended || self.changed("uncountedTerminatedPods")) && self.finished() && any {
            errs.push(uncounted.invalid("must be empty for finished job"));
        }
    }

    /// The indexes that succeeded and those that failed.
    fn indexes(&self, errs: &mut ErrorList) {
        let (done, failed) = (self.now.at("completedIndexes"), self.now.at("failedIndexes"));
        let (new_done, new_failed) =
            (done.str() != self.was.at("completedIndexes").str(), self.changed("failedIndexes"));
        let completions = self.spec.at("completions").opt_i64();
        let per_index = self.spec.at("backoffLimitPerIndex").is_set();
        if let (true, Some(completions)) = (new_done, completions)
            && let Err(problem) = indexes_count(done.str(), completions)
        {
            errs.push(done.invalid_str(format!("error parsing completedIndexes: {problem}")));
        }
        if let (true, Some(completions)) = (new_failed && per_index, completions)
            && let Err(problem) = indexes_count(failed.str(), completions)
        {
            errs.push(failed.invalid_str(format!("error parsing failedIndexes: {problem}")));
        }
        if new_done && !done.is_empty() && !self.is_indexed() {
            let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errs.push(done.invalid_str(text));
        }
        if new_failed && failed.is_set() && !per_index {
            let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errs.push(failed.invalid_str(text));
        }
        if let (true, Some(completions)) = (new_done || new_failed, completions)
            && let Some(index) = overlap(done.str(), failed.str(), completions)
        {
            let text = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errs.push(failed.invalid_str(text));
        }
    }

    fn counts(&self, errs: &mut ErrorList) {
        let (ready, terminating) = (self.now.at("ready"), self.now.at("terminating"));
        let changed = self.just_finished() || self.changed("terminating");
        if changed && self.finished() && terminating.i64() > 0 {
            errs.push(terminating.invalid("terminating>0 is invalid for finished job"));
        }
        let changed = self.changed("ready") || self.now.at("active").i64() != self.was.at("active").i64();
        if changed && ready.is_set() && ready.i64() > self.now.at("active").i64() {
            errs.push(ready.invalid("cannot set more ready pods than active"));
        }
    }

    fn success(&self, errs: &mut ErrorList) {
        let met = is(&self.now, "SuccessCriteriaMet");
        for other in ["Failed", "FailureTarget"] {
            if met && is(&self.now, other) {
                let shown = if other == "Failed" { "Failed=true" } else { "FailureTarget=true" };
                self.conditions(&format!("cannot set SuccessCriteriaMet=True and {shown} conditions"), errs);
            }
        }
        if self.spec.at("successPolicy").is_set() && !met && is(&self.now, "Complete") {
            let text = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            self.conditions(text, errs);
        }
    }

    /// What cannot be taken back.
    fn transitions(&self, errs: &mut ErrorList) {
        for kind in ["Failed", "Complete", "FailureTarget"] {
            if is(&self.was, kind) && !is(&self.now, kind) {
                self.conditions(&format!("cannot disable the terminal {kind}=True condition"), errs);
            }
        }
        let elastic =
            self.is_indexed() && self.spec.at("completions").value() == self.spec.at("parallelism").value();
        for (counter, fixed) in [("failed", true), ("succeeded", !elastic)] {
            let count = self.now.at(counter);
            if fixed && count.i64() < self.was.at(counter).i64() {
                errs.push(count.invalid_i64(format!("cannot decrease the {counter} counter")));
            }
        }
        let (end, ended) = (self.now.at("completionTime"), self.was.at("completionTime"));
        if end.is_set() && ended.is_set() && end.value() != ended.value() {
            errs.push(end.invalid("field is immutable"));
        }
        let resuming = has(&self.was, "Suspended", "True") && has(&self.now, "Suspended", "False");
        let started = self.was.at("startTime").is_set() && self.changed("startTime");
        if started && !resuming && !self.spec.at("suspend").bool() {
            errs.push(self.now.at("startTime").invalid("field is immutable for unsuspended job once set"));
        }
        let (was_met, met) = (is(&self.was, "SuccessCriteriaMet"), is(&self.now, "SuccessCriteriaMet"));
        if was_met && !met {
            self.conditions("cannot disable the SuccessCriteriaMet=True condition", errs);
        }
        if is(&self.was, "Complete") && !was_met && met {
            let text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            self.conditions(text, errs);
        }
    }
}

/// The first index that both lists name; intervals that are none are passed over.
fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let valid = |text| intervals(text).filter_map(move |text| interval(text, completions).ok());
    let (mut ones, mut others) = (valid(one).peekable(), valid(other).peekable());
    while let (Some((from, to)), Some((other_from, other_to))) = (ones.peek(), others.peek()) {
        if from <= other_to && other_from <= to {
            return Some(*from.max(other_from));
        }
        if from <= other_from {
            ones.next();
        } else {
            others.next();
        }
    }
    None
}

fn uncounted(pods: &Node, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for uid in ["succeeded", "failed"].iter().flat_map(|list| pods.at(list).items()) {
        if uid.is_empty() {
            errs.push(uid.invalid_str("must not be empty"));
        } else if !seen.insert(uid.str()) {
            errs.push(uid.duplicate());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(spec: Value, status: Value, old: Value) -> Vec<String> {
        let job = |status: Value| json!({"metadata": {}, "spec": spec, "status": status});
        let (new, old) = (job(status), job(old));
        job_status_update(&Node::root(&new), &Node::root(&old)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_changed_is_looked_at() {
        let indexed = json!({"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1});
        let overlapping = json!({"completedIndexes": "0-2,4", "failedIndexes": "3-4"});
        assert_eq!(
            problems(indexed.clone(), overlapping.clone(), json!({})),
            [
                "status.failedIndexes: Invalid value: \"3-4\": failedIndexes and completedIndexes overlap at index: 4"
            ]
        );
        assert!(problems(indexed, overlapping.clone(), overlapping).is_empty());
        assert_eq!(
            problems(
                json!({"completions": 1}),
                json!({"active": 1, "ready": 2, "completedIndexes": "1-0"}),
                json!({})
            ),
            [
                "status.completedIndexes: Invalid value: \"1-0\": error parsing completedIndexes: too large index: \"1\"",
                "status.completedIndexes: Invalid value: \"1-0\": cannot set non-empty completedIndexes when \
                 non-indexed completion mode",
                "status.ready: Invalid value: 2: cannot set more ready pods than active",
            ]
        );
    }
}
