//! Annotations that mean something for pods, most of them for historical reasons.

use super::Pod;
use crate::cursor::Node;
use crate::field::ErrorList;

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What single annotations may say.
pub fn validate(annotations: &Node, spec: &Node, errs: &mut ErrorList) {
    let mirror = annotations.key(MIRROR);
    if mirror.is_set() && spec.at("nodeName").is_empty() {
        errs.push(mirror.invalid_str("must set spec.nodeName if mirror pod annotation is set"));
    }
    let cost = annotations.key(DELETION_COST);
    if cost.is_set() && !is_deletion_cost(cost.str()) {
        errs.push(cost.invalid_str("must be a 32bit integer"));
    }
    for (key, value) in annotations.entries() {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp_profile(&value.reported_at(&annotations.path().child(key)), errs);
        }
    }
    for (key, value) in annotations.entries() {
        let Some(container) = key.strip_prefix(APP_ARMOR) else { continue };
        if !Pod::new(spec, None, false).all_containers().any(|c| c.at("name").str() == container) {
            errs.push(value.invalid_as(container, "container not found"));
        }
        let profile = value.str();
        if !["", "runtime/default", "unconfined"].contains(&profile) && !profile.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {}", crate::field::quote(profile));
            errs.push(value.invalid_str(detail));
        }
    }
}

/// As Go's `ParseInt` into 32 bits, without a plus sign and without leading zeros.
fn is_deletion_cost(text: &str) -> bool {
    let zeros = text.len() > 1 && text.starts_with('0');
    !text.starts_with('+') && !zeros && text.parse::<i32>().is_ok()
}

fn seccomp_profile(profile: &Node, errs: &mut ErrorList) {
    match profile.str() {
        "runtime/default" | "docker/default" | "unconfined" => {}
        local if local.starts_with("localhost/") => {
            let path = &local["localhost/".len()..];
            if path.starts_with('/') {
                errs.push(profile.invalid_as(path, "must be a relative path"));
            }
            if path.split('/').any(|part| part == "..") {
                errs.push(profile.invalid_as(path, "must not contain '..'"));
            }
        }
        _ => errs.push(profile.invalid_str("must be a valid seccomp profile")),
    }
}

/// Where an annotation and a field say the same thing, they agree.
pub fn match_fields(object: &Node, errs: &mut ErrorList) {
    seccomp_match(object, errs);
    app_armor_match(object, errs);
}

fn seccomp_match(object: &Node, errs: &mut ErrorList) {
    let (annotations, spec) = (object.at("metadata").at("annotations"), object.at("spec"));
    let of = |holder: &Node, annotation: &str, errs: &mut ErrorList| {
        let profile = holder_profile(holder, "seccompProfile");
        let value = annotations.object().and_then(|a| a.get(annotation)).and_then(|v| v.as_str());
        if let (Some(profile), Some(value)) = (profile, value) {
            agree(&profile, value, &["runtime/default", "docker/default"], "seccomp", errs);
        }
    };
    of(&spec, SECCOMP_POD, errs);
    for container in Pod::new(&spec, None, false).all_containers() {
        of(&container, &format!("{SECCOMP_CONTAINER}{}", container.at("name").str()), errs);
    }
}

fn app_armor_match(object: &Node, errs: &mut ErrorList) {
    let (annotations, spec) = (object.at("metadata").at("annotations"), object.at("spec"));
    let pod = Pod::new(&spec, None, false);
    if pod.os() == Some("windows") {
        return;
    }
    let pod_profile = holder_profile(&spec, "appArmorProfile");
    for container in pod.all_containers() {
        let key = format!("{APP_ARMOR}{}", container.at("name").str());
        let at = container.at("securityContext").at("appArmorProfile");
        let profile = at.opt().or_else(|| pod_profile.as_ref().map(|p| p.reported_at(at.path())));
        let value = annotations.object().and_then(|a| a.get(&key)).and_then(|v| v.as_str());
        if let (Some(profile), Some(value)) = (profile, value) {
            agree(&profile, value, &["runtime/default"], "apparmor", errs);
        }
    }
}

fn holder_profile<'a>(holder: &Node<'a>, field: &'a str) -> Option<Node<'a>> {
    holder.at("securityContext").at(field).opt()
}

fn agree(profile: &Node, annotation: &str, runtime_default: &[&str], what: &str, errs: &mut ErrorList) {
    let types_differ =
        || profile.at("type").forbidden(format!("{what} type in annotation and field must match"));
    match profile.at("type").str() {
        "Unconfined" if annotation != "unconfined" => errs.push(types_differ()),
        "RuntimeDefault" if !runtime_default.contains(&annotation) => errs.push(types_differ()),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => errs.push(types_differ()),
            Some(path) if profile.at("localhostProfile").opt_str() != Some(path) => {
                let detail = format!("{what} profile in annotation and field must match");
                errs.push(profile.at("localhostProfile").forbidden(detail));
            }
            Some(_) => {}
        },
        _ => {}
    }
}

/// Annotations that may not change once the pod is there.
pub fn unchanged(new: &Node, old: &Node, errs: &mut ErrorList) {
    for (key, value) in old.entries() {
        let now = new.key(key);
        if now.opt_str() == Some(value.str()) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errs.push(now.forbidden("may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errs.push(now.forbidden("may not remove or update mirror pod annotation"));
        }
    }
    for (key, value) in new.entries() {
        if old.key(key).is_set() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errs.push(value.forbidden("may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errs.push(value.forbidden("may not add mirror pod annotation"));
        }
    }
}
