//! Changes of a pod through its subresource `resize`: only CPU and memory, and neither the quality of
//! service nor what there was no request or limit for.

use serde_json::{Map, Value, json};

use super::super::metadata;
use super::metadata_and_spec;
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};
use crate::strategy::qos_class;

const RESIZED: [&str; 2] = ["cpu", "memory"];

/// A resized Pod.
pub fn resize(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata_and_spec(new, &mut errs);
    let refused = |why: &str| [Error::forbidden(&Path::new(""), why)].into_iter().collect();
    if old.at("metadata").at("annotations").key("kubernetes.io/config.mirror").is_set() {
        return refused("static pods cannot be resized");
    }
    let (spec, before) = (new.at("spec"), old.at("spec"));
    if before.at("os").at("name").str() == "windows" {
        return refused("windows pods cannot be resized");
    }
    if old.at("status").at("qosClass").str() != qos_class(&new.to_value()) {
        let shown = new.at("status").at("qosClass").str();
        errs.push(spec.invalid_as(shown, "Pod QOS Class may not change as a result of resizing"));
    }
    let statuses = old.at("status").at("containerStatuses");
    let running = statuses.items().find(|status| status.at("state").at("running").is_set());
    if running.is_some_and(|status| !status.at("resources").is_set()) {
        errs.push(spec.forbidden("Pod running on node without support for resize"));
    }
    let mut munged = spec.to_value();
    pod_level(&spec, &before, &mut munged, &mut errs);
    if !old.at("status").at("nodeAllocatableResourceClaimStatuses").is_empty() {
        errs.push(spec.forbidden("pods with node allocatable resource claims cannot be resized"));
    }
    if !same_containers(&spec, &before, &mut errs) {
        return errs;
    }
    for list in ["initContainers", "containers"] {
        for (now, was) in spec.at(list).items().zip(before.at(list).items()) {
            let texts = ["resource requests cannot be removed", "resource limits cannot be removed"];
            nothing_removed(&now.at("resources"), &was.at("resources"), texts, &mut errs);
        }
    }
    containers(&spec, &before, &mut munged, &mut errs);
    if errs.is_empty() && before.value() != Some(&munged) {
        errs.push(spec.forbidden("only cpu and memory resources are mutable"));
    }
    errs
}

fn nothing_removed(now: &Node, was: &Node, texts: [&str; 2], errs: &mut ErrorList) {
    for (list, text) in ["requests", "limits"].into_iter().zip(texts) {
        if was.at(list).entries().any(|(name, _)| !now.at(list).key(name).is_set()) {
            errs.push(now.at(list).forbidden(text));
        }
    }
}

/// The resources of all containers together.
fn pod_level(spec: &Node, before: &Node, munged: &mut Value, errs: &mut ErrorList) {
    let (now, was) = (spec.at("resources"), before.at("resources"));
    let is_set =
        |resources: &Node| !resources.at("requests").is_empty() || !resources.at("limits").is_empty();
    if !is_set(&now) && !is_set(&was) {
        return;
    }
    if was.is_set() && !now.is_set() {
        errs.push(now.forbidden("pod-level resources cannot be removed"));
        return;
    }
    let texts =
        ["pod-level resource requests cannot be removed", "pod-level resource limits cannot be removed"];
    nothing_removed(&now, &was, texts, errs);
    if let Some(munged) = munged.as_object_mut() {
        restore_resized(munged, &was);
        let empty = munged.get("resources").and_then(Value::as_object).is_some_and(Map::is_empty);
        if empty && !was.is_set() {
            munged.remove("resources");
        }
    }
    if munged.get("resources") != was.value() {
        errs.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

/// The same containers in the same order; says whether to go on.
fn same_containers(spec: &Node, before: &Node, errs: &mut ErrorList) -> bool {
    let found = errs.len();
    for list in ["containers", "initContainers"] {
        let (now, was) = (spec.at(list), before.at(list));
        if now.len() != was.len() {
            errs.push(now.forbidden(format!("{list} may not be added or removed on resize")));
            continue;
        }
        let moved = |(now, was): &(Node<'_>, Node<'_>)| now.at("name").str() != was.at("name").str();
        for (now, _) in now.items().zip(was.items()).filter(moved) {
            errs.push(now.at("name").forbidden(format!("{list} may not be renamed or reordered on resize")));
        }
    }
    errs.len() == found
}

fn containers(spec: &Node, before: &Node, munged: &mut Value, errs: &mut ErrorList) {
    for (list, of) in [("containers", ""), ("initContainers", " for init or sidecar containers")] {
        let pairs = spec.at(list).items().zip(before.at(list).items());
        for (index, (now, was)) in pairs.enumerate() {
            let Some(container) = munged[list][index].as_object_mut() else { continue };
            restore_resized(container, &was.at("resources"));
            let same = was.object().is_some_and(|was| was == &*container);
            let at = if of.is_empty() { spec } else { &now };
            if !same {
                errs.push(at.forbidden(format!("only cpu and memory resources{of} are mutable")));
            }
            let restarts = |policy: Node| policy.at("restartPolicy").str() == "RestartContainer";
            let sidecar = was.at("restartPolicy").str() == "Always";
            if !of.is_empty()
                && !sidecar
                && now.value() != was.value()
                && now.at("resizePolicy").items().any(restarts)
            {
                errs.push(now.forbidden(
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
                ));
            }
        }
    }
}

/// Sets CPU and memory back to what they were.
fn restore_resized(holder: &mut Map<String, Value>, was: &Node) {
    let resources = holder.entry("resources").or_insert_with(|| json!({}));
    for list in ["requests", "limits"] {
        let Some(fields) = resources.as_object_mut() else { return };
        let amounts = fields.entry(list).or_insert_with(|| json!({}));
        for name in RESIZED {
            match (amounts.as_object_mut(), was.at(list).key(name).value()) {
                (Some(amounts), Some(amount)) => drop(amounts.insert(name.to_owned(), amount.clone())),
                (Some(amounts), None) => drop(amounts.remove(name)),
                (None, _) => {}
            }
        }
        if amounts.as_object().is_some_and(Map::is_empty) && !was.at(list).is_set() {
            fields.remove(list);
        }
    }
}
