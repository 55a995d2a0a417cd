//! What an instance leaves on a machine, and removing it by force. Every step is safe to repeat and none
//! relies on an earlier one having worked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use tokio::time::sleep;

use super::{Config, link, process};

/// What is left of an instance on the machine.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leftovers(Vec<String>);

impl Leftovers {
    /// Whether the machine is clean.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Looks for processes, mounts, interfaces, cgroups and run-time state of an instance.
pub fn leftovers(config: &Config) -> Leftovers {
    let mut found = Vec::new();
    let daemon = process::daemon(config);
    for pid in daemon.into_iter().chain(process::shims(config)).chain(process::in_cgroups(config)) {
        found.push(format!("process {}", pid.as_raw_nonzero()));
    }
    found.extend(mounts(config).iter().map(|m| format!("mount {}", m.display())));
    if link::exists(&config.bridge) {
        found.push(format!("interface {}", config.bridge));
    }
    found.extend(cgroup_roots(config).iter().map(|c| format!("cgroup {}", c.display())));
    if config.state.exists() {
        found.push(format!("directory {}", config.state.display()));
    }
    Leftovers(found)
}

/// Removes everything that [`leftovers`] looks for.
pub(super) async fn by_force(config: &Config) {
    process::kill_all(|| process::shims(config)).await;
    process::kill_all(|| process::in_cgroups(config)).await;
    unmount_all(config);
    for interface in link::ports(&config.bridge).iter().chain([&config.bridge]) {
        // Ports disappear by themselves once their network namespace is gone, maybe right now.
        if link::exists(interface)
            && let Err(error) = link::delete(interface)
            && link::exists(interface)
        {
            tracing::warn!(interface, %error, "cannot remove an interface");
        }
    }
    remove_cgroups(config).await;
    remove_shim_sockets(config);
    remove_network_results(config);
    if let Err(error) = fs::remove_dir_all(&config.state)
        && config.state.exists()
    {
        tracing::warn!(path = %config.state.display(), %error, "cannot remove the state directory");
    }
    // The directory above is shared by instances; it goes with the last one.
    let _ = config.state.parent().map(fs::remove_dir);
}

/// Mount points below the instance's directories, outermost first.
fn mounts(config: &Config) -> Vec<PathBuf> {
    let ours: Vec<&Path> =
        [&config.root, &config.state].into_iter().chain(&config.volumes).map(PathBuf::as_path).collect();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|mount| ours.iter().any(|dir| mount.starts_with(dir) && mount != dir))
        .collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut path = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        path.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                path.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    path.push_str(rest);
    PathBuf::from(path)
}

fn unmount_all(config: &Config) {
    for mount in mounts(config).iter().rev() {
        if let Err(error) = unmount(mount, UnmountFlags::DETACH) {
            tracing::warn!(mount = %mount.display(), %error, "cannot unmount");
        }
    }
}

/// The instance's root cgroup in each hierarchy where it exists: several under cgroup v1.
fn cgroup_roots(config: &Config) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = config.cgroup_root.trim_start_matches('/');
    let mut roots: Vec<PathBuf> = table
        .lines()
        .filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4))
        .map(|mount| unescape(mount).join(below))
        .filter(|root| root.is_dir())
        .collect();
    roots.dedup();
    roots
}

/// A cgroup can be removed once its last process is reaped, a moment after its death.
async fn remove_cgroups(config: &Config) {
    for _ in 0..100 {
        let roots = cgroup_roots(config);
        if roots.is_empty() {
            return;
        }
        for root in roots {
            remove_cgroup(&root);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn remove_cgroup(path: &Path) {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            remove_cgroup(&entry.path());
        }
    }
    // Busy ones are tried again.
    let _ = fs::remove_dir(path);
}

/// Shims put their sockets into a directory shared by all containerds; their addresses are in the
/// bundles. Sandboxes that ended in good order have removed theirs.
fn remove_shim_sockets(config: &Config) {
    let tasks = config.state.join("state/io.containerd.runtime.v2.task/k8s.io");
    let Ok(bundles) = fs::read_dir(tasks) else { return };
    for bundle in bundles.flatten() {
        if let Ok(address) = fs::read_to_string(bundle.path().join("address"))
            && let Some(socket) = address.strip_prefix("unix://")
        {
            let _ = fs::remove_file(socket);
        }
    }
}

/// The CNI library remembers results in a directory shared by all networks.
fn remove_network_results(config: &Config) {
    let Ok(results) = fs::read_dir("/var/lib/cni/results") else { return };
    let prefix = format!("{}-", config.bridge);
    for result in results.flatten() {
        if result.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_file(result.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_paths_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescape("/plain"), PathBuf::from("/plain"));
    }
}
