//! Makes connections: resolves, dials, shakes hands.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Target, resolve, tls};
use crate::server::Inner;

/// Why no connection was made, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DialError(pub String);

/// Connects to one endpoint.
#[derive(Clone)]
pub(crate) struct Connector {
    server: Weak<Inner>,
    target: Arc<Target>,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(server: Weak<Inner>, target: Target, tls: rustls::ClientConfig) -> Self {
        Self { server, target: Arc::new(target), tls: TlsConnector::from(Arc::new(tls)) }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Link>, DialError> {
        let named = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (host, port, name) = match &*self.target {
            Target::Url { .. } => (named.clone(), uri.port_u16().unwrap_or(443), named),
            Target::Service { namespace, name, port, .. } => {
                let server = self.server.upgrade().ok_or_else(|| DialError("shutting down".to_owned()))?;
                let (host, port) = resolve(&server, namespace, name, *port).map_err(DialError)?;
                (host, port, format!("{name}.{namespace}.svc"))
            }
        };
        let tcp = dial(&host, port).await?;
        let name = ServerName::try_from(name).map_err(|error| DialError(error.to_string()))?;
        let tls = self.tls.connect(name, tcp).await;
        Ok(TokioIo::new(Link(tls.map_err(|error| DialError(tls::describe(&error)))?)))
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = match addresses {
        Ok(addresses) => addresses.collect(),
        Err(_) => return Err(DialError(format!("dial tcp: lookup {host}: no such host"))),
    };
    let shown = addresses.first().map_or_else(|| format!("{host}:{port}"), ToString::to_string);
    let failed = |error: io::Error| DialError(format!("dial tcp {shown}: connect: {}", describe(&error)));
    let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    Ok(tcp)
}

/// An error of the system as Go writes it: without its number, in lower case.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A TLS connection that tells the pool what was agreed on.
pub(crate) struct Link(TlsStream<TcpStream>);

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match self.0.get_ref().1.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
