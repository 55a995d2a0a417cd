//! What is written down about a running cluster, for `down`, `status` and a later `up`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::StartError;
use crate::files::write_private;

/// A cluster that runs, or ran and was not stopped in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: tells it from a later one with the same id.
    pub process_start: u64,
    /// The API server's URL.
    pub url: String,
    /// What the nodes are made of, in words.
    pub nodes: String,
    /// The components, by name.
    pub components: String,
    /// When it started, as RFC 3339.
    pub started: String,
    /// Whether a containerd of our own serves the nodes.
    pub private_containerd: bool,
}

impl RunState {
    /// Where it is kept.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("run.json")
    }

    /// The last cluster on this data that was not stopped in order, running or not.
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(data_dir)).ok()?).ok()
    }

    /// Writes it down.
    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), StartError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_private(&Self::path(data_dir), &text)
    }

    /// Forgets it after an orderly stop.
    pub fn remove(data_dir: &Path) {
        let _ = std::fs::remove_file(Self::path(data_dir));
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        process_start(self.pid) == Some(self.process_start)
    }
}

/// When a process started, in clock ticks since boot; `None` when there is no such process.
/// Source: proc(5), field 22 of `/proc/PID/stat`.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name in parentheses may contain anything, so count from its end.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = std::process::id();
        let start = process_start(me).expect("this process runs");
        assert_eq!(process_start(me), Some(start));
        assert_eq!(process_start(u32::MAX), None);
    }
}
