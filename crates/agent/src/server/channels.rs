//! The client's end of a remote command, whatever protocol carries it.

use bytes::Bytes;
use runtime::{Session, TerminalSize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Where bytes for the client go.
pub(super) enum Output {
    WebSocket { channel: u8, socket: mpsc::Sender<Message> },
    Spdy(spdy::Writer),
}

impl Output {
    /// Returns whether the client is still there.
    pub(super) async fn write(&self, data: Bytes) -> bool {
        match self {
            Self::WebSocket { channel, socket } => {
                let mut message = Vec::with_capacity(data.len() + 1);
                message.push(*channel);
                message.extend_from_slice(&data);
                socket.send(Message::Binary(message.into())).await.is_ok()
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
}

/// Connects the client with the command until the command ends or the client leaves.
pub(super) async fn connect(channels: Channels, session: Session) {
    let Channels { stdin, stdout, stderr, error, resize } = channels;
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
    error.write(Bytes::from(status.to_string())).await;
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
