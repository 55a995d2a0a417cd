//! `kobune exec`: runs a command in a container over a WebSocket.

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, TerminalSize};
use rustix::termios::{OptionalActions, Termios};

use super::{Target, describe};

/// Run a command in a container
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The pod
    pub pod: String,
    /// The container; the first one when absent
    #[arg(long, short)]
    pub container: Option<String>,
    /// Pass standard input on
    #[arg(long, short = 'i')]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Runs the command; the result is the exit code of what ran in the container.
pub async fn run(args: Args, target: &Target) -> Result<u8> {
    let (client, namespace) = target.connect().await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut params = AttachParams::default().stdin(args.stdin).tty(args.tty).stdout(true).stderr(!args.tty);
    params.container = args.container;
    let name = args.pod.strip_prefix("pod/").unwrap_or(&args.pod);
    let mut process =
        pods.exec(name, args.command, &params).await.map_err(|error| anyhow!(describe(&error)))?;
    let _raw = if args.tty && args.stdin { RawTerminal::enter() } else { None };
    if let Some(mut size) = process.terminal_size()
        && let Ok(window) = rustix::termios::tcgetwinsize(rustix::stdio::stdout())
    {
        use futures::SinkExt;
        let _ = size.send(TerminalSize { width: window.ws_col, height: window.ws_row }).await;
    }
    if let Some(mut input) = process.stdin() {
        tokio::spawn(async move { tokio::io::copy(&mut tokio::io::stdin(), &mut input).await });
    }
    let copies = [
        process.stdout().map(|mut out| {
            tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::stdout()).await.map(|_| ()) })
        }),
        process.stderr().map(|mut out| {
            tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::stderr()).await.map(|_| ()) })
        }),
    ];
    let status = match process.take_status() {
        Some(status) => status.await,
        None => None,
    };
    for copy in copies.into_iter().flatten() {
        let _ = copy.await;
    }
    Ok(exit_code(status))
}

fn exit_code(status: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>) -> u8 {
    let Some(status) = status else { return 1 };
    if status.status.as_deref() == Some("Success") {
        return 0;
    }
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()).and_then(|code| code.parse().ok()) {
        Some(code) => code,
        None => {
            eprintln!("error: {}", status.message.unwrap_or_default());
            1
        }
    }
}

/// The terminal in raw mode; dropping it restores the former mode.
struct RawTerminal {
    former: Termios,
}

impl RawTerminal {
    fn enter() -> Option<Self> {
        let former = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = former.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { former })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.former);
    }
}
