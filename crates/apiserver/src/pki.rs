//! The cluster's certificates and keys: made on the first start, found again on the next.
//!
//! One certificate authority signs everything: the server's own certificate, client certificates and
//! the kubelets'. Keys are ECDSA P-256, which sign ten times as fast as RSA.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::aggregation::ProxyClient;
use crate::serve::server_name;

/// The group of the API server towards kubelets, which trust it. It is granted nothing in the API itself.
pub const KUBELET_CLIENT_GROUP: &str = "kobune:kubelet-client";
/// Years before a certificate runs out.
const VALID_YEARS: i32 = 10;

/// Why certificates cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key is damaged or cannot be made.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file does not hold the PEM that belongs there.
    #[error("certificates: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The TLS library does not take them.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The TLS library does not take the authority.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate and its private key.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Certificate chain in PEM.
    pub certificate_pem: String,
    /// PKCS#8 key in PEM.
    pub key_pem: String,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Proves who connects.
    Client,
    /// Proves who is connected to.
    Server,
    /// Both, as kubelets need.
    Both,
}

/// The certificate authority and what hangs on it.
pub struct Pki {
    dir: Option<PathBuf>,
    ca: Credentials,
    issuer: Issuer<'static, KeyPair>,
    /// Signs service-account tokens; PEM.
    service_account_key_pem: String,
}

impl Pki {
    /// Loads the authority and the token key from `dir`, or makes them there (mode 0600).
    ///
    /// # Errors
    /// When files cannot be read or written, or are damaged.
    pub fn load_or_create(dir: &Path) -> Result<Self, PkiError> {
        let file = |source| PkiError::File { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(file)?;
        let ca = match read_credentials(dir, "ca")? {
            Some(ca) => ca,
            None => {
                let ca = new_authority()?;
                write_credentials(dir, "ca", &ca)?;
                ca
            }
        };
        let key_path = dir.join("service-account.key");
        let service_account_key_pem = match read(&key_path)? {
            Some(pem) => pem,
            None => {
                let pem = new_token_key()?;
                write(&key_path, &pem)?;
                pem
            }
        };
        Self::assemble(Some(dir.to_owned()), ca, service_account_key_pem)
    }

    /// An authority that lives as long as the process: tests, simulations.
    ///
    /// # Errors
    /// When the TLS library cannot make keys.
    pub fn ephemeral() -> Result<Self, PkiError> {
        Self::assemble(None, new_authority()?, KeyPair::generate()?.serialize_pem())
    }

    fn assemble(
        dir: Option<PathBuf>,
        ca: Credentials,
        service_account_key_pem: String,
    ) -> Result<Self, PkiError> {
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&ca.key_pem)?);
        Ok(Self { dir, ca, issuer, service_account_key_pem })
    }

    /// The authority's certificate, which clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca.certificate_pem
    }

    /// The certificate authority itself, for those who sign in its name.
    pub fn authority(&self) -> &Credentials {
        &self.ca
    }

    /// The keys of service-account tokens: the first signs, all verify. To exchange the key, put a new
    /// one in front in `service-account.key` and take the old one out when its tokens have run out.
    pub fn service_account_key_pem(&self) -> &str {
        &self.service_account_key_pem
    }

    /// Signs claims with the first key of service-account tokens.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn token_signer(
        &self,
    ) -> Result<impl Fn(&serde_json::Value) -> Result<String, String> + Send + Sync + 'static, String> {
        let issuer = crate::authn::service_account::ISSUER;
        let signer = crate::authn::keys::Signer::new(issuer, &self.service_account_key_pem)?;
        Ok(move |claims: &serde_json::Value| signer.sign(claims))
    }

    /// Issues a certificate: `name` and `groups` become common name and organizations, `hosts` the
    /// subject alternative names.
    ///
    /// # Errors
    /// When a host is neither an IP address nor a DNS name.
    pub fn issue(
        &self,
        name: &str,
        groups: &[&str],
        hosts: &[String],
        usage: Usage,
    ) -> Result<Credentials, PkiError> {
        let mut params = CertificateParams::new(hosts.to_vec())?;
        let mut subject = DistinguishedName::new();
        for group in groups {
            subject.push(DnType::OrganizationName, *group);
        }
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        validity(&mut params);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if usage != Usage::Client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if usage != Usage::Server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credentials { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// The client certificate of a cluster administrator; kept, so that kubeconfigs stay valid.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn admin(&self) -> Result<Credentials, PkiError> {
        self.kept("admin", || self.issue("kubernetes-admin", &["system:masters"], &[], Usage::Client))
    }

    /// The certificate by which the API server shows itself to kubelets.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn kubelet_client(&self) -> Result<Credentials, PkiError> {
        // Not `apiserver-kubelet-client`: a file of that name may hold a certificate of an administrator.
        self.kept("kubelet-client", || {
            self.issue("kube-apiserver-kubelet-client", &[KUBELET_CLIENT_GROUP], &[], Usage::Client)
        })
    }

    /// How the API server shows itself to the servers of aggregated APIs: by an authority of its own, so that
    /// no certificate of a client can pass for it.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn proxy_client(&self) -> Result<ProxyClient, PkiError> {
        const NAME: &str = "front-proxy-client";
        let authority = self.kept("front-proxy-ca", new_authority)?;
        let signing = Self::assemble(None, authority.clone(), String::new())?;
        let client = self.kept(NAME, || signing.issue(NAME, &[], &[], Usage::Client))?;
        Ok(ProxyClient {
            client,
            name: NAME.to_owned(),
            ca_pem: authority.certificate_pem,
            client_ca_pem: self.ca_pem().to_owned(),
        })
    }

    /// The certificate of one node's kubelet, as server and as client.
    ///
    /// # Errors
    /// When `hosts` has something that is neither an address nor a name.
    pub fn kubelet(&self, node: &str, hosts: &[String]) -> Result<Credentials, PkiError> {
        self.issue(&format!("system:node:{node}"), &["system:nodes"], hosts, Usage::Both)
    }

    /// A fresh certificate for the API server. `hosts` are names and addresses beside the usual ones.
    ///
    /// # Errors
    /// When `hosts` has something that is neither an address nor a name.
    pub fn server(&self, hosts: &[String]) -> Result<Credentials, PkiError> {
        let usual = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "::1",
            "10.96.0.1",
        ];
        let mut all: Vec<String> = usual.iter().map(|host| (*host).to_owned()).collect();
        all.extend(hosts.iter().filter(|host| !usual.contains(&host.as_str())).cloned());
        self.issue("kube-apiserver", &[], &all, Usage::Server)
    }

    fn kept(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Credentials, PkiError>,
    ) -> Result<Credentials, PkiError> {
        let Some(dir) = &self.dir else { return make() };
        if let Some(found) = read_credentials(dir, name)? {
            return Ok(found);
        }
        let made = make()?;
        write_credentials(dir, name, &made)?;
        Ok(made)
    }

    /// TLS settings of the server: HTTP/2 and HTTP/1.1, client certificates of this authority welcome
    /// but not demanded.
    ///
    /// # Errors
    /// When the TLS library does not take the certificates.
    pub fn server_config(
        &self,
        hosts: &[IpAddr],
        names: &[String],
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        self.server_config_with(hosts, names, "")
    }

    /// Like [`Pki::server_config`], where certificates of further authorities are welcome, too: who they
    /// vouch for is then told apart by [`crate::CertificateAuthorities`].
    ///
    /// # Errors
    /// When the TLS library does not take the certificates.
    pub fn server_config_with(
        &self,
        hosts: &[IpAddr],
        names: &[String],
        authorities_pem: &str,
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let mut all: Vec<String> = hosts.iter().map(IpAddr::to_string).collect();
        all.extend(names.iter().cloned());
        server_config(&self.server(&all)?, &format!("{}\n{authorities_pem}", self.ca_pem()))
    }
}

/// The TLS library's settings, faster cipher first.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // AES-128 costs a third less than AES-256 and is as far out of reach.
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// TLS settings of a server that shows `credentials` and accepts client certificates signed by `ca_pem`.
///
/// # Errors
/// When the TLS library does not take the certificates.
pub fn server_config(credentials: &Credentials, ca_pem: &str) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let verifier = crate::authn::certificate::verifier(ca_pem)?;
    let chain = CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes())?;
    let mut provider = Arc::unwrap_or_clone(provider());
    provider.cipher_suites = server_name::cipher_suites(&provider.cipher_suites);
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// TLS settings of a client that trusts `ca_pem` and shows `credentials`.
///
/// # Errors
/// When the TLS library does not take the certificates.
pub fn client_config(credentials: &Credentials, ca_pem: &str) -> Result<rustls::ClientConfig, PkiError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes())?;
    Ok(rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "kobune-ca");
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params);
    params
}

fn validity(params: &mut CertificateParams) {
    let year = i32::from(base::clock::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + VALID_YEARS, 1, 1);
}

/// RSA, unlike all other keys here: `RS256` is what every verifier of tokens understands, and what clusters
/// usually announce.
fn new_token_key() -> Result<String, PkiError> {
    Ok(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?.serialize_pem())
}

fn new_authority() -> Result<Credentials, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = authority_params().self_signed(&key)?;
    Ok(Credentials { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

/// Writes beside and renames, so that a crash leaves no half of a key.
fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = |source| PkiError::File { path: path.to_owned(), source };
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(file)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(file)?;
    fs::rename(&beside, path).map_err(file)
}

fn read_credentials(dir: &Path, name: &str) -> Result<Option<Credentials>, PkiError> {
    let certificate = read(&dir.join(format!("{name}.crt")))?;
    let key = read(&dir.join(format!("{name}.key")))?;
    Ok(certificate.zip(key).map(|(certificate_pem, key_pem)| Credentials { certificate_pem, key_pem }))
}

fn write_credentials(dir: &Path, name: &str, credentials: &Credentials) -> Result<(), PkiError> {
    // The key first: a certificate without its key would be taken for complete by nobody.
    write(&dir.join(format!("{name}.key")), &credentials.key_pem)?;
    write(&dir.join(format!("{name}.crt")), &credentials.certificate_pem)
}
