//! The group `networking.k8s.io`.

use super::metadata::immutable;
use super::{format, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

/// NetworkPolicy.
pub fn network_policy(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    network_policy_spec(&object.at("spec"), &mut errs);
    errs
}

/// A changed NetworkPolicy.
pub fn network_policy_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    network_policy_spec(&new.at("spec"), &mut errs);
    errs
}

fn network_policy_spec(spec: &Node, errs: &mut ErrorList) {
    labels::selector(&spec.at("podSelector"), errs);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.at(direction).items() {
            rule.at("ports").items().for_each(|port| policy_port(&port, errs));
            rule.at(peers).items().for_each(|peer| policy_peer(&peer, errs));
        }
    }
    let types = spec.at("policyTypes");
    if types.len() > 2 {
        errs.push(types.invalid("may not specify more than two policyTypes"));
        return;
    }
    types.items().for_each(|kind| rules::one_of(&kind, &["Ingress", "Egress"], errs));
}

fn policy_port(rule: &Node, errs: &mut ErrorList) {
    let (port, end) = (rule.at("port"), rule.at("endPort"));
    if rule.at("protocol").is_set() {
        rules::one_of(&rule.at("protocol"), &["TCP", "UDP", "SCTP"], errs);
    }
    if !port.is_set() {
        if end.is_set() {
            errs.push(end.invalid("may not be specified when `port` is not specified"));
        }
    } else if port.opt_str().is_some() {
        if end.is_set() {
            errs.push(end.invalid("may not be specified when `port` is non-numeric"));
        }
        rules::formatted(&port, format::port_name, errs);
    } else {
        rules::number(&port, format::port_number, errs);
        if end.is_set() {
            if end.i64() < port.i64() {
                errs.push(end.invalid_as(port.i64(), "must be greater than or equal to `port`"));
            }
            rules::number(&end, format::port_number, errs);
        }
    }
}

fn policy_peer(peer: &Node, errs: &mut ErrorList) {
    let selectors = [peer.at("podSelector"), peer.at("namespaceSelector")];
    let block = peer.at("ipBlock");
    for selector in selectors.iter().filter(|selector| selector.is_set()) {
        labels::selector(selector, errs);
    }
    if block.is_set() {
        ip_block(&block, errs);
    }
    let selected = selectors.iter().any(Node::is_set);
    if !selected && !block.is_set() {
        errs.push(peer.required("must specify a peer"));
    } else if selected && block.is_set() {
        errs.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn ip_block(block: &Node, errs: &mut ErrorList) {
    let outer = block.at("cidr");
    if !rules::not_empty(&outer, errs) || !rules::cidr(&outer, errs) {
        return;
    }
    for except in block.at("except").items() {
        if rules::cidr(&except, errs) && !rules::is_strict_subset(except.str(), outer.str()) {
            errs.push(except.invalid_str("must be a strict subset of `cidr`"));
        }
    }
}

/// Ingress.
pub fn ingress(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    ingress_fields(object, &mut errs);
    let annotation = object.at("metadata").at("annotations").key("kubernetes.io/ingress.class");
    let class = object.at("spec").at("ingressClassName");
    if annotation.is_set() && class.is_set() && annotation.str() != class.str() {
        let at = Path::new("annotations").child("kubernetes.io/ingress.class");
        errs.push(Error::invalid(
            &at,
            annotation.str(),
            "must match `ingressClassName` when both are specified",
        ));
    }
    errs
}

/// A changed Ingress.
pub fn ingress_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    ingress_fields(new, &mut errs);
    errs
}

fn ingress_fields(object: &Node, errs: &mut ErrorList) {
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, errs);
    let spec = object.at("spec");
    if spec.at("rules").is_empty() && !spec.at("defaultBackend").is_set() {
        let rules = spec.at("rules").to_value();
        errs.push(spec.invalid_as(rules, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(backend) = spec.at("defaultBackend").opt() {
        ingress_backend(&backend, errs);
    }
    spec.at("rules").items().for_each(|rule| ingress_rule(&rule, errs));
    for tls in spec.at("tls").items() {
        tls.at("hosts").items().for_each(|host| host_name(&host, errs));
        if !tls.at("secretName").is_empty() {
            rules::named(&tls.at("secretName"), format::name_is_subdomain, errs);
        }
    }
    if let Some(class) = spec.at("ingressClassName").opt() {
        rules::named(&class, format::name_is_subdomain, errs);
    }
}

fn host_name(host: &Node, errs: &mut ErrorList) {
    if host.str().contains('*') {
        rules::formatted(host, format::wildcard_dns1123_subdomain, errs);
    } else {
        rules::formatted(host, format::dns1123_subdomain, errs);
    }
}

fn ingress_rule(rule: &Node, errs: &mut ErrorList) {
    let host = rule.at("host");
    if !host.is_empty() {
        if rules::parse_ip(host.str()).is_some() {
            errs.push(host.invalid_str("must be a DNS name, not an IP address"));
        }
        host_name(&host, errs);
    }
    let Some(http) = rule.at("http").opt() else { return };
    if http.at("paths").is_empty() {
        errs.push(http.at("paths").required(""));
    }
    http.at("paths").items().for_each(|path| ingress_path(&path, errs));
}

fn ingress_path(rule: &Node, errs: &mut ErrorList) {
    let (kind, path) = (rule.at("pathType"), rule.at("path"));
    if !kind.is_set() {
        errs.push(kind.required("pathType must be specified"));
        return;
    }
    match kind.str() {
        "Exact" | "Prefix" => {
            if !path.str().starts_with('/') {
                errs.push(path.invalid_str("must be an absolute path"));
            }
            for part in
                ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| path.str().contains(part))
            {
                errs.push(path.invalid_str(format!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].into_iter().filter(|end| path.str().ends_with(end)) {
                errs.push(path.invalid_str(format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.str().starts_with('/') {
                errs.push(path.invalid_str("must be an absolute path"));
            }
        }
        _ => errs.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    ingress_backend(&rule.at("backend"), errs);
}

fn ingress_backend(backend: &Node, errs: &mut ErrorList) {
    let (resource, service) = (backend.at("resource"), backend.at("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => errs.push(backend.invalid_as("", "cannot set both resource and service backends")),
        (true, false) => typed_reference(&resource, errs),
        (false, true) => {
            if rules::not_empty(&service.at("name"), errs) {
                rules::named(&service.at("name"), format::name_is_label, errs);
            }
            let (name, number) = (service.at("port").at("name"), service.at("port").at("number"));
            match (!name.is_empty(), number.i64() != 0) {
                (true, true) => errs.push(backend.invalid_as("", "cannot set both port name & port number")),
                (true, false) => rules::formatted(&name, format::port_name, errs),
                (false, true) => rules::number(&number, format::port_number, errs),
                (false, false) => errs.push(backend.required("port name or number is required")),
            }
        }
        (false, false) => errs.push(backend.invalid_as("", "resource or service backend is required")),
    }
}

fn typed_reference(reference: &Node, errs: &mut ErrorList) {
    if reference.at("apiGroup").is_set() {
        rules::formatted(&reference.at("apiGroup"), format::dns1123_subdomain, errs);
    }
    for part in ["kind", "name"] {
        if rules::not_empty(&reference.at(part), errs) {
            rules::formatted(&reference.at(part), format::path_segment, errs);
        }
    }
}

/// A changed status of an Ingress.
pub fn ingress_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    for point in new.at("status").at("loadBalancer").at("ingress").items() {
        if !point.at("ip").is_empty() {
            rules::ip_address(&point.at("ip"), &mut errs);
        }
        let host = point.at("hostname");
        if !host.is_empty() {
            rules::formatted(&host, format::dns1123_subdomain, &mut errs);
            if rules::parse_ip(host.str()).is_some() {
                errs.push(host.invalid_str("must be a DNS name, not an IP address"));
            }
        }
    }
    errs
}

/// IngressClass.
pub fn ingress_class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let controller = object.at("spec").at("controller");
    if controller.len() > 250 {
        errs.push(controller.too_long(250));
    }
    rules::domain_prefixed_path(&controller, &mut errs);
    let Some(parameters) = object.at("spec").at("parameters").opt() else { return errs };
    typed_reference(&parameters, &mut errs);
    let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
    match scope.opt_str() {
        None => errs.push(scope.required("")),
        Some("Namespace") if !namespace.is_set() => {
            errs.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        Some("Namespace") => rules::formatted(&namespace, format::dns1123_label, &mut errs),
        Some("Cluster") => {
            if namespace.is_set() {
                errs.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
            }
        }
        Some(_) => errs.push(scope.not_supported(&["Cluster", "Namespace"])),
    }
    errs
}

/// A changed IngressClass: its controller stays.
pub fn ingress_class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    if new.at("spec").at("controller").str() != old.at("spec").at("controller").str() {
        errs.push(new.at("spec").at("controller").invalid_str("field is immutable"));
    }
    errs.extend(ingress_class(new));
    errs
}

fn name_is_ip(name: &str, _prefix: bool) -> Vec<String> {
    let value = serde_json::json!(name);
    let mut errs = ErrorList::new();
    rules::canonical_ip_address(&Node::root(&value), &mut errs);
    errs.into_iter().map(|error| error.detail).collect()
}

/// IPAddress.
pub fn ip_address(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), name_is_ip, &mut errs);
    let parent = object.at("spec").at("parentRef");
    if !parent.is_set() {
        errs.push(parent.required(""));
        return errs;
    }
    if !parent.at("group").is_empty() {
        rules::formatted(&parent.at("group"), format::dns1123_subdomain, &mut errs);
    }
    for part in ["resource", "name"] {
        if rules::not_empty(&parent.at(part), &mut errs) {
            rules::formatted(&parent.at(part), format::path_segment, &mut errs);
        }
    }
    rules::formatted(&parent.at("namespace"), format::path_segment, &mut errs);
    errs
}

/// A changed IPAddress: its owner stays.
pub fn ip_address_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ip_address(new);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    immutable(&new.at("spec").at("parentRef"), &old.at("spec").at("parentRef"), &mut errs);
    errs
}

/// ServiceCIDR.
pub fn service_cidr(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    service_blocks(&object.at("spec"), &mut errs);
    errs
}

fn service_blocks(spec: &Node, errs: &mut ErrorList) {
    let blocks = spec.at("cidrs");
    if blocks.is_empty() {
        errs.push(blocks.required("at least one CIDR required"));
        return;
    }
    if blocks.len() > 2 {
        errs.push(blocks.invalid_as(spec.to_value(), "may only hold up to 2 values"));
        return;
    }
    blocks.items().for_each(|block| rules::canonical_cidr(&block, errs));
    let families: Vec<Option<bool>> =
        blocks.strings().into_iter().map(|b| rules::parse_cidr(b).map(|cidr| is_v4(cidr.address))).collect();
    if families.len() == 2 && families[0] == families[1] && families[0].is_some() {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errs.push(blocks.invalid(detail));
    }
}

/// Whether it is an IPv4 address, also one inside of IPv6, which Go does not tell apart.
fn is_v4(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(_) => true,
        std::net::IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    }
}

/// A changed ServiceCIDR: a second block may be added.
pub fn service_cidr_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let (blocks, before) = (new.at("spec").at("cidrs"), old.at("spec").at("cidrs").strings());
    let added = before.len() == 1 && blocks.len() == 2;
    if blocks.len() != before.len() && !added {
        errs.push(blocks.invalid("field is immutable"));
        return errs;
    }
    for (block, old) in blocks.items().zip(&before) {
        if block.str() != *old {
            errs.push(block.invalid_str("field is immutable"));
        }
    }
    if added {
        service_blocks(&new.at("spec"), &mut errs);
    }
    errs
}
