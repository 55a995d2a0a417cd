//! What users should know about objects that are valid: deprecated, ambiguous or ineffective.
//!
//! Source: `pkg/api/pod/warnings.go` and its siblings.

mod overlaps;

use std::collections::{BTreeMap, BTreeSet};

use super::{format, kind_warnings, rules};
use crate::cursor::Node;
use crate::field::{Path, quote};
use crate::strategy::app_armor_field;

/// Who has so many warnings needs none of those about pairs of things.
const WARNINGS_MAX: usize = 100;
/// Only so many things are compared with each other, for there may be as many as a client likes.
const COMPARED_MAX: usize = 1000;

const DEPRECATED_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const DEPRECATED_VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The texts, each once said where it arose.
pub(super) type Warnings = Vec<String>;

pub(super) fn warn(warnings: &mut Warnings, path: &Path<'_>, text: impl std::fmt::Display) {
    warnings.push(format!("{path}: {text}"));
}

/// Names that become host names should be labels.
fn host_name(object: &Node, what: &str, warnings: &mut Warnings) {
    let name = object.at("metadata").at("name");
    let wrong = format::dns1123_label(name.str());
    if !wrong.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

/// A new Pod.
pub fn pod(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    host_name(object, "the Pod's hostname", &mut warnings);
    template_into(object, false, &mut warnings);
    warnings
}

/// A new controller of pods whose name becomes part of theirs.
pub fn named_workload(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    host_name(object, "Pod names and hostnames", &mut warnings);
    job_into(object, &mut warnings);
    template_into(&pod_template(object), true, &mut warnings);
    warnings
}

/// A new controller of pods.
pub fn workload(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    job_into(object, &mut warnings);
    template_into(&pod_template(object), true, &mut warnings);
    warnings
}

/// The spec of a Job, or of a CronJob's jobs.
fn job_into(object: &Node, warnings: &mut Warnings) {
    let spec = object.at("spec");
    let job = if spec.at("jobTemplate").is_set() { spec.at("jobTemplate").at("spec") } else { spec };
    let indexed = job.at("completionMode").str() == "Indexed";
    if indexed && job.at("completions").i64() > 100_000 && job.at("parallelism").i64() > 10_000 {
        let text = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than \
                    10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
        warn(warnings, job.path(), text);
    }
}

/// A changed controller of pods: only if there is a new generation.
pub fn workload_update(new: &Node, old: &Node) -> Warnings {
    let generation = |object: &Node| object.at("metadata").at("generation").i64();
    if generation(new) == generation(old) {
        return Vec::new();
    }
    workload(new)
}

/// A changed ReplicationController: upstream looks at the template that there was.
pub fn replication_controller_update(new: &Node, old: &Node) -> Warnings {
    let generation = |object: &Node| object.at("metadata").at("generation").i64();
    if generation(new) == generation(old) { Vec::new() } else { workload(old) }
}

/// A changed DaemonSet: only if there is a new template.
pub fn daemon_set_update(new: &Node, old: &Node) -> Warnings {
    let template = |object: &Node| object.at("spec").at("template").to_value();
    if template(new) == template(old) { Vec::new() } else { workload(new) }
}

fn pod_template<'a>(object: &Node<'a>) -> Node<'a> {
    let spec = object.at("spec");
    if !spec.is_set() {
        // A PodTemplate.
        return object.at("template");
    }
    let job = spec.at("jobTemplate");
    if job.is_set() { job.at("spec").at("template") } else { spec.at("template") }
}

/// The rules for pods and templates; `is_template` since some annotations are warned about elsewhere.
fn template_into(object: &Node, is_template: bool, warnings: &mut Warnings) {
    let (spec, annotations) = (object.at("spec"), object.at("metadata").at("annotations"));
    deprecated_labels(&spec, warnings);
    for constraint in spec.at("topologySpreadConstraints").items() {
        let key = constraint.at("topologyKey");
        if let Some(message) = deprecated_label(key.str()) {
            warn(warnings, key.path(), format!("{} is {message}", key.str()));
        }
        null_selector(&constraint, warnings);
    }
    for (key, message) in DEPRECATED_ANNOTATIONS {
        if annotations.key(key).is_set() {
            warn(warnings, annotations.key(key).path(), message);
        }
    }
    for volume in spec.at("volumes").items() {
        for (kind, shown, message) in DEPRECATED_VOLUMES {
            if volume.at(kind).is_set() {
                warn(warnings, volume.at(shown).path(), message);
            }
        }
        let claim = volume.at("ephemeral").at("volumeClaimTemplate").at("spec");
        claim_spec_into(&claim, warnings);
    }
    overlaps::volumes(&spec.at("volumes"), warnings);
    duplicates(spec.at("hostAliases").items().map(|alias| alias.at("ip")), "ip", warnings);
    let secrets = || spec.at("imagePullSecrets").items().map(|secret| secret.at("name"));
    duplicates(secrets(), "name", warnings);
    for name in secrets().filter(|name| name.is_empty()) {
        warn(warnings, name.path(), "invalid empty name \"\"");
    }
    for resource in ["memory", "ephemeral-storage"] {
        fractional(&spec.at("overhead").key(resource), warnings);
    }
    containers(&spec, &annotations, is_template, warnings);
    ports(&spec, warnings);
    if spec.at("terminationGracePeriodSeconds").i64() < 0 {
        let text = "must be >= 0; negative values are invalid and will be treated as 1";
        warn(warnings, spec.at("terminationGracePeriodSeconds").path(), text);
    }
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(affinity);
        for term in affinity.at("requiredDuringSchedulingIgnoredDuringExecution").items() {
            null_selector(&term, warnings);
        }
        for term in affinity.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
            null_selector(&term.at("podAffinityTerm"), warnings);
        }
    }
    spec.at("dnsConfig").at("nameservers").items().for_each(|ip| ip_into(&ip, warnings));
    spec.at("hostAliases").items().for_each(|alias| ip_into(&alias.at("ip"), warnings));
}

pub(super) fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(label, _)| *label == key).map(|(_, message)| *message)
}

fn deprecated_labels(spec: &Node, warnings: &mut Warnings) {
    for (key, value) in spec.at("nodeSelector").entries() {
        if let Some(message) = deprecated_label(key) {
            warn(warnings, value.path(), message);
        }
    }
    let affinity = spec.at("affinity").at("nodeAffinity");
    let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution").at("nodeSelectorTerms");
    let preferred = affinity.at("preferredDuringSchedulingIgnoredDuringExecution");
    let preferences = preferred.items().map(|term| (term.at("preference"), true));
    let terms = required.items().map(|term| (term, false)).chain(preferences);
    let expressions =
        terms.flat_map(|(term, loose)| term.at("matchExpressions").items().map(move |e| (e, loose)));
    for (expression, loose) in expressions {
        let key = expression.at("key");
        if let Some(message) = deprecated_label(key.str()) {
            warn(warnings, key.path(), format!("{} is {message}", key.str()));
        }
        // Validation looks at the values of required terms only.
        for value in expression.at("values").items().filter(|_| loose) {
            for message in format::label_value(value.str()) {
                warn(warnings, value.path(), format!("{} is invalid, {message}", value.str()));
            }
        }
    }
}

fn null_selector(term: &Node, warnings: &mut Warnings) {
    let selector = term.at("labelSelector");
    if !selector.is_set() {
        warn(warnings, selector.path(), "a null labelSelector results in matching no pod");
    }
}

fn duplicates<'a>(nodes: impl Iterator<Item = Node<'a>>, what: &str, warnings: &mut Warnings) {
    let mut seen = BTreeSet::new();
    for node in nodes {
        if !seen.insert(node.str()) {
            warn(warnings, node.path(), format!("duplicate {what} {}", quote(node.str())));
        }
    }
}

fn fractional(quantity: &Node, warnings: &mut Warnings) {
    let value = rules::quantity(quantity);
    if quantity.is_set() && !value.is_integer() {
        let text =
            format!("fractional byte value {} is invalid, must be an integer", quote(&value.to_string()));
        warn(warnings, quantity.path(), text);
    }
}

fn all_containers<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| spec.at(list).items()).collect()
}

fn containers(spec: &Node, annotations: &Node, is_template: bool, warnings: &mut Warnings) {
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let pod_annotation = annotations.key("seccomp.security.alpha.kubernetes.io/pod");
    if !spec.at("securityContext").at("seccompProfile").is_set() && pod_annotation.is_set() {
        warn(warnings, pod_annotation.path(), seccomp);
    }
    for container in all_containers(spec) {
        let (name, context) = (container.at("name").str(), container.at("securityContext"));
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        let has = |key: &str| annotations.object().is_some_and(|all| all.contains_key(key));
        if !context.at("seccompProfile").is_set() && has(&key) {
            warn(warnings, &annotations.path().key(&key), seccomp);
        }
        let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
        // The annotation is fine if it says what the pod's field says.
        let said = || {
            let annotation = annotations.object().and_then(|all| all.get(&key)?.as_str());
            let whole = spec.at("securityContext").at("appArmorProfile");
            whole.is_set() && annotation.and_then(app_armor_field).as_ref() == whole.value()
        };
        if is_template && !context.at("appArmorProfile").is_set() && has(&key) && !said() {
            let text = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            warn(warnings, &annotations.path().key(&key), text);
        }
        let resources = container.at("resources");
        for resource in ["memory", "ephemeral-storage"] {
            for list in ["limits", "requests"] {
                fractional(&resources.at(list).key(resource), warnings);
            }
        }
        hidden_variables(&container, warnings);
    }
}

/// A variable that is set again must build on what it was, or the first one is lost.
fn hidden_variables(container: &Node, warnings: &mut Warnings) {
    let mut seen = BTreeSet::new();
    for variable in container.at("env").items() {
        let (name, value) = (variable.at("name").str(), variable.at("value").str());
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        if variable.at("valueFrom").is_set() || value == reference || !value.contains(&reference) {
            let text = format!(
                "hides previous definition of {}, which may be dropped when using apply",
                quote(name)
            );
            warn(warnings, variable.path(), text);
        }
    }
}

fn ports(spec: &Node, warnings: &mut Warnings) {
    let mut taken: BTreeMap<(i64, &str), Vec<Node>> = BTreeMap::new();
    let ports: Vec<Node> = all_containers(spec).into_iter().flat_map(|c| c.at("ports").items()).collect();
    for port in &ports {
        if !port.at("hostIP").is_empty() && port.at("hostPort").i64() == 0 {
            let text = |field| port.at(field).str();
            let number = port.at("containerPort").i64();
            let shown = format!(
                "hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} Protocol:{} HostIP:{}}}",
                text("name"),
                text("protocol"),
                text("hostIP")
            );
            warn(warnings, port.path(), shown);
        }
        let host = |port: &Node| (port.at("hostIP").str().to_owned(), port.at("hostPort").i64());
        let (ip, number) = host(port);
        let others = taken.entry((port.at("containerPort").i64(), port.at("protocol").str())).or_default();
        for other in others.iter() {
            if warnings.len() >= WARNINGS_MAX {
                break;
            }
            let (other_ip, other_number) = host(other);
            let problem = if (&ip, number) == (&other_ip, other_number) {
                "duplicate"
            } else if number == 0 || other_number == 0 {
                "overlapping"
            } else if number == other_number && (ip.is_empty() != other_ip.is_empty()) {
                "dangerously ambiguous"
            } else {
                continue;
            };
            warn(warnings, port.path(), format!("{problem} port definition with {}", other.path()));
        }
        if others.len() < COMPARED_MAX {
            others.push(port.clone());
        }
    }
    let mut names: BTreeMap<&str, &Node> = BTreeMap::new();
    for port in ports.iter().filter(|port| !port.at("name").is_empty()) {
        let name = port.at("name").str();
        if let Some(other) = names.get(name) {
            let other = other.path();
            let text = format!(
                "duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                quote(name)
            );
            warn(warnings, port.path(), text);
        } else {
            names.insert(name, port);
        }
    }
}

pub(super) fn ip_into(ip: &Node, warnings: &mut Warnings) {
    let Some((parsed, strictness)) = rules::parse_ip(ip.str()) else { return };
    // As Go, which writes an IPv4 address inside of IPv6 as the former.
    let (shown, canonical) = (quote(ip.str()), quote(&parsed.to_canonical().to_string()));
    if strictness != rules::Strictness::Strict {
        warn(warnings, ip.path(), format!("non-standard IP address {shown} is invalid: use {canonical}"));
    } else if parsed.is_ipv6() && shown != canonical {
        let text = format!("IPv6 address {shown} should be in RFC 5952 canonical format ({canonical})");
        warn(warnings, ip.path(), text);
    }
}

pub(super) fn claim_spec_into(spec: &Node, warnings: &mut Warnings) {
    for list in ["requests", "limits"] {
        fractional(&spec.at("resources").at(list).key("storage"), warnings);
    }
}

/// A new or changed Service.
pub fn service(object: &Node) -> Warnings {
    let mut warnings = Vec::new();
    let spec = object.at("spec");
    let hints = "service.kubernetes.io/topology-aware-hints";
    if object.at("metadata").at("annotations").key(hints).is_set() {
        let mode = "service.kubernetes.io/topology-mode";
        warnings.push(format!("annotation {hints} is deprecated, please use {mode} instead"));
    }
    let headless = spec.at("clusterIPs").strings() == ["None"];
    if !headless {
        spec.at("clusterIPs").items().for_each(|ip| ip_into(&ip, &mut warnings));
    } else {
        let ignored = [
            (!spec.at("loadBalancerIP").is_empty(), "loadBalancerIP"),
            (!spec.at("externalIPs").is_empty(), "externalIPs"),
            (spec.at("sessionAffinity").str() != "None", "SessionAffinity"),
        ];
        for (_, field) in ignored.iter().filter(|(set, _)| *set) {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
    }
    let external = spec.at("externalIPs");
    external.items().for_each(|ip| ip_into(&ip, &mut warnings));
    let by_name = spec.at("type").str() == "ExternalName";
    if !external.is_empty() && !headless && !by_name {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    kind_warnings::load_balancer_into(&spec, &mut warnings);
    if !external.is_empty() && by_name {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !spec.at("externalName").is_empty() && !by_name {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.at("trafficDistribution").str() == "PreferClose" {
        let text = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(text.to_owned());
    }
    warnings
}

/// A new ResourceQuota whose requests exceed its limits.
pub fn resource_quota(object: &Node) -> Warnings {
    let hard = object.at("spec").at("hard");
    let names = [
        ("requests.cpu", "cpu", "limits.cpu"),
        ("requests.memory", "memory", "limits.memory"),
        ("requests.storage", "", "limits.storage"),
        ("requests.ephemeral-storage", "", "limits.ephemeral-storage"),
    ];
    let mut warnings = Vec::new();
    for (request, short, limit) in names {
        let name = if hard.key(request).is_set() { request } else { short };
        let (asked, most) = (hard.key(name), hard.key(limit));
        if asked.is_set() && most.is_set() && rules::quantity(&asked) > rules::quantity(&most) {
            let (asked, most) = (rules::quantity(&asked), rules::quantity(&most));
            warnings.push(format!("ResourceQuota {name} ({asked}) should be less than {limit} ({most})"));
        }
    }
    warnings
}

/// A new CSIDriver that hands tokens around in the open.
pub fn csi_driver(object: &Node) -> Warnings {
    let spec = object.at("spec");
    if spec.at("tokenRequests").is_empty() || spec.at("serviceAccountTokenInSecrets").is_set() {
        return Vec::new();
    }
    let text = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                prevent possible logging of tokens in volume attributes";
    vec![text.to_owned()]
}
