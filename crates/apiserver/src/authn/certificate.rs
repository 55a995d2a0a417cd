//! Client certificates: whom they name, and which of the trusted authorities vouches for them.

use std::fmt::Write;
use std::sync::Arc;

use api::user::UserInfo;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};

use crate::pki::PkiError;

/// The attribute of a subject that holds a user's uid.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// What a connection's certificate proves, found out once per connection.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The user that the client authority vouches for.
    pub client: Option<Arc<UserInfo>>,
    /// The common name that the front proxies' authority vouches for.
    pub proxy: Option<String>,
    /// The certificate says nothing that could be used.
    pub refused: bool,
}

/// Tells apart the authorities of clients and of front proxies, where both are trusted by the listener.
pub struct CertificateAuthorities {
    clients: Arc<dyn ClientCertVerifier>,
    proxies: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for CertificateAuthorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthorities").finish_non_exhaustive()
    }
}

impl CertificateAuthorities {
    /// From both authorities in PEM.
    ///
    /// # Errors
    /// When one of them is not PEM or not taken by the TLS library.
    pub fn new(clients_pem: &str, proxies_pem: &str) -> Result<Self, PkiError> {
        Ok(Self { clients: verifier(clients_pem)?, proxies: verifier(proxies_pem)? })
    }
}

/// Accepts client certificates of the authorities in `pem`; clients without one are welcome, too.
pub(crate) fn verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = crate::pki::provider();
    Ok(rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()?)
}

/// What a chain that the listener has verified proves. Without `authorities` there is only that of clients.
pub(crate) fn shown(
    chain: &[CertificateDer<'_>],
    authorities: Option<&CertificateAuthorities>,
) -> Option<Shown> {
    let (leaf, intermediates) = chain.split_first()?;
    let now = base::clock::now().as_second();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    let vouches = |verifier: &Arc<dyn ClientCertVerifier>| {
        verifier.verify_client_cert(leaf, intermediates, now).is_ok()
    };
    let mut shown = Shown::default();
    if authorities.is_none_or(|authorities| vouches(&authorities.clients)) {
        shown.client = identity(leaf).map(Arc::new);
    }
    if authorities.is_some_and(|authorities| vouches(&authorities.proxies)) {
        shown.proxy = common_name(leaf);
    }
    shown.refused = shown.client.is_none() && shown.proxy.is_none();
    Some(shown)
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    // As Go: the last one counts.
    let name = parsed.subject().iter_common_name().last()?.as_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Common name, organizations and uid of a certificate that was verified.
fn identity(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let name = common_name(certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let groups: Vec<&str> = subject.iter_organization().filter_map(|group| group.as_str().ok()).collect();
    let mut user = UserInfo::new(name, &groups);
    let mut uids = subject.iter_attributes().filter(|attribute| *attribute.attr_type() == UID);
    match (uids.next(), uids.next()) {
        (None, _) => {}
        (Some(uid), None) => user.uid = uid.as_str().ok().filter(|uid| !uid.is_empty())?.to_owned(),
        _ => return None,
    }
    let mut id = "X509SHA256=".to_owned();
    for byte in digest(&SHA256, certificate).as_ref() {
        let _ = write!(id, "{byte:02x}");
    }
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
    Some(user)
}
