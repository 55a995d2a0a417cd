//! The controllers of the workload kinds: each brings one kind of object in line with what is asked.
//!
//! Each module has a pure part that plans (observed state in, actions out) and a thin part that
//! carries the plan out. They talk to the API server through `kube::Client` and informers alone, so
//! they run against any cluster. All are level-triggered: an event only says which object to look
//! at, and a pass that is repeated changes nothing.

mod batch;
mod bootstrap_signer;
mod bootstrap_token;
mod certificates;
mod cluster_role_aggregation;
mod context;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod garbage_collector;
mod history;
mod hpa;
mod in_flight;
mod int_or_percent;
mod job;
mod namespace;
mod node_lifecycle;
mod owner;
mod pod;
mod pod_gc;
mod replica_set;
mod resource_quota;
mod service_account;
mod service_account_token;
mod service_cidr;
mod stateful_set;
mod template;
mod written;

use std::time::Duration;

use client::{CancellationToken, Informers};
use tokio::task::JoinSet;

pub use certificates::Authority;
pub use context::{Context, Error, SignToken};

/// What the controllers need.
#[derive(Clone)]
pub struct Config {
    /// The way to the API server, as a user with the rights of `kube-controller-manager`.
    pub client: kube::Client,
    /// The process' informers; may be shared with other components.
    pub informers: Informers,
    /// PEM certificates published as `kube-root-ca.crt` in every namespace; nothing if empty.
    pub root_ca: String,
    /// Signs approved certificate requests; none are signed without it.
    pub authority: Option<std::sync::Arc<Authority>>,
    /// Signs the claims of tokens that secrets hold; none are made without it.
    pub sign_token: Option<SignToken>,
}

/// How long a controller that panicked is left alone.
const RESTART: Duration = Duration::from_secs(1);

type Run = fn(Context) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// All controllers by name.
const CONTROLLERS: &[(&str, Run)] = &[
    ("bootstrapsigner", |context| Box::pin(bootstrap_signer::run(context))),
    ("bootstraptoken", |context| Box::pin(bootstrap_token::run(context))),
    ("certificatesigningrequest", |context| Box::pin(certificates::run(context))),
    ("clusterroleaggregation", |context| Box::pin(cluster_role_aggregation::run(context))),
    ("cronjob", |context| Box::pin(cron_job::run(context))),
    ("daemonset", |context| Box::pin(daemon_set::run(context))),
    ("deployment", |context| Box::pin(deployment::run(context))),
    ("disruption", |context| Box::pin(disruption::run(context))),
    ("endpoint", |context| Box::pin(endpoints::run(context))),
    ("endpointslice", |context| Box::pin(endpoint_slice::run(context))),
    ("endpointslicemirroring", |context| Box::pin(endpoint_slice_mirroring::run(context))),
    ("garbagecollector", |context| Box::pin(garbage_collector::run(context))),
    ("horizontalpodautoscaler", |context| Box::pin(hpa::run(context))),
    ("job", |context| Box::pin(job::run(context))),
    ("namespace", |context| Box::pin(namespace::run(context))),
    ("nodelifecycle", |context| Box::pin(node_lifecycle::run(context))),
    ("podgc", |context| Box::pin(pod_gc::run(context))),
    ("replicaset", |context| Box::pin(replica_set::run(context))),
    ("replicationcontroller", |context| Box::pin(replica_set::run_replication_controllers(context))),
    ("resourcequota", |context| Box::pin(resource_quota::run(context))),
    ("serviceaccount", |context| Box::pin(service_account::run(context))),
    ("serviceaccounttoken", |context| Box::pin(service_account_token::run(context))),
    ("servicecidr", |context| Box::pin(service_cidr::run(context))),
    ("statefulset", |context| Box::pin(stateful_set::run(context))),
];

/// The names of all controllers.
pub fn names() -> impl Iterator<Item = &'static str> {
    CONTROLLERS.iter().map(|(name, _)| *name)
}

/// Runs the controllers that `which` picks by name (see [`names`]) until `stop` is cancelled.
pub async fn run(config: Config, which: impl Fn(&str) -> bool, stop: CancellationToken) {
    let mut context = Context::new(config.client, config.informers, config.root_ca, stop);
    context.authority = config.authority;
    context.sign_token = config.sign_token;
    let mut running = JoinSet::new();
    for (name, start) in CONTROLLERS.iter().filter(|(name, _)| which(name)) {
        running.spawn(keep_running(name, *start, context.clone()));
    }
    while running.join_next().await.is_some() {}
}

/// Runs a controller again if it panics: the others, and the cluster, go on meanwhile.
async fn keep_running(name: &str, start: Run, context: Context) {
    while let Err(panic) = tokio::spawn(start(context.clone())).await {
        tracing::error!(controller = name, %panic, "a controller panicked; starting it again");
        if context.stop.run_until_cancelled(tokio::time::sleep(RESTART)).await.is_none() {
            return;
        }
    }
}
