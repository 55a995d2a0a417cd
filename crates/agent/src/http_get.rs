//! The small HTTP client of probes and hooks.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::pod::port_number;

/// Requests a page of a container and returns the status code.
pub(crate) async fn get(action: &HTTPGetAction, pod_ip: &str, container: &Container) -> Result<u16, String> {
    let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
    let port = port_number(&action.port, container)?;
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = http::Request::get(path).header("Connection", "close");
    let own_header =
        |name: &str| action.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    for (name, value) in [("Host", authority.as_str()), ("User-Agent", "kube-probe/1.36"), ("Accept", "*/*")]
    {
        if !own_header(name) {
            request = request.header(name, value);
        }
    }
    for header in action.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let failed = |e: &dyn std::fmt::Display| {
        format!("Get \"{}://{authority}\": {e}", action.scheme.as_deref().unwrap_or("http").to_lowercase())
    };
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| failed(&e))?;
    if action.scheme.as_deref() == Some("HTTPS") {
        let name = ServerName::try_from(host.clone()).map_err(|e| failed(&e))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting()?));
        let tls = connector.connect(name, tcp).await.map_err(|e| failed(&e))?;
        return exchange(tls, request).await.map_err(|e| failed(&e));
    }
    exchange(tcp, request).await.map_err(|e| failed(&e))
}

async fn exchange<T>(io: T, request: http::Request<Empty<Bytes>>) -> hyper::Result<u16>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let status = sender.send_request(request).await?.status().as_u16();
    drop(connection);
    Ok(status)
}

/// `grpc.health.v1.Health/Check`, whose messages are small enough to write by hand.
pub(crate) async fn grpc_health(host: &str, port: u16, service: &str) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("grpc health check of {host}:{port}: {e}");
    let tcp = TcpStream::connect((host, port)).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .map_err(|e| failed(&e))?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut message = Vec::new();
    if !service.is_empty() {
        message.extend_from_slice(&[0x0a, u8::try_from(service.len()).map_err(|e| failed(&e))?]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame)))
        .map_err(|e| failed(&e))?;
    let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
    let body = response.into_body().collect().await.map_err(|e| failed(&e))?.to_bytes();
    drop(connection);
    // Field 1 of the answer is the status; 1 is SERVING.
    match body.get(5..7) {
        Some([0x08, 1]) => Ok(()),
        _ => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
    }
}

/// Probes do not verify certificates: they ask whether the container answers, not who it is.
fn trusting() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth())
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Trusting {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
