//! Endpoints, and addresses that can be endpoints.

use std::net::IpAddr;

use super::super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// Endpoints.
pub fn endpoints(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    for subset in object.at("subsets").items() {
        let lists = [subset.at("addresses"), subset.at("notReadyAddresses")];
        if lists.iter().all(Node::is_empty) {
            errs.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        lists.iter().flat_map(Node::items).for_each(|a| address(&a, &mut errs));
        let several = subset.at("ports").len() > 1;
        subset.at("ports").items().for_each(|p| port(&p, several, &mut errs));
    }
    errs
}

/// Changed Endpoints; subsets that were wrong before may stay.
pub fn endpoints_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    if new.at("subsets").value() == old.at("subsets").value() {
        metadata::validate(&new.at("metadata"), format::name_is_subdomain, &mut errs);
    } else {
        errs.extend(endpoints(new));
    }
    errs
}

fn address(address: &Node, errs: &mut ErrorList) {
    rules::ip_address(&address.at("ip"), errs);
    if !address.at("hostname").is_empty() {
        rules::formatted(&address.at("hostname"), format::dns1123_label, errs);
    }
    if address.at("nodeName").is_set() {
        rules::named(&address.at("nodeName"), format::name_is_subdomain, errs);
    }
    reachable(&address.at("ip"), errs);
}

/// An address that other machines could reach.
pub fn reachable(node: &Node, errs: &mut ErrorList) {
    let Some((ip, _)) = rules::parse_ip(node.str()) else {
        errs.push(node.invalid_str("must be a valid IP address"));
        return;
    };
    if ip.is_unspecified() {
        errs.push(node.invalid_str(format!("may not be unspecified ({})", node.str())));
    }
    if ip.is_loopback() {
        errs.push(node.invalid_str("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errs.push(node.invalid_str("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if link_local_multicast {
        errs.push(node.invalid_str("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
    }
}

fn port(port: &Node, several: bool, errs: &mut ErrorList) {
    let name = port.at("name");
    if several && name.is_empty() {
        errs.push(name.required(""));
    } else if !name.is_empty() {
        rules::formatted(&name, format::dns1123_label, errs);
    }
    rules::number(&port.at("port"), format::port_number, errs);
    rules::required_one_of(&port.at("protocol"), &["SCTP", "TCP", "UDP"], errs);
    if port.at("appProtocol").is_set() {
        rules::formatted(&port.at("appProtocol"), format::label_key, errs);
    }
}
