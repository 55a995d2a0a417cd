//! Termination: taint, drain, give the machine back, let go.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::NodeClaim;
use api::names;
use client::{EventType, Next, reference_to};
use cloud::{CloudError, InstanceId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, EvictParams, Patch, PatchParams};
use scaling::duration;
use serde_json::json;

use crate::claim;
use crate::context::{Context, Error, exactly, is_gone_or_replaced, is_not_found, lock};
use crate::picture;

/// Pods are looked at again after this long while a node drains.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The same, while a PodDisruptionBudget holds an eviction up.
const BLOCKED: Duration = Duration::from_secs(2);

/// Takes the next step of a claim that is being deleted.
pub(crate) async fn progress(context: &Arc<Context>, claim: &NodeClaim) -> Result<Next, Error> {
    let has_finalizer =
        claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::TERMINATION_FINALIZER);
    if !has_finalizer {
        return Ok(Next::Wait);
    }
    let machine = claim::provider_id(claim).map(InstanceId::new);
    let is_gone = machine.as_ref().is_some_and(|id| lock(&context.gone).contains(id.as_str()));
    let node = match context.node_of_claim(claim) {
        Some(known) => context.node_api().get_opt(known.metadata.name.as_deref().unwrap_or_default()).await?,
        None => None,
    };
    if let Some(node) = &node {
        begin(context, node).await?;
        if let Some(next) = drain(context, claim, node, is_gone).await? {
            return Ok(next);
        }
    }
    if let Some(machine) = machine {
        match context.cloud.terminate(&machine).await {
            Ok(()) | Err(CloudError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        lock(&context.gone).remove(machine.as_str());
    }
    if let Some(node) = &node {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        remove_finalizer::<Node>(&context.node_api(), name, node.metadata.finalizers.as_deref()).await?;
        // One that never had the finalizer is gone already; one that had it goes now.
    }
    remove_finalizer(&context.claim_api(), claim::name(claim), claim.metadata.finalizers.as_deref()).await?;
    context.recorder.event(
        &reference_to(claim),
        EventType::Normal,
        "Terminated",
        "the machine was given back",
    );
    Ok(Next::Wait)
}

/// Keeps new pods away and asks for the node's deletion.
async fn begin(context: &Context, node: &Node) -> Result<(), Error> {
    set_disrupted(context, node, true).await?;
    if node.metadata.deletion_timestamp.is_none() {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        match context.node_api().delete(name, &exactly(&node.metadata)).await {
            Err(error) if !is_gone_or_replaced(&error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Puts the taint on a node that is about to go, or takes it off again.
pub(crate) async fn set_disrupted(context: &Context, node: &Node, disrupted: bool) -> Result<(), Error> {
    let mut taints: Vec<Taint> =
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).cloned().collect();
    let is_set = taints.iter().any(|taint| taint.key == names::DISRUPTED_TAINT);
    if is_set == disrupted {
        return Ok(());
    }
    if disrupted {
        taints.push(Taint {
            key: names::DISRUPTED_TAINT.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    } else {
        taints.retain(|taint| taint.key != names::DISRUPTED_TAINT);
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let patch =
        json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
    match context.node_api().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Evicts what runs on the node. `None` when nothing is left.
async fn drain(
    context: &Context,
    claim: &NodeClaim,
    node: &Node,
    is_gone: bool,
) -> Result<Option<Next>, Error> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let pods: Vec<Arc<Pod>> =
        context.pods_on.get(name).into_iter().filter(|pod| picture::is_movable(pod) && !stays(pod)).collect();
    let deadline = deadline(claim);
    let mut blocked = None;
    for pod in &pods {
        let api: Api<Pod> =
            Api::namespaced(context.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        if is_gone {
            // The machine took the containers with it; the objects must not wait for them.
            ignore_gone(api.delete(pod_name, &exactly(&pod.metadata).grace_period(0)).await)?;
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if let Some(deadline) = deadline
            && is_out_of_time(pod, deadline)
        {
            let left = seconds_until(deadline).clamp(1, grace_of(pod).max(1));
            let params = exactly(&pod.metadata).grace_period(u32::try_from(left).unwrap_or(1));
            ignore_gone(api.delete(pod_name, &params).await)?;
            continue;
        }
        let params = EvictParams { delete_options: Some(exactly(&pod.metadata)), ..EvictParams::default() };
        match api.evict(pod_name, &params).await {
            Ok(_) => {
                let message = format!("evicted because node {name} is going away");
                context.recorder.event(&reference_to(pod.as_ref()), EventType::Normal, "Evicted", message);
            }
            Err(error) if is_gone_or_replaced(&error) => {}
            Err(kube::Error::Api(status)) if status.code == 429 => blocked = Some(status.message.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(message) = blocked {
        context.recorder.event(&reference_to(node), EventType::Warning, "FailedDraining", message);
        return Ok(Some(Next::After(BLOCKED)));
    }
    Ok((!pods.is_empty()).then_some(Next::After(LOOK_AGAIN)))
}

/// Whether a pod wants to stay on a node that goes away: it tolerates the taint.
fn stays(pod: &Pod) -> bool {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    tolerations.into_iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        key == names::DISRUPTED_TAINT && matches!(effect, "" | "NoSchedule")
    })
}

/// When draining must be over: the end of the grace period, or of the machine.
fn deadline(claim: &NodeClaim) -> Option<Timestamp> {
    let Time(deleted) = claim.metadata.deletion_timestamp.as_ref()?;
    let grace = claim.spec.termination_grace_period.as_deref().and_then(duration::parse);
    let by_grace = grace.map(|grace| *deleted + grace);
    let by_interruption = claim::annotation(claim, claim::INTERRUPTION).and_then(|text| text.parse().ok());
    by_grace.into_iter().chain(by_interruption).min()
}

/// Whether the pod needs all the time there is: from now on budgets do not count.
fn is_out_of_time(pod: &Pod, deadline: Timestamp) -> bool {
    seconds_until(deadline) <= grace_of(pod)
}

fn seconds_until(deadline: Timestamp) -> i64 {
    deadline.duration_since(base::clock::now()).as_secs()
}

pub(crate) fn grace_of(pod: &Pod) -> i64 {
    pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30)
}

fn ignore_gone<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result {
        Err(error) if !is_gone_or_replaced(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn ignore_missing<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Takes our finalizer off an object.
pub(crate) async fn remove_finalizer<K>(
    api: &Api<K>,
    name: &str,
    finalizers: Option<&[String]>,
) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let rest: Vec<&String> = finalizers
        .iter()
        .flat_map(|list| list.iter())
        .filter(|known| *known != names::TERMINATION_FINALIZER)
        .collect();
    if rest.len() == finalizers.map_or(0, <[String]>::len) {
        return Ok(());
    }
    let patch = json!({"metadata": {"finalizers": rest}});
    ignore_missing(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
}
