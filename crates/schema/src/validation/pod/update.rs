//! Changes of pods: little may change, and the status only in its ways.

use serde_json::Value;

use super::super::{diff, format, metadata, rules};
use super::{annotations, metadata_and_spec, tolerations};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to \
     be set to 1 if it was previously negative)";

/// A changed Pod.
pub fn update(new: &Node, old: &Node) -> ErrorList {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    if spec.value() == old_spec.value() {
        // What is stored was valid; most updates change metadata alone.
        let mut errs = ErrorList::new();
        let meta = new.at("metadata");
        metadata::validate_update(&meta, &old.at("metadata"), &mut errs);
        metadata::validate(&meta, format::name_is_subdomain, &mut errs);
        annotations::validate(&meta.at("annotations"), &spec, &mut errs);
        annotation_update(new, old, &mut errs);
        return errs;
    }
    let mut errs = common(new, old);
    for list in ["containers", "initContainers"] {
        let (list, old_list) = (spec.at(list), old_spec.at(list));
        if list.len() != old_list.len() {
            errs.push(list.forbidden("pod updates may not add or remove containers"));
            return errs;
        }
        for image in list.items().map(|container| container.at("image")) {
            rules::not_empty(&image, &mut errs);
            if image.str().trim() != image.str() {
                errs.push(image.invalid_str("must not have leading or trailing whitespace"));
            }
        }
    }
    if !deadline(&spec, &old_spec, &mut errs) {
        return errs;
    }
    only_added_tolerations(&spec.at("tolerations"), &old_spec.at("tolerations"), &mut errs);
    only_deleted_gates(&spec.at("schedulingGates"), &old_spec.at("schedulingGates"), &mut errs);
    let munged = with_changeable_from(&spec, &old_spec, &mut errs);
    if munged != old_spec.to_value() {
        let difference = diff::unified("PodSpec", &old_spec.to_value(), &munged);
        errs.push(
            spec.forbidden(format!("pod updates may not change fields other than {UPDATABLE}\n{difference}")),
        );
    }
    errs
}

fn common(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata_and_spec(new, &mut errs);
    annotation_update(new, old, &mut errs);
    errs
}

pub(super) fn annotation_update(new: &Node, old: &Node, errs: &mut ErrorList) {
    let (now, before) = (new.at("metadata").at("annotations"), old.at("metadata").at("annotations"));
    annotations::unchanged(&now, &before, errs);
    annotations::validate(&now, &new.at("spec"), errs);
}

/// A deadline may come nearer, not move away; says whether to go on.
fn deadline(spec: &Node, old: &Node, errs: &mut ErrorList) -> bool {
    let (new, old) = (spec.at("activeDeadlineSeconds"), old.at("activeDeadlineSeconds"));
    let max = i64::from(i32::MAX);
    match (new.opt_i64(), old.opt_i64()) {
        (Some(seconds), _) if !(0..=max).contains(&seconds) => {
            errs.push(new.invalid(format::range_error(0, max)));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errs.push(new.invalid("must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            errs.push(new.invalid("must not update from a positive integer to nil value"));
            true
        }
        _ => true,
    }
}

fn without_seconds(toleration: &Node) -> Value {
    let mut value = toleration.to_value();
    if let Some(object) = value.as_object_mut() {
        object.remove("tolerationSeconds");
    }
    value
}

fn only_added_tolerations(new: &Node, old: &Node, errs: &mut ErrorList) {
    let texts = |list: &Node| -> std::collections::BTreeSet<String> {
        list.items().map(|toleration| without_seconds(&toleration).to_string()).collect()
    };
    if !texts(old).is_subset(&texts(new)) {
        errs.push(new.forbidden("existing toleration can not be modified except its tolerationSeconds"));
        return;
    }
    tolerations::validate(new, errs);
}

fn only_deleted_gates(new: &Node, old: &Node, errs: &mut ErrorList) {
    let before: std::collections::BTreeSet<&str> = old.items().map(|gate| gate.at("name").str()).collect();
    for name in new.items().map(|gate| gate.at("name")).filter(|name| !before.contains(&name.str())) {
        let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", name.str());
        errs.push(name.forbidden(detail));
    }
}

/// The new spec with everything that may change set back to what it was.
fn with_changeable_from(spec: &Node, old: &Node, errs: &mut ErrorList) -> Value {
    let mut munged = spec.to_value();
    for list in ["containers", "initContainers"] {
        for (i, container) in munged[list].as_array_mut().into_iter().flatten().enumerate() {
            restore(container, &old.at(list).index(i), "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut munged, old, field);
    }
    let grace = "terminationGracePeriodSeconds";
    if old.at(grace).i64() < 0 && munged[grace] == 1 {
        restore(&mut munged, old, grace);
    }
    if !old.at("schedulingGates").is_empty() {
        gated_changes(&mut munged, spec, old, errs);
    }
    if let Some(object) = munged.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    munged
}

/// A pod that is not yet scheduled may still be narrowed down.
fn gated_changes(munged: &mut Value, spec: &Node, old: &Node, errs: &mut ErrorList) {
    let (selector, old_selector) = (spec.at("nodeSelector"), old.at("nodeSelector"));
    if old_selector.entries().any(|(key, value)| selector.key(key).opt_str() != value.opt_str()) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errs.push(selector.invalid(detail));
    }
    restore(munged, old, "nodeSelector");
    let (nodes, old_nodes) = (spec.at("affinity").at("nodeAffinity"), old.at("affinity").at("nodeAffinity"));
    if nodes.value() == old_nodes.value() {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = nodes.at(required).at("nodeSelectorTerms");
    let old_terms = old_nodes.at(required).at("nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != terms.len() {
        errs.push(terms.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed"));
    } else {
        for (term, old_term) in terms.items().zip(old_terms.items()) {
            if !only_additions(&term, &old_term) {
                errs.push(term.invalid("only additions are allowed (no mutations or deletions)"));
            }
        }
    }
    if old.at("affinity").is_set() {
        if munged["affinity"].is_null() {
            munged["affinity"] = serde_json::json!({});
        }
        restore(&mut munged["affinity"], &old.at("affinity"), "nodeAffinity");
    } else if let Some(affinity) = munged["affinity"].as_object_mut() {
        affinity.remove("nodeAffinity");
        if affinity.is_empty() {
            munged["affinity"] = Value::Null;
        }
    }
}

fn only_additions(term: &Node, old: &Node) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    if lists.iter().all(|list| old.at(list).is_empty()) {
        return lists.iter().all(|list| term.at(list).is_empty());
    }
    lists.iter().all(|list| {
        old.at(list).items().zip(term.at(list).items()).all(|(o, n)| o.value() == n.value())
            && term.at(list).len() >= old.at(list).len()
    })
}

fn restore(new: &mut Value, old: &Node, field: &'static str) {
    let Some(object) = new.as_object_mut() else { return };
    match old.at(field).value() {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

/// Through the subresource `ephemeralcontainers`: only additions.
pub fn ephemeral_containers_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = common(new, old);
    if old.at("metadata").at("annotations").key("kubernetes.io/config.mirror").is_set() {
        let detail = "static pods do not support ephemeral containers";
        return [Error::forbidden(&Path::new(""), detail)].into_iter().collect();
    }
    let list = new.at("spec").at("ephemeralContainers");
    for before in old.at("spec").at("ephemeralContainers").items() {
        let name = before.at("name").str();
        match list.items().find(|now| now.at("name").str() == name) {
            None => errs.push(
                list.forbidden(format!("existing ephemeral containers \"{name}\" may not be removed\n")),
            ),
            Some(now) if now.value() != before.value() => {
                let difference = diff::unified("EphemeralContainer", &before.to_value(), &now.to_value());
                let detail =
                    format!("existing ephemeral containers \"{name}\" may not be changed\n{difference}");
                errs.push(list.forbidden(detail));
            }
            Some(_) => {}
        }
    }
    errs
}
