//! Cgroups of pods, under cgroup v1, v2 and both at once. The engine makes them; the pod's own remains for
//! the agent to remove.

use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroup hierarchies are mounted: several under v1, one under v2.
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = |line: &str| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(path))
    };
    table.lines().filter_map(mount).collect()
}

/// Removes a cgroup with everything below it, in every hierarchy. Those that still have processes stay.
pub(crate) fn remove(path: &str) {
    let below = path.trim_start_matches('/');
    if below.is_empty() {
        return;
    }
    for hierarchy in hierarchies() {
        let directory = hierarchy.join(below);
        if directory.is_dir() {
            remove_tree(&directory);
        }
    }
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Busy ones are removed with the instance.
    let _ = fs::remove_dir(path);
}

/// The memory limit that this process is under, if any.
pub(crate) fn memory_limit() -> Option<i64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path =
        own.lines().find_map(|l| l.strip_prefix("0::").or_else(|| l.split_once(":memory:").map(|(_, p)| p)));
    let path = path.unwrap_or_default().trim_start_matches('/');
    ["memory/memory.limit_in_bytes", "memory.max"].iter().find_map(|file| {
        let (controller, name) = file.split_once('/').unwrap_or(("", file));
        let file = Path::new("/sys/fs/cgroup").join(controller).join(path).join(name);
        fs::read_to_string(file).ok()?.trim().parse().ok()
    })
}
