//! `kobune down`: stops the cluster on this machine and leaves nothing running.

use std::time::Duration;

use anyhow::{Result, bail};
use cluster::RunState;
use rustix::process::{Pid, Signal};

use super::DataDir;

/// How long an orderly stop may take: pods get their grace periods.
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// Stop the cluster on this machine
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where the cluster is kept
    #[command(flatten)]
    pub data_dir: DataDir,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    let data_dir = args.data_dir.path();
    let Some(state) = RunState::read(&data_dir) else {
        println!("no cluster runs on {}", data_dir.display());
        return Ok(());
    };
    if state.is_alive() {
        stop_process(&state).await?;
    }
    // What is written down is removed at an orderly stop; if it is still there, the process died.
    cluster::clean_up(&data_dir).await?;
    println!("stopped; the data is kept in {}", data_dir.display());
    Ok(())
}

async fn stop_process(state: &RunState) -> Result<()> {
    let Some(pid) = i32::try_from(state.pid).ok().and_then(Pid::from_raw) else {
        bail!("the process id {} on record is impossible", state.pid)
    };
    rustix::process::kill_process(pid, Signal::TERM)
        .map_err(|error| anyhow::anyhow!("cannot stop process {}: {error}", state.pid))?;
    let gone = async {
        while state.is_alive() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(STOP_WITHIN, gone).await.is_err() {
        bail!("process {} did not stop within {} s", state.pid, STOP_WITHIN.as_secs());
    }
    Ok(())
}
