//! The client's end of a remote command, whatever protocol carries it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use runtime::{Session, TerminalSize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// How messages of a WebSocket carry bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// The channel's number, then the bytes.
    Binary,
    /// Text: the channel's digit, then the bytes in base 64.
    Base64,
}

impl Encoding {
    fn message(self, channel: u8, data: &Bytes) -> Message {
        match self {
            Self::Binary => {
                let mut message = Vec::with_capacity(data.len() + 1);
                message.push(channel);
                message.extend_from_slice(data);
                Message::Binary(message.into())
            }
            Self::Base64 => Message::text(format!("{channel}{}", STANDARD.encode(data))),
        }
    }

    /// The channel and the bytes of a message.
    pub(super) fn read(self, message: &Bytes) -> Option<(u8, Bytes)> {
        let (channel, payload) = message.split_first()?;
        Some(match self {
            Self::Binary => (*channel, message.slice(1..)),
            Self::Base64 => (channel.checked_sub(b'0')?, STANDARD.decode(payload).ok()?.into()),
        })
    }
}

/// Where bytes for the client go.
pub(super) enum Output {
    WebSocket { channel: u8, socket: mpsc::Sender<Message>, encoding: Encoding },
    Spdy(spdy::Writer),
}

impl Output {
    /// Returns whether the client is still there.
    pub(super) async fn write(&self, data: Bytes) -> bool {
        match self {
            Self::WebSocket { channel, socket, encoding } => {
                socket.send(encoding.message(*channel, &data)).await.is_ok()
            }
            Self::Spdy(writer) => writer.write(data).await.is_ok(),
        }
    }
}

/// The streams of a remote command on the client's side.
pub(super) struct Channels {
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub error: Output,
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    /// Before version 4 of the protocols only failures were told, by their message alone.
    pub plain_errors: bool,
}

/// Connects the client with the command until the command ends or the client leaves.
pub(super) async fn connect(channels: Channels, session: Session) {
    let Channels { stdin, stdout, stderr, error, resize, plain_errors } = channels;
    let Session { stdin: to_stdin, stdout: from_stdout, stderr: from_stderr, resize: to_resize, exit } =
        session;
    let inputs =
        [forward(stdin, to_stdin), forward(resize, to_resize)].into_iter().flatten().collect::<Vec<_>>();
    tokio::join!(pump(from_stdout, stdout), pump(from_stderr, stderr));
    let status = match exit.await {
        Ok(Ok(0)) => json!({"metadata": {}, "status": "Success"}),
        Ok(Ok(code)) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Ok(Err(failure)) => internal(&failure.to_string()),
        Err(_) => internal("the container runtime closed the connection"),
    };
    if !plain_errors {
        error.write(Bytes::from(status.to_string())).await;
    } else if let Some(message) = status["message"].as_str() {
        error.write(Bytes::from(message.to_owned())).await;
    }
    inputs.iter().for_each(|task| task.abort());
}

fn internal(message: &str) -> serde_json::Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": message,
        "details": {"causes": [{"message": message}]},
    })
}

fn forward<T: Send + 'static>(
    from: Option<mpsc::Receiver<T>>,
    to: Option<mpsc::Sender<T>>,
) -> Option<tokio::task::JoinHandle<()>> {
    let (mut from, to) = (from?, to?);
    // Dropping `to` at the end closes standard input.
    Some(tokio::spawn(async move {
        while let Some(item) = from.recv().await {
            if to.send(item).await.is_err() {
                return;
            }
        }
    }))
}

async fn pump(from: Option<mpsc::Receiver<Bytes>>, to: Option<Output>) {
    let Some(mut from) = from else { return };
    while let Some(chunk) = from.recv().await {
        if let Some(to) = &to
            && !to.write(chunk).await
        {
            return;
        }
    }
}

/// A `{"Width":…,"Height":…}` message.
pub(super) fn terminal_size(message: &[u8]) -> Option<TerminalSize> {
    let value: serde_json::Value = serde_json::from_slice(message).ok()?;
    let field = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some(TerminalSize { width: field("Width")?, height: field("Height")? })
}
