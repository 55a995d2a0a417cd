//! PodSecurity: what the labels of a namespace forbid its pods.

mod checks;
mod policy;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use self::checks::{Pod, details, evaluate, reasons};
use self::policy::{Level, LevelVersion, Policy};
use super::lookup::{NAMESPACES, PODS};
use super::{Attributes, Operation};
use crate::cache::Selectable;
use crate::object::meta;
use crate::status::ApiError;

/// What the audit log is told of every pod.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
/// How many of a namespace's pods are looked at when it becomes stricter, and for how long.
const PODS_MAX: usize = 3000;
const TIME_MAX: Duration = Duration::from_secs(1);
/// Subresources of pods that say nothing about what the pod may do.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Checks pods, what makes pods, and the labels of namespaces.
pub(super) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    if !matches!(attributes.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let kind = &attributes.call.kind;
    match (kind.group.as_ref(), kind.plural.as_ref()) {
        ("", "namespaces") if attributes.subresource.is_empty() => namespace(attributes, object),
        ("", "pods") if !IGNORED.contains(&attributes.subresource) => pod(attributes, object).await,
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs")
            if attributes.subresource.is_empty() =>
        {
            controller(attributes, &object["spec"]["template"]).await
        }
        ("", "podtemplates") if attributes.subresource.is_empty() => {
            controller(attributes, &object["template"]).await
        }
        ("batch", "cronjobs") if attributes.subresource.is_empty() => {
            controller(attributes, &object["spec"]["jobTemplate"]["spec"]["template"]).await
        }
        _ => Ok(()),
    }
}

fn namespace(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let call = attributes.call;
    let of = |object: &Value| Policy::of(&Selectable::of(object, &call.kind).labels);
    let (new, errors) = of(object);
    let Some(old) = attributes.old else {
        return if errors.is_empty() { Ok(()) } else { Err(call.invalid(meta(object, "name"), &errors)) };
    };
    let (before, old_errors) = of(old);
    if !errors.is_empty() && errors.causes() != old_errors.causes() {
        return Err(call.invalid(attributes.name, &errors));
    }
    let relaxed = new.enforce.version == before.enforce.version && new.enforce.level <= before.enforce.level;
    if new.enforce != before.enforce && new.enforce.level != Level::Privileged && !relaxed {
        existing_pods(attributes, meta(object, "name"), new.enforce);
    }
    Ok(())
}

/// Warns of the pods that are there already.
fn existing_pods(attributes: &Attributes<'_>, namespace: &str, policy: LevelVersion) {
    let pods: Vec<Value> =
        PODS.list(attributes.call, namespace).iter().map(|entry| entry.to_value()).collect();
    let deadline = Instant::now() + TIME_MAX;
    // One pod of each controller first: the others are most probably alike.
    let mut controllers: Vec<&str> = Vec::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for pod in &pods {
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let owner = owners.into_iter().find(|owner| owner["controller"] == true);
        match owner.map(|owner| owner["uid"].as_str().unwrap_or_default()) {
            Some(uid) if controllers.contains(&uid) => rest.push(pod),
            Some(uid) => {
                controllers.push(uid);
                first.push(pod);
            }
            None => first.push(pod),
        }
    }
    first.append(&mut rest);
    let total = first.len();
    first.truncate(PODS_MAX);
    let mut checked = first.len();
    let mut found: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for (index, pod) in first.into_iter().enumerate() {
        let violations = evaluate(policy, Pod { metadata: &pod["metadata"], spec: &pod["spec"] });
        if !violations.is_empty() {
            let name = meta(pod, "name");
            let (least, count) = found.entry(reasons(&violations)).or_insert((name, 0));
            *least = name.min(least);
            *count += 1;
        }
        if Instant::now() > deadline {
            checked = index + 1;
            break;
        }
    }
    if checked < total {
        attributes.call.warn(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        attributes.call.warn(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{policy}\""
        ));
    }
    let mut texts: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    texts.sort_unstable();
    texts.into_iter().for_each(|text| attributes.call.warn(text));
}

/// The policy of the namespace that the request is for.
async fn policy_of(attributes: &Attributes<'_>) -> Result<Option<Policy>, ApiError> {
    let namespace = NAMESPACES.get(attributes.call, "", attributes.namespace).await?;
    let kind = NAMESPACES.kind(attributes.call);
    Ok(namespace.zip(kind).map(|(entry, kind)| Policy::of(&entry.selectable(&kind).labels).0))
}

async fn pod(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let policy = policy_of(attributes).await?.ok_or_else(|| {
        ApiError::internal(format!("failed to lookup namespace \"{}\"", attributes.namespace))
    })?;
    if policy.is_privileged() {
        attributes.call.annotate(ENFORCED, policy.enforce.to_string());
        return Ok(());
    }
    if attributes.old.is_some_and(|old| !is_significant(object, old)) {
        return Ok(());
    }
    let pod = Pod { metadata: &object["metadata"], spec: &object["spec"] };
    attributes.call.annotate(ENFORCED, policy.enforce.to_string());
    note(attributes, policy, pod);
    let violations = evaluate(policy.enforce, pod);
    if !violations.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&violations));
        let kind = &attributes.call.kind;
        return Err(ApiError::forbidden(&kind.group, &kind.plural, attributes.name, why));
    }
    warn(attributes, policy, pod);
    Ok(())
}

async fn controller(attributes: &Attributes<'_>, template: &Value) -> Result<(), ApiError> {
    let Some(policy) = policy_of(attributes).await? else { return Ok(()) };
    if template.is_object() {
        let pod = Pod { metadata: &template["metadata"], spec: &template["spec"] };
        note(attributes, policy, pod);
        warn(attributes, policy, pod);
    }
    Ok(())
}

/// Tells the audit log of violations, if there is one.
fn note(attributes: &Attributes<'_>, policy: Policy, pod: Pod<'_>) {
    if attributes.call.audit.is_none() {
        return;
    }
    let violations = evaluate(policy.audit, pod);
    if !violations.is_empty() {
        let text = format!("would violate PodSecurity \"{}\": {}", policy.audit, details(&violations));
        attributes.call.annotate("pod-security.kubernetes.io/audit-violations", text);
    }
}

fn warn(attributes: &Attributes<'_>, policy: Policy, pod: Pod<'_>) {
    let violations = evaluate(policy.warn, pod);
    if !violations.is_empty() {
        attributes.call.warn(format!(
            "would violate PodSecurity \"{}\": {}",
            policy.warn,
            details(&violations)
        ));
    }
}

/// Whether an update changes anything that the checks might see: of what can change, only images
/// and containers that are added count.
fn is_significant(new: &Value, old: &Value) -> bool {
    let list = |pod: &Value, field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
    for field in ["containers", "initContainers"] {
        let (new, old) = (list(new, field), list(old, field));
        if new.len() != old.len() || new.iter().zip(&old).any(|(new, old)| new["image"] != old["image"]) {
            return true;
        }
    }
    let before = list(old, "ephemeralContainers");
    list(new, "ephemeralContainers").iter().any(|container| {
        let same = before.iter().find(|known| known["name"] == container["name"]);
        same.is_none_or(|known| known["image"] != container["image"])
    })
}
