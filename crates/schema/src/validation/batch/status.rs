//! The status of a Job, whose parts must fit one another.

use super::super::{metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// A changed status of a Job.
pub fn job_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let (status, before) = (new.at("status"), old.at("status"));
    rules::nonnegative_fields(&status, &["active", "succeeded", "failed", "ready", "terminating"], &mut errs);
    uncounted(&status.at("uncountedTerminatedPods"), &mut errs);
    let is = |status: &Node, kind: &str| {
        let mut conditions = status.at("conditions").items();
        conditions.any(|c| c.at("type").str() == kind && c.at("status").str() == "True")
    };
    let conditions = |detail: &str| Error { value: None, ..status.at("conditions").invalid(detail) };
    let (complete, failed) = (is(&status, "Complete"), is(&status, "Failed"));
    let finished = complete || failed;
    if complete && failed {
        errs.push(conditions("cannot set Complete=True and Failed=true conditions"));
    }
    if complete && is(&status, "FailureTarget") {
        errs.push(conditions("cannot set Complete=True and FailureTarget=true conditions"));
    }
    let (start, end) = (status.at("startTime"), status.at("completionTime"));
    if end.is_set() && !complete {
        errs.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
    }
    if !end.is_set() && complete {
        errs.push(end.required("completionTime is required for Complete jobs"));
    }
    if start.is_set() && end.is_set() && end.str() < start.str() {
        errs.push(end.invalid("must be equal to or after `startTime`"));
    }
    if failed && !is(&status, "FailureTarget") {
        errs.push(conditions("cannot set Failed=True condition without the FailureTarget=true condition"));
    }
    if complete && !is(&status, "SuccessCriteriaMet") {
        errs.push(conditions(
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ));
    }
    if finished && status.at("active").i64() > 0 {
        errs.push(status.at("active").invalid("active>0 is invalid for finished job"));
    }
    if finished && !start.is_set() {
        errs.push(start.required("startTime is required for finished job"));
    }
    if finished && status.at("terminating").i64() > 0 {
        errs.push(status.at("terminating").invalid("terminating>0 is invalid for finished job"));
    }
    if status.at("ready").i64() > status.at("active").i64() {
        errs.push(status.at("ready").invalid("cannot set more ready pods than active"));
    }
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(&before, kind) && !is(&status, kind) {
            errs.push(conditions(&format!("cannot disable the terminal {kind}=True condition")));
        }
    }
    for counter in ["failed", "succeeded"] {
        if status.at(counter).i64() < before.at(counter).i64() {
            errs.push(status.at(counter).invalid_i64(format!("cannot decrease the {counter} counter")));
        }
    }
    if end.is_set()
        && before.at("completionTime").is_set()
        && end.value() != before.at("completionTime").value()
    {
        errs.push(end.invalid("field is immutable"));
    }
    let started = before.at("startTime");
    if started.is_set() && started.value() != start.value() && !new.at("spec").at("suspend").bool() {
        errs.push(start.invalid("field is immutable for unsuspended job once set"));
    }
    errs
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
