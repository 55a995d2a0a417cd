//! Logs, exec, attach, port forwarding and proxies: requests that the API server passes on.
//!
//! Streams to kubelets go over HTTPS with a client certificate. An upgrade is passed on with its headers
//! and then tunnelled byte for byte, so that WebSocket and SPDY both work without being understood here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyStream, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::admission::{self, Attributes, ObjectKind};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::kind::Action;
use crate::object::meta;
use crate::pki;
use crate::request_info::RequestInfo;
use crate::server::{Inner, KubeletAccess};
use crate::status::ApiError;
use crate::webhook_client::ready_endpoints;

/// How long a connection to a kubelet may take.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A TLS client for kubelets.
pub(crate) struct Kubelets(Arc<rustls::ClientConfig>);

/// How the target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// No TLS.
    Plain,
    /// TLS with the API server's client certificate, to a server that our authority vouches for.
    Kubelet,
    /// TLS to whatever a user runs: it proves nothing, and is shown nothing that could be used elsewhere.
    Anonymous,
}

impl Kubelets {
    /// From certificates in PEM.
    pub fn new(access: &KubeletAccess) -> Result<Self, pki::PkiError> {
        Ok(Self(Arc::new(pki::client_config(&access.client, &access.ca_pem)?)))
    }
}

/// Where a request goes on.
struct Target {
    security: Security,
    host: String,
    port: u16,
    path_and_query: String,
}

/// Answers a streaming subresource of a pod, or a proxy of a pod, node or service.
pub(crate) async fn handle(
    call: &Call,
    action: &Action,
    upgrade: Option<OnUpgrade>,
) -> Result<Response<Body>, ApiError> {
    if *action != Action::Log {
        admit_connection(call, action).await?;
    }
    if *action == Action::Proxy {
        return forward(call, proxy_target(call).await?, upgrade).await;
    }
    // WebSockets begin with a GET, which alone must not let those in who may only read.
    if *action != Action::Log && call.info.verb != "create" {
        call.authorize("create", &call.info.subresource)?;
    }
    let entry = call.server.current(&call.kind, &call.info.namespace, &call.info.name).await?;
    let pod = entry.ok_or_else(|| call.not_found())?.try_value()?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let container = if *action == Action::PortForward { String::new() } else { container(call, &pod)? };
    if node.is_empty() {
        // Nothing has been logged yet; nothing else makes sense.
        if *action == Action::Log {
            let mut answer = Response::new(Body::full(Bytes::new()));
            *answer.status_mut() = StatusCode::NO_CONTENT;
            let headers = answer.headers_mut();
            headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
            return Ok(answer);
        }
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", call.info.name)));
    }
    let (host, port) = kubelet_of(&call.server, node)?;
    let path = kubelet_path(call, action, &container);
    forward(call, Target { security: Security::Kubelet, host, port, path_and_query: path }, upgrade).await
}

/// Asks admission about a connection: what it sees are the options in the query.
async fn admit_connection(call: &Call, action: &Action) -> Result<(), ApiError> {
    let (kind, mut options) = connect_options(call, action);
    let attributes = Attributes::connect(call, ObjectKind { group: "", version: "v1", kind });
    options["kind"] = kind.into();
    options["apiVersion"] = "v1".into();
    admission::admit(&attributes, &mut options).await?;
    admission::validate(&attributes, &options).await?.finish();
    Ok(())
}

fn connect_options(call: &Call, action: &Action) -> (&'static str, Value) {
    let query = &call.query;
    let streams = || {
        let mut options = json!({});
        for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.flag(flag)) {
            options[flag] = true.into();
        }
        if !query.text("container").is_empty() {
            options["container"] = query.text("container").into();
        }
        options
    };
    match action {
        Action::Attach => ("PodAttachOptions", streams()),
        Action::PortForward => {
            let ports: Vec<i64> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
            ("PodPortForwardOptions", if ports.is_empty() { json!({}) } else { json!({"ports": ports}) })
        }
        Action::Proxy => {
            let kind = match call.kind.plural.as_ref() {
                "nodes" => "NodeProxyOptions",
                "services" => "ServiceProxyOptions",
                _ => "PodProxyOptions",
            };
            let path = match proxied_path(&call.info) {
                path if path.is_empty() => query.text("path").to_owned(),
                path => path,
            };
            (kind, if path.is_empty() { json!({}) } else { json!({"path": path}) })
        }
        _ => {
            let mut options = streams();
            let command: Vec<&str> = query.all("command").collect();
            options["command"] = if command.is_empty() { Value::Null } else { json!(command) };
            ("PodExecOptions", options)
        }
    }
}

/// Address and port of a node's kubelet.
fn kubelet_of(server: &Inner, node: &str) -> Result<(String, u16), ApiError> {
    let registry = server.registry();
    let nodes = registry.resource("", "v1", "nodes").ok_or_else(ApiError::no_such_path)?;
    let node_object =
        server.cached(nodes, "", node).ok_or_else(|| ApiError::not_found("", "nodes", node))?.to_value();
    let addresses = node_object["status"]["addresses"].as_array();
    let of_type = |wanted: &str| {
        let found = addresses.into_iter().flatten().find(|address| address["type"] == wanted);
        found.and_then(|address| address["address"].as_str()).map(str::to_owned)
    };
    let host = of_type("InternalIP").or_else(|| of_type("Hostname")).or_else(|| of_type("ExternalIP"));
    let host = host.ok_or_else(|| ApiError::internal(format!("node {node:?} has no address")))?;
    let port = node_object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
    Ok((host, u16::try_from(port).unwrap_or(10250)))
}

/// The container asked for, the pod's only one, or the one that an annotation names.
fn container(call: &Call, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array();
        containers
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (normal, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let wanted = call.query.text("container");
    let name = meta(pod, "name");
    if wanted.is_empty() {
        let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
        if let Some(annotated) = annotated.filter(|annotated| normal.iter().any(|name| name == annotated)) {
            return Ok(annotated.to_owned());
        }
        if let [only] = normal.as_slice() {
            return Ok(only.clone());
        }
        let mut why = format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            normal.join(" ")
        );
        if !init.is_empty() {
            why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
        }
        if !ephemeral.is_empty() {
            why.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
        }
        return Err(ApiError::bad_request(why));
    }
    if normal.iter().chain(&init).chain(&ephemeral).any(|name| name == wanted) {
        return Ok(wanted.to_owned());
    }
    Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}")))
}

/// The kubelet's path for a pod's subresource.
fn kubelet_path(call: &Call, action: &Action, container: &str) -> String {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let query = &call.query;
    let mut parameters: Vec<String> = Vec::new();
    match action {
        Action::Log => {
            let passed = [
                "follow",
                "previous",
                "sinceSeconds",
                "sinceTime",
                "timestamps",
                "tailLines",
                "limitBytes",
                "stream",
            ];
            for key in passed {
                if let Some(value) = query.get(key).filter(|value| !value.is_empty()) {
                    parameters.push(format!("{key}={}", encode(value)));
                }
            }
        }
        Action::PortForward => {
            parameters.extend(query.all("ports").map(|port| format!("port={}", encode(port))))
        }
        _ => {
            for (ours, theirs) in
                [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
            {
                if query.flag(ours) {
                    parameters.push(format!("{theirs}=1"));
                }
            }
            parameters.extend(query.all("command").map(|word| format!("command={}", encode(word))));
        }
    }
    let path = match action {
        Action::Log => format!("/containerLogs/{namespace}/{name}/{container}"),
        Action::Attach => format!("/attach/{namespace}/{name}/{container}"),
        Action::PortForward => format!("/portForward/{namespace}/{name}"),
        _ => format!("/exec/{namespace}/{name}/{container}"),
    };
    if parameters.is_empty() { path } else { format!("{path}?{}", parameters.join("&")) }
}

/// Percent-encodes everything that is not plainly harmless in a query.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `[scheme:]name[:port]`, as proxies name their targets.
fn split_name(name: &str) -> (Security, &str, &str) {
    match name.split(':').collect::<Vec<_>>().as_slice() {
        ["https", name, port] => (Security::Anonymous, name, port),
        [_, name, port] | [name, port] => (Security::Plain, name, port),
        _ => (Security::Plain, name, ""),
    }
}

/// The path behind a proxy, decoded. A slash at its end counts.
fn proxied_path(info: &RequestInfo) -> String {
    let mut path = if info.rest.is_empty() { String::new() } else { format!("/{}", info.rest) };
    if info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// A decoded path as it is written in a request.
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@$&+,;=!'()*".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

async fn proxy_target(call: &Call) -> Result<Target, ApiError> {
    let (security, name, port) = split_name(&call.info.name);
    let query = call.raw_query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
    let path = escaped(&proxied_path(&call.info));
    let path_and_query = format!("{}{query}", if path.is_empty() { "/" } else { path.as_str() });
    let entry = call.server.current(&call.kind, &call.info.namespace, name).await?;
    let object = entry.ok_or_else(|| call.not_found_name(name))?.to_value();
    match call.kind.plural.as_ref() {
        "nodes" => {
            let (host, port) = kubelet_of(&call.server, name)?;
            Ok(Target { security: Security::Kubelet, host, port, path_and_query })
        }
        "pods" => {
            let host = object["status"]["podIP"].as_str().unwrap_or_default().to_owned();
            if host.is_empty() {
                return Err(not_allowed());
            }
            let declared =
                object["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64().unwrap_or(80);
            let port = port.parse().unwrap_or(u16::try_from(declared).unwrap_or(80));
            Ok(Target { security, host, port, path_and_query })
        }
        _ => service_target(call, &object, security, port, path_and_query),
    }
}

/// Any ready endpoint of a service.
fn service_target(
    call: &Call,
    service: &Value,
    security: Security,
    port: &str,
    path_and_query: String,
) -> Result<Target, ApiError> {
    let ports = service["spec"]["ports"].as_array();
    let chosen = ports.into_iter().flatten().find(|candidate| {
        port.is_empty()
            || candidate["name"] == port
            || candidate["port"].as_u64().is_some_and(|number| number.to_string() == port)
    });
    let name = chosen.map(|chosen| chosen["name"].as_str().unwrap_or_default().to_owned());
    let unavailable = || {
        ApiError::service_unavailable(format!(
            "no endpoints available for service {:?}",
            meta(service, "name")
        ))
    };
    let name = name.ok_or_else(|| {
        ApiError::service_unavailable(format!(
            "no service port {port:?} found for service {:?}",
            meta(service, "name")
        ))
    })?;
    let mut ends = ready_endpoints(&call.server, &call.info.namespace, meta(service, "name"), &name);
    if ends.is_empty() {
        return Err(unavailable());
    }
    let (host, port) = ends.swap_remove(base::rng::below(ends.len() as u64) as usize);
    Ok(Target { security, host, port, path_and_query })
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn not_allowed() -> ApiError {
    ApiError::bad_request("address not allowed")
}

/// Whether pods and services may lead there: not to this host, nor to what only its link can see.
fn is_proxyable(address: IpAddr) -> bool {
    let link_local = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let address = address.to_canonical();
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// A TLS client that shows nothing and checks nothing but that the handshake is sound.
fn anonymous_config() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = pki::provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
pub(crate) struct AnyCertificate(pub Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn connect(server: &Inner, target: &Target) -> Result<Box<dyn Stream>, ApiError> {
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::service_unavailable(format!(
            "error trying to reach service: dial tcp {}:{}: {error}",
            target.host, target.port
        ))
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(|error| failed(&error))?
        .collect();
    // Checked after the name is resolved, and connected to what was checked.
    if target.security != Security::Kubelet && !addresses.iter().all(|address| is_proxyable(address.ip())) {
        return Err(not_allowed());
    }
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addresses.as_slice()))
        .await
        .map_err(|_| failed(&"i/o timeout"))?
        .map_err(|error| failed(&error))?;
    tcp.set_nodelay(true).map_err(|error| failed(&error))?;
    let config = match (target.security, &server.kubelets) {
        (Security::Plain, _) => return Ok(Box::new(tcp)),
        (Security::Anonymous, _) => anonymous_config().map_err(|error| failed(&error))?,
        (Security::Kubelet, Some(kubelets)) => kubelets.0.clone(),
        (Security::Kubelet, None) => {
            let why = "this API server was started without access to kubelets";
            return Err(ApiError::service_unavailable(why));
        }
    };
    let name = match target.host.parse::<IpAddr>() {
        Ok(address) => ServerName::IpAddress(address.into()),
        Err(_) => ServerName::try_from(target.host.clone()).map_err(|error| failed(&error))?,
    };
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp);
    let tls =
        tokio::time::timeout(CONNECT_TIMEOUT, tls).await.map_err(|_| failed(&"TLS handshake timeout"))?;
    Ok(Box::new(tls.map_err(|error| failed(&error))?))
}

async fn forward(
    call: &Call,
    target: Target,
    upgrade: Option<OnUpgrade>,
) -> Result<Response<Body>, ApiError> {
    let io = connect(&call.server, &target).await?;
    let broken = |error: hyper::Error| {
        ApiError::service_unavailable(format!("error trying to reach service: {error}"))
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a kubelet ended");
        }
    });
    let upgrading = upgrade.is_some() && call.headers.contains_key(UPGRADE);
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() =
        target.path_and_query.parse().map_err(|_| ApiError::bad_request("the path cannot be proxied"))?;
    *request.headers_mut() = passed_on(&call.headers, upgrading);
    if let Ok(host) = HeaderValue::from_str(&format!("{}:{}", target.host, target.port)) {
        request.headers_mut().insert(HOST, host);
    }
    let mut response = sender.send_request(request).await.map_err(broken)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgrade
    {
        let kubelet = hyper::upgrade::on(&mut response);
        tokio::spawn(tunnel(client, kubelet));
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        return Ok(answer);
    }
    Ok(stream_back(response))
}

/// The headers that go on to the target: not who the client is, and not its connection's.
pub(crate) fn passed_on(headers: &HeaderMap, upgrading: bool) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        let text = name.as_str();
        if HOP_BY_HOP.contains(&text)
            || matches!(text, "authorization" | "host" | "content-length")
            || text.starts_with("impersonate-")
        {
            continue;
        }
        passed.append(name.clone(), value.clone());
    }
    if upgrading {
        if let Some(upgrade) = headers.get(UPGRADE) {
            passed.insert(UPGRADE, upgrade.clone());
        }
        passed.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    passed
}

pub(crate) async fn tunnel(client: OnUpgrade, kubelet: OnUpgrade) {
    let (client, kubelet) = match tokio::join!(client, kubelet) {
        (Ok(client), Ok(kubelet)) => (client, kubelet),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "an upgrade did not happen");
            return;
        }
    };
    let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut kubelet).await {
        tracing::debug!(%error, "a tunnel ended");
    }
}

pub(crate) fn stream_back(response: Response<Incoming>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let frames = BodyStream::new(body).filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok::<Bytes, BoxError>),
            Err(error) => Some(Err(error.into())),
        }
    });
    let mut answer = Response::new(Body::stream(frames));
    *answer.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        if !HOP_BY_HOP.contains(&name.as_str()) {
            answer.headers_mut().append(HeaderName::clone(name), value.clone());
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_names() {
        assert_eq!(split_name("web"), (Security::Plain, "web", ""));
        assert_eq!(split_name("web:80"), (Security::Plain, "web", "80"));
        assert_eq!(split_name("https:web:443"), (Security::Anonymous, "web", "443"));
        assert_eq!(encode("ls -l /ä"), "ls%20-l%20%2F%C3%A4");
    }

    #[test]
    fn pods_and_services_do_not_lead_to_this_host() {
        let refused = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "::", "fe80::1"];
        for address in refused.iter().chain(&["ff02::1", "::ffff:127.0.0.1", "255.255.255.255"]) {
            assert!(!is_proxyable(address.parse().unwrap()), "{address}");
        }
        assert!(is_proxyable("10.1.2.3".parse().unwrap()) && is_proxyable("fd00::1".parse().unwrap()));
    }
}
