//! The commands about the cluster on this machine.

pub mod access;
pub mod detach;
pub mod down;
pub mod status;
pub mod up;

use std::path::PathBuf;

/// Where a cluster is kept unless `--data-dir` says otherwise: `/var/lib/kobune` for root, else
/// `$XDG_DATA_HOME/kobune` (`~/.local/share/kobune`).
pub fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/kobune");
    }
    let data_home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data_home.or_else(home).unwrap_or_else(|| PathBuf::from(".")).join("kobune")
}

/// Where the cluster is kept.
#[derive(clap::Args, Clone, Debug)]
pub struct DataDir {
    /// Where the cluster is kept: store, keys, kubeconfig, volumes
    /// [default: /var/lib/kobune for root, else ~/.local/share/kobune]
    #[arg(long = "data-dir", value_name = "DIR", env = "KOBUNE_DATA_DIR")]
    path: Option<PathBuf>,
}

impl DataDir {
    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(default_data_dir)
    }
}
