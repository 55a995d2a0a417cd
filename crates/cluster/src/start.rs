//! Brings a cluster up, stage by stage, and down again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::kind::Registry;
use apiserver::pki::Pki;
use apiserver::{ApiServer, KubeletAccess};
use client::{CancellationToken, Informers};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::Api;
use simnodes::SimNodes;
use store_embedded::Embedded;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::access;
use crate::autoscaling;
use crate::error::StartError;
use crate::files::{at, create_private_dir, write_private};
use crate::kubeconfig::kubeconfig;
use crate::nodes::{RuntimeInUse, boot_simulated};
use crate::real_node::{self, RealNode};
use crate::run_state::{RunState, process_start};
use crate::{Component, Options};

/// How long the cluster may take from its start until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long the components may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A step of the start that is done.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What was done, in a few words.
    pub what: String,
    /// How long it took.
    pub took: Duration,
}

/// A running cluster.
pub struct Cluster {
    /// The API server's URL.
    pub url: String,
    /// The kubeconfig file.
    pub kubeconfig: PathBuf,
    /// What the nodes are made of.
    pub runtime: RuntimeInUse,
    /// From the call of [`start`] to the API being served and every node from the start being ready.
    pub ready_in: Duration,
    server: ApiServer,
    store: Arc<Embedded>,
    options: Options,
    real_node: Option<RealNode>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Cluster {
    /// A client in this process with all rights.
    pub fn client(&self) -> kube::Client {
        client::in_process(self.server.clone(), UserInfo::component("kobune"))
    }

    fn run_state(&self) -> RunState {
        let pid = std::process::id();
        RunState {
            pid,
            process_start: process_start(pid).unwrap_or(0),
            url: self.url.clone(),
            nodes: self.runtime.to_string(),
            components: self.options.components.to_string(),
            started: base::clock::rfc3339(base::clock::now()),
            private_containerd: self.runtime == RuntimeInUse::PrivateContainerd,
        }
    }

    /// Stops everything in order. What was acknowledged is on disk; pods on real nodes are stopped.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.server.shut_down();
        let drained =
            tokio::time::timeout(STOP_WITHIN, async { while self.tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(
                seconds = STOP_WITHIN.as_secs(),
                "components did not stop in time; giving them up"
            );
            self.tasks.abort_all();
        }
        if let Some(node) = self.real_node.take() {
            node.stop().await;
        } else if self.runtime == RuntimeInUse::PrivateContainerd
            && let Err(error) = real_node::clean_up(&self.options.data_dir).await
        {
            // The start failed after containerd was launched and before there was a node on it.
            tracing::error!(%error, "the private containerd left something behind");
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close cleanly; what was acknowledged is on disk");
        }
        RunState::remove(&self.options.data_dir);
    }
}

/// Starts a cluster and waits until it is ready. `report` is told each stage as it is done.
///
/// # Errors
/// When something it needs cannot be had; what was started is stopped again.
pub async fn start(options: Options, report: impl FnMut(&Stage)) -> Result<Cluster, StartError> {
    let began = Instant::now();
    let mut stages = Stages { report, last: began };

    create_private_dir(&options.data_dir)?;
    if let Some(running) = RunState::read(&options.data_dir).filter(RunState::is_alive) {
        return Err(StartError::Running { dir: options.data_dir.clone(), pid: running.pid });
    }
    let tokens = read_tokens(&options)?;
    // Claim the address first: the likeliest mistake should cost no time and change nothing.
    let listener = apiserver::listen(options.listen)
        .map_err(|cause| StartError::Listen { address: options.listen, cause })?;
    let address =
        listener.local_addr().map_err(|cause| StartError::Listen { address: options.listen, cause })?;

    let store = Arc::new(open_store(&options).await?);
    stages.done("store opened");

    let pki = Pki::load_or_create(&options.data_dir.join("pki"))?;
    let bare = options.components.is_bare_apiserver();
    let mut config = apiserver::Config::new(store.clone());
    config.registry = if bare { Registry::builtin() } else { Registry::with_platform() };
    config.tokens = tokens;
    config.service_account_key_pem = pki.service_account_key_pem().to_owned();
    config.kubelets = Some(KubeletAccess { client: pki.kubelet_client()?, ca_pem: pki.ca_pem().to_owned() });
    config.proxy_client = Some(pki.proxy_client()?);
    config.advertise = Some(address);
    access::apply(&options, &pki, &mut config)?;
    let server = ApiServer::start(config).await?;

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let proxies = access::front_proxy_authority(&options)?;
    let tls = pki.server_config_with(&[address.ip()], &options.tls_names, &proxies)?;
    tasks.spawn(apiserver::serve(listener, tls, server.clone(), stop.clone().cancelled_owned()));
    let url = format!("https://{}", client_address(address));
    let kubeconfig_path = options.data_dir.join("kubeconfig");
    write_private(&kubeconfig_path, kubeconfig(&url, pki.ca_pem(), &pki.admin()?).as_bytes())?;
    stages.done(format!("API served at {url}"));

    let mut cluster = Cluster {
        url,
        kubeconfig: kubeconfig_path,
        runtime: RuntimeInUse::None,
        ready_in: Duration::ZERO,
        server,
        store,
        options,
        real_node: None,
        stop,
        tasks,
    };
    if let Err(error) = bring_up(&mut cluster, &pki, &mut stages).await {
        cluster.stop().await;
        return Err(error);
    }
    cluster.ready_in = began.elapsed();
    Ok(cluster)
}

/// Starts the components around the API server and waits for the cluster to be ready.
async fn bring_up(
    cluster: &mut Cluster,
    pki: &Pki,
    stages: &mut Stages<impl FnMut(&Stage)>,
) -> Result<(), StartError> {
    let informers = Informers::new(cluster.client());
    start_control_plane(cluster, &informers, pki);
    if !cluster.options.components.is_bare_apiserver() {
        stages.done("control plane started");
    }
    if cluster.options.components.has(Component::Nodes) {
        start_nodes(cluster, &informers, pki).await?;
    }
    wait_ready(cluster).await?;
    if cluster.options.components.has(Component::Nodes) && cluster.options.nodes > 0 {
        let nodes = match cluster.options.nodes {
            1 => "1 node ready".to_owned(),
            nodes => format!("{nodes} nodes ready"),
        };
        stages.done(format!("{nodes}: {}", cluster.runtime));
    }
    cluster.run_state().write(&cluster.options.data_dir)
}

fn start_control_plane(cluster: &mut Cluster, informers: &Informers, pki: &Pki) {
    let as_user = |name: &str| client::in_process(cluster.server.clone(), UserInfo::component(name));
    let (components, stop) = (cluster.options.components.clone(), cluster.stop.clone());
    if components.has(Component::Controllers) {
        let config = controllers::Config {
            client: as_user("system:kube-controller-manager"),
            informers: informers.clone(),
            root_ca: pki.ca_pem().to_owned(),
            authority: signing_authority(pki),
            sign_token: token_signer(pki),
        };
        cluster.tasks.spawn(controllers::run(config, |_| true, stop.clone()));
    }
    if components.has(Component::Scheduler) {
        cluster.tasks.spawn(scheduler::run(scheduler::Config::new(informers.clone()), stop.clone()));
    }
}

/// Who signs certificate requests: the cluster's own authority.
fn signing_authority(pki: &Pki) -> Option<Arc<controllers::Authority>> {
    let authority = pki.authority();
    match controllers::Authority::new(&authority.certificate_pem, &authority.key_pem) {
        Ok(authority) => Some(Arc::new(authority)),
        Err(error) => {
            tracing::error!(%error, "certificate requests will not be signed");
            None
        }
    }
}

fn token_signer(pki: &Pki) -> Option<controllers::SignToken> {
    match pki.token_signer() {
        Ok(sign) => Some(Arc::new(sign)),
        Err(error) => {
            tracing::error!(%error, "secrets will get no tokens");
            None
        }
    }
}

/// Starts the nodes there are from the start, and the autoscaler. The engine of simulated nodes runs in
/// any case: nodes that the autoscaler buys are simulated ones.
async fn start_nodes(cluster: &mut Cluster, informers: &Informers, pki: &Pki) -> Result<(), StartError> {
    let client = client::in_process(cluster.server.clone(), UserInfo::component("system:nodes"));
    let engine = SimNodes::start(client, informers, cluster.options.sim.clone(), cluster.stop.clone());
    if cluster.options.components.has(Component::Autoscaler) {
        let (tasks, stop) = (&mut cluster.tasks, &cluster.stop);
        autoscaling::start(&cluster.options, informers, engine.clone(), tasks, stop).await?;
    }
    cluster.runtime = real_node::choose(&cluster.options).await?;
    match &cluster.runtime {
        RuntimeInUse::None => Ok(()),
        RuntimeInUse::Simulated { .. } => {
            boot_simulated(&engine, cluster.options.nodes, cluster.options.sim_node)
                .await
                .map_err(|error| StartError::Runtime(format!("simulated nodes could not register: {error}")))
        }
        choice => {
            // Written first: if this process is killed from here on, `down` finds what to remove.
            cluster.run_state().write(&cluster.options.data_dir)?;
            let (tasks, stop) = (&mut cluster.tasks, &cluster.stop);
            let node = real_node::start(choice, &cluster.options, &cluster.server, pki, tasks, stop).await?;
            cluster.real_node = Some(node);
            Ok(())
        }
    }
}

/// Waits until the API answers, pods can be created in `default`, and every node of ours is ready.
async fn wait_ready(cluster: &Cluster) -> Result<(), StartError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match missing(cluster).await {
            None => return Ok(()),
            Some(missing) if Instant::now() >= deadline => {
                return Err(StartError::NotReady { seconds: READY_WITHIN.as_secs(), missing });
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// The first thing that is still missing, if any.
async fn missing(cluster: &Cluster) -> Option<String> {
    let (client, components) = (cluster.client(), &cluster.options.components);
    if components.has(Component::Controllers) {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        if !matches!(accounts.get_opt("default").await, Ok(Some(_))) {
            return Some("the default service account".to_owned());
        }
    }
    if components.has(Component::Nodes) && cluster.options.nodes > 0 {
        let nodes: Api<Node> = Api::all(client);
        let ready = match nodes.list(&kube::api::ListParams::default()).await {
            Ok(nodes) => nodes.items.iter().filter(|node| is_ready(node)).count(),
            Err(_) => 0,
        };
        if ready < cluster.options.nodes {
            return Some(format!("{} of {} nodes", cluster.options.nodes - ready, cluster.options.nodes));
        }
    }
    None
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn read_tokens(options: &Options) -> Result<Vec<apiserver::Token>, StartError> {
    let Some(path) = &options.token_auth_file else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).map_err(|cause| at(path, cause))?;
    apiserver::parse_token_file(&text).map_err(|cause| StartError::Tokens { path: path.clone(), cause })
}

async fn open_store(options: &Options) -> Result<Embedded, StartError> {
    let dir = options.data_dir.join("store");
    match store_embedded::open(&dir, store_embedded::Options::default()).await {
        Ok(store) => Ok(store),
        Err(store_embedded::OpenError::Locked { pid: Some(pid), .. }) => {
            Err(StartError::Running { dir: options.data_dir.clone(), pid })
        }
        Err(error) => Err(StartError::Store(error)),
    }
}

/// The address by which clients on this machine reach a listener, also one on all interfaces.
fn client_address(listen: std::net::SocketAddr) -> std::net::SocketAddr {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Tells how long each stage took.
struct Stages<R> {
    report: R,
    last: Instant,
}

impl<R: FnMut(&Stage)> Stages<R> {
    fn done(&mut self, what: impl Into<String>) {
        let now = Instant::now();
        (self.report)(&Stage { what: what.into(), took: now.duration_since(self.last) });
        self.last = now;
    }
}

/// Removes what a cluster left that was not stopped in order. Does nothing after an orderly stop.
///
/// # Errors
/// When the cluster still runs.
pub async fn clean_up(data_dir: &std::path::Path) -> Result<(), StartError> {
    let Some(state) = RunState::read(data_dir) else { return Ok(()) };
    if state.is_alive() {
        return Err(StartError::Running { dir: data_dir.to_owned(), pid: state.pid });
    }
    if state.private_containerd {
        real_node::clean_up(data_dir).await?;
    }
    RunState::remove(data_dir);
    Ok(())
}
