//! CertificateSigningRequests. What is in their PEM blocks is looked at only from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{format, metadata, pem, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const SUBDOMAIN_MAX_BYTES: usize = 253;
/// A domain, a slash, and room for a label, a dot and a subdomain.
const SIGNER_NAME_MAX_BYTES: usize = 253 + 1 + 63 + 1 + 253;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn any_name(_name: &str, _prefix: bool) -> Vec<String> {
    Vec::new()
}

/// CertificateSigningRequest.
pub fn signing_request(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), any_name, &mut errs);
    let spec = object.at("spec");
    let request = spec.at("request");
    if let Some(why) = pem::request_fault(&BASE64.decode(request.str()).unwrap_or_default()) {
        errs.push(request.invalid(why));
    }
    let usages = spec.at("usages");
    rules::not_empty(&usages, &mut errs);
    usages.items().for_each(|usage| rules::one_of(&usage, &USAGES, &mut errs));
    rules::unique(usages.items(), &mut errs);
    let signer = spec.at("signerName");
    if signer.str() == "kubernetes.io/legacy-unknown" {
        errs.push(signer.invalid_str("the legacy signerName is not allowed via this API version"));
    } else {
        signer_name(&signer, &mut errs);
    }
    let lifetime = spec.at("expirationSeconds");
    if lifetime.opt_i64().is_some_and(|seconds| seconds < 600) {
        errs.push(lifetime.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
    conditions(&object.at("status").at("conditions"), &mut errs);
    errs
}

fn signer_name(signer: &Node, errs: &mut ErrorList) {
    if !rules::not_empty(signer, errs) {
        return;
    }
    let [domain, path] = signer.str().split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errs.push(signer.invalid_str(detail));
        return;
    };
    if domain.len() > SUBDOMAIN_MAX_BYTES {
        errs.push(signer.too_long(SUBDOMAIN_MAX_BYTES));
    }
    segment(signer, domain, format::dns1123_label, errs);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errs.push(signer.invalid_as(domain, detail));
    }
    segment(signer, path, format::dns1123_subdomain, errs);
    if signer.len() > SIGNER_NAME_MAX_BYTES {
        errs.push(signer.too_long(SIGNER_NAME_MAX_BYTES));
    }
}

/// The labels of a domain or path, up to the first that is wrong.
fn segment(signer: &Node, segment: &str, rule: fn(&str) -> Vec<String>, errs: &mut ErrorList) {
    let wrong = segment.split('.').map(|label| (label, rule(label))).find(|(_, wrong)| !wrong.is_empty());
    if let Some((label, wrong)) = wrong {
        let label = crate::gotext::quote(label);
        let detail = |why| format!("validating label {label}: {why}");
        errs.extend(wrong.into_iter().map(|why| signer.invalid_as(segment, detail(why))));
    }
}

fn conditions(list: &Node, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for condition in list.items() {
        let (kind, status) = (condition.at("type"), condition.at("status"));
        rules::not_empty(&kind, errs);
        let allowed: &[&str] = match kind.str() {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        rules::required_one_of(&status, allowed, errs);
        let opposite = match kind.str() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !opposite.is_empty() && seen.contains(&opposite) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errs.push(list.invalid_as(kind.str(), detail));
        }
        if !seen.insert(kind.str()) {
            errs.push(kind.duplicate());
        }
    }
}

fn update(new: &Node, old: &Node, approval: bool, certificate: bool) -> ErrorList {
    let mut errs = signing_request(new);
    let (now, before) = (new.at("status").at("certificate"), old.at("status").at("certificate"));
    let issued_fault = |node: &Node| pem::certificate_fault(&BASE64.decode(node.str()).unwrap_or_default());
    if now.str() != before.str()
        && issued_fault(&before).is_none()
        && let Some(why) = issued_fault(&now)
    {
        errs.push(Error::invalid(now.path(), "<certificate data>", why));
    }
    let of = |object: &Node, kind: &str| -> Vec<serde_json::Value> {
        let all = object.at("status").at("conditions").items();
        all.filter(|c| c.at("type").str() == kind).map(|c| c.to_value()).collect()
    };
    let list = new.at("status").at("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, before) = (of(new, kind), of(old, kind));
        if now.len() < before.len() {
            errs.push(list.forbidden(format!("updates may not remove a condition of type \"{kind}\"")));
        } else if !approval && kind != "Failed" && now.len() > before.len() {
            errs.push(list.forbidden(format!("updates may not add a condition of type \"{kind}\"")));
        } else if !approval && kind != "Failed" && now != before {
            errs.push(list.forbidden(format!("updates may not modify a condition of type \"{kind}\"")));
        }
    }
    let (now, before) = (new.at("status").at("certificate"), old.at("status").at("certificate"));
    if now.str() != before.str() {
        if !certificate {
            errs.push(now.forbidden("updates may not set certificate content"));
        } else if !before.is_empty() {
            errs.push(Error::forbidden(now.path(), "updates may not modify existing certificate content"));
        }
    }
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs
}

/// A changed request: only metadata changes.
pub fn signing_request_update(new: &Node, old: &Node) -> ErrorList {
    update(new, old, false, false)
}

/// A changed status: the certificate is issued once.
pub fn signing_request_status_update(new: &Node, old: &Node) -> ErrorList {
    update(new, old, false, true)
}

/// A changed approval.
pub fn signing_request_approval_update(new: &Node, old: &Node) -> ErrorList {
    update(new, old, true, false)
}
