//! `kobune demo`: the whole autoscaling flow on simulated nodes, in under a minute.

mod manifests;
mod report;
mod screen;
mod story;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cluster::{Options, RuntimeChoice};

use crate::local::up::start_log;
use screen::Screen;
use story::{Scenario, tell};
use world::World;

/// Watch autoscaling at work: traffic rises tenfold, pods and nodes follow, then go again
///
/// Everything runs in this process on simulated nodes; nothing is left afterwards. Prices are typical
/// ones of EC2 in us-east-1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Requests per second before and after the peak
    #[arg(long, default_value_t = 200.0, value_name = "RPS")]
    pub traffic: f64,
    /// How many times that at the peak
    #[arg(long, default_value_t = 10.0)]
    pub factor: f64,
    /// Seconds from the order of an instance to its node joining
    #[arg(long, default_value_t = 4.0, value_name = "SECONDS")]
    pub boot_delay: f64,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    start_log();
    let scratch = Scratch::new();
    let mut options = Options::new(scratch.path.clone());
    options.listen.set_port(0);
    options.runtime = RuntimeChoice::Sim;
    options.nodes = 0;
    options.boot_delay = Duration::try_from_secs_f64(args.boot_delay)
        .map_err(|_| anyhow!("--boot-delay must be seconds from 0 on"))?;
    if !(args.traffic > 0.0 && args.factor > 1.0) {
        return Err(anyhow!("--traffic must be above 0 and --factor above 1"));
    }
    let screen = Screen::new();
    let cluster = cluster::start(options, |_| ()).await?;
    screen.say(&format!(
        "A cluster is up in {} ms: API, scheduler, controllers, autoscalers.",
        cluster.ready_in.as_millis()
    ));
    let client = cluster.client();
    manifests::apply_all(&client, args.traffic).await?;
    let scenario = Scenario { traffic: args.traffic, peak: args.traffic * args.factor };
    let told = tell(&client, &World::new(&client), &scenario, &screen).await;
    screen.finish();
    cluster.stop().await;
    report::print(&told?);
    Ok(())
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
