//! Remote commands over SPDY/3.1, for clients from before WebSocket.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use runtime::Runtime;
use spdy::{Connection, Role, Stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::channels::{Channels, Output, connect, terminal_size};
use super::remote::Command;
use super::websocket::failed;
use super::{Answer, Body, bad, text};

const VERSION_HEADER: &str = "x-stream-protocol-version";
const SIZES_MAX: usize = 16;
/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.headers().get(header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"SPDY/3.1"))
}

/// Answers the upgrade; `then` gets the connection and the streams that the client opens.
pub(super) fn accept<F>(
    mut request: Request<Incoming>,
    ours: &[&'static str],
    then: impl FnOnce(Connection, mpsc::Receiver<Stream>) -> F + Send + 'static,
) -> Result<Response<Body>, (StatusCode, String)>
where
    F: Future<Output = ()> + Send + 'static,
{
    let offers = request.headers().get_all(VERSION_HEADER);
    let offered: Vec<&str> =
        offers.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).collect();
    let version = ours.iter().copied().find(|p| offered.contains(p));
    let version = version.ok_or_else(|| bad("unable to upgrade: unable to negotiate protocol"))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let (connection, streams) = Connection::new(TokioIo::new(upgraded), Role::Server);
                then(connection, streams).await;
            }
            Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(VERSION_HEADER, HeaderValue::from_static(version));
    Ok(response)
}

pub(super) fn serve(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    container: String,
    command: Command,
) -> Answer {
    accept(request, &["v4.channel.k8s.io"], move |connection, streams| {
        run(connection, streams, runtime, container, command)
    })
}

async fn run(
    connection: Connection,
    mut incoming: mpsc::Receiver<Stream>,
    runtime: Arc<dyn Runtime>,
    container: String,
    command: Command,
) {
    let wanted = command.streams();
    let expected =
        1 + [wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty].iter().filter(|w| **w).count();
    let mut channels = (None, None, None, None, None);
    let opened = async {
        for _ in 0..expected {
            let Some(stream) = incoming.recv().await else { return };
            let kind = stream.header("streamtype").unwrap_or_default().to_owned();
            let Stream { reader, writer, .. } = stream;
            match kind.as_str() {
                "error" => channels.0 = Some(Output::Spdy(writer)),
                // The client waits for us to half-close what only it writes to.
                "stdin" => channels.1 = Some(reader),
                "stdout" => channels.2 = Some(Output::Spdy(writer)),
                "stderr" => channels.3 = Some(Output::Spdy(writer)),
                "resize" => channels.4 = Some(sizes(reader)),
                _ => {}
            }
        }
    };
    if timeout(OPENING, opened).await.is_err() {
        return;
    }
    let (Some(error), stdin, stdout, stderr, resize) = channels else { return };
    let session = match command.start(runtime.as_ref(), &container).await {
        Ok(session) => session,
        Err(error) => failed(error),
    };
    tokio::select! {
        () = connect(Channels { stdin, stdout, stderr, error, resize, plain_errors: false }, session) => {}
        // No further stream is expected: this is the end of the connection.
        _ = incoming.recv() => {}
    }
    drop(connection);
}

fn sizes(mut reader: mpsc::Receiver<bytes::Bytes>) -> mpsc::Receiver<runtime::TerminalSize> {
    let (tx, rx) = mpsc::channel(SIZES_MAX);
    tokio::spawn(async move {
        while let Some(message) = reader.recv().await {
            if let Some(size) = terminal_size(&message)
                && tx.send(size).await.is_err()
            {
                return;
            }
        }
    });
    rx
}
