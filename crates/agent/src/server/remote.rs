//! `exec` and `attach`.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use runtime::{AttachRequest, ContainerState, ExecRequest, Session, Streams};

use super::{Answer, Handler, Query, bad, spdy_session, websocket};

/// What to connect the client to.
pub(super) enum Command {
    Exec(ExecRequest),
    Attach(AttachRequest),
}

impl Command {
    pub(super) fn streams(&self) -> Streams {
        match self {
            Self::Exec(exec) => exec.streams,
            Self::Attach(attach) => attach.streams,
        }
    }

    pub(super) async fn start(
        &self,
        runtime: &dyn runtime::Runtime,
        container: &str,
    ) -> runtime::Result<Session> {
        match self {
            Self::Exec(exec) => runtime.exec(container, exec).await,
            Self::Attach(attach) => runtime.attach(container, attach).await,
        }
    }
}

/// The API server's names of the parameters, and the kubelet's own.
fn streams(query: &Query) -> Result<Streams, (StatusCode, String)> {
    let either = |a: &str, b: &str| query.flag(a) || query.flag(b);
    let tty = query.flag("tty");
    let streams = Streams {
        stdin: either("stdin", "input"),
        stdout: either("stdout", "output"),
        stderr: either("stderr", "error") && !tty,
        tty,
    };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

pub(super) async fn exec(
    handler: &Handler,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Answer {
    let command = query.all("command");
    if command.is_empty() {
        return Err(bad("you must specify at least 1 command for the container"));
    }
    let exec = ExecRequest { command, streams: streams(query)? };
    serve(handler, request, namespace, pod, container, Command::Exec(exec)).await
}

pub(super) async fn attach(
    handler: &Handler,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Answer {
    let attach = AttachRequest { streams: streams(query)? };
    serve(handler, request, namespace, pod, container, Command::Attach(attach)).await
}

async fn serve(
    handler: &Handler,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    command: Command,
) -> Answer {
    let attempts = handler.attempts(namespace, pod, container).await?;
    let running = attempts.into_iter().find(|c| c.state == ContainerState::Running);
    let Some(running) = running else {
        let message = format!("unable to upgrade connection: container not found (\"{container}\")");
        return Err((StatusCode::NOT_FOUND, message));
    };
    let runtime = handler.runtime();
    if websocket::is_asked_for(&request) {
        return websocket::serve(request, runtime, running.id, command);
    }
    if spdy_session::is_asked_for(&request) {
        return spdy_session::serve(request, runtime, running.id, command);
    }
    Err(bad("unable to upgrade: the request asks for neither WebSocket nor SPDY/3.1"))
}
