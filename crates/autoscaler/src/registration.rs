//! Registration: the machine's node has joined and is taken over.

use std::sync::Arc;

use api::explain::Decision;
use api::karpenter::NodeClaim;
use api::names;
use client::{EventType, reference_to};
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::claim;
use crate::context::{Context, Error};
use crate::decisions;
use crate::lifecycle::write_status;

/// Takes over the node of a claim, if it has joined and that has not happened yet.
pub(crate) async fn progress(
    context: &Arc<Context>,
    claim: NodeClaim,
    node: Option<&Node>,
) -> Result<NodeClaim, Error> {
    let Some(node) = node.filter(|_| !claim::is(&claim, claim::REGISTERED)) else { return Ok(claim) };
    let node = take_over(context, &claim, node).await?;
    let mut status = claim.status.clone().unwrap_or_default();
    status.node_name = node.metadata.name.clone();
    claim::set_condition(&mut status, claim::REGISTERED, true, "Registered", "");
    claim::set_condition(
        &mut status,
        claim::INITIALIZED,
        false,
        "NodeNotReady",
        "the node cannot take pods yet",
    );
    let claim = write_status(context, &claim, &status).await?;
    let name = status.node_name.unwrap_or_default();
    context.recorder.event(
        &reference_to(&claim),
        EventType::Normal,
        "Registered",
        format!("node {name} has joined"),
    );
    hand_on_decision(context, &claim, &node).await;
    Ok(claim)
}

/// Gives the node labels, taints, annotations, owner and finalizer of its claim, and opens it.
async fn take_over(context: &Context, claim: &NodeClaim, node: &Node) -> Result<Node, Error> {
    let mut labels = claim.metadata.labels.clone().unwrap_or_default();
    labels.insert(names::REGISTERED.to_owned(), "true".to_owned());
    let mut taints: Vec<Taint> =
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).cloned().collect();
    taints.retain(|taint| taint.key != names::UNREGISTERED_TAINT);
    for wanted in claim.spec.taints.iter().chain(&claim.spec.startup_taints).flatten() {
        if !taints.iter().any(|taint| taint.key == wanted.key && taint.effect == wanted.effect) {
            taints.push(wanted.clone());
        }
    }
    let mut finalizers = node.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == names::TERMINATION_FINALIZER) {
        finalizers.push(names::TERMINATION_FINALIZER.to_owned());
    }
    let mut owners = node.metadata.owner_references.clone().unwrap_or_default();
    if !owners.iter().any(|owner| owner.kind == "NodeClaim") {
        owners.push(OwnerReference {
            api_version: "karpenter.sh/v1".to_owned(),
            kind: "NodeClaim".to_owned(),
            name: claim::name(claim).to_owned(),
            uid: claim.metadata.uid.clone().unwrap_or_default(),
            block_owner_deletion: Some(true),
            controller: None,
        });
    }
    let patch = json!({
        "metadata": {
            "resourceVersion": node.metadata.resource_version,
            "labels": labels,
            "annotations": claim.metadata.annotations,
            "finalizers": finalizers,
            "ownerReferences": owners,
        },
        "spec": {"taints": taints},
    });
    let name = node.metadata.name.as_deref().unwrap_or_default();
    Ok(context.node_api().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?)
}

/// The node was bought for the reasons for which its claim was.
async fn hand_on_decision(context: &Context, claim: &NodeClaim, node: &Node) {
    let reference = reference_to(claim);
    let (name, namespace) = decisions::home(&reference);
    let api: Api<Decision> = Api::namespaced(context.client.clone(), namespace);
    match api.get_opt(&name).await {
        Ok(Some(decision)) => {
            context.decisions.record(reference_to(node), Arc::new(decision.latest));
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "the decision about a claim could not be read"),
    }
}
