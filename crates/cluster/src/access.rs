//! Who may come in, what is recorded and what is encrypted: files and keys become settings of the API server.

use std::path::Path;

use apiserver::audit::{AuditConfig, Policy};
use apiserver::encryption::EncryptionConfig;
use apiserver::pki::Pki;
use apiserver::{CertificateAuthorities, Config, FrontProxy, parse_authentication_config};

use crate::files::{at, write_private};
use crate::{Options, StartError};

/// The file with the key of secrets, beside the other keys.
const SECRETS_KEY: &str = "secrets.key";
const SECRETS_KEY_BYTES: usize = 32;

fn read(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|cause| at(path, cause))
}

fn wrong(path: &Path) -> impl Fn(String) -> StartError {
    move |cause| StartError::Access { path: path.to_owned(), cause }
}

/// The certificates of the authority of front proxies; empty without one.
pub(crate) fn front_proxy_authority(options: &Options) -> Result<String, StartError> {
    options.access.requestheader_client_ca_file.as_deref().map_or_else(|| Ok(String::new()), read)
}

/// Takes the options over into `config`.
pub(crate) fn apply(options: &Options, pki: &Pki, config: &mut Config) -> Result<(), StartError> {
    let access = &options.access;
    let authentication = &mut config.authentication;
    if let Some(path) = &access.authentication_config {
        let file = parse_authentication_config(&read(path)?).map_err(wrong(path))?;
        authentication.providers = file.providers;
        authentication.anonymous_paths = file.anonymous_paths;
        config.anonymous = file.anonymous.unwrap_or(config.anonymous);
    }
    if let Some(provider) = &access.oidc {
        let mut provider = provider.clone();
        if let Some(path) = &access.oidc_ca_file {
            provider.ca_pem = read(path)?;
        }
        authentication.providers.push(provider);
    }
    if let Some(path) = &access.requestheader_client_ca_file {
        let authorities = CertificateAuthorities::new(pki.ca_pem(), &read(path)?)?;
        authentication.front_proxy =
            Some(FrontProxy::new(authorities, access.requestheader_allowed_names.clone()));
    }
    if let Some(path) = &access.audit_policy_file {
        let policy = Policy::parse(&read(path)?).map_err(wrong(path))?;
        let mut log = access.audit_log.clone();
        if log.path.as_os_str().is_empty() {
            log.path = options.data_dir.join("audit.log");
        }
        config.audit = Some(AuditConfig { policy, log });
    }
    config.encryption = match &access.encryption_config {
        Some(path) => EncryptionConfig::parse(&read(path)?).map_err(wrong(path))?,
        None => local_encryption(&options.data_dir)?,
    };
    Ok(())
}

/// Encrypts secrets by a key that lies beside the data. That protects copies of the store (backups, disks that
/// are passed on without the `pki` directory), not against who can read all of the data directory: then the
/// certificate authority is lost, too. Whoever needs more gives an `EncryptionConfiguration`.
fn local_encryption(data_dir: &Path) -> Result<EncryptionConfig, StartError> {
    let path = data_dir.join("pki").join(SECRETS_KEY);
    let key = match std::fs::read(&path) {
        Ok(key) => key,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = apiserver::encryption::new_key::<SECRETS_KEY_BYTES>().map_err(wrong(&path))?;
            write_private(&path, &key)?;
            key.to_vec()
        }
        Err(cause) => return Err(at(&path, cause)),
    };
    EncryptionConfig::secrets(&key).map_err(wrong(&path))
}
