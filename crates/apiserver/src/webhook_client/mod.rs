//! The HTTPS client for what users run beside the API server: admission and conversion webhooks.
//!
//! Connections are pooled by client configuration: URL or service, and authorities. Services are resolved
//! in this process whenever a connection is made ([`resolve`]).

pub(crate) mod answer;
mod connect;
mod resolve;
mod tls;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

use crate::pki::Credentials;
use crate::server::Inner;
use connect::{Connector, DialError};

pub(crate) use resolve::ready_endpoints;
pub(crate) use resolve::resolve;
pub(crate) use tls::{Trust, client_config as bundle_config};

/// How often a webhook is asked again that says when to come back.
const RETRIES_MAX: usize = 10;
/// Configurations with connections of their own; the least used ones go first.
const CLIENTS_MAX: usize = 200;
/// Idle connections kept for each configuration, and how long.
const IDLE_MAX: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Where a webhook is, and who vouches for it: the `clientConfig` of configurations and definitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    target: Target,
    ca_bundle: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// The URL up to the path, and the path.
    Url {
        scheme_host: String,
        path: String,
    },
    Service {
        namespace: String,
        name: String,
        port: u16,
        path: String,
    },
}

/// A call that brought no answer, in the words of Go's client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CallError(pub String);

impl Endpoint {
    /// Reads a `clientConfig`.
    ///
    /// # Errors
    /// Where it names neither a service nor a usable URL.
    pub fn of(config: &Value) -> Result<Self, CallError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let ca_bundle = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
        let service = &config["service"];
        let target = if service.is_object() {
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
            Target::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                port: if port == 0 { 443 } else { port },
                path: text(&service["path"]),
            }
        } else {
            let url = config["url"].as_str().unwrap_or_default();
            if url.is_empty() {
                return Err(CallError("webhook configuration must have either service or URL".to_owned()));
            }
            let uri: Uri = url.parse().map_err(|error| CallError(format!("Unparsable URL: {error}")))?;
            let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(CallError(format!("unsupported protocol scheme in {url:?}")));
            };
            Target::Url { scheme_host: format!("https://{authority}"), path: uri.path().to_owned() }
        };
        Ok(Self { target, ca_bundle })
    }

    /// The URL as errors and requests show it, with the time there is.
    fn url(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs_f64().ceil() as u64;
        match &self.target {
            Target::Url { scheme_host, path } => format!("{scheme_host}{path}?timeout={seconds}s"),
            Target::Service { namespace, name, port, path } => {
                let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
                format!("https://{name}.{namespace}.svc:{port}{path}?timeout={seconds}s")
            }
        }
    }

    /// HTTP/2 only where there is nothing to balance over, as upstream.
    fn is_local(&self) -> bool {
        let Target::Url { scheme_host, .. } = &self.target else { return false };
        let host = scheme_host.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        host.is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }
}

pub(crate) type Pool = Client<Connector, Full<Bytes>>;

/// The connections to all webhooks.
pub(crate) struct WebhookClients {
    /// Knows the services.
    server: Weak<Inner>,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    by_endpoint: BTreeMap<Endpoint, (Pool, u64)>,
    /// Counts uses, to know which pool was not used for longest.
    uses: u64,
}

impl WebhookClients {
    /// No connections yet.
    pub fn new(server: Weak<Inner>) -> Self {
        Self { server, pools: Mutex::default() }
    }

    fn pool(&self, endpoint: &Endpoint) -> Result<Pool, CallError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.uses += 1;
        let now = pools.uses;
        if let Some((pool, last)) = pools.by_endpoint.get_mut(endpoint) {
            *last = now;
            return Ok(pool.clone());
        }
        let pool = new_pool(self.server.clone(), endpoint)?;
        if pools.by_endpoint.len() >= CLIENTS_MAX {
            let oldest = pools.by_endpoint.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(endpoint, _)| endpoint.clone()) {
                pools.by_endpoint.remove(&oldest);
            }
        }
        pools.by_endpoint.insert(endpoint.clone(), (pool.clone(), now));
        Ok(pool)
    }

    /// Posts JSON and answers with the body of the answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// When there is no answer in time, or none with a code of success.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        body: Bytes,
        timeout: Duration,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let url = endpoint.url(timeout);
        let failed = |why: &dyn std::fmt::Display| CallError(format!("Post {url:?}: {why}"));
        let pool = self.pool(endpoint)?;
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
            headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
            request
        };
        let exchange = async {
            let mut retries = 0;
            loop {
                let response = pool.request(request()).await.map_err(|error| failed(&describe(&error)))?;
                match retry_after(&response).filter(|_| retries < RETRIES_MAX) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return read(response, limit).await,
                }
                retries += 1;
            }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(failed(&"context deadline exceeded")),
        }
    }
}

/// Connections to a service by namespace, name and port, for those who speak with it in their own way:
/// HTTP/1.1, which can be upgraded.
pub(crate) fn service_pool(
    server: Weak<Inner>,
    (namespace, name, port): (&str, &str, u16),
    trust: Trust<'_>,
    shown: Option<&Credentials>,
) -> Result<Pool, CallError> {
    let tls = tls::client_config_as(trust, shown, &[b"http/1.1"]).map_err(CallError)?;
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let target = Target::Service { namespace, name, port, path: String::new() };
    Ok(pool_of(Connector::new(server, target, tls)))
}

fn new_pool(server: Weak<Inner>, endpoint: &Endpoint) -> Result<Pool, CallError> {
    let protocols: &[&[u8]] = if endpoint.is_local() { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    let tls = tls::client_config(&endpoint.ca_bundle, protocols).map_err(CallError)?;
    Ok(pool_of(Connector::new(server, endpoint.target.clone(), tls)))
}

fn pool_of(connector: Connector) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector)
}

/// When a webhook that has too much to do wants to be asked again.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let code = response.status();
    if code.as_u16() != 429 && !code.is_server_error() {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether an answer says that it is text, or nothing.
fn is_text(response: &Response<Incoming>) -> bool {
    let media = response.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    media.is_none_or(|media| media.is_empty() || media.starts_with("text/"))
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Bytes, CallError> {
    let code = response.status();
    let is_text = is_text(&response);
    let mut body = response.into_body();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            CallError(format!(
                "unexpected error when reading response body. Please retry. Original error: {error}"
            ))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > limit {
            return Err(CallError(format!("the answer is larger than {limit} bytes")));
        }
        read.extend_from_slice(&data);
    }
    if (200..=206).contains(&code.as_u16()) {
        if read.is_empty() {
            return Err(CallError(format!(
                "0-length response with status code: {} and content type: application/json",
                code.as_u16()
            )));
        }
        return Ok(read.freeze());
    }
    Err(CallError(refused(code.as_u16(), &read, is_text)))
}

/// What client-go says about an answer that is none: upstream's `NewGenericServerResponse`.
fn refused(code: u16, body: &[u8], is_text: bool) -> String {
    let body = String::from_utf8_lossy(body);
    // A Status says more than its code.
    if let Ok(status) = serde_json::from_str::<Value>(&body)
        && status["kind"] == "Status"
        && let Some(message) = status["message"].as_str()
    {
        return message.to_owned();
    }
    let body = match body.trim() {
        "" => "unknown",
        _ if !is_text => "unknown",
        text => text,
    };
    match code {
        409 => "the server reported a conflict".to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 | 415 => body.to_owned(),
        406 if body == "unknown" => {
            "the server was unable to respond with a content type that the client supports".to_owned()
        }
        406 => body.to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        500.. => format!("an error on the server ({body:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

/// The innermost reason of a failed request.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = next {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.0.clone();
        }
        let ended = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
            || error.downcast_ref::<std::io::Error>().is_some_and(ended)
        {
            return "EOF".to_owned();
        }
        last = error.to_string();
        next = error.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configurations_are_read() {
        let seconds = Duration::from_millis(1500);
        let url = |config: Value| Endpoint::of(&config).map(|endpoint| endpoint.url(seconds));
        assert_eq!(url(json!({"url": "https://127.0.0.1:1/x"})).unwrap(), "https://127.0.0.1:1/x?timeout=2s");
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "/a"}});
        assert_eq!(url(service).unwrap(), "https://s.n.svc:443/a?timeout=2s");
        assert_eq!(
            url(json!({})).unwrap_err().to_string(),
            "webhook configuration must have either service or URL"
        );
        assert!(Endpoint::of(&json!({"url": "https://[::1]:1/x"})).unwrap().is_local());
        assert!(!Endpoint::of(&json!({"url": "https://example.com"})).unwrap().is_local());
    }
}
