//! Finding, starting and stopping the processes of an instance. They are found by what they were started
//! with, not by recorded process ids, which a crash or a reboot turns into somebody else's.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{BINARY, Config, Error, LOOK_EVERY};

/// containerd stops within milliseconds; its containers do not depend on it.
const STOP: Duration = Duration::from_secs(10);

/// Where a program is, by `PATH` and the system directories that some shells leave out.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|candidate| candidate.is_file())
}

/// All processes with their arguments. A process that ends meanwhile is left out.
fn processes() -> Vec<(Pid, Vec<String>)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let process = |entry: std::io::Result<fs::DirEntry>| {
        let pid = Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?)?;
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        let arguments = line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        Some((pid, arguments))
    };
    entries.filter_map(process).collect()
}

fn is_program(arguments: &[String], name: &str) -> bool {
    arguments
        .first()
        .is_some_and(|a| Path::new(a).file_name().is_some_and(|f| f.to_string_lossy().starts_with(name)))
}

/// The instance's containerd.
pub(super) fn daemon(config: &Config) -> Option<Pid> {
    let file = config.config_file().display().to_string();
    let ours =
        |(_, arguments): &(Pid, Vec<String>)| is_program(arguments, BINARY) && arguments.contains(&file);
    processes().into_iter().find(ours).map(|(pid, _)| pid)
}

/// The instance's shims, one for each sandbox.
pub(super) fn shims(config: &Config) -> Vec<Pid> {
    let socket = config.socket().display().to_string();
    processes()
        .into_iter()
        .filter(|(_, arguments)| is_program(arguments, "containerd-shim") && arguments.contains(&socket))
        .map(|(pid, _)| pid)
        .collect()
}

/// Starts containerd in a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.
pub(super) fn spawn(config: &Config) -> Result<Child, Error> {
    let log_path = config.log_file();
    let io = |source| Error::Io { path: log_path.clone(), source };
    let log = fs::File::options().create(true).append(true).open(&log_path).map_err(io)?;
    let mut command = match find_program("setsid") {
        Some(setsid) => {
            let mut command = Command::new(setsid);
            command.arg(BINARY);
            command
        }
        None => {
            let mut command = Command::new(BINARY);
            command.process_group(0);
            command
        }
    };
    command
        .arg("--config")
        .arg(config.config_file())
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io)?)
        .stderr(log)
        .spawn()
        .map_err(|source| Error::Io { path: BINARY.into(), source })
}

/// Stops containerd itself; what it runs goes on.
pub(super) async fn stop_daemon(config: &Config) {
    let deadline = Instant::now() + STOP;
    while let Some(pid) = daemon(config) {
        let signal = if Instant::now() < deadline { Signal::TERM } else { Signal::KILL };
        // It may be gone by now, which is what we want.
        let _ = kill_process(pid, signal);
        sleep(LOOK_EVERY).await;
    }
}

/// Processes in cgroups of the instance.
pub(super) fn in_cgroups(config: &Config) -> Vec<Pid> {
    let marker = format!(":{}/", config.cgroup_root);
    processes()
        .into_iter()
        .map(|(pid, _)| pid)
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))
                .is_ok_and(|t| t.contains(&marker))
        })
        .collect()
}

/// Kills until nobody is left or the time is up.
pub(super) async fn kill_all(find: impl Fn() -> Vec<Pid>) {
    let deadline = Instant::now() + STOP;
    loop {
        let pids = find();
        if pids.is_empty() || Instant::now() >= deadline {
            return;
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The last line of a log, for error messages.
pub(super) fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().last().unwrap_or("no output").to_owned()
}
