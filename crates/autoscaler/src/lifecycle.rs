//! The life of a NodeClaim: one queue, one phase after the other.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::{NodeClaim, NodeClaimStatus};
use client::{CancellationToken, Next, run_workers};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::context::{Context, Error, exactly, is_gone_or_replaced};
use crate::{claim, initialization, interruption, launch, liveness, registration, termination};

/// Claims looked at at the same time.
const WORKERS: usize = 32;

/// Works on claims until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let queue = context.claim_queue.clone();
    let reconcile = move |name: String| reconcile(context.clone(), name);
    run_workers(queue, WORKERS, reconcile, stop).await;
}

async fn reconcile(context: Arc<Context>, name: String) -> Result<Next, Error> {
    // The newest state, not the informer's: phases follow one another within milliseconds.
    let Some(claim) = context.claim_api().get_opt(&name).await? else { return Ok(Next::Wait) };
    if claim::is_deleting(&claim) {
        return termination::progress(&context, &claim).await;
    }
    let claim = match launch::progress(&context, claim).await? {
        launch::Outcome::Launched(claim) => *claim,
        launch::Outcome::Later(next) => return Ok(next),
    };
    if let Some(next) = liveness::check(&context, &claim).await? {
        return Ok(next);
    }
    let node = context.node_of_claim(&claim);
    let claim = registration::progress(&context, claim, node.as_deref()).await?;
    let claim = initialization::progress(&context, claim, node.as_deref()).await?;
    if let Some(next) = interruption::progress(&context, &claim, node.as_deref()).await? {
        return Ok(next);
    }
    Ok(soonest([liveness::next(&context, &claim), initialization::next(&claim, node.as_deref())]))
}

/// The earlier of several appointments.
pub(crate) fn soonest(appointments: impl IntoIterator<Item = Option<Duration>>) -> Next {
    appointments.into_iter().flatten().min().map_or(Next::Wait, Next::After)
}

/// Writes a claim's status.
pub(crate) async fn write_status(
    context: &Context,
    claim: &NodeClaim,
    status: &NodeClaimStatus,
) -> Result<NodeClaim, Error> {
    let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": status});
    let api = context.claim_api();
    Ok(api.patch_status(claim::name(claim), &PatchParams::default(), &Patch::Merge(&patch)).await?)
}

/// Deletes a claim; its termination follows.
pub(crate) async fn delete(context: &Context, claim: &NodeClaim) -> Result<(), Error> {
    match context.claim_api().delete(claim::name(claim), &exactly(&claim.metadata)).await {
        Err(error) if !is_gone_or_replaced(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
