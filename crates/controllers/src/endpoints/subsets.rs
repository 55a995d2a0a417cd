//! The subsets of an Endpoints object: which addresses have which ports, in one canonical form.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Pod, Service};

use crate::endpoint_slice::endpoints::{address_types, endpoint_address, is_headless, target_port};
use crate::pod;

/// The most addresses of an Endpoints object; the rest is left out (upstream's limit).
pub const MAX_ADDRESSES: usize = 1000;

type PortKey = (String, i32, String, String);
type AddressKey = (String, String);

/// The subsets that a Service's pods make.
pub fn desired<'a>(service: &Service, pods: impl IntoIterator<Item = &'a Pod>) -> Vec<EndpointSubset> {
    let spec = service.spec.as_ref();
    let publish_all = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let family = address_types(service).into_iter().next().unwrap_or_default();
    let mut subsets = Vec::new();
    for p in pods {
        if pod::is_terminal(p) || (pod::is_deleted(p) && !publish_all) {
            continue;
        }
        let Some(address) = endpoint_address(service, p, &family) else { continue };
        let ready = publish_all || pod::is_ready(p);
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        if ports.is_empty() && is_headless(service) {
            subsets.push(single(address, ready, None));
            continue;
        }
        for port in ports {
            let Some(number) = target_port(port, p) else { continue };
            let port = EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: number,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
                app_protocol: port.app_protocol.clone(),
            };
            subsets.push(single(address.clone(), ready, Some(port)));
        }
    }
    repack(&subsets)
}

fn single(address: EndpointAddress, ready: bool, port: Option<EndpointPort>) -> EndpointSubset {
    let (ready, not_ready) = if ready { (Some(vec![address]), None) } else { (None, Some(vec![address])) };
    EndpointSubset { addresses: ready, not_ready_addresses: not_ready, ports: port.map(|port| vec![port]) }
}

/// The same endpoints with as few subsets as possible, in a fixed order (upstream's `RepackSubsets`).
pub fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut by_port: BTreeMap<Option<PortKey>, BTreeMap<AddressKey, bool>> = BTreeMap::new();
    let mut ports: BTreeMap<PortKey, &EndpointPort> = BTreeMap::new();
    let mut addresses: BTreeMap<AddressKey, &EndpointAddress> = BTreeMap::new();
    for subset in subsets {
        let own = subset.ports.iter().flatten();
        let mut keys: Vec<Option<PortKey>> = Vec::new();
        for port in own {
            let key = port_key(port);
            ports.entry(key.clone()).or_insert(port);
            keys.push(Some(key));
        }
        if keys.is_empty() {
            keys.push(None);
        }
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in not_ready.chain(ready) {
            let key = address_key(address);
            addresses.entry(key.clone()).or_insert(address);
            for port in &keys {
                by_port.entry(port.clone()).or_default().insert(key.clone(), ready);
            }
        }
    }
    let mut by_addresses: BTreeMap<BTreeMap<AddressKey, bool>, Vec<Option<PortKey>>> = BTreeMap::new();
    for (port, addresses) in by_port {
        by_addresses.entry(addresses).or_default().push(port);
    }
    let subset = |(members, keys): (BTreeMap<AddressKey, bool>, Vec<Option<PortKey>>)| {
        let of = |wanted: bool| -> Option<Vec<EndpointAddress>> {
            let keys = members.iter().filter(|(_, ready)| **ready == wanted).map(|(key, _)| key);
            let found: Vec<_> = keys.filter_map(|key| addresses.get(key).copied().cloned()).collect();
            (!found.is_empty()).then_some(found)
        };
        let own: Vec<EndpointPort> =
            keys.iter().flatten().filter_map(|key| ports.get(key).copied().cloned()).collect();
        EndpointSubset {
            addresses: of(true),
            not_ready_addresses: of(false),
            ports: (!own.is_empty()).then_some(own),
        }
    };
    by_addresses.into_iter().map(subset).collect()
}

fn port_key(port: &EndpointPort) -> PortKey {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&port.name), port.port, text(&port.protocol), text(&port.app_protocol))
}

fn address_key(address: &EndpointAddress) -> AddressKey {
    let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone());
    (address.ip.clone(), uid.unwrap_or_default())
}

/// Cuts off what is more than [`MAX_ADDRESSES`], ready addresses last; says whether there was any.
pub fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let all: usize = ready + subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum::<usize>();
    if all <= MAX_ADDRESSES {
        return false;
    }
    let cut = |addresses: &mut Option<Vec<EndpointAddress>>, room: &mut usize| {
        if let Some(list) = addresses {
            list.truncate(*room);
            *room -= list.len();
            if list.is_empty() {
                *addresses = None;
            }
        }
    };
    let mut room = MAX_ADDRESSES;
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses, &mut room));
    subsets.iter_mut().for_each(|subset| cut(&mut subset.not_ready_addresses, &mut room));
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str) -> EndpointAddress {
        EndpointAddress { ip: ip.to_string(), ..Default::default() }
    }

    fn port(number: i32) -> EndpointPort {
        EndpointPort { port: number, protocol: Some("TCP".to_string()), ..Default::default() }
    }

    #[test]
    fn addresses_with_the_same_ports_share_a_subset() {
        let parts = [
            single(address("10.0.0.2"), true, Some(port(80))),
            single(address("10.0.0.1"), true, Some(port(80))),
            single(address("10.0.0.1"), true, Some(port(443))),
            single(address("10.0.0.2"), true, Some(port(443))),
            single(address("10.0.0.3"), false, Some(port(80))),
        ];
        let packed = repack(&parts);
        let shown: Vec<_> = packed
            .iter()
            .map(|subset| {
                let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
                    list.iter().flatten().map(|address| address.ip.clone()).collect()
                };
                let ports: Vec<i32> = subset.ports.iter().flatten().map(|port| port.port).collect();
                (ips(&subset.addresses), ips(&subset.not_ready_addresses), ports)
            })
            .collect();
        let own = |ips: &[&str]| ips.iter().map(|ip| (*ip).to_string()).collect::<Vec<_>>();
        assert_eq!(
            shown,
            [
                (own(&["10.0.0.1", "10.0.0.2"]), vec![], vec![443]),
                (own(&["10.0.0.1", "10.0.0.2"]), own(&["10.0.0.3"]), vec![80]),
            ]
        );
        assert_eq!(repack(&packed), packed);
    }

    #[test]
    fn too_many_addresses_lose_those_that_are_not_ready() {
        let list = |count: usize| Some((0..count).map(|n| address(&format!("10.0.{n}.1"))).collect());
        let subset = EndpointSubset { addresses: list(990), not_ready_addresses: list(20), ports: None };
        let mut subsets = vec![subset];
        assert!(truncate(&mut subsets));
        assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 990);
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap().len(), 10);
        assert!(!truncate(&mut subsets));
    }
}
