//! Conversion between versions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cursor::Node;
use crate::field::ErrorList;
use crate::validation::{format, webhook_address};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The review versions hold one that is known, or there are none.
pub(super) fn is_recognized_or_empty(conversion: &Node<'_>) -> bool {
    let versions = conversion.at("webhook").at("conversionReviewVersions").strings();
    versions.is_empty() || versions.iter().any(|v| REVIEW_VERSIONS.contains(v))
}

/// Whether there is a CA bundle that is none.
pub(super) fn has_invalid_ca_bundle(conversion: &Node<'_>) -> bool {
    ca_error(conversion.at("webhook").at("clientConfig").at("caBundle").str()).is_some()
}

pub(super) fn validate(
    conversion: &Node<'_>,
    recognized_version: bool,
    invalid_ca_bundle: bool,
    errs: &mut ErrorList,
) {
    if !conversion.is_set() {
        return;
    }
    let strategy = conversion.at("strategy");
    match strategy.str() {
        "" => errs.push(strategy.required("")),
        "None" | "Webhook" => {}
        _ => errs.push(strategy.not_supported(&["None", "Webhook"])),
    }
    // Upstream's internal form has the webhook's fields in the conversion itself.
    let webhook = conversion.at("webhook");
    let config_path = conversion.path().child("webhookClientConfig");
    let config = webhook.at("clientConfig").reported_at(&config_path);
    let versions_path = conversion.path().child("conversionReviewVersions");
    let versions = webhook.at("conversionReviewVersions").reported_at(&versions_path);
    if strategy.str() == "Webhook" {
        if config.is_set() {
            client_config(&config, invalid_ca_bundle, errs);
        } else {
            errs.push(config.required("required when strategy is set to Webhook"));
        }
        review_versions(&versions, recognized_version, errs);
    } else {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.is_set() {
            errs.push(config.forbidden(detail));
        }
        if !versions.is_empty() {
            errs.push(versions.forbidden(detail));
        }
    }
}

fn client_config(config: &Node<'_>, invalid_ca_bundle: bool, errs: &mut ErrorList) {
    let (url, service) = (config.at("url"), config.at("service"));
    if url.is_set() == service.is_set() {
        errs.push(config.required("exactly one of url or service is required"));
    } else if url.is_set() {
        webhook_address::url(&url, errs);
    } else {
        webhook_address::service(&service, errs);
    }
    let bundle = config.at("caBundle");
    if let (false, Some(detail)) = (invalid_ca_bundle, ca_error(bundle.str())) {
        errs.push(bundle.invalid_as(json!(bundle.str()), detail));
    }
}

/// What is wrong with a CA bundle (base64 of PEM), if anything.
fn ca_error(bundle: &str) -> Option<String> {
    if bundle.is_empty() {
        return None;
    }
    let pem =
        STANDARD.decode(bundle).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let mut bodies = blocks.filter_map(|block| Some(block.split_once("-----END CERTIFICATE-----")?.0));
    let whole = |body: &str| {
        let base64: String = body.split_ascii_whitespace().collect();
        STANDARD.decode(base64).is_ok_and(|der| der.first() == Some(&0x30))
    };
    let found = bodies.any(whole);
    (!found).then(|| "unable to load root certificates: unable to parse bytes as PEM block".to_owned())
}

fn review_versions(versions: &Node<'_>, recognized_version: bool, errs: &mut ErrorList) {
    if versions.is_empty() {
        return errs.push(versions.required(""));
    }
    let mut seen = std::collections::BTreeSet::new();
    for version in versions.items() {
        if !seen.insert(version.str()) {
            errs.push(version.invalid_str("duplicate version"));
            continue;
        }
        errs.extend(format::dns1035_label(version.str()).into_iter().map(|m| version.invalid_str(m)));
    }
    if recognized_version && !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        errs.push(versions.invalid(format!("must include at least one of {}", REVIEW_VERSIONS.join(", "))));
    }
}
