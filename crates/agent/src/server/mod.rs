//! The kubelet's HTTPS server, which the API server calls for logs, exec, attach and port forwarding. Only
//! clients with a certificate of the configured CA get in.

mod channels;
mod forward;
mod remote;
mod spdy_session;
mod websocket;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use client::Informer;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use k8s_openapi::api::core::v1::Pod;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::identity::{CONTAINER_NAME, POD_UID};
use crate::{Error, Server, Shared, logs};

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Result<Response<Body>, (StatusCode, String)>;

/// Chunks of a log that wait for a slow reader.
const CHUNKS_MAX: usize = 8;

/// A bound socket that does not accept yet.
pub(crate) struct Listening {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handler: Arc<Handler>,
    /// The port it got.
    pub port: u16,
}

pub(crate) struct Handler {
    shared: Arc<Shared>,
    pods: Informer<Pod>,
}

impl Listening {
    pub(crate) async fn bind(
        config: &Server,
        shared: Arc<Shared>,
        pods: Informer<Pod>,
    ) -> Result<Self, Error> {
        let failed = |e: io::Error| Error::Server(format!("cannot listen on {}: {e}", config.listen));
        let acceptor = TlsAcceptor::from(Arc::new(tls(config).map_err(Error::Server)?));
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, acceptor, handler: Arc::new(Handler { shared, pods }), port })
    }

    /// Runs for ever.
    pub(crate) async fn run(self) {
        loop {
            let tcp = match self.listener.accept().await {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, handler) = (self.acceptor.clone(), self.handler.clone());
            tokio::spawn(async move {
                // Without it, small packets of an interactive session wait for each other.
                let _ = tcp.set_nodelay(true);
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let certificates = tls.get_ref().1.peer_certificates();
                let trusted = certificates.and_then(<[_]>::first).is_some_and(|c| is_trusted(c));
                let service = service_fn(move |request| {
                    let handler = handler.clone();
                    async move {
                        Ok::<_, Infallible>(match trusted {
                            true => handler.answer(request).await,
                            false => text(StatusCode::FORBIDDEN, "only the API server may use this endpoint"),
                        })
                    }
                });
                let connection = auto::Builder::new(TokioExecutor::new());
                // Errors here are the peer's: a connection cut short.
                let _ = connection.serve_connection_with_upgrades(TokioIo::new(tls), service).await;
            });
        }
    }
}

/// The authority also signs the certificates of nodes and users, who must go through the API server:
/// only the API server (ours by its own group, others as an administrator) may do what is offered here.
fn is_trusted(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    certificate
        .subject()
        .iter_organization()
        .any(|o| matches!(o.as_str(), Ok("kobune:kubelet-client" | "system:masters")))
}

fn tls(config: &Server) -> Result<rustls::ServerConfig, String> {
    let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())
    };
    let key = PrivateKeyDer::from_pem_slice(config.key.as_bytes()).map_err(|e| e.to_string())?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&config.client_ca)? {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| e.to_string())?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&config.certificate)?, key)
        .map_err(|e| e.to_string())?;
    // Upgrades need HTTP/1.1.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Query parameters, which may repeat.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Self(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// Percent-decodes a query component.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(message.into())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

pub(crate) fn bad(message: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message.into())
}

impl Handler {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let streams = matches!(*request.method(), Method::GET | Method::POST);
        let answer = match &parts[..] {
            ["healthz"] => Ok(text(StatusCode::OK, "ok")),
            ["metrics"] => Ok(text(StatusCode::OK, self.metrics())),
            ["containerLogs", namespace, pod, container] => {
                self.logs(namespace, pod, container, &query).await
            }
            ["exec", namespace, pod, container] if streams => {
                remote::exec(self, request, namespace, pod, container, &query).await
            }
            ["attach", namespace, pod, container] if streams => {
                remote::attach(self, request, namespace, pod, container, &query).await
            }
            ["portForward", namespace, pod, ..] if streams => {
                forward::port_forward(self, request, namespace, pod).await
            }
            _ => Err((StatusCode::NOT_FOUND, "404 page not found".to_owned())),
        };
        answer.unwrap_or_else(|(status, message)| text(status, message))
    }

    fn metrics(&self) -> String {
        let mut phases: BTreeMap<String, u64> = BTreeMap::new();
        self.pods.for_each(|pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
            *phases.entry(phase).or_default() += 1;
        });
        let mut out = String::from("# TYPE kubelet_pods gauge\n");
        for (phase, count) in phases {
            out.push_str(&format!("kubelet_pods{{phase=\"{phase}\"}} {count}\n"));
        }
        out
    }

    pub(crate) fn runtime(&self) -> Arc<dyn runtime::Runtime> {
        self.shared.config.runtime.clone()
    }

    pub(crate) fn pod_uid(&self, namespace: &str, name: &str) -> Result<String, (StatusCode, String)> {
        self.pods
            .get(namespace, name)
            .and_then(|p| p.metadata.uid.clone())
            .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod \"{name}\" not found")))
    }

    /// The attempts of a container, newest first.
    pub(crate) async fn attempts(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Vec<runtime::Container>, (StatusCode, String)> {
        let uid = self.pod_uid(namespace, pod)?;
        let labels = runtime::Labels::from([
            (POD_UID.to_owned(), uid),
            (CONTAINER_NAME.to_owned(), container.to_owned()),
        ]);
        let failed = |e: runtime::Error| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
        let mut found = self.runtime().containers(&labels).await.map_err(failed)?;
        found.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
        Ok(found)
    }

    async fn logs(&self, namespace: &str, pod: &str, container: &str, query: &Query) -> Answer {
        let attempts = self.attempts(namespace, pod, container).await?;
        let previous = query.flag("previous");
        let Some(chosen) = attempts.get(usize::from(previous)) else {
            return Err(bad(match previous {
                true => format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"),
                false => format!(
                    "container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating"
                ),
            }));
        };
        let failed = |e: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
        let detailed = self.runtime().container(&chosen.id).await.map_err(|e| failed(&e))?;
        let options = log_options(query)?;
        let (tx, rx) = mpsc::channel(CHUNKS_MAX);
        tokio::spawn(logs::read(self.runtime(), chosen.id.clone(), detailed.log_path.into(), options, tx));
        let chunks = futures::stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|c| (c, rx)) });
        let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
        let mut response = Response::new(body.boxed_unsync());
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
        Ok(response)
    }
}

/// Logs are not asked for from further back than this, a century in seconds.
const SINCE_MAX: u64 = 100 * 365 * 86_400;

fn log_options(query: &Query) -> Result<logs::Options, (StatusCode, String)> {
    let number = |name: &str| match query.get(name).map(str::parse::<u64>) {
        Some(Err(_)) => Err(bad(format!("invalid {name}"))),
        Some(Ok(number)) => Ok(Some(number)),
        None => Ok(None),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        // Longer ago than any log: the whole of it.
        (Some(seconds), _) => {
            Some(base::clock::now() - std::time::Duration::from_secs(seconds.min(SINCE_MAX)))
        }
        (None, Some(time)) => Some(time.parse().map_err(|_| bad("invalid sinceTime"))?),
        (None, None) => None,
    };
    Ok(logs::Options {
        follow: query.flag("follow"),
        tail_lines: number("tailLines")?,
        since,
        timestamps: query.flag("timestamps"),
        limit_bytes: number("limitBytes")?,
        stream: query.get("stream").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo%20%24A+b&tty=1&stdin=false");
        assert_eq!(query.all("command"), ["sh", "-c", "echo $A b"]);
        assert!(query.flag("tty") && !query.flag("stdin") && !query.flag("none"));
    }
}
