//! Small documents over HTTPS, within bounds: one request per connection, no redirects.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::webhook_client::bundle_config;

/// Connecting, asking and reading the answer, together.
const TIMEOUT: Duration = Duration::from_secs(10);
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Where systems keep the authorities they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

pub(super) struct Fetcher(TlsConnector);

impl Fetcher {
    /// Trusts the authorities in `ca_pem`, or those of the system.
    pub fn new(ca_pem: &str) -> Result<Self, String> {
        let config = match ca_pem {
            "" => {
                let system = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok());
                bundle_config(&system.unwrap_or_default(), &[])?
            }
            pem => {
                let mut certificates = 0;
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    certificate.map_err(|error| format!("certificate authority: {error}"))?;
                    certificates += 1;
                }
                if certificates == 0 {
                    return Err("certificate authority: there is no certificate".to_owned());
                }
                bundle_config(pem.as_bytes(), &[])?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The document at an `https:` URL.
    pub async fn get(&self, url: &str) -> Result<Bytes, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
        let answer = tokio::time::timeout(TIMEOUT, self.ask(&uri)).await;
        answer
            .unwrap_or_else(|_| Err("the server did not answer in time".into()))
            .map_err(|error| format!("Get {url:?}: {error}"))
    }

    async fn ask(&self, uri: &Uri) -> Result<Bytes, crate::BoxError> {
        let authority =
            uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or("not an https URL")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await?;
        let stream = self.0.connect(ServerName::try_from(host.to_owned())?, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "kobune")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await;
        let document = match answer {
            Ok(answer) if answer.status() == http::StatusCode::OK => {
                Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX)
                    .collect()
                    .await
                    .map(|body| body.to_bytes())
            }
            Ok(answer) => Err(answer.status().to_string().into()),
            Err(error) => Err(error.into()),
        };
        connection.abort();
        document
    }
}
