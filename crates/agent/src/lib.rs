//! The node agent: one real node. It registers the node, runs the pods that are bound to it on a container
//! runtime behind the `runtime` trait, reports their status and use, and serves logs, exec, attach and
//! port forwarding on the kubelet's HTTPS paths.
//!
//! All it needs to know survives in the API and in the labels of containers: [`run`] adopts whatever an
//! earlier run left, and leaves pods running when it ends. [`teardown`] removes them.

mod cgroup;
mod http_get;
mod identity;
mod logs;
mod machine;
mod node;
mod objects;
mod owners;
mod pod;
mod pods;
mod server;
mod usage;
mod volume;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{CancellationToken, Informers, Recorder};
use runtime::Runtime;
use tokio::sync::Semaphore;

pub use machine::Machine;

/// Images that are fetched at the same time.
const PULLS_MAX: usize = 4;

/// A node's configuration.
#[derive(Clone)]
pub struct Config {
    /// Identity `system:node:<name>` in `system:nodes`.
    pub client: kube::Client,
    /// Shared with other components of the process.
    pub informers: Informers,
    /// The engine.
    pub runtime: Arc<dyn Runtime>,
    /// Name of the Node object.
    pub node_name: String,
    /// Address under which the API server and pods reach this node.
    pub node_ip: String,
    /// Pod directories and volumes.
    pub root_dir: PathBuf,
    /// Container logs.
    pub log_dir: PathBuf,
    /// Parent of the pods' cgroups, with a leading slash.
    pub cgroup_root: String,
    /// The cluster's name server, if it has one.
    pub cluster_dns: Option<String>,
    /// Domain of services, usually `cluster.local`.
    pub cluster_domain: String,
    /// Further labels of the Node.
    pub labels: BTreeMap<String, String>,
    /// How many pods the node takes.
    pub pods_max: u32,
    /// What the node has; measured when `None`.
    pub machine: Option<Machine>,
    /// The kubelet's server; none when `None`.
    pub server: Option<Server>,
}

/// The kubelet's HTTPS server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where to listen; port 0 takes any. The port is published in the Node.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: String,
    /// Private key, PEM.
    pub key: String,
    /// CA of the clients that are let in, PEM: the API server's client certificate.
    pub client_ca: String,
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error("container runtime: {0}")]
    Runtime(#[from] runtime::Error),
    /// The API failed.
    #[error("API: {0}")]
    Api(#[from] kube::Error),
    /// A file could not be used.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An object could not be written down.
    #[error("encoding: {0}")]
    Encoding(#[from] serde_json::Error),
    /// The server's certificates cannot be used, or its address is taken.
    #[error("node server: {0}")]
    Server(String),
}

/// What every part of the agent sees.
pub(crate) struct Shared {
    pub config: Config,
    /// Name of the engine: the scheme of container identifiers.
    pub engine: String,
    pub machine: Machine,
    pub recorder: Recorder,
    pub objects: objects::Objects,
    pub pulls: Semaphore,
    pub owners: owners::Owners,
}

impl Shared {
    fn pod_directory(&self, uid: &str) -> PathBuf {
        self.config.root_dir.join("pods").join(uid)
    }
}

/// Runs the node until `shutdown`. Its pods keep running and are adopted by the next run.
pub async fn run(mut config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    // Mounts and logs are given to the engine, which runs elsewhere, by absolute paths.
    for path in [&mut config.root_dir, &mut config.log_dir] {
        *path = std::path::absolute(&*path).map_err(|source| Error::Io { path: path.clone(), source })?;
    }
    let version = wait_for_engine(config.runtime.as_ref(), &shutdown).await?;
    let machine = config.machine.clone().unwrap_or_else(Machine::measure);
    let services = config.informers.of();
    let pods = pods::informer(&config);
    let shared = Arc::new(Shared {
        engine: version.name.clone(),
        machine,
        recorder: Recorder::new(config.client.clone(), "kubelet"),
        objects: objects::Objects::new(config.client.clone(), services),
        pulls: Semaphore::new(PULLS_MAX),
        owners: owners::Owners::default(),
        config,
    });
    let server = match &shared.config.server {
        Some(server) => Some(server::Listening::bind(server, shared.clone(), pods.clone()).await?),
        None => None,
    };
    let node = node::Registration::new(shared.clone(), version, server.as_ref().map(|s| s.port));
    let parts = async {
        tokio::join!(
            node.run(),
            pods::run(shared.clone(), pods.clone()),
            usage::run(shared.clone()),
            logs::rotate(shared.clone()),
            async {
                match server {
                    Some(server) => server.run().await,
                    None => std::future::pending().await,
                }
            },
        )
    };
    shutdown.run_until_cancelled(parts).await;
    Ok(())
}

/// The engine may still be starting, or be restarted right now.
async fn wait_for_engine(
    runtime: &dyn Runtime,
    shutdown: &CancellationToken,
) -> Result<runtime::Version, Error> {
    let mut attempts = 0;
    loop {
        match runtime.version().await {
            Ok(version) => return Ok(version),
            Err(error) if attempts >= 100 || shutdown.is_cancelled() => return Err(error.into()),
            Err(_) => attempts += 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Stops and removes every pod of the engine and what the agent keeps for them, giving containers up to
/// `grace` to end. For `kobune down`: the agent must not be running.
pub async fn teardown(config: &Config, grace: Duration) -> Result<(), Error> {
    let sandboxes = config.runtime.sandboxes(&runtime::Labels::new()).await?;
    let ours = sandboxes.iter().filter(|s| identity::PodId::from_labels(&s.labels).is_some());
    let results = futures::future::join_all(
        ours.map(|s| pods::remove_sandbox(config.runtime.as_ref(), s, Some(grace))),
    )
    .await;
    results.into_iter().collect::<Result<Vec<()>, _>>()?;
    for directory in std::fs::read_dir(config.root_dir.join("pods")).into_iter().flatten().flatten() {
        let path = directory.path();
        volume::tear_down(&path).map_err(|source| Error::Io { path, source })?;
    }
    match std::fs::remove_dir_all(&config.log_dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Io { path: config.log_dir.clone(), source });
        }
        _ => {}
    }
    cgroup::remove(&config.cgroup_root);
    Ok(())
}
