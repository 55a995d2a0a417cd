//! Node life cycle: notices nodes that fall silent, taints nodes by their conditions, and evicts
//! pods that do not tolerate it.
//!
//! Source: `pkg/controller/nodelifecycle` and `pkg/controller/tainteviction` of Kubernetes 1.36.

mod eviction;
mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::names::NODE_LEASE_NAMESPACE;
use api::usage::NodeUsage;
use client::{EventType, Index, Informer, Next, Recorder, Scope, WorkQueue, reference_to, run_workers};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::time::Instant;

use crate::{Context, Error, pod};

/// A node that shows no sign of life for this long is not counted on any more
/// (`--node-monitor-grace-period`); a node whose Lease holds longer gets as long as that.
const GRACE: Duration = Duration::from_secs(50);
/// Nodes worked on at the same time.
const WORKERS: usize = 16;

/// Runs the controller until the context's token is cancelled.
pub async fn run(context: Context) {
    let nodes: Informer<Node> = context.informers.of();
    let pods: Informer<Pod> = context.informers.of();
    let leases: Informer<Lease> = context
        .informers
        .scoped(Scope { namespace: Some(NODE_LEASE_NAMESPACE.to_owned()), ..Scope::default() });
    let queue: WorkQueue<String> = WorkQueue::new();
    let on_node = queue.clone();
    nodes.on_event(move |event| on_node.add(event.object().metadata.name.clone().unwrap_or_default()));
    let signs = Signs::default();
    let seen = signs.clone();
    leases.on_event(move |event| seen.take(event.object()));
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).into_iter().collect();
    let lifecycle = Arc::new(NodeLifecycle {
        client: context.client.clone(),
        nodes,
        pods: pods.index(node_of),
        signs,
        recorder: context.recorder("node-controller"),
    });
    let (woken, on_pod) = (lifecycle.nodes.clone(), queue.clone());
    pods.on_event(move |event| {
        // A pod that appears on a tainted node may have to leave again.
        let node = event.object().spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("");
        if woken.get("", node).is_some_and(|node| eviction::evicts(&node)) {
            on_pod.add(node.to_owned());
        }
    });
    lifecycle.nodes.synced().await;
    pods.synced().await;
    leases.synced().await;
    run_workers(
        queue,
        WORKERS,
        move |name: String| {
            let lifecycle = lifecycle.clone();
            async move { lifecycle.reconcile(&name).await }
        },
        context.stop.clone(),
    )
    .await;
}

/// When each node last showed a sign of life, on our own clock, so that theirs need not agree with it.
#[derive(Clone, Default)]
struct Signs {
    seen: Arc<Mutex<BTreeMap<String, Sign>>>,
}

#[derive(Clone, Copy)]
struct Sign {
    at: Instant,
    /// How long the node may stay silent after it.
    grace: Duration,
}

impl Signs {
    fn take(&self, lease: &Lease) {
        let node = lease.metadata.name.clone().unwrap_or_default();
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let held = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let sign = Sign { at: Instant::now(), grace: held.max(GRACE) };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(node, sign);
    }

    /// How long the node may still stay silent; zero if it has been for too long. A node that has
    /// shown nothing yet is given its time from now on.
    fn remaining(&self, node: &str) -> Duration {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let sign = *seen.entry(node.to_owned()).or_insert(Sign { at: now, grace: GRACE });
        sign.grace.saturating_sub(now.duration_since(sign.at))
    }

    fn forget(&self, node: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

struct NodeLifecycle {
    client: kube::Client,
    nodes: Informer<Node>,
    pods: Index<Pod>,
    signs: Signs,
    recorder: Recorder,
}

impl NodeLifecycle {
    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        let Some(node) = self.nodes.get("", name) else {
            self.signs.forget(name);
            return self.forget_usage(name).await;
        };
        let remaining = self.signs.remaining(name);
        let silent = remaining.is_zero();
        if silent && let Some(conditions) = plan::unknown_conditions(&node) {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder.event(&reference_to(node.as_ref()), EventType::Normal, "NodeNotReady", message);
            self.patch_status(name, json!({"status": {"conditions": conditions}})).await?;
            // The change comes back as an event, which brings the taints.
            return Ok(Next::Wait);
        }
        if let Some(taints) = plan::taints(&node) {
            let version = node.metadata.resource_version.clone();
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            let nodes: Api<Node> = Api::all(self.client.clone());
            match nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {}
                // The informer is behind; its next event brings the node back here.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(Next::After(remaining.max(Duration::from_secs(1))));
        }
        let pods = self.pods.get(name);
        if !plan::is_ready(&node) {
            self.mark_not_ready(&pods).await?;
        }
        let next_eviction = self.evict(&node, &pods).await?;
        let next_look = if silent { GRACE } else { remaining };
        Ok(Next::After(next_eviction.map_or(next_look, |eviction| eviction.min(next_look))))
    }

    /// Removes what a node that is gone said it used; on a cluster without that kind there is nothing.
    async fn forget_usage(&self, name: &str) -> Result<Next, Error> {
        let usages: Api<NodeUsage> = Api::all(self.client.clone());
        match usages.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(Next::Wait),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Next::Wait),
            Err(error) => Err(error.into()),
        }
    }

    async fn patch_status(&self, name: &str, patch: serde_json::Value) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        match nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets Ready to false on the pods of a node that is not ready, so that no traffic goes there.
    async fn mark_not_ready(&self, pods: &[Arc<Pod>]) -> Result<(), Error> {
        for pod in pods.iter().filter(|pod| pod::is_ready(pod)) {
            let now = base::clock::rfc3339(base::clock::now());
            let condition = json!({"type": "Ready", "status": "False", "reason": "NodeNotReady", "lastTransitionTime": now});
            let patch = json!({"status": {"conditions": [condition]}});
            let api = self.pods_of(pod);
            let name = pod.metadata.name.as_deref().unwrap_or("");
            match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Deletes the pods whose tolerance of the node's taints is used up; how long until the next one.
    async fn evict(&self, node: &Node, pods: &[Arc<Pod>]) -> Result<Option<Duration>, Error> {
        let now = base::clock::now();
        let mut next: Option<Duration> = None;
        for pod in pods {
            match eviction::due(node, pod, now) {
                None => {}
                Some(Duration::ZERO) => self.delete(pod).await?,
                Some(wait) => next = Some(next.map_or(wait, |next| next.min(wait))),
            }
        }
        Ok(next)
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or("");
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        self.recorder.event(&reference_to(pod), EventType::Normal, "TaintManagerEviction", message);
        let uid = pod.metadata.uid.clone();
        let params = DeleteParams::default().preconditions(Preconditions { uid, resource_version: None });
        match self.pods_of(pod).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn pods_of(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"))
    }
}
