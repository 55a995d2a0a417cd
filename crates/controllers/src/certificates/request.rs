//! What a certificate request asks for, and whether the signers of `kubernetes.io` grant it.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateSigningRequestDer, pem};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Certificates by which clients of the API server show themselves.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// The same for kubelets.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Certificates by which kubelets are recognised.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Anything; nobody should trust it.
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// A certificate request whose signature proves that who asks has the key.
#[derive(Debug)]
pub struct Request {
    /// The last common name.
    pub common_name: String,
    organizations: Vec<String>,
    /// DER of the subject.
    pub subject: Vec<u8>,
    /// DER of the public key.
    pub public_key: Vec<u8>,
    /// DER of the extension value with the alternative names, if there are any.
    pub alternative_names: Option<Vec<u8>>,
    names: Names,
}

#[derive(Debug, Default)]
struct Names {
    dns: usize,
    ip: usize,
    email: usize,
    uri: usize,
}

/// `subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];

impl Request {
    /// Reads PEM.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|error: pem::Error| format!("PEM block type must be CERTIFICATE REQUEST: {error}"))?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("x509: trailing data".to_owned());
        }
        request.verify_signature().map_err(|error| format!("the signature of the request: {error}"))?;
        let info = &request.certification_request_info;
        let text =
            |values: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Result<Vec<String>, String> {
                let values = values.into_iter().map(|value| value.as_str().map(str::to_owned));
                values.collect::<Result<_, _>>().map_err(|error| error.to_string())
            };
        let common_names = text(info.subject.iter_common_name().collect())?;
        let mut parsed = Self {
            common_name: common_names.into_iter().last().unwrap_or_default(),
            organizations: text(info.subject.iter_organization().collect())?,
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            alternative_names: None,
            names: Names::default(),
        };
        for attribute in info.iter_attributes() {
            let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(asked) =
                attribute.parsed_attribute()
            else {
                continue;
            };
            for extension in &asked.extensions {
                if extension.oid.iter().is_some_and(|oid| oid.eq(ALTERNATIVE_NAMES.iter().copied())) {
                    parsed.take_names(extension)?;
                }
            }
        }
        Ok(parsed)
    }

    fn take_names(&mut self, extension: &x509_parser::extensions::X509Extension<'_>) -> Result<(), String> {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return Err("x509: the subjectAltName extension cannot be read".to_owned());
        };
        if self.alternative_names.is_some() {
            return Err("x509: certificate request contains duplicate extensions".to_owned());
        }
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(_) => self.names.dns += 1,
                GeneralName::IPAddress(_) => self.names.ip += 1,
                GeneralName::RFC822Name(_) => self.names.email += 1,
                GeneralName::URI(_) => self.names.uri += 1,
                // Go drops these. To sign what nobody has looked at would be worse than to refuse.
                _ => {
                    return Err("x509: the subjectAltName extension has a name of an unknown kind".to_owned());
                }
            }
        }
        if !names.general_names.is_empty() {
            self.alternative_names = Some(extension.value.to_vec());
        }
        Ok(())
    }

    fn check_node(&self) -> Result<(), String> {
        let organizations: Vec<&str> = self.organizations.iter().map(String::as_str).collect();
        if organizations == ["system:nodes"] {
            Ok(())
        } else {
            Err("subject organization is not system:nodes".to_owned())
        }
    }

    fn check_node_name(&self) -> Result<(), String> {
        if self.common_name.starts_with("system:node:") {
            Ok(())
        } else {
            Err("subject common name does not begin with system:node:".to_owned())
        }
    }

    /// A kubelet's client certificate.
    pub fn check_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.check_node()?;
        let refused = [
            (self.names.dns, "DNS subjectAltNames are not allowed"),
            (self.names.email, "Email subjectAltNames are not allowed"),
            (self.names.ip, "IP subjectAltNames are not allowed"),
            (self.names.uri, "URI subjectAltNames are not allowed"),
        ];
        if let Some((_, why)) = refused.into_iter().find(|(count, _)| *count > 0) {
            return Err(why.to_owned());
        }
        self.check_node_name()?;
        check_usages(usages, "client auth")
    }

    /// A kubelet's server certificate.
    pub fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.check_node()?;
        if self.names.dns + self.names.ip == 0 {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        if self.names.email > 0 {
            return Err("Email subjectAltNames are not allowed".to_owned());
        }
        if self.names.uri > 0 {
            return Err("URI subjectAltNames are not allowed".to_owned());
        }
        check_usages(usages, "server auth")?;
        self.check_node_name()
    }
}

/// Exactly the purpose and `digital signature`; `key encipherment` may be among them.
fn check_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let has = |usage: &str| usages.iter().any(|other| other == usage);
    let known = ["digital signature", "key encipherment", purpose];
    let others = usages.iter().any(|usage| !known.contains(&usage.as_str()));
    if has(purpose) && has("digital signature") && !others {
        return Ok(());
    }
    let mut wanted = known;
    wanted.sort_unstable();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// What a client's certificate may be used for.
pub fn check_client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}
