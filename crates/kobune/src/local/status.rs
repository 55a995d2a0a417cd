//! `kobune status`.

use anyhow::Result;
use cluster::RunState;

use super::DataDir;
use crate::kubectl::{Target, fetch_json, fetch_text};

/// Say whether a cluster runs here, and what it is made of
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
        println!("no cluster runs on {}; start one with `kobune up`", data_dir.display());
        return Ok(());
    };
    if !state.is_alive() {
        println!(
            "the cluster on {} (pid {}) is gone without having been stopped",
            data_dir.display(),
            state.pid
        );
        println!("`kobune up` continues where it was; `kobune down` cleans up");
        return Ok(());
    }
    let memory =
        memory_kib(state.pid).map(|kib| format!(", {} MiB of memory", kib / 1024)).unwrap_or_default();
    println!("running      pid {}{memory}, since {}", state.pid, state.started);
    println!("API          {}", state.url);
    println!("components   {}", state.components);
    println!("nodes        {}", state.nodes);
    println!("data         {}", data_dir.display());
    let target = Target { kubeconfig: Some(data_dir.join("kubeconfig")), namespace: None };
    let (client, _) = target.connect().await?;
    println!("healthy      {}", fetch_text(&client, "/readyz", "*/*").await?);
    for (name, path) in [("nodes", "/api/v1/nodes"), ("pods", "/api/v1/pods")] {
        let list: serde_json::Value =
            fetch_json(&client, &format!("{path}?limit=1"), "application/json").await?;
        let first = list["items"].as_array().map_or(0, Vec::len) as u64;
        let count = first + list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        println!("{name:<12} {count}");
    }
    Ok(())
}

/// Resident memory of a process in KiB; proc(5), `VmRSS` of `/proc/PID/status`.
pub fn memory_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
