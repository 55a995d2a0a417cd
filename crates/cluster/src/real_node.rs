//! The one real node of this machine: a container runtime and the agent on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::ApiServer;
use apiserver::pki::Pki;
use client::{CancellationToken, Informers};
use runtime::Runtime;
use runtime_cri::{Cri, private};
use tokio::task::JoinSet;

use crate::nodes::RuntimeInUse;
use crate::options::{Options, RuntimeChoice};
use crate::{Component, StartError};

/// Where distributions put containerd's socket.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// How long a runtime may take to say that it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long containers get to end when the cluster is stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The most pods on the node, as the kubelet's default.
const PODS_MAX: u32 = 110;

/// What the nodes of this cluster will be made of, after looking around.
pub(crate) async fn choose(options: &Options) -> Result<RuntimeInUse, StartError> {
    if !options.components.has(Component::Nodes) {
        return Ok(RuntimeInUse::None);
    }
    match (options.runtime, options.nodes) {
        (RuntimeChoice::Sim, _) | (RuntimeChoice::Auto, 0) => Ok(RuntimeInUse::Simulated { reason: None }),
        (RuntimeChoice::Auto, 2..) => {
            Ok(RuntimeInUse::Simulated { reason: Some("a machine is one real node".to_owned()) })
        }
        (RuntimeChoice::Cri, 0) => Ok(RuntimeInUse::None),
        (RuntimeChoice::Cri, 2..) => Err(StartError::Runtime(
            "a machine is one real node: use --nodes 1, or --runtime sim for simulated ones".to_owned(),
        )),
        (RuntimeChoice::Auto | RuntimeChoice::Cri, 1) => match find_containerd().await {
            Ok(found) => Ok(found),
            Err(reason) if options.runtime == RuntimeChoice::Auto => {
                Ok(RuntimeInUse::Simulated { reason: Some(reason) })
            }
            Err(reason) => Err(StartError::Runtime(reason)),
        },
    }
}

/// A containerd that answers, or one of our own if that is possible; else why not.
async fn find_containerd() -> Result<RuntimeInUse, String> {
    let socket = Path::new(CONTAINERD_SOCKET);
    if socket.exists() {
        match tokio::time::timeout(ANSWER_WITHIN, Cri::new(socket).version()).await {
            Ok(Ok(_)) => return Ok(RuntimeInUse::Containerd(CONTAINERD_SOCKET.to_owned())),
            Ok(Err(error)) => tracing::info!(%error, "{CONTAINERD_SOCKET} is there but cannot be used"),
            Err(_) => tracing::info!("{CONTAINERD_SOCKET} is there but does not answer"),
        }
    }
    match private::unavailable() {
        None => Ok(RuntimeInUse::PrivateContainerd),
        Some(reason) => Err(reason),
    }
}

/// The real node while it runs.
pub(crate) struct RealNode {
    agent: agent::Config,
    private: Option<private::Config>,
}

/// Starts the runtime if it is our own, and the agent on it.
pub(crate) async fn start(
    choice: &RuntimeInUse,
    options: &Options,
    server: &ApiServer,
    pki: &Pki,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<RealNode, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Runtime(error.to_string());
    let private_config = private_config(&options.data_dir);
    let cgroup_root = private_config.cgroup_root.clone();
    let (runtime, private): (Arc<dyn Runtime>, _) = match choice {
        RuntimeInUse::Containerd(socket) => (Arc::new(Cri::new(Path::new(socket))), None),
        _ => {
            let started = private::up(private_config.clone()).await.map_err(|error| failed(&error))?;
            if runtime_cri::image::has_busybox() {
                started.import_busybox().await.map_err(|error| failed(&error))?;
            }
            let engine = started.engine();
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(started.supervise()).await;
            });
            (Arc::new(engine), Some(private_config))
        }
    };
    let (name, ip) = (node_name(), node_ip());
    let credentials = pki.kubelet(&name, &[ip.to_string(), name.clone()])?;
    let user = UserInfo::new(format!("system:node:{name}"), &["system:nodes"]);
    let client = client::in_process(server.clone(), user);
    let config = agent::Config {
        informers: Informers::new(client.clone()),
        client,
        runtime,
        node_name: name,
        node_ip: ip.to_string(),
        root_dir: options.data_dir.join("agent"),
        log_dir: options.data_dir.join("logs"),
        cgroup_root,
        cluster_dns: options.cluster_dns.map(|address| address.to_string()),
        cluster_domain: "cluster.local".to_owned(),
        labels: BTreeMap::new(),
        pods_max: PODS_MAX,
        machine: None,
        server: Some(agent::Server {
            listen: SocketAddr::new(ip, 0),
            certificate: credentials.certificate_pem,
            key: credentials.key_pem,
            client_ca: pki.ca_pem().to_owned(),
        }),
    };
    let (running, stop) = (config.clone(), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = agent::run(running, stop).await {
            tracing::error!(%error, "the node agent ended");
        }
    });
    Ok(RealNode { agent: config, private })
}

impl RealNode {
    /// Stops the pods and, if it is our own, the runtime. The agent must have ended.
    pub async fn stop(self) {
        if let Err(error) = agent::teardown(&self.agent, STOP_GRACE).await {
            tracing::error!(%error, "some pods could not be stopped in order");
        }
        if let Some(private) = self.private
            && let Err(error) = private::down(&private).await
        {
            tracing::error!(%error, "the private containerd left something behind");
        }
    }
}

/// Removes what a private containerd left that was not stopped in order.
pub(crate) async fn clean_up(data_dir: &Path) -> Result<(), StartError> {
    private::down(&private_config(data_dir)).await.map_err(|error| StartError::Runtime(error.to_string()))
}

fn private_config(data_dir: &Path) -> private::Config {
    let mut config = private::Config::of(data_dir, &pod_cidr(data_dir));
    config.volumes = Some(data_dir.join("agent"));
    config
}

/// Addresses of the pods of one cluster: clusters of different directories on one machine should not
/// share them, so the directory picks one of 256 blocks.
fn pod_cidr(data_dir: &Path) -> String {
    let bytes = data_dir.as_os_str().as_encoded_bytes();
    // FNV-1a, for a choice that is the same in every run.
    let hash =
        bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("10.244.{}.0/24", hash % 256)
}

/// The machine's name, as nodes are called.
fn node_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() { "kobune".to_owned() } else { name }
}

/// The address by which this machine reaches others; the loopback address if it reaches none.
fn node_ip() -> IpAddr {
    // Connecting a datagram socket sends nothing; it only asks the kernel for a route.
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    match route() {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}
