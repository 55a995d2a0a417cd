//! `cargo xtask test`: what CI runs, and what everybody runs before a commit.

use std::path::Path;
use std::process::Command;

/// Debian packages that tests with real containers and etcd need; without them those tests say why
/// they were skipped.
const PACKAGES: &[&str] =
    &["containerd", "runc", "containernetworking-plugins", "nftables", "busybox-static"];
/// A file of each package, to see without apt whether it is there.
const EVIDENCE: &[&str] =
    &["/usr/bin/containerd", "/usr/sbin/runc", "/usr/lib/cni/bridge", "/usr/sbin/nft", "/bin/busybox"];

/// Installs what is missing, then checks format and lints and runs all tests.
pub fn run() -> Result<(), String> {
    install_packages();
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&["test", "--workspace"])
}

/// Installs the packages if this is Debian and we are root. A failure is said and not fatal: the
/// tests concerned skip themselves.
fn install_packages() {
    if EVIDENCE.iter().all(|file| Path::new(file).exists()) {
        return;
    }
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    if !is_root || !Path::new("/usr/bin/apt-get").exists() {
        eprintln!(
            "xtask: tests with real containers will be skipped: they need root and the Debian packages {}",
            PACKAGES.join(", ")
        );
        return;
    }
    eprintln!("xtask: installing {}", PACKAGES.join(", "));
    let apt = |arguments: &[&str]| {
        let status =
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        status.is_ok_and(|status| status.success())
    };
    let install: Vec<&str> =
        ["install", "-y", "-qq", "--no-install-recommends"].iter().chain(PACKAGES).copied().collect();
    if !(apt(&["update", "-qq"]) && apt(&install)) {
        eprintln!("xtask: the packages could not be installed; tests with real containers will be skipped");
    }
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    eprintln!("xtask: cargo {}", arguments.join(" "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        Command::new(cargo).args(arguments).status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" "))) }
}
