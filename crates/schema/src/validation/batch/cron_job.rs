//! CronJobs.

use super::super::{cron, format, metadata, rules};
use super::job_spec;
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// CronJob.
pub fn cron_job(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    let meta = object.at("metadata");
    metadata::validate(&meta, format::name_is_subdomain, &mut errs);
    cron_job_spec(&object.at("spec"), None, &mut errs);
    // The controller appends a time to the names of its jobs.
    if meta.at("name").len() > 52 {
        errs.push(meta.at("name").invalid_str("must be no more than 52 characters"));
    }
    errs
}

/// A changed CronJob.
pub fn cron_job_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    cron_job_spec(&new.at("spec"), Some(&old.at("spec")), &mut errs);
    errs
}

fn cron_job_spec(spec: &Node, old: Option<&Node>, errs: &mut ErrorList) {
    let (schedule, zone) = (spec.at("schedule"), spec.at("timeZone"));
    if rules::not_empty(&schedule, errs) {
        if let Err(problem) = cron::check(schedule.str()) {
            errs.push(schedule.invalid_str(problem));
        }
        let zoned_before = old.is_some_and(|old| old.at("schedule").str().contains("TZ"));
        let zoned = schedule.str().contains("TZ");
        if zoned && zoned_before && zone.is_set() {
            errs.push(schedule.invalid_str("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
        } else if zoned && !zoned_before {
            errs.push(
                schedule.invalid_str("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
            );
        }
    }
    rules::nonnegative(&spec.at("startingDeadlineSeconds"), errs);
    if old.is_none_or(|old| old.at("timeZone").value() != zone.value()) {
        time_zone(&zone, errs);
    }
    rules::required_one_of(&spec.at("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], errs);
    let job = spec.at("jobTemplate").at("spec");
    job_spec(&job, errs);
    if job.at("selector").is_set() {
        errs.push(job.at("selector").invalid("`selector` will be auto-generated"));
    }
    if job.at("manualSelector").bool() {
        let manual = job.at("manualSelector");
        errs.push(Error::not_supported(manual.path(), manual.to_value(), &["nil", "false"]));
    }
    rules::nonnegative_fields(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], errs);
}

fn time_zone(zone: &Node, errs: &mut ErrorList) {
    let Some(name) = zone.opt_str() else { return };
    if name.is_empty() {
        errs.push(zone.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let part = |part: &str| {
        let characters =
            part.bytes().all(|b| b.is_ascii_alphabetic() || b.is_ascii_digit() || b".-_+".contains(&b));
        characters && (1..=14).contains(&part.len()) && !part.starts_with('-') && part != "." && part != ".."
    };
    if !name.split('/').all(part) {
        errs.push(zone.invalid(format!("unknown time zone {name}")));
        return;
    }
    if name.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errs.push(zone.invalid(detail));
    }
    // Upstream's names are file names, so that case counts.
    let known = name == "Local"
        || jiff::tz::TimeZone::get(name).is_ok_and(|found| found.iana_name().is_none_or(|own| own == name));
    if !known {
        errs.push(zone.invalid(format!("unknown time zone {name}")));
    }
}
