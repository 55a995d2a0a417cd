//! `kobune bench`: the figures of docs/benchmarks.md, measured from outside.
//!
//! Each measurement starts a server of its own, as a separate process on a fresh directory, and
//! talks to it over TLS like any client.

mod hostile;
mod http;
mod objects;
mod pods;
mod server;
mod startup;
mod watch;

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

/// Measure
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to measure
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// From the command to a ready API, and memory and CPU when idle
    Startup,
    /// Durable creates and gets of 1 KB objects over TLS
    Objects {
        /// Connections, each with one request at a time
        #[arg(long, default_value_t = 64)]
        clients: usize,
        /// Objects to create
        #[arg(long, default_value_t = 40_000)]
        objects: usize,
        /// Seconds of gets
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Lists of pods over TLS
    List {
        /// Pods in the list
        #[arg(long, default_value_t = 10_000)]
        pods: usize,
        /// Seconds of lists
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Connections, each with one request at a time
        #[arg(long, default_value_t = 2)]
        clients: usize,
    },
    /// Deliveries to many watchers over TLS
    Watch {
        /// Watchers, each on a connection of its own
        #[arg(long, default_value_t = 100)]
        watchers: usize,
        /// Objects to create
        #[arg(long, default_value_t = 10_000)]
        objects: usize,
    },
    /// Clients that misbehave: whether others are served meanwhile, and what memory it costs
    Hostile {
        /// Idle watches, each on a connection of its own
        #[arg(long, default_value_t = 10_000)]
        watches: usize,
    },
    /// Pods bound per second, on simulated nodes
    Bind {
        /// Nodes
        #[arg(long, default_value_t = 1000)]
        nodes: usize,
        /// Pods
        #[arg(long, default_value_t = 10_000)]
        pods: usize,
    },
    /// A large cluster by Deployments: time until all pods run, memory, CPU when idle
    Scale {
        /// Nodes
        #[arg(long, default_value_t = 5000)]
        nodes: usize,
        /// Pods
        #[arg(long, default_value_t = 50_000)]
        pods: usize,
    },
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    match args.what {
        What::Startup => startup::run().await,
        What::Objects { clients, objects, seconds } => {
            objects::creates_and_gets(clients, objects, Duration::from_secs(seconds)).await
        }
        What::List { pods, seconds, clients } => {
            objects::lists(pods, clients, Duration::from_secs(seconds)).await
        }
        What::Watch { watchers, objects } => watch::run(watchers, objects).await,
        What::Hostile { watches } => hostile::run(watches).await,
        What::Bind { nodes, pods } => pods::bind(nodes, pods).await,
        What::Scale { nodes, pods } => pods::scale(nodes, pods).await,
    }
}

/// Latencies of many requests.
#[derive(Default)]
struct Latencies {
    micros: Vec<u64>,
}

impl Latencies {
    fn add(&mut self, since: Instant) {
        self.micros.push(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    fn merge(all: impl IntoIterator<Item = Latencies>) -> Self {
        let mut micros: Vec<u64> = all.into_iter().flat_map(|latencies| latencies.micros).collect();
        micros.sort_unstable();
        Self { micros }
    }

    /// The latency that `share` of the requests stay below, in milliseconds. Needs sorted latencies.
    fn percentile(&self, share: f64) -> f64 {
        let at = ((self.micros.len() as f64 * share) as usize).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(0.0, |&micros| micros as f64 / 1000.0)
    }
}

/// Prints a rate with its latencies.
fn print_rate(what: &str, took: Duration, latencies: &Latencies) {
    let count = latencies.micros.len();
    println!(
        "{what:<24} {:>9.0} /s   p50 {:>7.2} ms   p99 {:>7.2} ms   ({count} in {:.2} s)",
        count as f64 / took.as_secs_f64(),
        latencies.percentile(0.5),
        latencies.percentile(0.99),
        took.as_secs_f64(),
    );
}
