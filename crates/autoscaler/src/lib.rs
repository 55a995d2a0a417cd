//! Node autoscaling: the loops around `scaling`.
//!
//! Files are named by phase of life, as Karpenter's are: a pod that fits nowhere leads to
//! [`provisioning`]; its NodeClaim goes through [`launch`], [`registration`] and [`initialization`]
//! under the eye of [`liveness`]; [`disruption`], [`interruption`] or the user end it, by
//! [`termination`]. [`garbage`] picks up what a crash left behind. All state that matters is in the
//! API: NodePools, NodeClaims, Nodes and Pods; after a restart everything goes on.

mod claim;
mod context;
mod decisions;
mod disruption;
mod garbage;
mod initialization;
mod interruption;
mod launch;
mod lifecycle;
mod liveness;
mod nodepool;
mod offerings;
mod picture;
mod provisioning;
mod registration;
mod termination;

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::NodeClaim;
use client::{CancellationToken, Informers};
use cloud::{Cloud, InstanceId, LaunchRequest, OfferingKey};
use scaling::consolidate::Economics;
use tokio::task::JoinSet;

/// What an autoscaler needs.
#[derive(Clone)]
pub struct Config {
    /// For everything it writes.
    pub client: kube::Client,
    /// Shared informers; those of Pods, Nodes, NodeClaims, NodePools, PodDisruptionBudgets and
    /// DaemonSets are used.
    pub informers: Informers,
    /// Where machines come from.
    pub cloud: Arc<dyn Cloud>,
    /// The pods of this scheduler are provided for.
    pub scheduler_name: String,
    /// A decision waits until no pod has become unschedulable for this long, …
    pub batch_idle: Duration,
    /// … but no longer than this.
    pub batch_max: Duration,
    /// A machine whose node has not joined after this long is given up.
    pub registration_timeout: Duration,
    /// What moving pods costs and how long it pays.
    pub economics: Economics,
}

impl Config {
    /// The usual settings.
    pub fn new(informers: Informers, cloud: Arc<dyn Cloud>) -> Self {
        Self {
            client: informers.client().clone(),
            informers,
            cloud,
            scheduler_name: "default-scheduler".to_owned(),
            batch_idle: Duration::from_millis(100),
            batch_max: Duration::from_secs(1),
            registration_timeout: Duration::from_secs(15 * 60),
            economics: Economics::default(),
        }
    }
}

/// What was rented for a claim, if anything: with this a provider that forgets its machines at a
/// restart is reminded of them.
pub fn rented(claim: &NodeClaim) -> Option<Rented> {
    let offering = claim::offering(claim)?;
    Some(Rented {
        id: InstanceId::new(claim::provider_id(claim)?),
        request: launch::request(claim, vec![offering.clone()]),
        offering,
        is_registered: claim::is(claim, claim::REGISTERED),
    })
}

/// A machine as its claim remembers it.
#[derive(Clone, Debug)]
pub struct Rented {
    /// The machine.
    pub id: InstanceId,
    /// What it was rented as.
    pub offering: OfferingKey,
    /// What would be asked for again: the claim's name, and what the node registers with.
    pub request: LaunchRequest,
    /// Whether its node has joined. If not, it may still have been booting.
    pub is_registered: bool,
}

/// Scales nodes until `stop`.
pub async fn run(config: Config, stop: CancellationToken) {
    let Some(context) = stop.run_until_cancelled(context::Context::start(config)).await else { return };
    let mut loops = JoinSet::new();
    loops.spawn(provisioning::run(context.clone()));
    loops.spawn(disruption::run(context.clone()));
    loops.spawn(interruption::run(context.clone()));
    loops.spawn(garbage::run(context.clone()));
    loops.spawn(nodepool::run(context.clone(), stop.clone()));
    loops.spawn(lifecycle::run(context, stop.clone()));
    stop.cancelled().await;
    loops.shutdown().await;
}
