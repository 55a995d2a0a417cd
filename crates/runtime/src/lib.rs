//! What the node agent needs from a container runtime, and nothing of how one works.
//!
//! [`Runtime`] is the seam: `runtime-cri` implements it over containerd or CRI-O, [`fake::Fake`] in
//! memory for tests of the agent on virtual time. [`suite`] holds the behaviour that every engine must
//! show; engines run it in their own tests.
//!
//! The trait is level-triggered: callers list and inspect, and [`Runtime::changes`] only says *when* it
//! is worth looking again. Identity survives restarts of the caller in labels and annotations, which an
//! engine keeps verbatim.

mod error;
pub mod fake;
pub mod suite;
mod types;

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use error::{Error, Retry};
pub use types::*;

/// The result of every call on an engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A container runtime on this machine.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version of the engine; also the liveness check.
    async fn version(&self) -> Result<Version>;

    /// Whether the engine and its pod network are ready for sandboxes.
    async fn status(&self) -> Result<Status>;

    /// The image a reference names, when it is on this machine.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;

    /// Every image on this machine.
    async fn images(&self) -> Result<Vec<Image>>;

    /// Fetches an image and returns its identifier.
    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<String>;

    /// Removes an image; one that is absent is no error.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Creates and starts a pod sandbox: its namespaces, its network and its cgroup.
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String>;

    /// Kills what runs in a sandbox and takes its network down. Repeating it is no error.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;

    /// Removes a sandbox with all its containers. One that is absent is no error.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;

    /// One sandbox with its addresses, or [`Error::NotFound`].
    async fn sandbox(&self, id: &str) -> Result<Sandbox>;

    /// The sandboxes that carry all these labels; their addresses are left out.
    async fn sandboxes(&self, labels: &Labels) -> Result<Vec<Sandbox>>;

    /// Creates a container in a sandbox without starting it.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxConfig,
    ) -> Result<String>;

    /// Starts a created container.
    async fn start_container(&self, id: &str) -> Result<()>;

    /// Sends the stop signal, waits up to `grace`, then kills. Returns when the container is dead. One
    /// that is dead or absent is no error.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;

    /// Removes a dead container. One that is absent is no error.
    async fn remove_container(&self, id: &str) -> Result<()>;

    /// One container with its exit code and times, or [`Error::NotFound`].
    async fn container(&self, id: &str) -> Result<Container>;

    /// The containers that carry all these labels. Exit codes and times may be missing: see
    /// [`Runtime::container`].
    async fn containers(&self, labels: &Labels) -> Result<Vec<Container>>;

    /// Makes the engine write to a new log file after the old one was renamed.
    async fn reopen_log(&self, id: &str) -> Result<()>;

    /// Runs a command and waits for it; [`Error::Timeout`] after `timeout`.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput>;

    /// Starts a command with streams.
    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session>;

    /// Connects to the streams of the container's own process.
    async fn attach(&self, id: &str, request: &AttachRequest) -> Result<Session>;

    /// Connects to a TCP port on the loopback interface of a sandbox.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<PortConnection>;

    /// Use of every running container.
    async fn stats(&self) -> Result<Vec<ContainerStats>>;

    /// Yields whenever containers may have changed. Lost or needless items are allowed; the end of the
    /// stream means that the connection was lost and may be opened again.
    async fn changes(&self) -> Result<BoxStream<'static, Change>>;
}
