//! Launch: a claim becomes a machine.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::NodeClaim;
use api::names;
use client::{EventType, Next, reference_to};
use cloud::{CloudError, LaunchRequest, OfferingKey};
use k8s_openapi::api::core::v1::Taint;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::claim;
use crate::context::{Context, Error};
use crate::decisions;
use crate::lifecycle::{delete, write_status};

/// The wait when the cloud asks for patience without saying how much.
const RETRY: Duration = Duration::from_secs(1);

/// What came of the phase.
pub(crate) enum Outcome {
    /// The machine exists.
    Launched(Box<NodeClaim>),
    /// Not now.
    Later(Next),
}

/// Rents the machine, unless there is one.
pub(crate) async fn progress(context: &Arc<Context>, claim: NodeClaim) -> Result<Outcome, Error> {
    if claim::is(&claim, claim::LAUNCHED) {
        return Ok(Outcome::Launched(Box::new(claim)));
    }
    let catalogue = context.cloud.catalogue();
    let ranked = claim::ranked(&claim, &catalogue);
    let offerings: Vec<_> = ranked
        .iter()
        .map(|(_, _, key)| key.clone())
        .filter(|key| !context.offerings.is_backed_off(key))
        .collect();
    if offerings.is_empty() {
        let reason = if ranked.is_empty() {
            "nothing in the catalogue satisfies its requirements"
        } else {
            "every offering that would do had no capacity a moment ago"
        };
        return give_up(context, &claim, "InsufficientCapacityError", reason).await;
    }
    let request = request(&claim, offerings);
    match context.cloud.launch(&request).await {
        Ok(launched) => {
            launched.unavailable.iter().for_each(|key| context.offerings.failed(key));
            context.offerings.succeeded(&launched.instance.offering);
            enter(context, claim, &catalogue, launched).await
        }
        Err(CloudError::InsufficientCapacity { offerings }) => {
            offerings.iter().for_each(|key| context.offerings.failed(key));
            let error = CloudError::InsufficientCapacity { offerings };
            give_up(context, &claim, "InsufficientCapacityError", &error.to_string()).await
        }
        Err(CloudError::Retry { reason, after }) => {
            tracing::debug!(claim = claim::name(&claim), %reason, "the cloud asks for patience");
            Ok(Outcome::Later(Next::After(after.unwrap_or(RETRY))))
        }
        Err(error @ (CloudError::GiveUp(_) | CloudError::NotFound(_))) => {
            give_up(context, &claim, "LaunchFailed", &error.to_string()).await
        }
    }
}

/// What the cloud is asked for.
pub(crate) fn request(claim: &NodeClaim, offerings: Vec<OfferingKey>) -> LaunchRequest {
    LaunchRequest {
        claim: claim::name(claim).to_owned(),
        offerings,
        labels: claim.metadata.labels.clone().unwrap_or_default(),
        taints: taints(claim),
    }
}

/// The taints that the node registers with: nothing runs there before it is registered.
fn taints(claim: &NodeClaim) -> Vec<Taint> {
    let unregistered = Taint {
        key: names::UNREGISTERED_TAINT.to_owned(),
        effect: "NoExecute".to_owned(),
        ..Taint::default()
    };
    let own = claim.spec.taints.iter().chain(&claim.spec.startup_taints).flatten().cloned();
    own.chain([unregistered]).collect()
}

/// Writes down which machine it is.
async fn enter(
    context: &Arc<Context>,
    claim: NodeClaim,
    catalogue: &[api::instance::InstanceType],
    launched: cloud::Launched,
) -> Result<Outcome, Error> {
    let instance = launched.instance;
    let Some(kind) = catalogue.iter().find(|kind| kind.name == instance.offering.instance_type) else {
        return give_up(context, &claim, "LaunchFailed", "the cloud launched a type that it does not list")
            .await;
    };
    let labels = claim::offering_labels(kind, &instance.offering);
    let price = format!("{}", instance.dollars_per_hour);
    let patch = json!({"metadata": {"labels": labels, "annotations": {names::PRICE: price}}});
    let api = context.claim_api();
    let claim = api.patch(claim::name(&claim), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let mut status = claim.status.clone().unwrap_or_default();
    status.provider_id = Some(instance.id.to_string());
    status.image_id = Some(instance.image.clone());
    status.capacity = Some(claim::resource_list(&kind.capacity));
    status.allocatable = Some(claim::resource_list(&kind.allocatable));
    claim::set_condition(&mut status, claim::LAUNCHED, true, "Launched", "");
    claim::set_condition(
        &mut status,
        claim::REGISTERED,
        false,
        "NodeNotFound",
        "the node has not joined yet",
    );
    claim::set_condition(
        &mut status,
        claim::INITIALIZED,
        false,
        "NotRegistered",
        "the node has not joined yet",
    );
    claim::set_condition(&mut status, claim::READY, false, "NotInitialized", "the node has not joined yet");
    let claim = write_status(context, &claim, &status).await?;
    let mut message =
        format!("{} for ${:.4}/h: {}", instance.offering, instance.dollars_per_hour, instance.id);
    for key in &launched.unavailable {
        message.push_str(&format!("; {key} had no capacity"));
    }
    context.recorder.event(&reference_to(&claim), EventType::Normal, "Launched", message);
    Ok(Outcome::Launched(Box::new(claim)))
}

/// Deletes a claim that cannot become a machine; its pods lead to another one.
async fn give_up(
    context: &Arc<Context>,
    claim: &NodeClaim,
    reason: &str,
    message: &str,
) -> Result<Outcome, Error> {
    let reference = reference_to(claim);
    context.recorder.event(
        &reference,
        EventType::Warning,
        reason,
        format!("{message}; choosing something else"),
    );
    let record = decisions::record("launch", "GiveUpClaim", message.to_owned());
    context.decisions.record(reference, Arc::new(record));
    delete(context, claim).await?;
    context.wake_provisioning.notify_one();
    Ok(Outcome::Later(Next::Wait))
}
