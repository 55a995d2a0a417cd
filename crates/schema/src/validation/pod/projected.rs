//! Volumes that are projected from several sources, and the downward API.

use std::collections::BTreeSet;

use super::super::{format, labels, metadata, rules};
use super::env::{field_selector, resource_selector};
use crate::cursor::Node;
use crate::field::ErrorList;

/// Fields of the pod that files can show.
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// `downwardAPI`; upstream reports its items at the source itself.
pub fn downward(source: &Node, errs: &mut ErrorList) {
    rules::file_mode(&source.at("defaultMode"), errs);
    source.at("items").items().for_each(|file| downward_file(&file.reported_at(source.path()), errs));
}

fn downward_file(file: &Node, errs: &mut ErrorList) {
    rules::not_empty(&file.at("path"), errs);
    rules::unreserved_path(&file.at("path"), errs);
    match (file.at("fieldRef").opt(), file.at("resourceFieldRef").opt()) {
        (Some(field), resource) => {
            field_selector(&field, &FIELDS, errs);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errs.push(file.invalid_as("resource", detail));
            }
        }
        (None, Some(resource)) => resource_selector(&resource, true, errs),
        (None, None) => errs.push(file.required("one of fieldRef and resourceFieldRef is required")),
    }
    rules::file_mode(&file.at("mode"), errs);
}

/// One file of a Secret or ConfigMap.
pub fn key_to_path(item: &Node, errs: &mut ErrorList) {
    rules::not_empty(&item.at("key"), errs);
    rules::not_empty(&item.at("path"), errs);
    rules::unreserved_path(&item.at("path"), errs);
    rules::file_mode(&item.at("mode"), errs);
}

/// The paths of all sources, which must differ.
struct Paths<'a> {
    volume: Node<'a>,
    taken: BTreeSet<&'a str>,
}

impl<'a> Paths<'a> {
    fn take(&mut self, path: &'a str, shown: &str, errs: &mut ErrorList) {
        if !path.is_empty() && !self.taken.insert(path) {
            errs.push(self.volume.invalid_as(shown, "conflicting duplicate paths"));
        }
    }
}

/// `projected`.
pub fn validate(volume: &Node, errs: &mut ErrorList) {
    rules::file_mode(&volume.at("defaultMode"), errs);
    let mut paths = Paths { volume: volume.clone(), taken: BTreeSet::new() };
    for source in volume.at("sources").items() {
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let Some(object) = source.at(kind).opt() else { continue };
            kinds += 1;
            rules::not_empty(&object.at("name"), errs);
            for item in object.at("items").items() {
                key_to_path(&item, errs);
                paths.take(item.at("path").str(), object.at("name").str(), errs);
            }
        }
        if let Some(downward) = source.at("downwardAPI").opt() {
            kinds += 1;
            for file in downward.at("items").items() {
                downward_file(&file.reported_at(downward.path()), errs);
                paths.take(file.at("path").str(), file.at("path").str(), errs);
            }
        }
        if let Some(token) = source.at("serviceAccountToken").opt() {
            kinds += 1;
            service_account_token(volume, &token, errs);
        }
        if let Some(bundle) = source.at("clusterTrustBundle").opt() {
            kinds += 1;
            trust_bundle(&bundle, errs);
            paths.take(bundle.at("path").str(), bundle.at("path").str(), errs);
        }
        if let Some(certificate) = source.at("podCertificate").opt() {
            kinds += 1;
            pod_certificate(&certificate, &mut paths, errs);
        }
        if kinds > 1 {
            errs.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

fn service_account_token(volume: &Node, token: &Node, errs: &mut ErrorList) {
    let lifetime = token.at("expirationSeconds");
    if lifetime.i64() < 600 {
        errs.push(lifetime.invalid_i64("may not specify a duration less than 10 minutes"));
    }
    if lifetime.i64() > 1 << 32 {
        errs.push(lifetime.invalid_i64("may not specify a duration larger than 2^32 seconds"));
    }
    let path = token.at("path").reported_at(volume.at("path").path());
    if rules::not_empty(&path, errs) {
        rules::unreserved_path(&path, errs);
    }
}

fn trust_bundle(bundle: &Node, errs: &mut ErrorList) {
    let (name, signer) = (bundle.at("name"), bundle.at("signerName"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errs.push(bundle.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.is_empty() {
                errs.push(name.required("must be a valid object name"));
            }
            let local = name.str().rsplit(':').next().unwrap_or_default();
            let wrong = format::dns1123_subdomain(local);
            errs.extend(
                wrong.iter().map(|m| name.invalid_str(format!("not a valid clustertrustbundlename: {m}"))),
            );
            if bundle.at("labelSelector").is_set() {
                let detail = "labelSelector must be unset if name is specified";
                errs.push(bundle.at("labelSelector").invalid(detail));
            }
        }
        (false, true) => {
            if signer.is_empty() {
                errs.push(signer.required("must be a valid signer name"));
            }
            labels::selector(&bundle.at("labelSelector"), errs);
        }
        (false, false) => errs.push(bundle.required("either name or signerName must be specified")),
    }
    rules::not_empty(&bundle.at("path"), errs);
    rules::unreserved_path(&bundle.at("path"), errs);
}

fn pod_certificate<'a>(certificate: &Node<'a>, paths: &mut Paths<'a>, errs: &mut ErrorList) {
    metadata::annotations(&certificate.at("userAnnotations"), errs);
    let key_types = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    rules::one_of(&certificate.at("keyType"), &key_types, errs);
    if let Some(lifetime) = certificate.at("maxExpirationSeconds").opt() {
        if lifetime.i64() < 3600 {
            errs.push(lifetime.invalid("if provided, maxExpirationSeconds must be >= 3600"));
        }
        let kubernetes = certificate.at("signerName").str().starts_with("kubernetes.io/");
        let most = if kubernetes { 86400 } else { 7_862_400 };
        if lifetime.i64() > most {
            errs.push(lifetime.invalid(format!("if provided, maxExpirationSeconds must be <= {most}")));
        }
    }
    let mut count = 0;
    for path in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = certificate.at(path);
        if !path.is_empty() {
            count += 1;
            rules::unreserved_path(&path, errs);
            paths.take(path.str(), path.str(), errs);
        }
    }
    if count == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errs.push(certificate.required(detail));
    }
}
