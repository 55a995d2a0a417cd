//! Why a cluster could not be started: the cause in one line, and what to do.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another cluster runs on the same data.
    #[error("a cluster is already running on {} (pid {pid}); stop it with `kobune down`, or choose another --data-dir", .dir.display())]
    Running {
        /// The data directory.
        dir: PathBuf,
        /// The process that has it open.
        pid: u32,
    },
    /// The data directory or a file in it cannot be used.
    #[error("{} cannot be used: {cause}; check its permissions, or choose another --data-dir", .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's word for it.
        cause: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("the store cannot be opened: {0}")]
    Store(store_embedded::OpenError),
    /// The address is in use or not ours.
    #[error(
        "cannot listen on {address}: {cause}; choose another address with --listen (port 0 picks a free one)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's word for it.
        cause: std::io::Error,
    },
    /// Keys or certificates cannot be made or read.
    #[error("certificates: {0}")]
    Pki(#[from] apiserver::pki::PkiError),
    /// The API server did not start.
    #[error("the API server did not start: {0}")]
    ApiServer(#[from] apiserver::StartError),
    /// The token file is not of its form.
    #[error("--token-auth-file {}: {cause}", .path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A file that says who may come in, what is recorded or what is encrypted makes no sense.
    #[error("{}: {cause}", .path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The instance types cannot be read.
    #[error("--catalogue: {0}")]
    Catalogue(String),
    /// Containers are wanted but impossible.
    #[error("no container runtime: {0}")]
    Runtime(String),
    /// The cluster came up but did not become ready in time.
    #[error("the cluster is not ready after {seconds} s: {missing}; the log says more")]
    NotReady {
        /// How long it was given.
        seconds: u64,
        /// What is still missing.
        missing: String,
    },
}
