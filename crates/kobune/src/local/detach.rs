//! `kobune up --detach`: starts the cluster in a session of its own and waits until it is ready.

use std::fs::OpenOptions;
use std::io::{Read, Seek};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::up::Args;

/// How long the cluster may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(150);
/// How often the child's log is read on.
const POLL: Duration = Duration::from_millis(10);

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let data_dir = args.data_dir.path();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .with_context(|| format!("cannot create {}", data_dir.display()))?;
    let path = data_dir.join("kobune.log");
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let written = options.open(&path).with_context(|| format!("cannot write {}", path.display()))?;
    // A handle of its own: a duplicate would share its position with the writer.
    let mut log = std::fs::File::open(&path)?;
    log.seek(std::io::SeekFrom::End(0))?;
    let mut child = spawn(&written)?;
    follow(&mut child, &mut log, &path)
}

/// The same command without `--detach`, in a session of its own.
fn spawn(log: &std::fs::File) -> Result<Child> {
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "-d");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.process_group(0);
    command.spawn().context("cannot start the cluster's process")
}

/// Prints what the child prints until it is ready or gives up.
#[allow(clippy::disallowed_methods, reason = "no async runtime may exist yet, and time is real here")]
fn follow(child: &mut Child, log: &mut std::fs::File, path: &Path) -> Result<ExitCode> {
    let deadline = std::time::Instant::now() + READY_WITHIN;
    let mut text = String::new();
    let mut shown = 0;
    loop {
        let ended = child.try_wait()?;
        log.read_to_string(&mut text)?;
        while let Some(end) = text[shown..].find('\n') {
            let line = &text[shown..shown + end];
            shown += end + 1;
            if let Some(error) = line.strip_prefix("error: ") {
                bail!("{error}");
            }
            println!("{line}");
            if line.starts_with("ready in ") {
                println!("\n  export KUBECONFIG={}\n", path.with_file_name("kubeconfig").display());
                println!("stop it with `kobune down`; its log is {}", path.display());
                return Ok(ExitCode::SUCCESS);
            }
        }
        if let Some(status) = ended {
            bail!("the cluster's process ended ({status}); see {}", path.display());
        }
        if std::time::Instant::now() > deadline {
            bail!("not ready after {} s; see {}", READY_WITHIN.as_secs(), path.display());
        }
        std::thread::sleep(POLL);
    }
}
