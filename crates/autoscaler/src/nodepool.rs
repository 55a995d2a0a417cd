//! The status of NodePools: what they have, and whether they can be used.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::karpenter::{NodePool, NodePoolStatus};
use api::quantity::Quantity;
use client::{CancellationToken, Next, run_workers};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use scaling::pool::Pool;
use serde_json::json;

use crate::claim;
use crate::context::{Context, Error, is_not_found};

/// Keeps the status of all pools until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let queue = context.pool_queue.clone();
    run_workers(queue, 2, move |name: String| reconcile(context.clone(), name), stop).await;
}

async fn reconcile(context: Arc<Context>, name: String) -> Result<Next, Error> {
    let Some(pool) = context.pools.get("", &name) else { return Ok(Next::Wait) };
    let status =
        NodePoolStatus { resources: Some(resources(&context, &name)), conditions: Some(conditions(&pool)) };
    if pool.status.as_ref() == Some(&status) {
        return Ok(Next::Wait);
    }
    let api: Api<NodePool> = Api::all(context.client.clone());
    match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(Next::Wait),
    }
}

fn resources(
    context: &Context,
    pool: &str,
) -> BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    let mut sums: BTreeMap<String, Quantity> = ["cpu", "memory", "pods", "ephemeral-storage", "nodes"]
        .map(|name| (name.to_owned(), Quantity::ZERO))
        .into();
    for claim in context.claims.list().iter().filter(|claim| claim::pool(claim) == pool) {
        let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
        for (name, quantity) in capacity.into_iter().flatten() {
            if let Ok(quantity) = Quantity::try_from(quantity) {
                let sum = sums.entry(name.clone()).or_insert(Quantity::ZERO);
                *sum = sum.plus(&quantity);
            }
        }
        let nodes = sums.entry("nodes".to_owned()).or_insert(Quantity::ZERO);
        *nodes = nodes.plus(&Quantity::from_units(1));
    }
    sums.into_iter().map(|(name, sum)| (name, sum.into())).collect()
}

fn conditions(pool: &NodePool) -> Vec<Condition> {
    let problem = match Pool::of(pool) {
        Ok(compiled) => compiled
            .requirements
            .contradiction()
            .map(|key| format!("nothing can satisfy the requirements on {key}")),
        Err(bad) => Some(bad.to_string()),
    };
    let status = if problem.is_none() { "True" } else { "False" };
    let reason = if problem.is_none() { "Ready" } else { "BadRequirements" };
    let known = pool.status.iter().flat_map(|status| status.conditions.iter().flatten());
    ["ValidationSucceeded", "Ready"]
        .map(|type_| {
            let same = known.clone().find(|known| known.type_ == type_ && known.status == status);
            let since =
                same.map_or_else(|| Time(base::clock::now()), |known| known.last_transition_time.clone());
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: problem.clone().unwrap_or_default(),
                last_transition_time: since,
                observed_generation: None,
            }
        })
        .to_vec()
}
