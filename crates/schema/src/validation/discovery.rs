//! EndpointSlices and leases.

use std::collections::BTreeSet;

use super::core::endpoints::reachable;
use super::{format, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// EndpointSlice.
pub fn endpoint_slice(object: &Node) -> ErrorList {
    let mut errs = slice_but_endpoints(object);
    endpoints(object, &mut errs);
    errs
}

/// A changed EndpointSlice: its type of addresses stays; endpoints that were wrong before may stay.
pub fn endpoint_slice_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = slice_but_endpoints(new);
    if new.at("endpoints").value() != old.at("endpoints").value() {
        endpoints(new, &mut errs);
    }
    if new.at("addressType").str() != old.at("addressType").str() {
        errs.push(new.at("addressType").invalid_str("field is immutable"));
    }
    errs
}

fn slice_but_endpoints(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    rules::required_one_of(&object.at("addressType"), &["FQDN", "IPv4", "IPv6"], &mut errs);
    let ports = object.at("ports");
    if ports.len() > 20000 {
        errs.push(ports.too_many(20000));
        return errs;
    }
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.is_empty() {
            rules::formatted(&name, format::dns1123_label, &mut errs);
        }
        if !names.insert(name.str()) {
            errs.push(name.duplicate());
        }
        if port.at("protocol").is_set() {
            rules::one_of(&port.at("protocol"), &["SCTP", "TCP", "UDP"], &mut errs);
        } else {
            errs.push(port.at("protocol").required(""));
        }
        if port.at("appProtocol").is_set() {
            rules::formatted(&port.at("appProtocol"), format::label_key, &mut errs);
        }
    }
    errs
}

fn endpoints(object: &Node, errs: &mut ErrorList) {
    let list = object.at("endpoints");
    if list.len() > 1000 {
        errs.push(list.too_many(1000));
        return;
    }
    for endpoint in list.items() {
        let addresses = endpoint.at("addresses");
        if addresses.is_empty() {
            errs.push(addresses.required("must contain at least 1 address"));
        } else if addresses.len() > 100 {
            errs.push(addresses.too_many(100));
        }
        for address in addresses.items() {
            self::address(&addresses, &address, object.at("addressType").str(), errs);
        }
        if endpoint.at("nodeName").is_set() {
            rules::named(&endpoint.at("nodeName"), format::name_is_subdomain, errs);
        }
        let topology = endpoint.at("deprecatedTopology");
        if topology.len() > 16 {
            errs.push(topology.too_many(16));
        }
        labels::labels(&topology, errs);
        if endpoint.at("hostname").is_set() {
            rules::formatted(&endpoint.at("hostname"), format::dns1123_label, errs);
        }
        hints(&endpoint.at("hints"), errs);
    }
}

fn address(list: &Node, address: &Node, kind: &str, errs: &mut ErrorList) {
    let before = errs.len();
    match kind {
        "IPv4" => rules::ip_address(address, errs),
        "IPv6" => rules::canonical_ip_address(address, errs),
        "FQDN" => return fully_qualified(address, errs),
        _ => return,
    }
    if errs.len() != before {
        return;
    }
    if address.str().contains(':') != (kind == "IPv6") {
        errs.push(list.invalid_as(address.str(), format!("must be an {kind} address")));
    }
    reachable(address, errs);
}

fn fully_qualified(node: &Node, errs: &mut ErrorList) {
    if !rules::not_empty(node, errs) {
        return;
    }
    let name = node.str().strip_suffix('.').unwrap_or(node.str());
    let wrong = format::dns1123_subdomain(name);
    if !wrong.is_empty() {
        errs.push(node.invalid_as(name, wrong.join(",")));
    } else if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errs.push(node.invalid_as(name, detail));
    } else if let Some(label) = name.split('.').find(|label| label.len() > 63) {
        errs.push(node.invalid_as(label, format::dns1123_label(label).join(",")));
    }
}

fn hints(hints: &Node, errs: &mut ErrorList) {
    let lists: [(&str, format::Rule); 2] =
        [("forZones", format::label_value), ("forNodes", format::dns1123_subdomain)];
    for (list, rule) in lists {
        let list = hints.at(list);
        if list.len() > 8 {
            errs.push(list.too_many(8));
            return;
        }
        let mut seen = BTreeSet::new();
        for name in list.items().map(|hint| hint.at("name")) {
            if !seen.insert(name.str()) {
                errs.push(name.duplicate());
            }
            rules::formatted(&name, rule, errs);
        }
    }
}

/// Lease.
pub fn lease(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    lease_spec(&object.at("spec"), &mut errs);
    errs
}

/// A changed Lease.
pub fn lease_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update_common(&new.at("metadata"), &old.at("metadata"), &mut errs);
    lease_spec(&new.at("spec"), &mut errs);
    errs
}

fn lease_spec(spec: &Node, errs: &mut ErrorList) {
    let (duration, transitions) = (spec.at("leaseDurationSeconds"), spec.at("leaseTransitions"));
    if duration.opt_i64().is_some_and(|seconds| seconds <= 0) {
        errs.push(duration.invalid("must be greater than 0"));
    }
    if transitions.i64() < 0 {
        errs.push(transitions.invalid("must be greater than or equal to 0"));
    }
    let strategy = spec.at("strategy");
    if strategy.is_set() && strategy.str() != "OldestEmulationVersion" && !strategy.str().contains('/') {
        errs.push(strategy.not_supported(&["OldestEmulationVersion"]));
    }
    if !spec.at("preferredHolder").is_empty() && strategy.is_empty() {
        errs.push(spec.at("preferredHolder").forbidden("may only be specified if `strategy` is defined"));
    }
}
