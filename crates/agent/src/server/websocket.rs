//! Remote commands over WebSocket: one binary message is a channel number and its bytes. Version 5 added
//! the message that closes a channel, so that standard input can end.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use runtime::Runtime;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::channels::{Channels, Encoding, Output, connect, terminal_size};
use super::remote::Command;
use super::{Answer, Body, bad, text};

const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
const MESSAGES_MAX: usize = 16;
/// Clients send standard input in pieces of some ten kilobytes.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The first of our protocols that the client offers.
pub(super) fn choose<B>(request: &Request<B>, ours: &[&'static str]) -> Option<&'static str> {
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> =
        offers.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).collect();
    ours.iter().copied().find(|p| offered.contains(p))
}

/// Answers the handshake; `then` gets the socket.
pub(super) fn accept<F>(
    mut request: Request<Incoming>,
    protocol: Option<&'static str>,
    then: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response<Body>, (StatusCode, String)>
where
    F: Future<Output = ()> + Send + 'static,
{
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("no Sec-WebSocket-Key"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|e| bad(e.to_string()))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let limits = WebSocketConfig::default()
                    .max_message_size(Some(MESSAGE_BYTES_MAX))
                    .max_frame_size(Some(MESSAGE_BYTES_MAX));
                let stream = TokioIo::new(upgraded);
                then(WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits)).await).await;
            }
            Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

pub(super) fn serve(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    container: String,
    command: Command,
) -> Answer {
    let protocol = choose(&request, &PROTOCOLS);
    if protocol.is_none() && request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Err(bad("unable to upgrade: unable to negotiate protocol"));
    }
    let protocol_name = protocol.unwrap_or("channel.k8s.io");
    accept(request, protocol, move |socket| run(socket, protocol_name, runtime, container, command))
}

async fn run(
    socket: Socket,
    protocol: &'static str,
    runtime: Arc<dyn Runtime>,
    container: String,
    command: Command,
) {
    let encoding = if protocol.contains("base64") { Encoding::Base64 } else { Encoding::Binary };
    let streams = command.streams();
    let (mut sink, mut source) = socket.split();
    let (tx, mut rx) = mpsc::channel::<Message>(MESSAGES_MAX);
    let writer = tokio::spawn(async move {
        while let Some(message) = rx.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The client may have closed first.
        let _ = sink.send(farewell()).await;
    });
    let output = |channel: u8| Output::WebSocket { channel, socket: tx.clone(), encoding };
    let (stdin_tx, stdin) = mpsc::channel(MESSAGES_MAX);
    let (resize_tx, resize) = mpsc::channel(MESSAGES_MAX);
    let channels = Channels {
        stdin: streams.stdin.then_some(stdin),
        stdout: streams.stdout.then(|| output(STDOUT)),
        stderr: streams.stderr.then(|| output(STDERR)),
        error: output(ERROR),
        resize: streams.tty.then_some(resize),
        plain_errors: !protocol.starts_with('v'),
    };
    // Tells clients that the connection is established before the first output.
    let first = channels.stdout.as_ref().or(channels.stderr.as_ref()).unwrap_or(&channels.error);
    first.write(Bytes::new()).await;
    drop(tx);
    let session = match command.start(runtime.as_ref(), &container).await {
        Ok(session) => session,
        Err(error) => failed(error),
    };
    let mut stdin_tx = Some(stdin_tx);
    let reader = async {
        while let Some(Ok(message)) = source.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                _ => continue,
            };
            let Some((channel, payload)) = encoding.read(&data) else { continue };
            match channel {
                STDIN => {
                    if let Some(stdin) = &stdin_tx
                        && !payload.is_empty()
                        && stdin.send(payload).await.is_err()
                    {
                        stdin_tx = None;
                    }
                }
                RESIZE => {
                    if let Some(size) = terminal_size(&payload) {
                        // Sizes for a command without a terminal go nowhere.
                        let _ = resize_tx.try_send(size);
                    }
                }
                CLOSE if payload.first() == Some(&STDIN) => stdin_tx = None,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = connect(channels, session) => {}
        () = reader => {}
    }
    // The last message may still be on its way out.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), writer).await;
}

/// Go's clients take a close without a status for a failure.
pub(super) fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// A session that reports an error and nothing else.
pub(super) fn failed(error: runtime::Error) -> runtime::Session {
    let (tx, exit) = tokio::sync::oneshot::channel();
    // The receiver is right here.
    let _ = tx.send(Err(error));
    runtime::Session { stdin: None, stdout: None, stderr: None, resize: None, exit }
}
