//! The engine's streaming server: remote commands and port forwarding over SPDY/3.1.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use runtime::{Error, PortConnection, Result, Session, Streams, TerminalSize};
use spdy::{Connection, Headers, Role, Stream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// Chunks that may wait between the caller and the connection.
const CHUNKS_MAX: usize = 16;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("streaming server of the container engine: {error}"))
}

async fn connect(url: &str, protocol: &str) -> Result<Connection> {
    let uri: http::Uri = url.parse().map_err(failed)?;
    let authority = uri.authority().ok_or_else(|| failed("no address"))?.clone();
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let tcp = TcpStream::connect(address).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(failed)?;
    tokio::spawn(connection.with_upgrades());
    let request = http::Request::post(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header("Host", authority.as_str())
        .header("Connection", "Upgrade")
        .header("Upgrade", "SPDY/3.1")
        .header("X-Stream-Protocol-Version", protocol)
        .body(Empty::<Bytes>::new())
        .map_err(failed)?;
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(failed(format_args!("answered {}", response.status())));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(failed)?;
    Ok(Connection::new(TokioIo::new(upgraded), Role::Client).0)
}

fn stream_type(kind: &str) -> Headers {
    vec![("streamtype".to_owned(), kind.to_owned())]
}

/// Opens the streams of a remote command. The order is the protocol's.
pub(crate) async fn session(url: &str, streams: Streams) -> Result<Session> {
    let connection = Arc::new(connect(url, "v4.channel.k8s.io").await?);
    let error = connection.open(stream_type("error")).await.map_err(failed)?;
    let stdin = match streams.stdin {
        true => Some(pump_stdin(connection.open(stream_type("stdin")).await.map_err(failed)?)),
        false => None,
    };
    let output = async |wanted: bool, kind: &str| -> Result<Option<mpsc::Receiver<Bytes>>> {
        if !wanted {
            return Ok(None);
        }
        let stream = connection.open(stream_type(kind)).await.map_err(failed)?;
        Ok(Some(pump_output(stream.reader, (stream.writer, connection.clone()))))
    };
    let stdout = output(streams.stdout, "stdout").await?;
    let stderr = output(streams.stderr && !streams.tty, "stderr").await?;
    let resize = match streams.tty {
        true => Some(pump_resize(connection.open(stream_type("resize")).await.map_err(failed)?)),
        false => None,
    };
    let (exit_tx, exit) = oneshot::channel();
    tokio::spawn(wait_for_exit(error, exit_tx, connection.clone()));
    Ok(Session { stdin, stdout, stderr, resize, exit })
}

fn pump_stdin(stream: Stream) -> mpsc::Sender<Bytes> {
    let (tx, mut rx) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(chunk) = rx.recv().await {
            if stream.writer.write(chunk).await.is_err() {
                return;
            }
        }
        let _ = stream.writer.finish().await;
    });
    tx
}

fn pump_resize(stream: Stream) -> mpsc::Sender<TerminalSize> {
    let (tx, mut rx) = mpsc::channel::<TerminalSize>(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(TerminalSize { width, height }) = rx.recv().await {
            let text = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
            if stream.writer.write(Bytes::from(text)).await.is_err() {
                return;
            }
        }
    });
    tx
}

/// Passes output on. `held` keeps the connection open until all of it has arrived.
fn pump_output<H: Send + 'static>(mut reader: mpsc::Receiver<Bytes>, held: H) -> mpsc::Receiver<Bytes> {
    let (tx, rx) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(chunk) = reader.recv().await {
            if tx.send(chunk).await.is_err() {
                break;
            }
        }
        drop(held);
    });
    rx
}

/// `held` keeps the connection open while the command runs.
async fn wait_for_exit<H>(mut error: Stream, mut exit: oneshot::Sender<Result<i32>>, held: H) {
    let mut report = Vec::new();
    loop {
        tokio::select! {
            chunk = error.reader.recv() => match chunk {
                Some(chunk) => report.extend_from_slice(&chunk),
                None => break,
            },
            // Nobody waits for the exit code any more.
            () = exit.closed() => return,
        }
    }
    let _ = exit.send(exit_code(&report));
    drop(held);
}

/// The exit code in a `v4.channel.k8s.io` error stream: a `metav1.Status`, or nothing.
fn exit_code(report: &[u8]) -> Result<i32> {
    if report.is_empty() {
        return Ok(0);
    }
    let text = || String::from_utf8_lossy(report).into_owned();
    let status: serde_json::Value = serde_json::from_slice(report).map_err(|_| Error::Internal(text()))?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    causes
        .iter()
        .find(|c| c["reason"] == "ExitCode")
        .and_then(|c| c["message"].as_str()?.parse().ok())
        .ok_or_else(|| Error::Internal(status["message"].as_str().map_or_else(text, str::to_owned)))
}

/// One TCP connection through the engine, on a connection of its own.
pub(crate) async fn port_forward(url: &str, port: u16) -> Result<PortConnection> {
    let connection = connect(url, "portforward.k8s.io").await?;
    let headers = |kind: &str| {
        let mut headers = stream_type(kind);
        headers.push(("port".to_owned(), port.to_string()));
        headers.push(("requestid".to_owned(), "0".to_owned()));
        headers
    };
    let error = connection.open(headers("error")).await.map_err(failed)?;
    let data = connection.open(headers("data")).await.map_err(failed)?;
    let Stream { reader, writer, .. } = data;
    let (tx, mut rx) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(chunk) = rx.recv().await {
            if writer.write(chunk).await.is_err() {
                return;
            }
        }
        let _ = writer.finish().await;
    });
    // The error stream carries nothing from us.
    let Stream { reader: error_reader, writer: error_writer, .. } = error;
    let _ = error_writer.finish().await;
    Ok(PortConnection { writer: tx, reader: pump_output(reader, connection), error: error_reader })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_streams_tell_exit_codes() {
        assert_eq!(exit_code(b"").unwrap(), 0);
        assert_eq!(exit_code(br#"{"metadata":{},"status":"Success"}"#).unwrap(), 0);
        let nonzero = br#"{"status":"Failure","message":"command terminated","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(exit_code(nonzero).unwrap(), 7);
        let failed = exit_code(br#"{"status":"Failure","message":"no such file"}"#).unwrap_err();
        assert_eq!(failed.to_string(), "no such file");
    }
}
