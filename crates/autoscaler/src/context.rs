//! What all loops share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::instance::InstanceType;
use api::karpenter::{NodeClaim, NodePool};
use client::{Event, Index, Informer, Recorder, WorkQueue};
use cloud::Cloud;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Preconditions};
use scaling::ledger::{Entry, Ledger, price_of};
use scaling::pool::{Limits, Pool};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Config;
use crate::claim;
use crate::decisions::Decisions;
use crate::offerings::Offerings;
use crate::picture::{self, Picture};

/// A node that was just chosen for pods is not removed for this long.
const NOMINATED: Duration = Duration::from_secs(10);

/// Shared by all loops.
pub(crate) struct Context {
    pub config: Config,
    pub client: kube::Client,
    pub cloud: Arc<dyn Cloud>,
    pub recorder: Recorder,
    pub decisions: Decisions,
    pub pods: Informer<Pod>,
    pub nodes: Informer<Node>,
    pub claims: Informer<NodeClaim>,
    pub pools: Informer<NodePool>,
    pub budgets: Informer<PodDisruptionBudget>,
    pub daemon_sets: Informer<DaemonSet>,
    /// Pods by the name of their node.
    pub pods_on: Index<Pod>,
    /// Nodes by the name of their machine.
    pub nodes_of: Index<Node>,
    /// Claims by the name of their machine.
    pub claims_of: Index<NodeClaim>,
    /// Nodes and pods as the placement engine sees them.
    pub picture: Mutex<Picture>,
    /// Offerings without capacity.
    pub offerings: Offerings,
    /// Claims to look at.
    pub claim_queue: WorkQueue<String>,
    /// Pools to look at.
    pub pool_queue: WorkQueue<String>,
    /// Something changed that may leave pods without a place.
    pub wake_provisioning: Arc<Notify>,
    /// Something changed that may make a node superfluous.
    pub wake_disruption: Arc<Notify>,
    /// Claims that were created but that the informer may not show yet.
    pub fresh_claims: Mutex<BTreeMap<String, (NodeClaim, Instant)>>,
    /// Claims that pods were just promised, and until when they are safe.
    pub nominated: Mutex<BTreeMap<String, Instant>>,
    /// When a pod last came to or left each node.
    pub pod_activity: Arc<Mutex<BTreeMap<String, Instant>>>,
    /// Machines that the cloud has reported gone.
    pub gone: Mutex<BTreeSet<String>>,
}

/// Locks, whatever happened to others who held the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Registers with the informers and waits until they have the present state.
    pub(crate) async fn start(config: Config) -> Arc<Self> {
        let informers = config.informers.clone();
        let context = Arc::new(Self {
            client: config.client.clone(),
            cloud: config.cloud.clone(),
            recorder: Recorder::new(config.client.clone(), "kobune-autoscaler"),
            decisions: Decisions::new(config.client.clone()),
            pods_on: informers
                .of::<Pod>()
                .index(|pod| picture::node_of(pod).map(str::to_owned).into_iter().collect()),
            nodes_of: informers.of::<Node>().index(|node| machine_of(node).into_iter().collect()),
            claims_of: informers
                .of::<NodeClaim>()
                .index(|claim| claim::provider_id(claim).map(str::to_owned).into_iter().collect()),
            pods: informers.of(),
            nodes: informers.of(),
            claims: informers.of(),
            pools: informers.of(),
            budgets: informers.of(),
            daemon_sets: informers.of(),
            picture: Mutex::new(Picture::new(&informers, config.scheduler_name.clone())),
            offerings: Offerings::default(),
            claim_queue: WorkQueue::new(),
            pool_queue: WorkQueue::new(),
            wake_provisioning: Arc::default(),
            wake_disruption: Arc::default(),
            fresh_claims: Mutex::default(),
            nominated: Mutex::default(),
            pod_activity: Arc::default(),
            gone: Mutex::default(),
            config,
        });
        context.subscribe();
        context.pools.synced().await;
        context.claims.synced().await;
        context.nodes.synced().await;
        context.pods.synced().await;
        context.budgets.synced().await;
        context.daemon_sets.synced().await;
        context
    }

    fn subscribe(self: &Arc<Self>) {
        let (queue, pools) = (self.claim_queue.clone(), self.pool_queue.clone());
        let (provisioning, disruption) = (self.wake_provisioning.clone(), self.wake_disruption.clone());
        let context = Arc::downgrade(self);
        self.claims.on_event(move |event| {
            if let Some(context) = context.upgrade() {
                // From here on the informer tells, of the claim's end too.
                lock(&context.fresh_claims).remove(claim::name(event.object()));
                if let Event::Deleted(last) = event
                    && let Some(machine) = claim::provider_id(last)
                {
                    lock(&context.gone).remove(machine);
                }
            }
            queue.add(claim::name(event.object()).to_owned());
            pools.add(claim::pool(event.object()).to_owned());
            provisioning.notify_one();
            disruption.notify_one();
        });
        let (provisioning, disruption) = (self.wake_provisioning.clone(), self.wake_disruption.clone());
        let queue = self.pool_queue.clone();
        self.pools.on_event(move |event| {
            queue.add(event.object().metadata.name.clone().unwrap_or_default());
            provisioning.notify_one();
            disruption.notify_one();
        });
        let (context, provisioning) = (Arc::downgrade(self), self.wake_provisioning.clone());
        let disruption = self.wake_disruption.clone();
        self.nodes.on_event(move |event| {
            let Some(context) = context.upgrade() else { return };
            if let Event::Deleted(last) = event {
                lock(&context.pod_activity).remove(last.metadata.name.as_deref().unwrap_or_default());
            }
            // The claim of a node is found by its machine, or by its name before that is known.
            let machine = machine_of(event.object()).unwrap_or_default();
            for claim in context.claims_of.get(&machine) {
                context.claim_queue.add(claim::name(&claim).to_owned());
            }
            provisioning.notify_one();
            disruption.notify_one();
        });
        let disruption = self.wake_disruption.clone();
        self.budgets.on_event(move |event| {
            // A budget may have become looser; most of their events only count pods.
            if let Event::Applied { old: Some(old), new } = event
                && allowed_by(old) == allowed_by(new)
                && old.spec == new.spec
            {
                return;
            }
            disruption.notify_one();
        });
        self.subscribe_to_pods();
    }

    fn subscribe_to_pods(self: &Arc<Self>) {
        let (context, activity) = (Arc::downgrade(self), self.pod_activity.clone());
        let scheduler = self.config.scheduler_name.clone();
        self.pods.on_event(move |event| {
            let Some(context) = context.upgrade() else { return };
            let (before, after) = match event {
                Event::Applied { old, new } => {
                    (old.and_then(|old| picture::occupied(old)), picture::occupied(new))
                }
                Event::Deleted(last) => (picture::occupied(last), None),
            };
            if picture::is_unschedulable(event.object(), &scheduler) {
                context.wake_provisioning.notify_one();
            }
            let node = picture::node_of(event.object());
            if before != after {
                for node in [before, after].into_iter().flatten() {
                    // Pods outlive their node's object for a moment; nobody asks about that one again.
                    if context.nodes.get("", node).is_some() {
                        lock(&activity).insert(node.to_owned(), Instant::now());
                    }
                }
                context.wake_disruption.notify_one();
            }
            // A node that is being drained waits for its pods to go.
            if let Some(node) = node
                && let Some(claim) = context.claim_of_node(node)
                && (claim::is_deleting(&claim) || claim::is_interrupted(&claim))
            {
                context.claim_queue.add(claim::name(&claim).to_owned());
            }
        });
    }

    /// The claim of a node.
    pub(crate) fn claim_of_node(&self, node: &str) -> Option<Arc<NodeClaim>> {
        let node = self.nodes.get("", node)?;
        self.claims_of.get(&machine_of(&node)?).into_iter().next()
    }

    /// The node of a claim.
    pub(crate) fn node_of_claim(&self, claim: &NodeClaim) -> Option<Arc<Node>> {
        self.nodes_of.get(claim::provider_id(claim)?).into_iter().next()
    }

    /// All claims, those included that the informer does not show yet.
    pub(crate) fn all_claims(&self) -> Vec<Arc<NodeClaim>> {
        let mut claims = self.claims.list();
        let mut fresh = lock(&self.fresh_claims);
        let now = Instant::now();
        fresh.retain(|name, (_, created)| {
            self.claims.get("", name).is_none() && now.duration_since(*created) < NOMINATED
        });
        claims.extend(fresh.values().map(|(claim, _)| Arc::new(claim.clone())));
        claims
    }

    /// The pools that can be used, with what they have.
    pub(crate) fn usable_pools(&self, catalogue: &[InstanceType]) -> Vec<(Pool, Limits)> {
        let claims = self.all_claims();
        self.pools
            .list()
            .iter()
            .filter(|pool| pool.metadata.deletion_timestamp.is_none())
            .filter_map(|pool| Pool::of(pool).ok())
            .map(|pool| {
                let mut used = Limits::ZERO;
                for claim in claims.iter().filter(|claim| claim::pool(claim) == &*pool.name) {
                    let key = claim::offering(claim)
                        .or_else(|| Some(claim::ranked(claim, catalogue).first()?.2.clone()));
                    let kind =
                        key.and_then(|key| catalogue.iter().find(|kind| kind.name == key.instance_type));
                    if let Some(kind) = kind {
                        used.add(&kind.capacity, 1);
                    }
                }
                (pool, used)
            })
            .collect()
    }

    /// What is rented now, at present prices.
    pub(crate) fn ledger(&self, catalogue: &[InstanceType]) -> Ledger {
        let mut ledger = Ledger::default();
        for claim in self.all_claims() {
            let best = || {
                let ranked = claim::ranked(&claim, catalogue);
                ranked.first().map(|(_, _, key)| key.clone())
            };
            if let Some(offering) = claim::offering(&claim).or_else(best)
                && let Some(dollars_per_hour) = price_of(catalogue, &offering)
            {
                ledger.enter(claim::name(&claim), Entry { offering, dollars_per_hour });
            }
        }
        ledger
    }

    /// Keeps a claim from being disrupted for a moment, because pods were promised its node.
    pub(crate) fn nominate(&self, claim: &str) {
        let mut nominated = lock(&self.nominated);
        let now = Instant::now();
        nominated.retain(|_, until| *until > now);
        nominated.insert(claim.to_owned(), now + NOMINATED);
    }

    /// Until when pods count on the claim.
    pub(crate) fn nominated_until(&self, claim: &str) -> Option<Instant> {
        lock(&self.nominated).get(claim).copied().filter(|until| *until > Instant::now())
    }

    pub(crate) fn claim_api(&self) -> Api<NodeClaim> {
        Api::all(self.client.clone())
    }

    pub(crate) fn node_api(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }
}

/// The name of a node's machine.
pub(crate) fn machine_of(node: &Node) -> Option<String> {
    node.spec.as_ref()?.provider_id.clone().filter(|id| !id.is_empty())
}

/// How many pods a budget allows to evict.
pub(crate) fn allowed_by(budget: &PodDisruptionBudget) -> i32 {
    budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
}

/// Whether an error says that the object is gone, or replaced by another of its name.
pub(crate) fn is_gone_or_replaced(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

/// Deletes this very object and none that has its name later.
pub(crate) fn exactly(metadata: &ObjectMeta) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions { uid: metadata.uid.clone(), resource_version: None })
}

/// Whether an error says that the object is gone.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// What went wrong in a reconciliation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server said no.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// The cloud said no.
    #[error(transparent)]
    Cloud(#[from] cloud::CloudError),
}
