//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction.

use base64::Engine;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Attributes, Operation};
use crate::authz;
use crate::status::ApiError;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Who approves or signs needs the right to do so for the signer; who asks for a client certificate
/// cannot become a system:master by it.
pub(super) fn validate(attributes: &Attributes<'_>, request: &Value) -> Result<(), ApiError> {
    if !attributes.is_resource("certificates.k8s.io", "certificatesigningrequests") {
        return Ok(());
    }
    match (attributes.operation, attributes.subresource, attributes.old) {
        (Operation::Create, "", _) => restrict_subject(attributes, request),
        (Operation::Update, "approval", Some(old)) => may(attributes, request, "approve", old),
        (Operation::Update, "status", Some(old)) => {
            let same = |field: &str| request["status"].get(field) == old["status"].get(field);
            if same("certificate") && same("conditions") {
                return Ok(());
            }
            may(attributes, request, "sign", old)
        }
        _ => Ok(()),
    }
}

fn may(attributes: &Attributes<'_>, request: &Value, verb: &str, old: &Value) -> Result<(), ApiError> {
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let call = attributes.call;
    let allowed = [signer, &domain].into_iter().any(|name| {
        let wanted = authz::Attributes {
            verb,
            is_resource: true,
            group: "certificates.k8s.io",
            resource: "signers",
            name,
            ..authz::Attributes::default()
        };
        call.server.authorizer.check(&call.user, &wanted).is_ok()
    });
    if allowed {
        return Ok(());
    }
    let why =
        format!("user not permitted to {verb} requests with signerName {}", schema::gotext::quote(signer));
    Err(attributes.forbidden(request, why))
}

/// Common name and organizations that a certificate is asked for.
pub(super) struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

impl Subject {
    /// Of `spec.request`: a PEM block in base64.
    pub fn of(request: &Value) -> Result<Self, &'static str> {
        const NOT_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
        let text = request["spec"]["request"].as_str().unwrap_or_default();
        let pem = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| NOT_PEM)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| NOT_PEM)?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(NOT_PEM);
        }
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|_| "asn1: structure error: malformed certificate request")?;
        let subject = &parsed.certification_request_info.subject;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().unwrap_or_default().to_owned()
        };
        Ok(Self {
            common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
        })
    }
}

fn restrict_subject(attributes: &Attributes<'_>, request: &Value) -> Result<(), ApiError> {
    if request["spec"]["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let subject = Subject::of(request)
        .map_err(|why| attributes.forbidden(request, format!("failed to parse CSR: {why}")))?;
    if subject.organizations.iter().any(|group| group == "system:masters") {
        let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
        return Err(attributes.forbidden(request, why));
    }
    Ok(())
}
