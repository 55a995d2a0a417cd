//! The server on the network: TLS, HTTP/1.1 and HTTP/2, client certificates, bounds.
//!
//! A client that misbehaves loses its own connection. What bounds it: the handshake, the first bytes and
//! the headers of a request have to come in time ([`stall`]), and so has its body (`service::read_body`);
//! headers are limited in size, and in number by hyper (100, else 431); a client has to take what it is
//! sent; dead ones are found out by pings (HTTP/2) or closed while idle (HTTP/1.1); streams, and those that
//! are reset at once, are limited per connection, and connections per process.

pub(crate) mod server_name;
mod stall;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::ApiServer;
use crate::Body;
use crate::audit::Peer;
use crate::authn::certificate;
use crate::service::plain;
use stall::Impatient;

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for the headers of a request, and how long an HTTP/1.1 connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may go on after the shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// A client that does not answer pings this long is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Bytes of a connection's answers that wait for a slow reader before its tasks wait too.
const SEND_BYTES_MAX: usize = 512 << 10;
const STREAMS_MAX: u32 = 1000;
/// Streams that a client may have reset before the server has looked at them; more end the connection.
const RESET_STREAMS_MAX: usize = 50;
/// Connections open at once; each has a few ten kilobytes.
const CONNECTIONS_MAX: usize = 20_000;
/// Connections beyond that which are told so; all others are just closed.
const REFUSALS_MAX: usize = 64;
/// Connections that wait to be accepted; Linux takes 4,096 at most unless told otherwise, as does Go.
const BACKLOG: u32 = 4096;

/// One builder for each protocol: which one a client speaks is agreed on in the handshake, so that nobody
/// needs to wait for its first bytes to find out.
struct Builders {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

/// Listens at `address`. A crowd may come at once: a client whose connection finds no room in the queue before
/// [`serve`] takes it believes itself connected, and waits for nothing.
///
/// # Errors
/// When the address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that comes back finds the connections of its predecessor in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until `shutdown` is done, then lets open requests finish for a moment.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    server: ApiServer,
    shutdown: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = Arc::new(GracefulShutdown::new());
    let builders = Arc::new(Builders { http1: builder().http1_only(), http2: builder().http2_only() });
    let (room, refusals) =
        (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(REFUSALS_MAX)));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = match room.clone().try_acquire_owned() {
                    Ok(place) => Ok(place),
                    Err(_) => match refusals.clone().try_acquire_owned() {
                        Ok(place) => Err(place),
                        Err(_) => continue,
                    },
                };
                let (acceptor, server) = (acceptor.clone(), place.is_ok().then(|| server.clone()));
                let (builders, graceful) = (builders.clone(), graceful.clone());
                tokio::spawn(async move {
                    if let Err(error) =
                        connection((stream, peer), acceptor, server, &builders, &graceful).await
                    {
                        tracing::debug!(%error, "connection ended");
                    }
                    drop(place);
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
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Serves one connection; without a server, says that there are too many of them.
async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    acceptor: TlsAcceptor,
    server: Option<ApiServer>,
    builders: &Builders,
    graceful: &GracefulShutdown,
) -> Result<(), crate::BoxError> {
    stream.set_nodelay(true)?;
    let handshake = async { acceptor.accept(server_name::begin(stream).await?).await };
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await??;
    let tls = stream.get_ref().1;
    let builder = if tls.alpn_protocol() == Some(b"h2") { &builders.http2 } else { &builders.http1 };
    let Some(server) = server else {
        let service = hyper::service::service_fn(async |_: Request<Incoming>| {
            Ok::<_, std::convert::Infallible>(too_many_connections())
        });
        let connection = builder.serve_connection(TokioIo::new(Impatient::new(stream)), service);
        return tokio::time::timeout(HANDSHAKE_TIMEOUT, connection).await?;
    };
    let chain = tls.peer_certificates();
    let shown = chain.and_then(|chain| certificate::shown(chain, server.0.authn.authorities()));
    let shown = shown.map(Arc::new);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        server.clone().call(request)
    });
    let stream = TokioIo::new(Impatient::new(stream));
    let connection = builder.serve_connection_with_upgrades(stream, service).into_owned();
    graceful.watch(connection).await
}

fn too_many_connections() -> Response<Body> {
    let mut answer =
        plain(StatusCode::SERVICE_UNAVAILABLE, "too many connections to the API server, try again later\n");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
