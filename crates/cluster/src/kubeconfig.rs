//! The kubeconfig by which kubectl and everybody else reaches the cluster.

use apiserver::pki::Credentials;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig with one context, `kobune`, whose user has all rights.
pub(crate) fn kubeconfig(url: &str, ca_pem: &str, admin: &Credentials) -> String {
    let encode = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: kobune\n\
         \x20 cluster:\n\
         \x20   server: {url}\n\
         \x20   certificate-authority-data: {ca}\n\
         users:\n\
         - name: kobune-admin\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: kobune\n\
         \x20 context:\n\
         \x20   cluster: kobune\n\
         \x20   user: kobune-admin\n\
         current-context: kobune\n",
        ca = encode(ca_pem),
        certificate = encode(&admin.certificate_pem),
        key = encode(&admin.key_pem),
    )
}
