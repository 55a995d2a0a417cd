//! Interruption: the cloud takes a machine back, soon.
//!
//! The replacement comes first: as soon as the warning is in, the machine's pods count as pods
//! without a place, so that provisioning buys what they need. Draining begins when they have
//! somewhere to go, at the latest when the slowest of them needs the rest of the time to end.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::NodeClaim;
use client::{EventType, Next, reference_to};
use cloud::{CloudEvent, InstanceId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::claim;
use crate::context::{Context, Error, lock};
use crate::decisions::{self, fact};
use crate::lifecycle::delete;
use crate::{picture, provisioning, termination};

/// An offering that was taken back is not bought again for this long.
const AVOID: Duration = Duration::from_secs(180);
/// Time for requests and scheduling that is kept besides the pods' grace periods.
const MARGIN: Duration = Duration::from_secs(10);
/// Whether the replacement is there is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Follows the cloud's events.
pub(crate) async fn run(context: Arc<Context>) {
    let mut events = context.cloud.events();
    loop {
        match events.recv().await {
            Ok(CloudEvent::Interruption { instance, deadline }) => {
                if let Err(error) = warn(&context, &instance, deadline).await {
                    tracing::warn!(%instance, %error, "an interruption could not be noted");
                }
            }
            Ok(CloudEvent::Gone { instance }) => {
                let claims = context.claims_of.get(instance.as_str());
                if !claims.is_empty() {
                    lock(&context.gone).insert(instance.as_str().to_owned());
                }
                claims.iter().for_each(|claim| context.claim_queue.add(claim::name(claim).to_owned()));
            }
            // Garbage collection compares with the list of all machines anyway.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Notes the warning on the claim, from where everything follows.
async fn warn(context: &Context, instance: &InstanceId, deadline: Timestamp) -> Result<(), Error> {
    for claim in context.claims_of.get(instance.as_str()) {
        if claim::is_deleting(&claim) || claim::is_interrupted(&claim) {
            continue;
        }
        if let Some(key) = claim::offering(&claim) {
            context.offerings.avoid(&key, AVOID);
        }
        let text = base::clock::rfc3339(deadline);
        let patch = json!({"metadata": {"annotations": {claim::INTERRUPTION: text}}});
        context
            .claim_api()
            .patch(claim::name(&claim), &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let seconds = deadline.duration_since(base::clock::now()).as_secs();
        let message = format!("the cloud takes the machine back in {seconds} s; replacing it");
        let reference = reference_to(claim.as_ref());
        context.recorder.event(&reference, EventType::Warning, "SpotInterrupted", message.clone());
        let mut record = decisions::record("interruption", "ReplaceInterruptedNode", message);
        record.inputs = vec![fact("deadline", text), fact("machine", instance)];
        let record = Arc::new(record);
        if let Some(node) = context.node_of_claim(&claim) {
            context.decisions.record(reference_to(node.as_ref()), record.clone());
        }
        context.decisions.record(reference, record);
        context.wake_provisioning.notify_one();
    }
    Ok(())
}

/// Drains an interrupted claim's node when it is time; `None` for all other claims.
pub(crate) async fn progress(
    context: &Arc<Context>,
    claim: &NodeClaim,
    node: Option<&Node>,
) -> Result<Option<Next>, Error> {
    let Some(text) = claim::annotation(claim, claim::INTERRUPTION) else { return Ok(None) };
    let Some(node) = node else {
        // Nothing runs there yet, and nothing should.
        delete(context, claim).await?;
        return Ok(Some(Next::Wait));
    };
    termination::set_disrupted(context, node, true).await?;
    context.wake_provisioning.notify_one();
    let left = text.parse::<Timestamp>().map_or(Duration::ZERO, |deadline| {
        Duration::try_from(deadline.duration_since(base::clock::now())).unwrap_or(Duration::ZERO)
    });
    if left > time_to_drain(context, node) && !has_replacement(context, node) {
        return Ok(Some(Next::After(LOOK_AGAIN)));
    }
    delete(context, claim).await?;
    Ok(Some(Next::Wait))
}

/// How long the node's pods take to end.
fn time_to_drain(context: &Context, node: &Node) -> Duration {
    let pods = context.pods_on.get(node.metadata.name.as_deref().unwrap_or_default());
    let longest = pods.iter().map(|pod| termination::grace_of(pod)).max().unwrap_or(0);
    Duration::from_secs(u64::try_from(longest).unwrap_or(0)) + MARGIN
}

/// Whether the node's pods, and those that wait already, fit on nodes that are there now.
fn has_replacement(context: &Context, node: &Node) -> bool {
    let catalogue = context.cloud.catalogue();
    let homeless = provisioning::homeless(context);
    let mut engine = provisioning::outlook(context, &catalogue, false);
    let name = node.metadata.name.as_deref();
    // This node's pods first: others that wait have their own machines coming.
    homeless
        .iter()
        .filter(|pod| picture::node_of(&pod.pod) == name)
        .all(|pod| engine.place_and_add(&pod.class).is_some())
}
