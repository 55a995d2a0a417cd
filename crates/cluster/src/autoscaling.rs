//! The node autoscaler on the simulated cloud, whose machines become simulated nodes.

use api::karpenter::NodeClaim;
use client::{CancellationToken, Informers};
use cloud_sim::{Catalogue, Config, Hooks, Machine, SimCloud};
use simnodes::{NodeSpec, SimNodes};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::error::StartError;
use crate::options::Options;

/// A node that cannot register is tried again after this long; its API server is in this process.
const RETRY: Duration = Duration::from_millis(500);
/// So often a registration is tried before the machine is given up.
const ATTEMPTS: usize = 20;

/// Starts the cloud and the autoscaler on it.
pub(crate) async fn start(
    options: &Options,
    informers: &Informers,
    nodes: SimNodes,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let mut config = Config { boot_delay: options.boot_delay, ..Config::default() };
    if let Some(path) = &options.catalogue {
        config.catalogue = Catalogue::read(path, config.reserved)
            .map_err(|error| StartError::Catalogue(format!("{}: {error}", path.display())))?;
    }
    let killed = nodes.clone();
    let hooks = Hooks {
        on_running: Box::new(move |machine| {
            tokio::spawn(boot(nodes.clone(), machine));
        }),
        on_gone: Box::new(move |machine| killed.kill(&machine.node_name)),
    };
    let cloud = SimCloud::new(config, hooks);
    let claims = informers.of::<NodeClaim>();
    claims.synced().await;
    claims.for_each(|claim| adopt(&cloud, claim));
    tasks.spawn(autoscaler::run(autoscaler::Config::new(informers.clone(), Arc::new(cloud)), stop.clone()));
    Ok(())
}

async fn boot(nodes: SimNodes, machine: Machine) {
    let spec = NodeSpec {
        name: machine.node_name,
        cpu_milli: machine.cpu_milli,
        memory_bytes: machine.memory_bytes,
        pods: machine.pods,
        reserved: machine.reserved,
        labels: machine.labels,
        taints: machine.taints,
        provider_id: Some(machine.instance.id.to_string()),
        arch: machine.arch,
    };
    for _ in 0..ATTEMPTS {
        match nodes.boot(&spec).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(node = spec.name, %error, "a simulated node could not register"),
        }
        tokio::time::sleep(RETRY).await;
    }
    tracing::warn!(node = spec.name, "a simulated node could not register and is given up");
}

/// Tells the cloud of a machine that a former process rented, as its claim remembers it.
fn adopt(cloud: &SimCloud, claim: &NodeClaim) {
    let Some(rented) = autoscaler::rented(claim) else { return };
    if !cloud.adopt(&rented.request, rented.id, rented.offering, rented.is_registered) {
        tracing::warn!(
            claim = rented.request.claim,
            "the catalogue no longer has this claim's instance type"
        );
    }
}
