//! Port forwarding. kubectl tunnels SPDY through a WebSocket; older clients speak SPDY directly.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use runtime::{Labels, Runtime};
use spdy::{Connection, Role, Stream, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Answer, Handler, bad, spdy_session, websocket};
use crate::identity::POD_UID;

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const BUFFER_BYTES: usize = 64 * 1024;

pub(super) async fn port_forward(
    handler: &Handler,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
) -> Answer {
    let labels = Labels::from([(POD_UID.to_owned(), handler.pod_uid(namespace, pod)?)]);
    let runtime = handler.runtime();
    let failed = |e: runtime::Error| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    let sandboxes = runtime.sandboxes(&labels).await.map_err(failed)?;
    let sandbox = sandboxes.into_iter().find(|s| s.ready).map(|s| s.id);
    let sandbox = sandbox.ok_or_else(|| bad(format!("pod {pod} is not running")))?;
    if spdy_session::is_asked_for(&request) {
        return spdy_session::accept(request, &[PROTOCOL], move |connection, streams| {
            serve(connection, streams, runtime, sandbox)
        });
    }
    if !websocket::is_asked_for(&request) {
        return Err(bad("unable to upgrade: the request asks for neither WebSocket nor SPDY/3.1"));
    }
    let protocol = websocket::choose(&request, &[TUNNEL]);
    let protocol = protocol.ok_or_else(|| bad(format!("unable to upgrade: only {TUNNEL} is spoken")))?;
    websocket::accept(request, Some(protocol), move |socket| async move {
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let (connection, streams) = Connection::new(theirs, Role::Server);
        tokio::join!(tunnel(socket, ours), serve(connection, streams, runtime, sandbox));
    })
}

/// Carries bytes between WebSocket messages and a byte stream.
async fn tunnel(socket: websocket::Socket, stream: tokio::io::DuplexStream) {
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(stream);
    let inwards = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(data) => match write.write_all(&data).await {
                    Ok(()) => {}
                    Err(_) => return,
                },
                Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = write.shutdown().await;
    };
    let outwards = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..length]));
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(websocket::farewell()).await;
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}

/// Each connection is a pair of streams, `error` and `data`, with the same request identifier.
async fn serve(
    connection: Connection,
    mut streams: mpsc::Receiver<Stream>,
    runtime: Arc<dyn Runtime>,
    sandbox: String,
) {
    let mut errors: BTreeMap<String, Writer> = BTreeMap::new();
    while let Some(stream) = streams.recv().await {
        let request = stream.header("requestid").unwrap_or_default().to_owned();
        if stream.header("streamtype") == Some("error") {
            errors.insert(request, stream.writer);
            continue;
        }
        let port = stream.header("port").and_then(|p| p.parse().ok()).unwrap_or(0);
        let error = errors.remove(&request);
        let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
        tokio::spawn(async move {
            if let Err(reason) = one(runtime.as_ref(), &sandbox, port, stream).await
                && let Some(error) = &error
            {
                let text = format!("error forwarding port {port} to pod {sandbox}: {reason}");
                // The client may be gone.
                let _ = error.write(Bytes::from(text)).await;
            }
        });
    }
    drop(connection);
}

async fn one(runtime: &dyn Runtime, sandbox: &str, port: u16, stream: Stream) -> Result<(), String> {
    let mut connection = runtime.port_forward(sandbox, port).await.map_err(|e| e.to_string())?;
    let Stream { mut reader, writer, .. } = stream;
    let to_pod = connection.writer;
    let upload = tokio::spawn(async move {
        while let Some(chunk) = reader.recv().await {
            if to_pod.send(chunk).await.is_err() {
                return;
            }
        }
    });
    while let Some(chunk) = connection.reader.recv().await {
        if writer.write(chunk).await.is_err() {
            break;
        }
    }
    let _ = writer.finish().await;
    upload.abort();
    match connection.error.recv().await {
        Some(text) if !text.is_empty() => Err(String::from_utf8_lossy(&text).into_owned()),
        _ => Ok(()),
    }
}
