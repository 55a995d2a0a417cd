//! Events, in the shape of either of their groups. Messages have the names of the core group's
//! fields, as upstream's.

use super::metadata::{immutable, immutable_text};
use super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// An event written through the core group, where little is asked of those without a time.
pub fn core_event(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    of_any_group(object, "reportingComponent", &mut errs);
    errs
}

/// A changed event of the core group, by what it is now.
pub fn core_event_update(new: &Node, _old: &Node) -> ErrorList {
    core_event(new)
}

fn of_any_group(object: &Node, controller: &'static str, errs: &mut ErrorList) {
    let involved = object.at("involvedObject");
    let regarding = object.at("regarding").reported_at(involved.path());
    let reference = if regarding.is_set() { regarding } else { involved };
    let (of_event, of_object) = (object.at("metadata").at("namespace").str(), reference.at("namespace"));
    let timed = object.at("eventTime").is_set();
    // Events about cluster-scoped objects live in the namespace "default".
    let fits = match (of_object.is_empty(), timed) {
        (true, false) => ["", "default"].contains(&of_event),
        (true, true) => ["default", "kube-system"].contains(&of_event),
        (false, false) => of_event == of_object.str(),
        (false, true) => true,
    };
    if !fits {
        errs.push(of_object.invalid_str("does not match event.namespace"));
    }
    if timed {
        let controller = object.at(controller);
        rules::not_empty(&controller, errs);
        rules::formatted(&controller, format::label_key, errs);
        limited(object, "reportingInstance", "reportingInstance", 128, true, errs);
        limited(object, "action", "action", 128, true, errs);
        limited(object, "reason", "reason", 128, true, errs);
        let text = if object.at("note").is_set() { "note" } else { "message" };
        limited(object, text, "message", 1024, false, errs);
    }
    let namespace = object.at("metadata").at("namespace");
    let at = namespace.reported_at(object.at("namespace").path());
    rules::formatted(&at, format::dns1123_subdomain, errs);
}

/// An event of `events.k8s.io`.
pub fn event(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    of_any_group(object, "reportingController", &mut errs);
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    series(object, &mut errs);
    rules::not_empty(&object.at("eventTime"), &mut errs);
    let kind = object.at("type");
    if !["Normal", "Warning"].contains(&kind.str()) {
        errs.push(kind.invalid_as("", format!("has invalid value: {}", kind.str())));
    }
    for (field, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        let zero =
            |v: &serde_json::Value| v.as_i64() == Some(0) || v.as_object().is_some_and(|o| o.is_empty());
        if !object.at(field).value().is_none_or(zero) {
            errs.push(Error::invalid(object.at(shown).path(), "", "needs to be unset"));
        }
    }
    errs
}

fn series(object: &Node, errs: &mut ErrorList) {
    let Some(series) = object.at("series").opt() else { return };
    if series.at("count").i64() < 2 {
        errs.push(series.at("count").invalid_as("", "should be at least 2"));
    }
    rules::not_empty(&series.at("lastObservedTime"), errs);
}

fn limited(
    object: &Node,
    field: &'static str,
    shown: &'static str,
    max: usize,
    needed: bool,
    errs: &mut ErrorList,
) {
    let node = object.at(field).reported_at(object.at(shown).path());
    if needed && !rules::not_empty(&node, errs) {
        return;
    }
    if node.len() > max {
        errs.push(node.invalid_as("", format!("can have at most {max} characters")));
    }
}

/// A changed event of `events.k8s.io`: only its series and metadata change.
pub fn event_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    of_any_group(new, "reportingController", &mut errs);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    if new.at("series").value() != old.at("series").value() {
        series(new, &mut errs);
    }
    let fields = [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        // Upstream compares it twice.
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, shown) in fields {
        let now = new.at(field).reported_at(new.at(shown).path());
        match field {
            "deprecatedCount" => {
                if now.i64() != old.at(field).i64() {
                    errs.push(now.invalid_i64("field is immutable"));
                }
            }
            "regarding" | "related" | "deprecatedSource" => immutable(&now, &old.at(field), &mut errs),
            time if time.ends_with("Time") || time.ends_with("Timestamp") => {
                immutable(&now, &old.at(field), &mut errs);
            }
            _ => immutable_text(&now, &old.at(field), &mut errs),
        }
    }
    errs
}
