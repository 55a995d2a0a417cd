//! Connections on which anything can be written.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// An answer with this status.
    Answered(u16),
    /// Without a word.
    Closed,
    /// Not at all, within the time that was given.
    Open,
}

/// Waits for an answer or the end of a connection.
async fn end(stream: &mut (impl AsyncRead + Unpin), within: Duration) -> End {
    let mut begin = Vec::new();
    let read = async {
        while begin.len() < 12 {
            match stream.read_buf(&mut begin).await {
                Ok(1..) => {}
                _ => return End::Closed,
            }
        }
        let status = begin.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.map_or(End::Closed, End::Answered)
    };
    tokio::time::timeout(within, read).await.unwrap_or(End::Open)
}

/// Writes whatever `write` writes while it waits for an answer or the end of the connection. Who cannot write
/// any more may still find an answer.
pub async fn exchange<S, W>(stream: S, within: Duration, write: impl FnOnce(WriteHalf<S>) -> W) -> End
where
    S: AsyncRead + AsyncWrite,
    W: Future<Output = io::Result<()>>,
{
    const LAST_WORDS: Duration = Duration::from_secs(1);
    let (mut reader, writer) = tokio::io::split(stream);
    let write = write(writer);
    let write = async {
        match write.await {
            Ok(()) => std::future::pending().await,
            Err(_) => tokio::time::sleep(LAST_WORDS).await,
        }
    };
    tokio::select! {
        end = end(&mut reader, within) => end,
        () = write => End::Closed,
    }
}

/// Sends one request with a body and waits for its answer.
pub async fn post(
    stream: TlsStream<TcpStream>,
    path: &str,
    headers: &str,
    body: &[u8],
    within: Duration,
) -> Result<End> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: kobune\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let write = async |mut writer: WriteHalf<_>| {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body).await?;
        writer.flush().await
    };
    Ok(exchange(stream, within, write).await)
}

/// How many connections ended in which way.
#[derive(Default)]
pub struct Tally(BTreeMap<End, usize>);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, end: End) {
        *self.0.entry(end).or_default() += 1;
    }

    /// How many ended like this.
    pub fn count(&self, end: End) -> usize {
        self.0.get(&end).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (end, count)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            match end {
                End::Answered(status) => write!(f, "{comma}{count} answered with {status}")?,
                End::Closed => write!(f, "{comma}{count} closed")?,
                End::Open => write!(f, "{comma}{count} STILL OPEN")?,
            }
        }
        Ok(())
    }
}
