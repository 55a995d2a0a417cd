//! Garbage: machines without claims, claims without machines, nodes without either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::names;
use cloud::{CloudError, Instance};
use kube::api::DeleteParams;

use crate::claim;
use crate::context::{Context, Error, lock, machine_of};
use crate::termination::remove_finalizer;

/// How often the cloud's list is compared with ours.
const INTERVAL: Duration = Duration::from_secs(60);
/// Machines and nodes younger than this may belong to claims that are being written.
const YOUNG: Duration = Duration::from_secs(30);

/// Compares now and then.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        if let Err(error) = collect(&context).await {
            tracing::debug!(%error, "garbage collection of machines failed; trying again later");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn collect(context: &Context) -> Result<(), Error> {
    // Claims first: what is launched meanwhile is in the second list and not taken for gone.
    let claims = context.claim_api().list(&kube::api::ListParams::default()).await?.items;
    let instances = context.cloud.list().await?;
    let known: BTreeSet<&str> = claims.iter().map(claim::name).collect();
    let there: BTreeMap<&str, &Instance> =
        instances.iter().map(|instance| (instance.id.as_str(), instance)).collect();
    let now = base::clock::now();
    for instance in &instances {
        let age = Duration::try_from(now.duration_since(instance.launched)).unwrap_or(Duration::ZERO);
        if !known.contains(instance.claim.as_str()) && age > YOUNG {
            tracing::info!(instance = %instance.id, "a machine without a claim is given back");
            match context.cloud.terminate(&instance.id).await {
                Ok(()) | Err(CloudError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for claim in &claims {
        if let Some(id) = claim::provider_id(claim)
            && !there.contains_key(id)
            && context.claims.get("", claim::name(claim)).is_some()
        {
            lock(&context.gone).insert(id.to_owned());
            context.claim_queue.add(claim::name(claim).to_owned());
        }
    }
    let machines: BTreeSet<&str> = claims.iter().filter_map(claim::provider_id).collect();
    for node in context.nodes.list() {
        let is_ours =
            node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(names::NODE_POOL));
        let Some(machine) = machine_of(&node).filter(|_| is_ours) else { continue };
        if machines.contains(machine.as_str()) || there.contains_key(machine.as_str()) {
            continue;
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        tracing::info!(node = name, "a node without a machine is removed");
        remove_finalizer(&context.node_api(), name, node.metadata.finalizers.as_deref()).await?;
        if node.metadata.deletion_timestamp.is_none() {
            let _ = context.node_api().delete(name, &DeleteParams::default()).await;
        }
    }
    Ok(())
}
