//! The server on the network: TLS, HTTP/1.1 and HTTP/2, client certificates, bounds.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::ApiServer;
use crate::audit::Peer;
use crate::authn::certificate;

/// How long a client may take for its handshake and for the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may go on after the shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// A client that does not answer pings this long is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Bytes of a connection's answers that wait for a slow reader before its tasks wait too.
const SEND_BYTES_MAX: usize = 512 << 10;
const STREAMS_MAX: u32 = 1000;

/// Accepts connections until `shutdown` is done, then lets open requests finish for a moment.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    server: ApiServer,
    shutdown: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = Arc::new(GracefulShutdown::new());
    let builder = Arc::new(builder());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                let (builder, graceful) = (builder.clone(), graceful.clone());
                tokio::spawn(async move {
                    if let Err(error) =
                        connection((stream, peer), acceptor, server, &builder, &graceful).await
                    {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, usually: accepting again at once would spin.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    server.shut_down();
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    } else {
        // Connections in their handshake still hold it; they end with the process.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(SEND_BYTES_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    acceptor: TlsAcceptor,
    server: ApiServer,
    builder: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
) -> Result<(), crate::BoxError> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await??;
    let chain = stream.get_ref().1.peer_certificates();
    let shown = chain.and_then(|chain| certificate::shown(chain, server.0.authn.authorities()));
    let shown = shown.map(Arc::new);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        server.clone().call(request)
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    graceful.watch(connection).await
}
