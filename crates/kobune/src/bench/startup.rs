//! From the command to a ready API; memory and CPU when idle.

use std::time::Duration;

use anyhow::Result;

use super::server::Server;

/// How often a start is measured.
const STARTS: usize = 5;
/// How long the server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(10);

/// Runs the measurement.
pub async fn run() -> Result<()> {
    for (what, arguments) in [
        ("API server alone", &["--components", "apiserver"][..]),
        ("control plane, no nodes", &["--nodes", "0", "--runtime", "sim"]),
        ("control plane, 3 simulated nodes", &["--nodes", "3", "--runtime", "sim"]),
    ] {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(Server::start(arguments).await?.ready_in.as_secs_f64() * 1000.0);
        }
        starts.sort_by(f64::total_cmp);
        let server = Server::start(arguments).await?;
        tokio::time::sleep(SETTLE).await;
        let memory = server.memory_mib();
        let cpu = server.cpu_percent(SETTLE).await;
        println!(
            "{what:<34} ready in {:>6.0} ms (median of {STARTS}; {:.0} to {:.0})   idle: {memory:.0} MiB, {cpu:.1} % of a core",
            starts[STARTS / 2],
            starts[0],
            starts[STARTS - 1],
        );
    }
    Ok(())
}
