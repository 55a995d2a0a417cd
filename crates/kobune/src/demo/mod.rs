//! `kobune demo`: the whole autoscaling flow on simulated nodes, or its pod part in real containers, in
//! under a minute.

mod load;
mod manifests;
mod real;
mod report;
mod screen;
mod story;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use cluster::{Cluster, Informers, Options, RuntimeChoice};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::local::up::start_log;
use manifests::{CPU_REQUEST_MILLI, CPU_TARGET_PERCENT};
use screen::Screen;
use story::{Scenario, Told, calm, tell};
use world::{Traffic, World};

/// Watch autoscaling at work: traffic rises tenfold, pods and nodes follow, then go again
///
/// Everything runs in this process on simulated nodes, or with --real in containers on this machine;
/// nothing is left afterwards. Prices are typical ones of EC2 in us-east-1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Real containers under real CPU load on this machine, without nodes to buy; needs root and containerd
    #[arg(long)]
    pub real: bool,
    /// Requests per second before and after the peak [default: 200, or 3 real ones]
    #[arg(long, value_name = "RPS")]
    pub traffic: Option<f64>,
    /// How many times that at the peak
    #[arg(long, default_value_t = 10.0)]
    pub factor: f64,
    /// Seconds from the order of an instance to its node joining
    #[arg(long, default_value_t = 4.0, value_name = "SECONDS", conflicts_with = "real")]
    pub boot_delay: f64,
}

impl Args {
    fn scenario(&self) -> Result<Scenario> {
        let (opening, traffic, cpu_request_milli, tolerance) = if self.real {
            ("An app in real containers and its HPA", 3.0, real::CPU_REQUEST_MILLI, 1.25)
        } else {
            let opening = "An app, its HPA and two node pools (a small on-demand base, spot above it)";
            (opening, 200.0, CPU_REQUEST_MILLI, 1.12)
        };
        let traffic = self.traffic.unwrap_or(traffic);
        if !(traffic > 0.0 && self.factor > 1.0) {
            bail!("--traffic must be above 0 and --factor above 1");
        }
        Ok(Scenario {
            opening,
            traffic,
            peak: traffic * self.factor,
            target_milli: cpu_request_milli * CPU_TARGET_PERCENT / 100.0,
            tolerance,
            buys_nodes: !self.real,
        })
    }

    fn options(&self, data_dir: PathBuf) -> Result<Options> {
        let mut options = Options::new(data_dir);
        options.listen.set_port(0);
        (options.runtime, options.nodes) =
            if self.real { (RuntimeChoice::Cri, 1) } else { (RuntimeChoice::Sim, 0) };
        options.boot_delay = Duration::try_from_secs_f64(self.boot_delay)
            .map_err(|_| anyhow!("--boot-delay must be seconds from 0 on"))?;
        Ok(options)
    }
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    start_log();
    let (scratch, scenario) = (Scratch::new(), args.scenario()?);
    // From here on an interrupt does not end the process but the play: containers must be stopped in order.
    let mut interrupts = Interrupts::new()?;
    let screen = Screen::new();
    let cluster = cluster::start(args.options(scratch.path.clone())?, |_| ()).await?;
    screen.say(&format!(
        "A cluster is up in {} ms: API, scheduler, controllers, autoscalers{}.",
        cluster.ready_in.as_millis(),
        if args.real { format!(", {}", cluster.runtime) } else { String::new() }
    ));
    let told = tokio::select! {
        told = play(&cluster, &scenario, &screen) => told,
        () = interrupts.next() => Err(anyhow!("interrupted; everything has been stopped")),
    };
    screen.finish();
    cluster.stop().await;
    report::print(&told?);
    Ok(())
}

async fn play(cluster: &Cluster, scenario: &Scenario, screen: &Screen) -> Result<Told> {
    let client = cluster.client();
    let informers = Informers::new(client.clone());
    if scenario.buys_nodes {
        manifests::apply_all(&client, scenario.traffic).await?;
        let world = World::new(&informers, Traffic::Simulated(client));
        return tell(&world, scenario, screen).await;
    }
    let load = real::deploy(&client, &informers, screen).await?;
    let world = World::new(&informers, Traffic::Real(load));
    world.set_traffic(scenario.traffic).await?;
    calm(&world, scenario, screen).await?;
    real::autoscale(&client).await?;
    tell(&world, scenario, screen).await
}

/// Ctrl-C and the polite signal to end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A directory that goes away with the demo.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        Self { path: std::env::temp_dir().join(format!("kobune-demo-{}", std::process::id())) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
