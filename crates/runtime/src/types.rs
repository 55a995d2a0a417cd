use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// Nanoseconds since the Unix epoch; 0 where it has not happened.
pub type UnixNanos = i64;

/// Name and version of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// For example `containerd`.
    pub name: String,
    /// The engine's own version.
    pub version: String,
}

/// Readiness of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether sandboxes can be run.
    pub ready: bool,
    /// Whether the pod network is configured.
    pub network_ready: bool,
    /// Why something is not ready.
    pub message: String,
}

/// An image on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    /// Tagged references.
    pub tags: Vec<String>,
    /// References by digest.
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// The user it runs as, when numeric.
    pub uid: Option<i64>,
    /// The user it runs as, when a name.
    pub username: String,
}

/// Credentials for a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// Login.
    pub username: String,
    /// Secret.
    pub password: String,
}

/// Whose namespace a pod or container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Shared within the pod.
    #[default]
    Pod,
    /// Private to the container.
    Container,
    /// The machine's own.
    Node,
}

/// The kernel namespaces of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub network: Namespace,
    /// Processes.
    pub pid: Namespace,
    /// System V IPC and POSIX queues.
    pub ipc: Namespace,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self { network: Namespace::Pod, pid: Namespace::Container, ipc: Namespace::Pod }
    }
}

/// `/etc/resolv.conf` of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// `search` domains.
    pub searches: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

/// Transport of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the machine that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// Transport.
    pub protocol: PortProtocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the machine.
    pub host_port: u16,
    /// Address on the machine; empty for all.
    pub host_ip: String,
}

/// A pod sandbox to be run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SandboxConfig {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// Distinguishes the sandboxes of one pod.
    pub attempt: u32,
    /// Host name in the pod; empty for the machine's.
    pub hostname: String,
    /// Directory for container logs.
    pub log_directory: String,
    /// Name resolution; `None` for the machine's.
    pub dns: Option<Dns>,
    /// Host ports.
    pub port_mappings: Vec<PortMapping>,
    /// Kept verbatim.
    pub labels: Labels,
    /// Kept verbatim.
    pub annotations: Labels,
    /// Parent of all cgroups of the pod; empty for the engine's default.
    pub cgroup_parent: String,
    /// Kernel namespaces.
    pub namespaces: Namespaces,
    /// Whether any container is privileged.
    pub privileged: bool,
    /// Groups of every process.
    pub supplemental_groups: Vec<i64>,
    /// Kernel parameters.
    pub sysctls: Labels,
    /// Which configured runtime handler to use; empty for the default.
    pub runtime_handler: String,
}

/// A pod sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sandbox {
    /// Identifier.
    pub id: String,
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// Which sandbox of the pod this is.
    pub attempt: u32,
    /// Whether it runs.
    pub ready: bool,
    /// When it was made.
    pub created_at: UnixNanos,
    /// Its addresses, primary first; empty on the machine's network.
    pub ips: Vec<String>,
    /// As configured.
    pub labels: Labels,
    /// As configured.
    pub annotations: Labels,
}

/// How mounts propagate between the machine and a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// Into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Path in the container.
    pub container_path: String,
    /// Path on the machine.
    pub host_path: String,
    /// Whether writing is refused.
    pub readonly: bool,
    /// Propagation of mounts below it.
    pub propagation: Propagation,
}

/// Cgroup limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// CFS period in µs; 0 for the default.
    pub cpu_period: i64,
    /// CFS quota in µs per period; 0 for none.
    pub cpu_quota: i64,
    /// CPU weight in cgroup v1 shares.
    pub cpu_shares: i64,
    /// Bytes; 0 for no limit.
    pub memory_limit: i64,
    /// What the OOM killer adds.
    pub oom_score_adj: i64,
}

/// System-call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The engine's default filter.
    RuntimeDefault,
    /// A profile on this machine.
    Localhost(String),
}

/// What a container's processes may do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Security {
    /// All devices and capabilities.
    pub privileged: bool,
    /// User.
    pub run_as_user: Option<i64>,
    /// Primary group; needs a user.
    pub run_as_group: Option<i64>,
    /// User by name, where no number is known.
    pub run_as_username: String,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Capabilities to add, without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop.
    pub drop_capabilities: Vec<String>,
    /// Whether set-user-ID programs gain nothing.
    pub no_new_privs: bool,
    /// System-call filter.
    pub seccomp: Seccomp,
    /// Paths hidden in the container; `None` for the usual ones.
    pub unmasked_proc: bool,
}

/// A container to be created.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerConfig {
    /// Name within the pod.
    pub name: String,
    /// Distinguishes the attempts of one container.
    pub attempt: u32,
    /// Identifier of the image.
    pub image: String,
    /// The reference that the pod names.
    pub user_specified_image: String,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Empty for the image's.
    pub working_dir: String,
    /// Environment, in order.
    pub envs: Vec<(String, String)>,
    /// Bind mounts, outer ones first.
    pub mounts: Vec<Mount>,
    /// Kept verbatim.
    pub labels: Labels,
    /// Kept verbatim.
    pub annotations: Labels,
    /// Log file below the sandbox's log directory.
    pub log_path: String,
    /// Whether standard input stays open.
    pub stdin: bool,
    /// Whether standard input closes after the first attach.
    pub stdin_once: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Privileges.
    pub security: Security,
    /// Kernel namespaces of its pod.
    pub namespaces: Namespaces,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// Not started yet.
    Created,
    /// Running.
    Running,
    /// Dead.
    Exited,
    /// The engine lost track of it.
    #[default]
    Unknown,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    /// Identifier.
    pub id: String,
    /// Its sandbox; may be empty from [`crate::Runtime::container`].
    pub sandbox_id: String,
    /// Name within the pod.
    pub name: String,
    /// Which attempt this is.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: UnixNanos,
    /// When it was started.
    pub started_at: UnixNanos,
    /// When it died.
    pub finished_at: UnixNanos,
    /// Exit code; 128 + N when killed by signal N.
    pub exit_code: i32,
    /// The reference it was created from.
    pub image: String,
    /// The image by digest.
    pub image_ref: String,
    /// The engine's reason, for example `OOMKilled`.
    pub reason: String,
    /// The engine's message.
    pub message: String,
    /// As configured.
    pub labels: Labels,
    /// As configured.
    pub annotations: Labels,
    /// Absolute path of its log.
    pub log_path: String,
}

/// The outcome of a short command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
    /// Exit code.
    pub exit_code: i32,
}

/// A command with streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Which streams to connect.
    pub streams: Streams,
}

/// A connection to a container's own process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// Which streams to connect.
    pub streams: Streams,
}

/// Which streams to connect. With a terminal, standard error is part of standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A running command or attachment. Dropping every part ends it.
#[derive(Debug)]
pub struct Session {
    /// Standard input; drop it to close.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// Standard output.
    pub stdout: Option<mpsc::Receiver<Bytes>>,
    /// Standard error.
    pub stderr: Option<mpsc::Receiver<Bytes>>,
    /// Terminal sizes, where there is a terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// The exit code. For an attachment 0 when it ends.
    pub exit: oneshot::Receiver<crate::Result<i32>>,
}

/// One TCP connection into a sandbox.
#[derive(Debug)]
pub struct PortConnection {
    /// Bytes to the pod; drop it to half-close.
    pub writer: mpsc::Sender<Bytes>,
    /// Bytes from the pod.
    pub reader: mpsc::Receiver<Bytes>,
    /// Says why the connection failed, if it did.
    pub error: mpsc::Receiver<Bytes>,
}

/// Use of one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerStats {
    /// Container.
    pub id: String,
    /// As configured.
    pub labels: Labels,
    /// When it was read.
    pub timestamp: UnixNanos,
    /// CPU time since it started.
    pub cpu_usage: Duration,
    /// Memory that cannot be reclaimed under pressure, in bytes.
    pub memory_working_set: u64,
}

/// A hint from [`crate::Runtime::changes`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The container or sandbox concerned.
    pub id: String,
}
