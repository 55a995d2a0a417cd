//! Initialization: the node can take pods.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::NodeClaim;
use api::names;
use client::{EventType, reference_to};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::claim;
use crate::context::{Context, Error};
use crate::lifecycle::write_status;

/// A node that does not become ready is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Marks claim and node once the node is ready, its start-up taints are gone and its resources
/// have appeared.
pub(crate) async fn progress(
    context: &Arc<Context>,
    claim: NodeClaim,
    node: Option<&Node>,
) -> Result<NodeClaim, Error> {
    let is_due = claim::is(&claim, claim::REGISTERED) && !claim::is(&claim, claim::INITIALIZED);
    let Some(node) = node.filter(|_| is_due) else { return Ok(claim) };
    let mut status = claim.status.clone().unwrap_or_default();
    if let Some((reason, message)) = obstacle(&claim, node) {
        if claim::set_condition(&mut status, claim::INITIALIZED, false, reason, &message) {
            return write_status(context, &claim, &status).await;
        }
        return Ok(claim);
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {"labels": {names::INITIALIZED: "true"}}});
    context.node_api().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone());
    status.allocatable = allocatable.or(status.allocatable);
    claim::set_condition(&mut status, claim::INITIALIZED, true, "Initialized", "");
    claim::set_condition(&mut status, claim::READY, true, "Ready", "");
    let claim = write_status(context, &claim, &status).await?;
    // Pods were waiting for it: they get a moment to arrive before it counts as empty.
    context.nominate(claim::name(&claim));
    context.recorder.event(
        &reference_to(&claim),
        EventType::Normal,
        "Initialized",
        format!("node {name} takes pods"),
    );
    context.wake_disruption.notify_one();
    Ok(claim)
}

/// When to look at the claim again.
pub(crate) fn next(claim: &NodeClaim, node: Option<&Node>) -> Option<Duration> {
    (node.is_some() && !claim::is(claim, claim::INITIALIZED)).then_some(LOOK_AGAIN)
}

/// Why the node cannot take pods yet.
fn obstacle(claim: &NodeClaim, node: &Node) -> Option<(&'static str, String)> {
    let status = node.status.as_ref();
    let is_ready = status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !is_ready {
        return Some(("NodeNotReady", "the node is not ready".to_owned()));
    }
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    for taint in taints {
        let is_startup = claim.spec.startup_taints.iter().flatten().any(|startup| startup.key == taint.key);
        if is_startup || taint.key == names::NOT_READY_TAINT || taint.key == names::UNREGISTERED_TAINT {
            return Some(("StartupTaintsExist", format!("the node still has the taint {}", taint.key)));
        }
    }
    let wanted = claim.spec.resources.iter().flat_map(|resources| resources.requests.keys());
    for resource in wanted {
        let there = status.and_then(|status| status.allocatable.as_ref()?.get(resource));
        if there.is_none_or(|quantity| quantity.0 == "0") {
            return Some(("ResourceNotRegistered", format!("the node does not have {resource} yet")));
        }
    }
    None
}
