//! A server to measure: this binary's `up`, as a process of its own on a fresh directory.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::time::Instant;

use crate::local::status::memory_kib;

/// How long the server may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// A running server; dropping it ends the process and removes the directory.
pub struct Server {
    child: Child,
    dir: PathBuf,
    /// From the start of the process to the line that says it is ready.
    pub ready_in: Duration,
}

impl Server {
    /// Starts `kobune up` with these arguments besides data directory and address.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        let dir =
            std::env::temp_dir().join(format!("kobune-bench-{}-{:x}", std::process::id(), base::rng::u64()));
        std::fs::create_dir_all(&dir)?;
        let log = dir.join("log");
        let began = Instant::now();
        let child = Command::new(std::env::current_exe()?)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::File::create(dir.join("errors"))?)
            .spawn()
            .context("cannot start the server")?;
        let mut server = Self { child, dir, ready_in: Duration::ZERO };
        while !std::fs::read_to_string(&log)?.contains("ready in ") {
            if let Some(status) = server.child.try_wait()? {
                let errors = std::fs::read_to_string(server.dir.join("errors")).unwrap_or_default();
                bail!("the server ended ({status}): {}", errors.trim());
            }
            if began.elapsed() > READY_WITHIN {
                bail!("the server was not ready after {} s", READY_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.ready_in = began.elapsed();
        Ok(server)
    }

    /// The configuration of its administrator.
    pub async fn config(&self) -> Result<kube::Config> {
        let file = Kubeconfig::read_from(self.dir.join("data/kubeconfig"))?;
        Ok(kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
    }

    /// A client of its administrator.
    pub async fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.config().await?)?)
    }

    /// Resident memory in MiB.
    pub fn memory_mib(&self) -> f64 {
        memory_kib(self.child.id()).unwrap_or(0) as f64 / 1024.0
    }

    /// The share of one CPU that the server uses over `interval`, in percent.
    pub async fn cpu_percent(&self, interval: Duration) -> f64 {
        let before = cpu_ticks(self.child.id());
        tokio::time::sleep(interval).await;
        let ticks = cpu_ticks(self.child.id()).saturating_sub(before);
        let per_second = rustix::param::clock_ticks_per_second();
        ticks as f64 / per_second as f64 / interval.as_secs_f64() * 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// User and system time of a process in clock ticks; proc(5), fields 14 and 15 of `/proc/PID/stat`.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |i: usize| fields.get(i).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}
