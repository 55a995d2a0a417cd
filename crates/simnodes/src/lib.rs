//! Plays any number of nodes, and the pods on them, against the Kubernetes API.
//!
//! One engine with one timer queue, not a task per node or pod. It is level-triggered: it plays
//! every Node object that carries the label `sim.kobune.dev/simulated=true`, whoever created it, so
//! a restarted engine goes on where the former one stopped. Pods bound to such nodes start after a
//! delay, run, use CPU and memory by a load model, and end gracefully when they are deleted.

mod engine;
mod load;
mod node;
mod pod;

use std::sync::Arc;
use std::time::Duration;

use client::{CancellationToken, Informers};
use kube::api::{Api, PostParams};

pub use node::NodeSpec;

/// How the simulated world behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the binding of a pod to its containers running and ready.
    pub pod_start: Duration,
    /// From the deletion of a pod to its end, if its grace period is not shorter.
    pub pod_stop: Duration,
    /// How long a pod runs whose `restartPolicy` is not `Always` and that does not say otherwise.
    pub job_run: Duration,
    /// How often each node renews its Lease. The lease holds four times as long.
    pub lease_interval: Duration,
    /// How often the load model is evaluated; changed usage is reported at once.
    pub usage_interval: Duration,
    /// Unchanged usage is reported again after this long.
    pub usage_refresh: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pod_start: Duration::from_millis(800),
            pod_stop: Duration::from_millis(500),
            job_run: Duration::from_secs(5),
            lease_interval: Duration::from_secs(10),
            usage_interval: Duration::from_secs(1),
            usage_refresh: Duration::from_secs(30),
        }
    }
}

/// A running engine; clones share it.
#[derive(Clone)]
pub struct SimNodes {
    client: kube::Client,
    inbox: Arc<engine::Inbox>,
}

impl SimNodes {
    /// Starts the engine; it stops when `stop` is cancelled.
    pub fn start(
        client: kube::Client,
        informers: &Informers,
        config: Config,
        stop: CancellationToken,
    ) -> Self {
        let inbox = engine::Inbox::new();
        engine::start(client.clone(), informers, config, inbox.clone(), stop);
        Self { client, inbox }
    }

    /// Boots a node: registers its Node object, which the engine then plays. A node that is
    /// registered already is left as it is.
    pub async fn boot(&self, spec: &NodeSpec) -> Result<(), kube::Error> {
        let api: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &spec.to_node()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Pulls the plug: the node's Lease is no longer renewed and its pods no longer change, as when
    /// a machine vanishes. The Node object stays.
    pub fn kill(&self, node: &str) {
        self.inbox.kill(node);
    }
}
