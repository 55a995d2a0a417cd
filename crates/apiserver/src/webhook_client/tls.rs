//! Whom webhooks are believed: the authorities of a `caBundle`, in the way Go checks them.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::kubelet_proxy::AnyCertificate;
use crate::pki::{self, Credentials};

/// A TLS client that trusts the bundle and nothing else. Certificates in it that cannot be read are
/// passed over, as Go does.
pub(crate) fn client_config(ca_bundle: &[u8], protocols: &[&[u8]]) -> Result<rustls::ClientConfig, String> {
    client_config_as(Trust::Bundle(ca_bundle), None, protocols)
}

/// Whom a TLS client believes.
#[derive(Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those whom the authorities of a bundle vouch for.
    Bundle(&'a [u8]),
    /// Whoever answers: `insecureSkipTLSVerify`.
    Anybody,
}

/// Like [`client_config`], showing a certificate if there is one.
pub(super) fn client_config_as(
    trust: Trust<'_>,
    shown: Option<&Credentials>,
    protocols: &[&[u8]],
) -> Result<rustls::ClientConfig, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Bundle(bundle) => Arc::new(BundleVerifier::new(bundle)?),
        Trust::Anybody => Arc::new(AnyCertificate(pki::provider())),
    };
    let config = rustls::ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(shown) => {
            let chain = CertificateDer::pem_slice_iter(shown.certificate_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| text(&error))?;
            let key =
                PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).map_err(|error| text(&error))?;
            config.with_client_auth_cert(chain, key).map_err(|error| text(&error))?
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

impl BundleVerifier {
    fn new(ca_bundle: &[u8]) -> Result<Self, String> {
        let bundle: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(ca_bundle).filter_map(Result::ok).collect();
        let provider = pki::provider();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(bundle.clone());
        let inner = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self { inner, bundle, provider })
    }
}

/// Verifies by the bundle. Unlike webpki, Go also accepts a certificate that stands in the bundle itself,
/// which is how self-signed webhooks are set up.
#[derive(Debug)]
struct BundleVerifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    bundle: Vec<CertificateDer<'static>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl BundleVerifier {
    fn verify_listed(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(certificate)?;
        rustls::client::verify_server_name(&parsed, name)?;
        let (_, times) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > times.validity().not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        if now < times.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for BundleVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.bundle.iter().any(|listed| listed == certificate) {
            return self.verify_listed(certificate, name, now);
        }
        let inner = self.inner.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        inner.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A failed handshake in Go's words, for the failures that people meet.
pub(super) fn describe(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(rustls::Error::InvalidMessage(_)) => {
            return "tls: first record does not look like a TLS handshake".to_owned();
        }
        Some(rustls::Error::AlertReceived(alert)) => return format!("remote error: tls: {alert:?}"),
        Some(other) => return format!("tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => return "EOF".to_owned(),
        None => return error.to_string(),
    };
    let x509 = match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            match names.as_slice() {
                [] => format!(
                    "certificate is not valid for any names, but wanted to match {}",
                    expected.to_str()
                ),
                names => {
                    format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
                }
            }
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {x509}")
}

/// rustls shows names of certificates as `DnsName("a")`.
fn bare_name(shown: &str) -> &str {
    shown.split_once('(').map_or(shown, |(_, rest)| rest.trim_end_matches(')').trim_matches('"'))
}
