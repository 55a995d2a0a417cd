//! Services.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::{format, internal, labels, metadata, rules};
use super::endpoints::reachable;
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

/// The longest affinity of clients, one day.
const AFFINITY_SECONDS_MAX: i64 = 86400;

/// Service.
pub fn service(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_label, &mut errs);
    validate(object, None, &mut errs);
    errs
}

/// A changed Service.
pub fn service_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    let (spec, was) = (new.at("spec"), old.at("spec"));
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    cluster_ips_update(&spec, &was, &mut errs);
    ip_families_update(&spec, &was, &mut errs);
    if is_balanced(&spec)
        && is_balanced(&was)
        && spec.at("loadBalancerClass").value() != was.at("loadBalancerClass").value()
    {
        errs.push(spec.at("loadBalancerClass").invalid("may not change once set"));
    }
    load_balancer_class(&spec, &mut errs);
    let port = "healthCheckNodePort";
    if needs_health_check(&spec) && needs_health_check(&was) && spec.at(port).i64() != was.at(port).i64() {
        errs.push(spec.at(port).forbidden("field is immutable"));
    }
    validate(new, Some(old), &mut errs);
    errs
}

/// Only the addresses and families of a new or changed Service: what must hold before addresses are
/// allocated.
pub fn addresses(service: &serde_json::Value, old: Option<&serde_json::Value>) -> ErrorList {
    let mut errs = ErrorList::new();
    let old = old.map(Node::root);
    cluster_ips(&Node::root(service).at("spec"), &known(old.as_ref(), "clusterIPs"), &mut errs);
    errs
}

fn is_headless(spec: &Node) -> bool {
    spec.at("clusterIPs").strings() == ["None"]
}

fn is_balanced(spec: &Node) -> bool {
    spec.at("type").str() == "LoadBalancer"
}

fn is_external_name(spec: &Node) -> bool {
    spec.at("type").str() == "ExternalName"
}

fn needs_health_check(spec: &Node) -> bool {
    is_balanced(spec) && spec.at("externalTrafficPolicy").str() == "Local"
}

/// What was there before stricter rules came, which may stay.
fn known<'a>(old: Option<&Node<'a>>, list: &'a str) -> BTreeSet<&'a str> {
    old.map(|old| old.at("spec").at(list).strings().into_iter().collect()).unwrap_or_default()
}

fn validate(object: &Node, old: Option<&Node>, errs: &mut ErrorList) {
    let (annotations, spec) = (object.at("metadata").at("annotations"), object.at("spec"));
    let mode = annotations.key("service.kubernetes.io/topology-mode");
    let hints = annotations.key("service.kubernetes.io/topology-aware-hints");
    if mode.is_set() && hints.is_set() && mode.str() != hints.str() {
        let other = "service.kubernetes.io/topology-aware-hints";
        errs.push(mode.invalid_str(format!("must match annotations[{other}] when both are specified")));
    }
    if spec.at("ports").is_empty() && !is_headless(&spec) && !is_external_name(&spec) {
        errs.push(spec.at("ports").required(""));
    }
    by_type(&spec, errs);
    ports(&spec, errs);
    labels::labels(&spec.at("selector"), errs);
    session_affinity(&spec, errs);
    cluster_ips(&spec, &known(old, "clusterIPs"), errs);
    let known_ips = known(old, "externalIPs");
    for ip in spec.at("externalIPs").items() {
        let before = errs.len();
        rules::new_ip_address(&ip, &known_ips, errs);
        if errs.len() == before {
            reachable(&ip, errs);
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    rules::required_one_of(&spec.at("type"), &types, errs);
    node_ports(&spec, errs);
    source_ranges(&spec, &annotations, errs);
    let allocate = spec.at("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !is_balanced(&spec) {
        errs.push(allocate.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
    if !allocate.is_set() && is_balanced(&spec) {
        errs.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    load_balancer_class(&spec, errs);
    traffic_policies(&spec, errs);
}

fn by_type(spec: &Node, errs: &mut ErrorList) {
    match spec.at("type").str() {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errs.push(spec.at("clusterIPs").index(0).invalid_str(detail));
        }
        "ExternalName" => {
            let (addresses, families) = (spec.at("clusterIPs"), spec.at("ipFamilies"));
            let policy = spec.at("ipFamilyPolicy");
            let set = [!addresses.is_empty(), !families.is_empty(), policy.is_set()];
            for (field, set) in [addresses, families, policy].iter().zip(set) {
                if set {
                    errs.push(field.forbidden("may not be set for ExternalName services"));
                }
            }
            let name = spec.at("externalName");
            let target = name.str().strip_suffix('.').unwrap_or(name.str());
            if target.is_empty() {
                errs.push(name.required(""));
            } else {
                errs.extend(
                    format::dns1123_subdomain(target).into_iter().map(|m| name.invalid_as(target, m)),
                );
            }
        }
        _ => {}
    }
}

fn ports(spec: &Node, errs: &mut ErrorList) {
    let several = spec.at("ports").len() > 1;
    let mut names = BTreeSet::new();
    for port in spec.at("ports").items() {
        let name = port.at("name");
        if several && name.is_empty() {
            errs.push(name.required(""));
        } else if !name.is_empty() {
            rules::formatted(&name, format::dns1123_label, errs);
            if !names.insert(name.str()) {
                errs.push(name.duplicate());
            }
        }
        rules::number(&port.at("port"), format::port_number, errs);
        rules::required_one_of(&port.at("protocol"), &["SCTP", "TCP", "UDP"], errs);
        rules::port_number_or_name(&port.at("targetPort"), errs);
        if port.at("appProtocol").is_set() {
            rules::formatted(&port.at("appProtocol"), format::label_key, errs);
        }
    }
}

fn session_affinity(spec: &Node, errs: &mut ErrorList) {
    let (affinity, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    rules::required_one_of(&affinity, &["ClientIP", "None"], errs);
    if affinity.str() == "ClientIP" {
        let timeout = config.at("clientIP").at("timeoutSeconds");
        let missing =
            [config.clone(), config.at("clientIP"), timeout.clone()].into_iter().find(|n| !n.is_set());
        if let Some(missing) = missing {
            errs.push(missing.required("when session affinity type is ClientIP"));
        } else if !(1..=AFFINITY_SECONDS_MAX).contains(&timeout.i64()) {
            errs.push(
                timeout.invalid(format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}")),
            );
        }
    } else if affinity.str() == "None" && config.is_set() {
        errs.push(config.forbidden("must not be set when session affinity is None"));
    }
}

fn cluster_ips(spec: &Node, known: &BTreeSet<&str>, errs: &mut ErrorList) {
    if is_external_name(spec) {
        return;
    }
    let (first, all) = (spec.at("clusterIP"), spec.at("clusterIPs"));
    if !first.is_empty() {
        if all.is_empty() {
            errs.push(all.required(""));
        } else if all.strings()[0] != first.str() {
            errs.push(all.invalid("first value must match `clusterIP`"));
        }
    } else if !all.is_empty() {
        errs.push(all.invalid("must be empty when `clusterIP` is not specified"));
    }
    let families = spec.at("ipFamilies");
    let mut seen = BTreeSet::new();
    for family in families.items() {
        rules::one_of(&family, &["IPv4", "IPv6"], errs);
        if !seen.insert(family.str()) {
            errs.push(family.duplicate());
        }
    }
    if let Some(policy) = spec.at("ipFamilyPolicy").opt() {
        rules::one_of(&policy, &["PreferDualStack", "RequireDualStack", "SingleStack"], errs);
    }
    let mut invalid = false;
    for (i, ip) in all.items().enumerate() {
        if i == 0 && ip.str() == "None" {
            if all.len() > 1 {
                invalid = true;
                errs.push(all.invalid("'None' must be the first and only value"));
            }
            continue;
        }
        let before = errs.len();
        rules::new_ip_address(&ip, known, errs);
        invalid |= errs.len() != before;
    }
    if all.len() > 2 {
        errs.push(all.invalid("may only hold up to 2 values"));
    }
    if invalid {
        return;
    }
    let is_v6 = |ip: &str| ip.contains(':');
    let v6 = all.strings().into_iter().filter(|ip| is_v6(ip)).count();
    if all.len() > 1 && (v6 == 0 || v6 == all.len()) {
        errs.push(all.invalid("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in all.items().zip(families.strings()).enumerate() {
        if (family == "IPv4" && is_v6(ip.str())) || (family == "IPv6" && !is_v6(ip.str())) {
            errs.push(
                ip.invalid_str(format!("expected an {family} value as indicated by `ipFamilies[{i}]`")),
            );
        }
    }
}

fn node_ports(spec: &Node, errs: &mut ErrorList) {
    let list = || spec.at("ports").items();
    if spec.at("type").str() == "ClusterIP" {
        for port in list().map(|port| port.at("nodePort")).filter(|port| port.i64() != 0) {
            errs.push(port.forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    let mut taken = BTreeSet::new();
    for port in list().filter(|port| port.at("nodePort").i64() != 0) {
        if !taken.insert((port.at("protocol").str(), port.at("nodePort").i64())) {
            errs.push(port.at("nodePort").duplicate());
        }
    }
    let mut served = BTreeSet::new();
    for port in list() {
        let (protocol, number) = (port.at("protocol").str(), port.at("port").i64());
        if !served.insert((protocol, number)) {
            // The internal type's fields, of which only two are set.
            let key = internal::compact("ServicePort", &json!({"protocol": protocol, "port": number}));
            errs.push(Error::duplicate_internal(port.path(), &key, ""));
        }
    }
}

fn source_ranges(spec: &Node, annotations: &Node, errs: &mut ErrorList) {
    let only_balanced = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.at("loadBalancerSourceRanges");
    let annotation = annotations.key("service.beta.kubernetes.io/load-balancer-source-ranges");
    if !ranges.is_empty() {
        let at = ranges.reported_at(spec.at("LoadBalancerSourceRanges").path());
        if !is_balanced(spec) {
            errs.push(at.forbidden(only_balanced));
        }
        at.items().for_each(|range| check_range(range.str(), &range, errs));
    } else if annotation.is_set() {
        if !is_balanced(spec) {
            errs.push(annotation.forbidden(only_balanced));
        }
        let text = annotation.str().trim();
        let ranges = text.split(',').filter(|_| !text.is_empty());
        ranges.for_each(|range| check_range(range, &annotation, errs));
    }
}

fn check_range(range: &str, at: &Node, errs: &mut ErrorList) {
    let value = json!(range.trim());
    rules::cidr(&Node::new(Some(&value), at.path().clone()), errs);
}

fn load_balancer_class(spec: &Node, errs: &mut ErrorList) {
    let Some(class) = spec.at("loadBalancerClass").opt() else { return };
    if is_balanced(spec) {
        rules::formatted(&class, format::label_key, errs);
    } else {
        errs.push(class.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
}

fn traffic_policies(spec: &Node, errs: &mut ErrorList) {
    let (kind, external) = (spec.at("type").str(), spec.at("externalTrafficPolicy"));
    let accessible = ["LoadBalancer", "NodePort"].contains(&kind)
        || kind == "ClusterIP" && !spec.at("externalIPs").is_empty();
    if accessible {
        rules::required_one_of(&external, &["Cluster", "Local"], errs);
    } else if !external.is_empty() {
        errs.push(external.invalid_str("may only be set for externally-accessible services"));
    }
    let port = spec.at("healthCheckNodePort");
    if !needs_health_check(spec) {
        if port.i64() != 0 {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errs.push(port.invalid_i64(detail));
        }
    } else if port.i64() == 0 {
        errs.push(port.required(""));
    } else {
        rules::number(&port, format::port_number, errs);
    }
    let internal = spec.at("internalTrafficPolicy");
    if internal.is_set() {
        rules::one_of(&internal, &["Cluster", "Local"], errs);
    } else if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind) {
        errs.push(internal.required(""));
    }
    if let Some(distribution) = spec.at("trafficDistribution").opt() {
        rules::one_of(&distribution, &["PreferClose", "PreferSameZone", "PreferSameNode"], errs);
    }
}

fn cluster_ips_update(spec: &Node, was: &Node, errs: &mut ErrorList) {
    if is_external_name(spec) || is_external_name(was) || (is_headless(spec) && is_headless(was)) {
        return;
    }
    let (now, before) = (spec.at("clusterIPs"), was.at("clusterIPs"));
    let shown = || if now.is_set() { now.to_value() } else { json!(null) };
    let changed = |i: usize| Error::invalid(&now.path().index(i), shown(), "may not change once set");
    let (new_ips, old_ips) = (now.strings(), before.strings());
    if old_ips.len() == new_ips.len() {
        errs.extend((0..old_ips.len()).filter(|i| old_ips[*i] != new_ips[*i]).map(changed));
        return;
    }
    if new_ips.is_empty() {
        errs.push(Error::invalid(&now.path().index(0), shown(), "primary clusterIP can not be unset"));
    } else if !old_ips.is_empty() && old_ips[0] != new_ips[0] {
        errs.push(changed(0));
    }
    if old_ips.len() > new_ips.len() {
        releasing(spec, new_ips.len(), "clusterIP", errs);
    }
}

fn releasing(spec: &Node, left: usize, what: &str, errs: &mut ErrorList) {
    let policy = spec.at("ipFamilyPolicy");
    if left == 1 && policy.str() != "SingleStack" {
        errs.push(
            policy.invalid(format!("must be set to 'SingleStack' when releasing the secondary {what}")),
        );
    }
}

fn ip_families_update(spec: &Node, was: &Node, errs: &mut ErrorList) {
    if is_external_name(spec) || is_external_name(was) || is_headless(spec) || is_headless(was) {
        return;
    }
    let (now, before) = (spec.at("ipFamilies").strings(), was.at("ipFamilies").strings());
    let at = spec.at("ipFamilies");
    let error = |shown: &Node, detail: &str| Error::invalid(&at.path().index(0), shown.to_value(), detail);
    if before.len() == now.len() {
        let changed = before.iter().zip(&now).filter(|(a, b)| a != b).count();
        errs.extend((0..changed).map(|_| error(&at, "may not change once set")));
        return;
    }
    if before.len() > now.len() && spec.at("clusterIPs").is_empty() {
        errs.push(error(&at, "primary ipFamily can not be unset"));
    }
    if let (Some(a), Some(b)) = (before.first(), now.first())
        && a != b
    {
        errs.push(error(&spec.at("clusterIPs"), "may not change once set"));
    }
    if before.len() > now.len() {
        releasing(spec, now.len(), "ipFamily", errs);
    }
}

/// A changed status of a Service.
pub fn service_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let ingress = new.at("status").at("loadBalancer").at("ingress");
    if !is_balanced(&new.at("spec")) && !ingress.is_empty() {
        errs.push(ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return errs;
    }
    for point in ingress.items() {
        let (ip, mode, host) = (point.at("ip"), point.at("ipMode"), point.at("hostname"));
        if !ip.is_empty() {
            rules::ip_address(&ip, &mut errs);
        }
        match (mode.is_set(), ip.is_empty()) {
            (false, false) => errs.push(mode.required("must be specified when `ip` is set")),
            (true, true) => errs.push(mode.forbidden("may not be specified when `ip` is not set")),
            (true, false) => rules::one_of(&mode, &["Proxy", "VIP"], &mut errs),
            (false, true) => {}
        }
        if !host.is_empty() {
            rules::formatted(&host, format::dns1123_subdomain, &mut errs);
            if rules::parse_ip(host.str()).is_some() {
                errs.push(host.invalid_str("must be a DNS name, not an IP address"));
            }
        }
    }
    errs
}
