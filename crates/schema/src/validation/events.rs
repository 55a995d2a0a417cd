//! Events, in the shape of either of their groups. Messages have the names of the core group's
//! fields, as upstream's.

use super::metadata::immutable;
use super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// An event written through the core group, where little is asked.
pub fn core_event(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    involved_namespace(object, &mut errs);
    errs
}

/// A changed event of the core group.
pub fn core_event_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = core_event(new);
    metadata::validate_update_common(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs
}

fn involved_namespace(object: &Node, errs: &mut ErrorList) {
    let involved = object.at("involvedObject");
    let regarding = object.at("regarding").reported_at(involved.path());
    let reference = if regarding.is_set() { regarding } else { involved };
    let (of_event, of_object) = (object.at("metadata").at("namespace").str(), reference.at("namespace"));
    // Events about cluster-scoped objects live in the namespace "default".
    let allowed = if of_object.is_empty() { ["", "default"] } else { [of_object.str(), "kube-system"] };
    if !allowed.contains(&of_event) {
        errs.push(of_object.invalid_str("does not match event.namespace"));
    }
}

/// An event of `events.k8s.io`.
pub fn event(object: &Node) -> ErrorList {
    let mut errs = core_event(object);
    rules::not_empty(&object.at("eventTime"), &mut errs);
    let controller = object.at("reportingController");
    rules::not_empty(&controller, &mut errs);
    rules::formatted(&controller, format::label_key, &mut errs);
    limited(object, "reportingInstance", "reportingInstance", 128, true, &mut errs);
    limited(object, "action", "action", 128, true, &mut errs);
    limited(object, "reason", "reason", 128, true, &mut errs);
    limited(object, "note", "message", 1024, false, &mut errs);
    let kind = object.at("type");
    if !["Normal", "Warning"].contains(&kind.str()) {
        errs.push(kind.invalid_as("", format!("has invalid value: {}", kind.str())));
    }
    for old in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let deprecated = match old {
            "firstTimestamp" => "deprecatedFirstTimestamp",
            "lastTimestamp" => "deprecatedLastTimestamp",
            "count" => "deprecatedCount",
            _ => "deprecatedSource",
        };
        let value = object.at(deprecated);
        let zero = value
            .value()
            .is_none_or(|v| v.as_i64() == Some(0) || v.as_object().is_some_and(|o| o.is_empty()));
        if !zero {
            errs.push(Error::invalid(object.at(old).path(), "", "needs to be unset"));
        }
    }
    if let Some(series) = object.at("series").opt() {
        if series.at("count").i64() < 2 {
            errs.push(series.at("count").invalid_as("", "should be at least 2"));
        }
        rules::not_empty(&series.at("lastObservedTime"), &mut errs);
    }
    errs
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
    let mut errs = core_event(new);
    metadata::validate_update_common(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let fields = [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, shown) in fields {
        immutable(&new.at(field).reported_at(new.at(shown).path()), &old.at(field), &mut errs);
    }
    errs
}
