//! Clients that misbehave: they lose their own connection or request, and the server goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::pki::{self, Pki};
use apiserver::{ApiServer, Body, Config, serve};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tower::ServiceExt;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn start() -> ApiServer {
    ApiServer::start(Config::new(Arc::new(store::Memory::new()))).await.unwrap()
}

async fn send<B>(server: &ApiServer, method: Method, path: &str, encoding: &str, body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if !encoding.is_empty() {
        request = request.header("content-encoding", encoding);
    }
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(UserInfo::component("test"));
    server.clone().oneshot(request).await.unwrap()
}

async fn status(response: Response<Body>) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    (code, status["message"].as_str().unwrap_or_default().to_owned())
}

async fn assert_healthy(server: &ApiServer) {
    let listed = send(server, Method::GET, CONFIG_MAPS, "", Full::default()).await;
    assert_eq!(listed.status(), 200);
}

/// Pieces of a body whose length nobody knows beforehand.
fn streamed(
    pieces: impl futures::Stream<Item = Bytes> + Send + 'static,
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece))))
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_in_size_depth_and_time() {
    let server = start().await;
    let post = async |encoding, body: Bytes| {
        status(send(&server, Method::POST, CONFIG_MAPS, encoding, Full::new(body)).await).await
    };
    let too_large = (413, "Request entity too large: limit is 3145728".to_owned());
    assert_eq!(post("", vec![b' '; (3 << 20) + 1].into()).await, too_large);
    let endless = streamed(futures::stream::repeat(Bytes::from_static(&[b' '; 65536])).take(1000));
    assert_eq!(status(send(&server, Method::POST, CONFIG_MAPS, "", endless).await).await, too_large);

    for deep in ["[".repeat(1 << 20), "{\"a\":".repeat(1 << 19), "{\"metadata\":".repeat(100_000)] {
        let (code, message) = post("", deep.into()).await;
        assert_eq!(code, 400, "{message}");
    }

    let never = streamed(futures::stream::pending());
    let started = tokio::time::Instant::now();
    let (code, _) = status(send(&server, Method::POST, CONFIG_MAPS, "", never).await).await;
    assert_eq!((code, started.elapsed().as_secs()), (408, 30));
    assert_healthy(&server).await;
}

#[tokio::test]
async fn compressed_bodies_are_not_unpacked() {
    use std::io::Write;
    let server = start().await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..100 {
        bomb.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = Bytes::from(bomb.finish().unwrap());
    assert!(bomb.len() < 200_000);
    let (code, message) =
        status(send(&server, Method::POST, CONFIG_MAPS, "gzip", Full::new(bomb)).await).await;
    assert_eq!(code, 400, "{message}");
    assert_healthy(&server).await;
}

/// Resident memory in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_watches_are_cheap() {
    const WATCHES: usize = 10_000;
    const BYTES_PER_WATCH_MAX: usize = 12 << 10;
    let server = start().await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=0");
    let open = async || {
        let response = send(&server, Method::GET, &path, "", Full::default()).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        // As far as its server would read it.
        let _ = futures::poll!(std::pin::pin!(body.frame()));
        body
    };
    let _warm = open().await;
    let before = resident();
    let mut watches = Vec::with_capacity(WATCHES);
    for _ in 0..WATCHES {
        watches.push(open().await);
    }
    let each = resident().saturating_sub(before) / WATCHES;
    assert!(each <= BYTES_PER_WATCH_MAX, "{each} bytes per watch");
    assert_healthy(&server).await;
}

/// A connection to a server on a free port.
async fn connect() -> (ApiServer, TlsStream<TcpStream>) {
    let pki = Pki::ephemeral().unwrap();
    let server = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = pki.server_config(&[], &[]).unwrap();
    tokio::spawn(serve(listener, tls, server.clone(), std::future::pending()));
    let tls = Arc::new(pki::client_config(&pki.admin().unwrap(), pki.ca_pem()).unwrap());
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    (server, tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.unwrap())
}

#[tokio::test]
async fn a_slow_loris_is_cut_off() {
    let (server, mut connection) = connect().await;
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    connection.flush().await.unwrap();
    // The server has taken it as soon as it has nothing else to do.
    tokio::time::sleep(Duration::from_millis(20)).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let mut answer = Vec::new();
    // Without a farewell, or with an answer that says that it took too long.
    let _ = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut answer))
        .await
        .expect("the connection is closed");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_healthy(&server).await;
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_size() {
    for headers in ["X-A: b\r\n".repeat(1000), format!("X-A: {}\r\n", "b".repeat(1 << 20))] {
        let (server, mut connection) = connect().await;
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        // The server may close before it has read all.
        let _ = connection.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        let read = connection.read_exact(&mut answer).await;
        assert!(read.is_err() || &answer == b"HTTP/1.1 431", "{}", String::from_utf8_lossy(&answer));
        assert_healthy(&server).await;
    }
}
