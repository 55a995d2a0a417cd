//! CertificateSigningRequests. The request itself is only looked at for its PEM frame.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

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
    let pem = BASE64.decode(request.str()).unwrap_or_default();
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        errs.push(request.invalid_str("PEM block type must be CERTIFICATE REQUEST"));
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
    let parts: Vec<&str> = signer.str().split('/').collect();
    let [domain, path] = parts[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errs.push(signer.invalid_str(detail));
        return;
    };
    let wrong = format::dns1123_subdomain(domain).into_iter().chain(format::dns1123_subdomain(path));
    errs.extend(wrong.map(|m| signer.invalid_str(m)));
    if !domain.contains('.') {
        errs.push(signer.invalid_str("should be a domain with at least two segments separated by dots"));
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

/// What is wrong with an issued certificate, as far as its PEM frame tells.
fn issued_fault(encoded: &str) -> Option<String> {
    let pem = BASE64.decode(encoded).unwrap_or_default();
    let pem = String::from_utf8_lossy(&pem);
    if pem.is_empty() {
        return None;
    }
    let (mut rest, mut blocks) = (&*pem, 0);
    while let Some((kind, after)) =
        rest.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"))
    {
        let Some((body, tail)) = after.split_once(&format!("-----END {kind}-----")) else { break };
        if kind != "CERTIFICATE" {
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found {}",
                crate::gotext::quote(kind)
            ));
        }
        if body.contains(':') {
            return Some("no PEM block headers are permitted".to_owned());
        }
        blocks += 1;
        rest = tail;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

fn update(new: &Node, old: &Node, approval: bool, certificate: bool) -> ErrorList {
    let mut errs = signing_request(new);
    let (now, before) = (new.at("status").at("certificate"), old.at("status").at("certificate"));
    if now.str() != before.str()
        && issued_fault(before.str()).is_none()
        && let Some(why) = issued_fault(now.str())
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
