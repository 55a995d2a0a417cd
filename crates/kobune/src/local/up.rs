//! `kobune up`: starts a cluster and runs it until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use cluster::{Components, Options, RuntimeChoice, Stage};
use tokio::signal::unix::{SignalKind, signal};

use super::DataDir;

/// How often the clock is compared with the system's.
const CLOCK_CHECK: Duration = Duration::from_secs(10);
/// A drift of the clock beyond this is corrected.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(100);

/// Start a cluster on this machine
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where the cluster is kept
    #[command(flatten)]
    pub data_dir: DataDir,
    /// Nodes from the start; 0 is the control plane alone
    #[arg(long, default_value_t = 1)]
    pub nodes: usize,
    /// What nodes are made of
    #[arg(long, value_enum, default_value_t = Runtime::Auto)]
    pub runtime: Runtime,
    /// Return once the cluster is ready and leave it running
    #[arg(long, short)]
    pub detach: bool,
    /// Address of the API server; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// A further name or address by which clients reach the API server
    #[arg(long = "tls-san", value_name = "NAME")]
    pub tls_names: Vec<String>,
    /// Which parts run: apiserver, scheduler, controllers, autoscaler, nodes [default: all]
    #[arg(long, value_name = "NAMES")]
    pub components: Option<Components>,
    /// Static bearer tokens: a CSV file of token,user,uid,"group,group"
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Who may come in, what is recorded, what is encrypted
    #[command(flatten)]
    pub access: super::access::Args,
    /// Instance types that can be bought, instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// Seconds from the order of a simulated instance to its node joining
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
    pub boot_delay: f64,
    /// Address of the DNS server that pods ask: the Service of one that is installed, such as 10.96.0.10
    #[arg(long, value_name = "ADDRESS")]
    pub cluster_dns: Option<std::net::IpAddr>,
    /// Seconds from the binding of a simulated pod to its being ready
    #[arg(long, default_value_t = 0.8, value_name = "SECONDS")]
    pub pod_start: f64,
}

/// What nodes are made of.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
pub enum Runtime {
    /// Containers if that is possible here, else simulation
    Auto,
    /// Containers on containerd
    Cri,
    /// Simulation
    Sim,
}

impl Args {
    /// The settings of the cluster.
    pub fn options(&self) -> Result<Options> {
        let seconds = |what: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| anyhow::anyhow!("--{what} must be seconds from 0 on"))
        };
        let mut options = Options::new(self.data_dir.path());
        options.listen = self.listen;
        options.tls_names = self.tls_names.clone();
        options.nodes = self.nodes;
        options.components = self.components.clone().unwrap_or_default();
        options.runtime = match self.runtime {
            Runtime::Auto => RuntimeChoice::Auto,
            Runtime::Cri => RuntimeChoice::Cri,
            Runtime::Sim => RuntimeChoice::Sim,
        };
        options.token_auth_file = self.token_auth_file.clone();
        options.access = self.access.options()?;
        options.catalogue = self.catalogue.clone();
        options.boot_delay = seconds("boot-delay", self.boot_delay)?;
        options.cluster_dns = self.cluster_dns;
        options.sim.pod_start = seconds("pod-start", self.pod_start)?;
        Ok(options)
    }
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    start_log();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cluster = cluster::start(args.options()?, print_stage).await?;
    println!("ready in {} ms", cluster.ready_in.as_millis());
    println!("\n  export KUBECONFIG={}\n", cluster.kubeconfig.display());
    let housekeeping = tokio::spawn(async {
        loop {
            tokio::time::sleep(CLOCK_CHECK).await;
            if base::clock::resync(CLOCK_TOLERANCE) {
                tracing::info!("the system's clock was set; following it");
            }
        }
    });
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!("stopping …");
    housekeeping.abort();
    tokio::select! {
        () = cluster.stop() => println!("stopped"),
        _ = interrupt.recv() => anyhow::bail!("interrupted again while stopping; `kobune down` cleans up"),
    }
    Ok(())
}

fn print_stage(stage: &Stage) {
    println!("  {:<56} {:>7.1} ms", stage.what, stage.took.as_secs_f64() * 1000.0);
}

/// Log lines go to standard error; `RUST_LOG` chooses, warnings by default.
pub fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
