//! Pods that nobody would ever clean up: those on nodes that are gone, and ended ones when there
//! are too many.

use std::sync::Arc;
use std::time::Duration;

use base::map::HashMap;
use client::Informer;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, gone_is_fine};
use crate::pod;

/// How often pods are looked at.
const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be gone before its pods go: it may only be registering again.
const QUARANTINE: Duration = Duration::from_secs(40);
/// More ended pods than this are not kept (upstream's `--terminated-pod-gc-threshold`).
const ENDED_MAX: usize = 12_500;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let nodes: Informer<Node> = context.informers.of();
    let pods: Informer<Pod> = context.informers.of();
    nodes.synced().await;
    pods.synced().await;
    let mut missing: HashMap<String, Instant> = HashMap::default();
    let stop = context.stop.clone();
    while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        let garbage = find_garbage(&nodes, &pods, &mut missing);
        let writes: Vec<_> =
            garbage.into_iter().map(|(pod, reason)| collect(&context, pod, reason)).collect();
        let results: Vec<_> = futures::stream::iter(writes).buffer_unordered(16).collect().await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "some pods could not be garbage collected; trying again");
        }
    }
}

/// Why a pod is garbage.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    /// Its node is gone.
    NodeGone,
    /// It was deleted before it was ever bound.
    Unscheduled,
    /// It has ended, and too many have.
    Ended,
}

fn find_garbage(
    nodes: &Informer<Node>,
    pods: &Informer<Pod>,
    missing: &mut HashMap<String, Instant>,
) -> Vec<(Arc<Pod>, Reason)> {
    let mut garbage = Vec::new();
    let mut ended: Vec<Arc<Pod>> = Vec::new();
    let mut still_missing: HashMap<String, Instant> = HashMap::default();
    pods.for_each(|p| {
        match pod::node_name(p) {
            None if pod::is_deleted(p) => garbage.push((p.clone(), Reason::Unscheduled)),
            Some(node) if nodes.get("", node).is_none() => {
                let since = missing.get(node).copied().unwrap_or_else(Instant::now);
                still_missing.insert(node.to_string(), since);
                if since.elapsed() >= QUARANTINE {
                    garbage.push((p.clone(), Reason::NodeGone));
                }
            }
            _ => {}
        }
        if pod::is_terminal(p) {
            ended.push(p.clone());
        }
    });
    *missing = still_missing;
    if ended.len() > ENDED_MAX {
        let created = |p: &Arc<Pod>| p.metadata.creation_timestamp.as_ref().map(|time| time.0);
        ended.sort_by_key(created);
        ended.truncate(ended.len() - ENDED_MAX);
        garbage.extend(ended.into_iter().map(|p| (p, Reason::Ended)));
    }
    garbage
}

async fn collect(context: &Context, p: Arc<Pod>, reason: Reason) -> Result<(), kube::Error> {
    let namespace = p.metadata.namespace.as_deref().unwrap_or("");
    let name = p.metadata.name.as_deref().unwrap_or("");
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    if reason == Reason::NodeGone {
        let node = pod::node_name(&p).unwrap_or("");
        let nodes: Api<Node> = Api::all(context.client.clone());
        if nodes.get_opt(node).await?.is_some() {
            return Ok(());
        }
        if !pod::is_terminal(&p) {
            // Jobs count by the phase, so the pod has to end before it goes.
            let patch = json!({"metadata": {"uid": p.metadata.uid}, "status": {
                "phase": "Failed",
                "conditions": [{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "lastTransitionTime": pod::now(),
                }],
            }});
            gone_is_fine(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await)?;
        }
    }
    let preconditions = Preconditions { uid: p.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
    gone_is_fine(api.delete(name, &params).await)
}
