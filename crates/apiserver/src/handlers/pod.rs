//! Subresources of pods that change them: binding, eviction, ephemeral containers, resize.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::create::Outcome;
use super::delete::{DeleteOptions, delete_object, preconditions};
use super::update::{Change, change_object};
use crate::admission::{self, Attributes, ObjectKind};
use crate::body::Body;
use crate::call::Call;
use crate::codec::{self, Target};
use crate::object::meta;
use crate::selector::LabelSelector;
use crate::status::{self, ApiError, Details};

/// `{"status": "Success", "code": 201}`.
fn created(call: &Call) -> Response<Body> {
    let mut answer = status::success(Details::default());
    answer["code"] = 201.into();
    call.output.respond(StatusCode::CREATED, &answer)
}

fn failure(message: &str) -> ApiError {
    ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(message) }
}

/// POST of a Binding: the pod of `call` runs on that node from now on. `request` is what admission sees:
/// the same, or the request for the old collection of bindings.
pub(crate) async fn bind(call: &Call, request: &Call) -> Result<Response<Body>, ApiError> {
    let dry_run = call.dry_run()?;
    let target = Target::named("", "v1", "Binding");
    let decoded = codec::decode_as(&target, &call.body, &call.headers, codec::strictness(&call.query))?;
    let mut binding = call.take_decoded(decoded);
    let name = call.info.name.as_str();
    let kind = ObjectKind { group: "", version: "v1", kind: "Binding" };
    let attributes = Attributes::create(request, kind, name, dry_run);
    admission::admit(&attributes, &mut binding).await?;
    if meta(&binding, "name") != name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        return Err(failure(&format!(
            "target.kind: Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\""
        )));
    }
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(failure("target.name: Required value"));
    }
    admission::validate(&attributes, &binding).await?.finish();
    let conflict = |why: String| ApiError::conflict("", "pods/binding", name, &why);
    let apply = |old: &Value| {
        let uid = meta(&binding, "uid");
        if !uid.is_empty() && uid != meta(old, "uid") {
            return Err(ApiError::conflict(
                "",
                "pods/binding",
                name,
                &format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    meta(old, "uid")
                ),
            ));
        }
        if !meta(old, "deletionTimestamp").is_empty() {
            return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        let assigned = old["spec"]["nodeName"].as_str().unwrap_or_default();
        if !assigned.is_empty() {
            return Err(conflict(format!("pod {name} is already assigned to node {assigned:?}")));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = node.into();
        for field in ["annotations", "labels"] {
            for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
                new["metadata"][field][key] = value.clone();
            }
        }
        set_scheduled(&mut new);
        Ok(new)
    };
    let change = Change::unseen("binding", &apply, dry_run);
    change_object(call, &change).await?;
    Ok(created(call))
}

/// The condition that a binding sets.
fn set_scheduled(pod: &mut Value) {
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": base::clock::rfc3339(base::clock::now())});
    set_condition(pod, &mut condition);
}

fn set_condition(pod: &mut Value, condition: &mut Value) {
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|known| known["type"] == condition["type"]) {
        Some(known) => {
            if known["status"] == condition["status"] {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition.clone();
        }
        None => conditions.push(condition.clone()),
    }
}

/// POST of an Eviction: a delete that respects disruption budgets.
pub(crate) async fn evict(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut target = Target::named("policy", "v1", "Eviction");
    let beta =
        serde_json::from_slice::<Value>(&call.body).is_ok_and(|body| body["apiVersion"] == "policy/v1beta1");
    if beta {
        target.version = "v1beta1";
    }
    let decoded = codec::decode_as(&target, &call.body, &call.headers, codec::strictness(&call.query))?;
    let mut eviction = call.take_decoded(decoded);
    let kind = ObjectKind { group: "policy", version: target.version, kind: "Eviction" };
    let attributes = Attributes::create(call, kind, &call.info.name, call.dry_run()?);
    admission::admit(&attributes, &mut eviction).await?;
    if meta(&eviction, "name") != call.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::from_body(&eviction["deleteOptions"])?;
    options.check()?;
    options.dry_run = call.dry_run()?
        || eviction["deleteOptions"]["dryRun"]
            .as_array()
            .is_some_and(|values| values.iter().any(|value| value == "All"));
    options.admitted = true;
    admission::validate(&attributes, &eviction).await?.finish();
    let entry = call.server.current(&call.kind, &call.info.namespace, &call.info.name).await?;
    let pod = entry.ok_or_else(|| call.not_found())?.try_value()?;
    // A delete that will be refused must not cost the budget anything.
    preconditions(call, &options, &pod)?;
    if !ignores_budgets(&pod) {
        consume_budget(call, &pod, options.dry_run).await?;
        // Marking changes the version that the client insists on.
        if options.resource_version.is_none() {
            mark_as_disrupted(call, options.dry_run).await?;
        }
    }
    delete_object(call, &options).await?;
    Ok(created(call))
}

/// Pods that are not running yet or any more disrupt nobody.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending") | None)
        || !meta(pod, "deletionTimestamp").is_empty()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Takes one disruption from the budget that covers the pod.
async fn consume_budget(call: &Call, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let registry = call.server.registry();
    let Some(kind) = registry.resource("policy", "v1", "poddisruptionbudgets").cloned() else {
        return Ok(());
    };
    let Some(resource) = call.server.cache_of(&kind).resource(&kind.storage.dir) else { return Ok(()) };
    let prefix = kind.prefix(Some(&call.info.namespace));
    let objects = resource.snapshot(0).objects;
    let labels = crate::cache::Selectable::of(pod, &call.kind).labels;
    let budgets: Vec<Value> = crate::cache::range(&objects, &prefix, None)
        .map(|entry| entry.to_value())
        .filter(|budget| covers(&budget["spec"]["selector"], &labels))
        .collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(failure(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = meta(budget, "name").to_owned();
    let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
    // A pod that is not ready does not count towards a budget that is met, or with AlwaysAllow.
    if !is_ready(pod) {
        let status = &budget["status"];
        let healthy = status["currentHealthy"].as_i64().unwrap_or(0);
        let desired = status["desiredHealthy"].as_i64().unwrap_or(0);
        if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            || (healthy >= desired && desired > 0)
        {
            return Ok(());
        }
    }
    let refuse = |message: String| {
        let mut error = ApiError::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            0,
        );
        error.details = None;
        error.cause("DisruptionBudget", message, "")
    };
    let observed = budget["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if observed < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        let mut error = ApiError::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            10,
        );
        error = error.cause("DisruptionBudget", message, "");
        return Err(error);
    }
    if allowed <= 0 {
        let needed = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
        let healthy = budget["status"]["currentHealthy"].as_i64().unwrap_or(0);
        return Err(refuse(if healthy <= needed {
            format!("The disruption budget {name} needs {needed} healthy pods and has {healthy} currently")
        } else {
            format!("The disruption budget {name} does not allow evicting pods currently")
        }));
    }
    if dry_run {
        return Ok(());
    }
    let mut info = call.info.clone();
    info.name.clone_from(&name);
    info.subresource = "status".to_owned();
    let on_budget = call.on(kind, info);
    let pod_name = call.info.name.clone();
    let apply = move |old: &Value| {
        let allowed = old["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed <= 0 {
            return Err(ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                0,
            ));
        }
        let mut new = old.clone();
        new["status"]["disruptionsAllowed"] = (allowed - 1).into();
        new["status"]["disruptedPods"][&pod_name] = base::clock::rfc3339(base::clock::now()).into();
        Ok(new)
    };
    let change = Change::unseen("status", &apply, dry_run);
    change_object(&on_budget, &change).await?;
    Ok(())
}

fn covers(selector: &Value, labels: &std::collections::BTreeMap<String, String>) -> bool {
    if selector.is_null() {
        return false;
    }
    LabelSelector::of(selector).is_some_and(|selector| selector.matches(labels))
}

async fn mark_as_disrupted(call: &Call, dry_run: bool) -> Result<(), ApiError> {
    let apply = |old: &Value| {
        let mut new = old.clone();
        let mut condition = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": base::clock::rfc3339(base::clock::now()),
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
        set_condition(&mut new, &mut condition);
        Ok(new)
    };
    let change = Change::unseen("eviction", &apply, dry_run);
    change_object(call, &change).await.map(|_: Outcome| ())
}
