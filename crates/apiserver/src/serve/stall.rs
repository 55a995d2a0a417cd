//! A connection that ends when its client does not do its part in time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a client may take to begin, after the handshake.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The shortest beginning of a connection that says anything: HTTP/2's preface.
const START_BYTES: usize = 24;
/// How long a client may not take a single byte of what waits for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads and writes that fail when nothing moves for too long. A client that reads or says nothing while
/// there is nothing to be read or said is left alone: it may be watching.
pub(super) struct Impatient<T> {
    inner: T,
    /// Bytes read so far, up to `START_BYTES`.
    begun: usize,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<T> Impatient<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, begun: 0, reading: None, writing: None }
    }
}

/// Passes on what is ready; otherwise lets the timer run, from the first time on.
fn bounded<R>(
    poll: Poll<io::Result<R>>,
    timer: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Poll<io::Result<R>> {
    if poll.is_ready() {
        *timer = None;
        return poll;
    }
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
    timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.begun >= START_BYTES {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, buffer);
        this.begun += buffer.filled().len() - before;
        if poll.is_ready() {
            if this.begun >= START_BYTES {
                this.reading = None;
            }
            return poll;
        }
        // One byte now and then is no beginning.
        let timer = this.reading.get_or_insert_with(|| Box::pin(tokio::time::sleep(START_TIMEOUT)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, bytes);
        bounded(poll, &mut this.writing, STALL_TIMEOUT, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, pieces);
        bounded(poll, &mut this.writing, STALL_TIMEOUT, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx);
        bounded(poll, &mut this.writing, STALL_TIMEOUT, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_shutdown(cx);
        bounded(poll, &mut this.writing, STALL_TIMEOUT, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Impatient::new(server);
        let started = Instant::now();
        let slow = tokio::spawn(async move {
            while client.write_all(b"P").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
        let mut all = Vec::new();
        assert_eq!(server.read_to_end(&mut all).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), START_TIMEOUT.as_secs());
        drop(server);
        slow.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_off_and_who_is_silent_is_not() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Impatient::new(server);
        client.write_all(&[0; START_BYTES]).await.unwrap();
        let mut begin = [0; START_BYTES];
        server.read_exact(&mut begin).await.unwrap();
        let silent = tokio::time::timeout(Duration::from_secs(100_000), server.read_u8()).await;
        assert!(silent.is_err(), "a silent client may be watching");
        assert_eq!(server.write_all(&[0; 1000]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
