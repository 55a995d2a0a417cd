//! A containerd of our own: for machines where the binary is installed but no daemon runs for us, and
//! for tests. It has its own root, state, socket, network and cgroup, so that it neither sees nor
//! disturbs another containerd, and so that [`down`] can prove that nothing of it is left.
//!
//! It outlives the process that started it: after a crash of Kobune the next [`up`] adopts it with
//! everything it runs.

mod cleanup;
mod configuration;
mod link;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::{Cri, image};

pub use cleanup::{Leftovers, leftovers};

const BINARY: &str = "containerd";
/// How long containerd may take to answer; it needs a few hundred milliseconds.
const READY: Duration = Duration::from_secs(30);
/// How long removing all sandboxes in good order may take before they are removed by force.
const ORDERLY: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where a private containerd lives and what it calls its own.
#[derive(Debug, Clone)]
pub struct Config {
    /// Images and snapshots; kept by [`down`].
    pub root: PathBuf,
    /// Sockets, bundles, network namespaces; on a file system that does not survive a reboot. Short,
    /// because socket paths may not exceed 108 bytes.
    pub state: PathBuf,
    /// Interface name of the pod bridge, at most 15 bytes.
    pub bridge: String,
    /// Addresses of pods.
    pub pod_cidr: String,
    /// Parent of every cgroup that is created.
    pub cgroup_root: String,
    /// A further directory whose mounts [`down`] removes: the agent's, with its volumes.
    pub volumes: Option<PathBuf>,
}

impl Config {
    /// The instance that belongs to a data directory. Instances of different directories share nothing.
    pub fn of(data_dir: &Path, pod_cidr: &str) -> Self {
        // Mounts need absolute paths, and the instance must not depend on where `down` is called.
        let data_dir = &std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        // FNV-1a: stable across builds, unlike the standard library's hashers.
        let hash = data_dir
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self {
            root: data_dir.join("containerd"),
            state: PathBuf::from(format!("/run/kobune/{hash:08x}")),
            bridge: format!("kob{hash:08x}"),
            pod_cidr: pod_cidr.to_owned(),
            cgroup_root: format!("/kobune-{hash:08x}"),
            volumes: None,
        }
    }

    /// The CRI socket.
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    fn config_file(&self) -> PathBuf {
        self.state.join("config.toml")
    }

    /// The log of containerd itself.
    pub fn log_file(&self) -> PathBuf {
        self.root.join("containerd.log")
    }
}

/// Why a private containerd is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot work on this machine; the text says why and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// A file or directory could not be prepared.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was started but does not answer.
    #[error("containerd does not become ready: {reason}; its log is {log}", log = .log.display())]
    NotReady {
        /// Last observation.
        reason: String,
        /// Where to look.
        log: PathBuf,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] runtime::Error),
    /// Something could not be removed.
    #[error("left behind: {0}")]
    Left(Leftovers),
}

/// A running private containerd.
pub struct Private {
    config: Config,
    engine: Cri,
    /// Whether it ran already.
    pub adopted: bool,
}

/// Says why a private containerd cannot run here, if it cannot.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a private containerd needs root".to_owned());
    }
    for program in [BINARY, "ctr", "runc"] {
        if process::find_program(program).is_none() {
            return Some(format!("{program} is not installed (Debian: apt-get install containerd runc)"));
        }
    }
    if configuration::cni_bin_dir().is_none() {
        return Some("no CNI plugins (Debian: apt-get install containernetworking-plugins)".to_owned());
    }
    None
}

/// Adopts the running instance or starts one, and returns when it can run sandboxes.
pub async fn up(config: Config) -> Result<Private, Error> {
    if let Some(reason) = unavailable() {
        return Err(Error::Unavailable(reason));
    }
    let engine = Cri::new(&config.socket());
    let adopted = process::daemon(&config).is_some() && answers(&engine).await;
    if !adopted {
        launch(&config, &engine).await?;
    }
    wait_for_network(&config, &engine).await?;
    if engine.image(image::PAUSE).await?.is_none() {
        let archive = image::pause().map_err(|source| Error::Io { path: "pause image".into(), source })?;
        image::import(&engine, &archive, &[image::PAUSE], Some(configuration::snapshotter(&config))).await?;
    }
    Ok(Private { config, engine, adopted })
}

impl Private {
    /// The engine.
    pub fn engine(&self) -> Cri {
        self.engine.clone()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes sure that busybox can be run without a registry.
    pub async fn import_busybox(&self) -> Result<(), Error> {
        if self.engine.image(image::BUSYBOX[0]).await?.is_some() {
            return Ok(());
        }
        let archive = image::busybox().map_err(|source| Error::Io { path: "busybox".into(), source })?;
        Ok(self.import(&archive, &image::BUSYBOX).await?)
    }

    /// Loads an image archive; `tags` are the references it must answer to afterwards.
    pub async fn import(&self, archive: &[u8], tags: &[&str]) -> Result<(), runtime::Error> {
        image::import(&self.engine, archive, tags, Some(configuration::snapshotter(&self.config))).await
    }

    /// Starts containerd again whenever it dies, for as long as the future is polled. Containers keep
    /// running meanwhile.
    pub async fn supervise(&self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            if process::daemon(&self.config).is_none() {
                tracing::warn!("the private containerd died; starting it again");
                if let Err(error) = launch(&self.config, &self.engine).await {
                    tracing::error!(%error, "the private containerd does not start");
                    sleep(Duration::from_secs(5)).await;
                }
            }
        }
    }
}

async fn answers(engine: &Cri) -> bool {
    matches!(timeout(Duration::from_secs(5), engine.version()).await, Ok(Ok(_)))
}

async fn launch(config: &Config, engine: &Cri) -> Result<(), Error> {
    process::stop_daemon(config).await;
    configuration::write(config)?;
    let mut child = process::spawn(config)?;
    let deadline = Instant::now() + READY;
    loop {
        if answers(engine).await {
            return Ok(());
        }
        let reason = match child.try_wait() {
            Ok(Some(status)) => {
                format!("it exited with {status}: {}", process::last_line(&config.log_file()))
            }
            _ if Instant::now() >= deadline => "it does not answer".to_owned(),
            _ => {
                sleep(LOOK_EVERY).await;
                continue;
            }
        };
        return Err(Error::NotReady { reason, log: config.log_file() });
    }
}

async fn wait_for_network(config: &Config, engine: &Cri) -> Result<(), Error> {
    let deadline = Instant::now() + READY;
    loop {
        let status = engine.status().await?;
        if status.ready && status.network_ready {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::NotReady { reason: status.message, log: config.log_file() });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Stops the instance with everything it runs and removes what it left on the machine, whatever state
/// an earlier crash left it in. The root with its images stays.
pub async fn down(config: &Config) -> Result<(), Error> {
    let engine = Cri::new(&config.socket());
    let mut reachable = process::daemon(config).is_some() && answers(&engine).await;
    if !reachable && !process::shims(config).is_empty() && unavailable().is_none() {
        // Only containerd knows how to undo what the network plugins did for these sandboxes.
        reachable = launch(config, &engine).await.is_ok();
    }
    if reachable && timeout(ORDERLY, remove_sandboxes(&engine)).await.is_err() {
        tracing::warn!("sandboxes do not stop in time; removing them by force");
    }
    process::stop_daemon(config).await;
    cleanup::by_force(config).await;
    let left = leftovers(config);
    if left.is_empty() { Ok(()) } else { Err(Error::Left(left)) }
}

async fn remove_sandboxes(engine: &Cri) {
    let sandboxes = engine.sandboxes(&runtime::Labels::new()).await.unwrap_or_default();
    let removals = sandboxes.iter().map(async |sandbox| {
        for result in [engine.stop_sandbox(&sandbox.id).await, engine.remove_sandbox(&sandbox.id).await] {
            if let Err(error) = result {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot remove a sandbox in good order");
            }
        }
    });
    futures::future::join_all(removals).await;
}
