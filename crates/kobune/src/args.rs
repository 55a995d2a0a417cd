//! The command line.

use crate::{bench, demo, kubectl, local};

/// Kubernetes and its platform from one command
#[derive(clap::Parser, Debug)]
#[command(name = "kobune", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Args {
    /// Which cluster to talk to
    #[command(flatten)]
    pub target: kubectl::Target,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Start a cluster on this machine
    Up(Box<local::up::Args>),
    /// Stop the cluster on this machine
    Down(local::down::Args),
    /// Say whether a cluster runs here, and what it is made of
    Status(local::status::Args),
    /// Watch autoscaling at work: traffic rises tenfold, pods and nodes follow, then go again
    Demo(demo::Args),
    /// Measure
    Bench(bench::Args),
    /// Show objects
    Get(kubectl::get::Args),
    /// Create or change objects to what files say
    Apply(kubectl::apply::Args),
    /// Delete objects by files or by names
    Delete(kubectl::delete::Args),
    /// Show what a container wrote
    Logs(kubectl::logs::Args),
    /// Run a command in a container
    Exec(kubectl::exec::Args),
    /// Show what happened
    Events(kubectl::events::Args),
    /// Say why a pod, node or autoscaler is as it is
    Explain(kubectl::explain::Args),
}
