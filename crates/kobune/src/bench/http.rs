//! Plain HTTP/1.1 over TLS, one request at a time per connection: as little client as possible, so
//! that the server is what is measured.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens connections to one server.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    tls_h2: TlsConnector,
    authority: String,
    host: ServerName<'static>,
}

impl Connector {
    /// For the server and the credentials of `config`.
    pub fn new(config: &kube::Config) -> Result<Self> {
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut tls_h2 = tls.clone();
        tls_h2.alpn_protocols = vec![b"h2".to_vec()];
        let authority = config.cluster_url.authority().context("the server has an address")?.to_string();
        let host = config.cluster_url.host().unwrap_or("127.0.0.1").to_owned();
        let [tls, tls_h2] = [tls, tls_h2].map(|tls| TlsConnector::from(Arc::new(tls)));
        Ok(Self { tls, tls_h2, authority, host: ServerName::try_from(host)? })
    }

    /// Opens a connection before its handshake.
    pub async fn tcp(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Opens a connection that HTTP/1.1 can be spoken on.
    pub async fn stream(&self) -> Result<TlsStream<TcpStream>> {
        Ok(self.tls.connect(self.host.clone(), self.tcp().await?).await?)
    }

    /// Opens a connection that HTTP/2 can be spoken on.
    pub async fn stream_h2(&self) -> Result<TlsStream<TcpStream>> {
        Ok(self.tls_h2.connect(self.host.clone(), self.tcp().await?).await?)
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = self.stream().await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, authority: self.authority.clone(), accept: "application/json" })
    }
}

/// A connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    /// The media type that answers are asked for in.
    pub accept: &'static str,
}

impl Connection {
    /// Sends a request and returns the answer with its body still to be read.
    pub async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let content_type =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("content-type", content_type)
            .header("accept", self.accept)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request and reads the whole answer; the number of its bytes.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        expected: StatusCode,
    ) -> Result<usize> {
        let response = self.open(method, path, body).await?;
        let status = response.status();
        let mut body = response.into_body();
        let (mut length, mut text) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                length += data.len();
                if status != expected {
                    text.extend_from_slice(data);
                }
            }
        }
        if status != expected {
            bail!("{path} was answered with {status}: {}", String::from_utf8_lossy(&text));
        }
        Ok(length)
    }
}
