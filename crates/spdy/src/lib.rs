//! SPDY/3.1 as Kubernetes streaming uses it: remote commands and port forwarding multiplex their byte
//! streams over one upgraded connection with it, both from kubectl to a node and from a node to its
//! container runtime.
//!
//! Only what those peers speak is here: no push, no priorities and no per-stream flow control (the Go
//! implementation on the other side has none either). Back-pressure is that of the connection.

mod frame;
mod header;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use frame::{Decoder, Encoder, Frame};

/// Name and value pairs of a stream's opening frame; names are lower case on the wire.
pub type Headers = Vec<(String, String)>;

/// Frames that may wait in one stream before its connection stops reading.
const STREAM_FRAMES_MAX: usize = 64;
/// Frames that may wait to be written.
const WRITE_FRAMES_MAX: usize = 64;
/// Streams that may be open at once; a port forward opens two for each TCP connection.
const STREAMS_MAX: usize = 4096;

/// Why a connection ended or a stream could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection is closed.
    #[error("the SPDY connection is closed")]
    Closed,
    /// The peer sent something that is not SPDY/3.1.
    #[error("SPDY protocol error: {0}")]
    Protocol(&'static str),
    /// The transport failed.
    #[error("SPDY transport: {0}")]
    Io(#[from] std::io::Error),
}

/// Which end of the connection this is: clients open odd streams, servers even ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that asked for the upgrade.
    Client,
    /// The end that answered it.
    Server,
}

/// A handle on one connection. The connection closes when every handle and stream is gone.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// One bidirectional stream.
pub struct Stream {
    /// The headers it was opened with.
    pub headers: Headers,
    /// What the peer sends; ends when the peer half-closes.
    pub reader: mpsc::Receiver<Bytes>,
    /// What we send; half-closed by [`Writer::finish`] or by dropping it.
    pub writer: Writer,
}

/// The sending half of a stream.
pub struct Writer {
    id: u32,
    finished: bool,
    shared: Arc<Shared>,
}

struct Shared {
    next_id: AtomicU32,
    out: mpsc::Sender<Frame>,
    /// Where frames of the peer go. An entry leaves when the peer half-closes.
    inbound: Arc<Mutex<BTreeMap<u32, mpsc::Sender<Bytes>>>>,
}

impl Connection {
    /// Takes over an upgraded transport. The receiver yields the streams that the peer opens.
    pub fn new<T>(io: T, role: Role) -> (Self, mpsc::Receiver<Stream>)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let (out, out_rx) = mpsc::channel(WRITE_FRAMES_MAX);
        let (accepted_tx, accepted) = mpsc::channel(STREAM_FRAMES_MAX);
        let first = if role == Role::Client { 1 } else { 2 };
        let shared = Arc::new(Shared { next_id: AtomicU32::new(first), out, inbound: Arc::default() });
        tokio::spawn(write_loop(write, out_rx));
        tokio::spawn(read_loop(
            BufReader::with_capacity(32 * 1024, read),
            Arc::downgrade(&shared),
            shared.inbound.clone(),
            accepted_tx,
        ));
        (Self { shared }, accepted)
    }

    /// Opens a stream.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        let id = self.shared.next_id.fetch_add(2, Ordering::Relaxed);
        let reader = register(&self.shared.inbound, id);
        let frame = Frame::SynStream { id, fin: false, headers: headers.clone() };
        self.shared.out.send(frame).await.map_err(|_| Error::Closed)?;
        Ok(Stream { headers, reader, writer: Writer { id, finished: false, shared: self.shared.clone() } })
    }
}

impl Stream {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Writer {
    /// Sends bytes, waiting while the connection is busy.
    pub async fn write(&self, data: Bytes) -> Result<(), Error> {
        let frame = Frame::Data { id: self.id, fin: false, data };
        self.shared.out.send(frame).await.map_err(|_| Error::Closed)
    }

    /// Half-closes the stream: the peer sees its end.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.finished = true;
        let frame = Frame::Data { id: self.id, fin: true, data: Bytes::new() };
        self.shared.out.send(frame).await.map_err(|_| Error::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let frame = Frame::Data { id: self.id, fin: true, data: Bytes::new() };
            if let Err(mpsc::error::TrySendError::Full(frame)) = self.shared.out.try_send(frame) {
                let out = self.shared.out.clone();
                tokio::spawn(async move { out.send(frame).await });
            }
        }
    }
}

type Inbound = Mutex<BTreeMap<u32, mpsc::Sender<Bytes>>>;

fn lock(inbound: &Inbound) -> MutexGuard<'_, BTreeMap<u32, mpsc::Sender<Bytes>>> {
    inbound.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(inbound: &Inbound, id: u32) -> mpsc::Receiver<Bytes> {
    let (tx, rx) = mpsc::channel(STREAM_FRAMES_MAX);
    lock(inbound).insert(id, tx);
    rx
}

async fn write_loop<W: AsyncWrite + Unpin>(mut io: W, mut frames: mpsc::Receiver<Frame>) {
    let mut encoder = Encoder::new();
    let mut buffer = Vec::new();
    while let Some(frame) = frames.recv().await {
        buffer.clear();
        if encoder.encode(&frame, &mut buffer).is_err() || io.write_all(&buffer).await.is_err() {
            return;
        }
        if frames.is_empty() && io.flush().await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

async fn read_loop<R: AsyncRead + Unpin>(
    mut io: R,
    shared: std::sync::Weak<Shared>,
    inbound: Arc<Inbound>,
    accepted: mpsc::Sender<Stream>,
) {
    let mut decoder = Decoder::new();
    // A read error and an orderly end are the same to the streams: they end.
    while let Ok(Some(frame)) = decoder.read(&mut io).await {
        if handle(frame, &shared, &inbound, &accepted).await.is_err() {
            break;
        }
    }
    lock(&inbound).clear();
}

async fn handle(
    frame: Frame,
    shared: &std::sync::Weak<Shared>,
    inbound: &Arc<Inbound>,
    accepted: &mpsc::Sender<Stream>,
) -> Result<(), Error> {
    match frame {
        Frame::SynStream { id, fin, headers } => {
            let Some(shared) = shared.upgrade() else { return Err(Error::Closed) };
            if lock(inbound).len() >= STREAMS_MAX {
                return Err(Error::Protocol("too many streams"));
            }
            let reader = register(inbound, id);
            if fin {
                lock(inbound).remove(&id);
            }
            let _ = shared.out.send(Frame::SynReply { id }).await;
            let stream = Stream { headers, reader, writer: Writer { id, finished: false, shared } };
            // Nobody accepts any more: the stream is dropped, which closes it.
            let _ = accepted.send(stream).await;
        }
        Frame::Data { id, fin, data } => {
            let target = lock(inbound).get(&id).cloned();
            if let Some(target) = target
                && !data.is_empty()
            {
                // A reader that went away discards the rest of its stream, as a closed pipe would.
                let _ = target.send(data).await;
            }
            if fin {
                lock(inbound).remove(&id);
            }
        }
        Frame::Reset { id } => {
            lock(inbound).remove(&id);
        }
        Frame::Ping { id } => {
            if let Some(shared) = shared.upgrade() {
                let _ = shared.out.send(Frame::Ping { id }).await;
            }
        }
        Frame::GoAway => return Err(Error::Closed),
        Frame::SynReply { .. } | Frame::Other => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_headers_and_bytes_both_ways() {
        let (a, b) = tokio::io::duplex(1024);
        let (client, _none) = Connection::new(a, Role::Client);
        let (_server, mut accepted) = Connection::new(b, Role::Server);
        for port in ["80", "8080"] {
            let headers =
                vec![("streamtype".to_owned(), "data".to_owned()), ("port".to_owned(), port.to_owned())];
            let mut ours = client.open(headers).await.unwrap();
            let mut theirs = accepted.recv().await.unwrap();
            assert_eq!(theirs.header("port"), Some(port));
            ours.writer.write(Bytes::from_static(b"ping")).await.unwrap();
            assert_eq!(theirs.reader.recv().await.unwrap(), "ping");
            ours.writer.finish().await.unwrap();
            assert!(theirs.reader.recv().await.is_none());
            theirs.writer.write(Bytes::from_static(b"pong")).await.unwrap();
            drop(theirs);
            assert_eq!(ours.reader.recv().await.unwrap(), "pong");
            assert!(ours.reader.recv().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_closed_transport_ends_every_stream() {
        let (a, b) = tokio::io::duplex(1024);
        let (client, _none) = Connection::new(a, Role::Client);
        let mut stream = client.open(Vec::new()).await.unwrap();
        drop(b);
        assert!(stream.reader.recv().await.is_none());
    }
}
