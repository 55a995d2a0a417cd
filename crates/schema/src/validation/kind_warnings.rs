//! What users should know about valid objects of kinds that hold no pods.
//!
//! Source: the strategies' `WarningsOnCreate` and `WarningsOnUpdate`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::rules;
use super::warnings::{Warnings, claim_spec_into, deprecated_label, ip_into, warn, workload};
use crate::cursor::Node;
use crate::field::quote;

/// Addresses that other readers of the object may understand differently.
fn cidr_into(node: &Node, warnings: &mut Warnings) {
    let Some(block) = rules::parse_cidr(node.str()) else { return };
    let (shown, network) = (quote(node.str()), quote(&block.network()));
    let before = warnings.len();
    if block.has_host_bits() {
        let single = quote(&block.single());
        let text =
            format!("CIDR value {shown} is ambiguous in this context (should be {network} or {single}?)");
        warn(warnings, node.path(), text);
    }
    if block.strictness != rules::Strictness::Strict {
        let text = format!("non-standard CIDR value {shown} is invalid: use {network}");
        warn(warnings, node.path(), text);
    }
    let canonical = quote(&format!("{}/{}", block.address, block.prefix));
    if warnings.len() == before && block.address.is_ipv6() && canonical != shown {
        let text = format!("IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({canonical})");
        warn(warnings, node.path(), text);
    }
}

/// The parts of a Service that hold addresses; the others are in `warnings`.
pub(super) fn load_balancer_into(spec: &Node, warnings: &mut Warnings) {
    let ip = spec.at("loadBalancerIP");
    if !ip.is_empty() {
        ip_into(&ip, warnings);
    }
    spec.at("loadBalancerSourceRanges").items().for_each(|range| cidr_into(&range, warnings));
}

/// A changed status of a Service or Ingress.
pub fn load_balancer_status(new: &Node, _old: &Node) -> Warnings {
    let mut warnings = Vec::new();
    for ingress in new.at("status").at("loadBalancer").at("ingress").items() {
        let ip = ingress.at("ip");
        if !ip.is_empty() {
            ip_into(&ip.reported_at(ingress.path()), &mut warnings);
        }
    }
    warnings
}

/// A changed status of a Pod.
pub fn pod_status(new: &Node, _old: &Node) -> Warnings {
    let mut warnings = Vec::new();
    for list in ["podIPs", "hostIPs"] {
        new.at("status").at(list).items().for_each(|ip| ip_into(&ip.at("ip"), &mut warnings));
    }
    warnings
}

/// A new or changed claim.
pub fn claim(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let class = object.at("metadata").at("annotations").key("volume.beta.kubernetes.io/storage-class");
    if class.is_set() {
        warn(&mut warnings, class.path(), DEPRECATED_CLASS);
    }
    claim_spec_into(&object.at("spec"), &mut warnings);
    warnings
}

const DEPRECATED_CLASS: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";

/// A new or changed volume.
pub fn volume(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let annotations = object.at("metadata").at("annotations");
    for (key, text) in [
        ("volume.beta.kubernetes.io/storage-class", DEPRECATED_CLASS),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if annotations.key(key).is_set() {
            warn(&mut warnings, annotations.key(key).path(), text);
        }
    }
    let spec = object.at("spec");
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if policy.str() == "Recycle" {
        let text = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
                    provisioning.";
        warn(&mut warnings, policy.path(), text);
    }
    for term in spec.at("nodeAffinity").at("required").at("nodeSelectorTerms").items() {
        expressions_into(&term, &mut warnings);
    }
    for (field, shown, text) in [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if spec.at(field).is_set() {
            warn(&mut warnings, spec.at(shown).path(), text);
        }
    }
    warnings
}

fn expressions_into(selector: &Node, warnings: &mut Warnings) {
    for key in selector.at("matchExpressions").items().map(|expression| expression.at("key")) {
        if let Some(text) = deprecated_label(key.str()) {
            warn(warnings, key.path(), format!("{} is {text}", key.str()));
        }
    }
}

/// A new or changed StorageClass.
pub fn storage_class(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let terms = object.at("allowedTopologies");
    for key in terms.items().flat_map(|t| t.at("matchLabelExpressions").items()).map(|e| e.at("key")) {
        if let Some(text) = deprecated_label(key.str()) {
            warn(&mut warnings, key.path(), text);
        }
    }
    warnings
}

/// A new or changed CSIStorageCapacity.
pub fn storage_capacity(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let topology = object.at("nodeTopology");
    expressions_into(&topology, &mut warnings);
    let labels = topology.at("matchLabels");
    for (label, _) in labels.entries() {
        if let Some(text) = deprecated_label(label) {
            warn(&mut warnings, &labels.path().child(label), text);
        }
    }
    warnings
}

/// A new or changed RuntimeClass.
pub fn runtime_class(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let selector = object.at("scheduling").at("nodeSelector");
    for (label, _) in selector.entries() {
        if let Some(text) = deprecated_label(label) {
            warn(&mut warnings, selector.path(), text);
        }
    }
    warnings
}

/// A new or changed Node.
pub fn node(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let spec = object.at("spec");
    if spec.at("configSource").is_set() {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !spec.at("externalID").is_empty() {
        let text = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
        warnings.push(text.to_owned());
    }
    spec.at("podCIDRs").items().for_each(|range| cidr_into(&range, &mut warnings));
    warnings
}

/// New or changed Endpoints.
pub fn endpoints(object: &Node) -> Warnings {
    let deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    let mut warnings = vec![deprecated.to_owned()];
    let managed_by = object.at("metadata").at("labels").key("endpoints.kubernetes.io/managed-by");
    if managed_by.str() == "endpoint-controller" {
        return warnings;
    }
    for subset in object.at("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            subset.at(list).items().for_each(|address| ip_into(&address.at("ip"), &mut warnings));
        }
    }
    warnings
}

/// A new EndpointSlice.
pub fn endpoint_slice(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    if object.at("addressType").str() == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    warnings.extend(endpoint_slice_update(object));
    warnings
}

/// A changed EndpointSlice. Our own controllers write addresses well.
pub fn endpoint_slice_update(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let managed_by = object.at("metadata").at("labels").key("endpointslice.kubernetes.io/managed-by");
    let controllers = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if controllers.contains(&managed_by.str()) {
        return warnings;
    }
    let addresses = object.at("endpoints").items().flat_map(|endpoint| endpoint.at("addresses").items());
    addresses.for_each(|address| ip_into(&address, &mut warnings));
    warnings
}

const MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

/// A new ServiceAccount.
pub fn service_account(object: &Node) -> Warnings {
    if !object.at("metadata").at("annotations").key(MOUNTABLE_SECRETS).is_set() {
        return Vec::new();
    }
    vec![format!(
        "metadata.annotations[{MOUNTABLE_SECRETS}]: deprecated in v1.32+; prefer separate namespaces to isolate \
         access to mounted secrets"
    )]
}

/// A changed ServiceAccount: what it had before is not mentioned.
pub fn service_account_update(new: &Node, old: &Node) -> Warnings {
    let had = old.at("metadata").at("annotations").key(MOUNTABLE_SECRETS).is_set();
    if had { Vec::new() } else { service_account(new) }
}

/// A new or changed NetworkPolicy.
pub fn network_policy(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = object.at("spec").at(direction);
        for peer in rules.items().flat_map(|rule| rule.at(peers).items()) {
            let Some(block) = peer.at("ipBlock").opt() else { continue };
            cidr_into(&block.at("cidr"), &mut warnings);
            block.at("except").items().for_each(|except| cidr_into(&except, &mut warnings));
        }
    }
    warnings
}

/// A new Ingress.
pub fn ingress(object: &Node) -> Warnings {
    let annotation = object.at("metadata").at("annotations").key("kubernetes.io/ingress.class");
    if !annotation.is_set() || object.at("spec").at("ingressClassName").is_set() {
        return Vec::new();
    }
    let text = "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
    vec![text.to_owned()]
}

/// A new or changed ResourceSlice.
pub fn resource_slice(object: &Node) -> Warnings {
    let driver = object.at("spec").at("driver").str();
    if driver == driver.to_lowercase() {
        return Vec::new();
    }
    vec![format!(
        "spec.driver: driver names should be lowercase; {} contains uppercase characters",
        quote(driver)
    )]
}

/// A new StatefulSet.
pub fn stateful_set(object: &Node) -> Warnings {
    let mut warnings = workload(object);
    let claims = object.at("spec").at("volumeClaimTemplates");
    for claim in claims.items() {
        // Upstream's path lacks the spec.
        claim_spec_into(&claim.at("spec").reported_at(claim.path()), &mut warnings);
    }
    history_into(object, &mut warnings);
    warnings
}

/// A changed StatefulSet.
pub fn stateful_set_update(new: &Node, old: &Node) -> Warnings {
    let mut warnings = super::warnings::workload_update(new, old);
    for claim in new.at("spec").at("volumeClaimTemplates").items() {
        // Upstream's path has Go's name of the spec.
        claim_spec_into(&claim.at("spec").reported_at(claim.at("Spec").path()), &mut warnings);
    }
    history_into(new, &mut warnings);
    warnings
}

fn history_into(object: &Node, warnings: &mut Warnings) {
    if object.at("spec").at("revisionHistoryLimit").i64() < 0 {
        let text = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                    recommended";
        warnings.push(text.to_owned());
    }
}

/// A changed CronJob.
pub fn cron_job_update(new: &Node, old: &Node) -> Warnings {
    let mut warnings = super::warnings::workload_update(new, old);
    if new.at("spec").at("schedule").str().contains("TZ") {
        warnings.push(
            "cannot use TZ or CRON_TZ in spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    warnings
}

/// A new or changed Secret: a `kubernetes.io/tls` one should hold a certificate and its key.
pub fn secret(object: &Node) -> Warnings {
    if object.at("type").str() != "kubernetes.io/tls" {
        return Vec::new();
    }
    let data = |key| BASE64.decode(object.at("data").key(key).str()).unwrap_or_default();
    super::key_pair::problem(&data("tls.crt"), &data("tls.key")).into_iter().collect()
}
