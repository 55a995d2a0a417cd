//! What the slices of a hand-made Endpoints object look like: one slice per set of ports and address family.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::names;
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoint_slice::endpoints::{Ports, port_key};
use crate::endpoint_slice::plan::{MANAGED_BY, Plan};
use crate::endpoints::subsets::{MAX_ADDRESSES, repack};
use crate::owner;

/// The value of [`MANAGED_BY`] on mirrored slices, the same as upstream's.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say something about the Endpoints object alone.
const NOT_MIRRORED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// Whether an object asks to be mirrored.
pub fn is_mirrored(endpoints: &Endpoints) -> bool {
    let has = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned()
    };
    has(&endpoints.metadata.labels, SKIP).as_deref() != Some("true")
        && has(&endpoints.metadata.annotations, LEADER).is_none()
}

/// The writes that bring the slices there are in line.
pub fn plan(endpoints: &Endpoints, existing: Vec<Arc<EndpointSlice>>) -> Plan {
    let mut known: BTreeMap<(String, String), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let ports = port_key(slice.ports.as_deref().unwrap_or_default());
        known.entry((slice.address_type.clone(), ports)).or_default().push(slice);
    }
    let mut plan = Plan::default();
    for ((address_type, ports_key), (ports, wanted)) in desired(endpoints) {
        let mut slices = known.remove(&(address_type.clone(), ports_key)).unwrap_or_default().into_iter();
        let slice = slice(endpoints, &address_type, ports, wanted);
        match slices.next() {
            Some(current) if is_current(&current, &slice) => {}
            Some(current) => {
                let metadata = ObjectMeta {
                    labels: slice.metadata.labels,
                    annotations: slice.metadata.annotations,
                    owner_references: slice.metadata.owner_references,
                    ..current.metadata.clone()
                };
                plan.update.push(EndpointSlice { metadata, ..slice });
            }
            None => plan.create.push(slice),
        }
        plan.delete.extend(slices);
    }
    plan.delete.extend(known.into_values().flatten());
    plan
}

type Desired = BTreeMap<(String, String), (Ports, Vec<Endpoint>)>;

fn desired(endpoints: &Endpoints) -> Desired {
    let mut desired = Desired::new();
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Ports = subset
            .ports
            .into_iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.unwrap_or_else(|| "TCP".to_string())),
                app_protocol: port.app_protocol,
            })
            .collect();
        let key = port_key(&ports);
        let ready = subset.addresses.into_iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.into_iter().flatten().map(|address| (address, false));
        let all = ready.chain(not_ready).filter_map(|(address, ready)| endpoint(address, ready));
        for (address_type, endpoint) in all.take(MAX_ADDRESSES) {
            let entry = desired.entry((address_type.to_string(), key.clone()));
            entry.or_insert_with(|| (ports.clone(), Vec::new())).1.push(endpoint);
        }
    }
    desired
}

/// An address as an endpoint, with its family; nothing if it is no address.
fn endpoint(address: EndpointAddress, ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip: IpAddr = address.ip.parse().ok()?;
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name,
        target_ref: address.target_ref,
        ..Endpoint::default()
    };
    Some((if ip.is_ipv4() { "IPv4" } else { "IPv6" }, endpoint))
}

fn slice(endpoints: &Endpoints, address_type: &str, ports: Ports, wanted: Vec<Endpoint>) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(names::SERVICE_NAME.to_string(), name.clone());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owner::reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_string(),
        endpoints: Some(wanted),
        ports: Some(ports),
    }
}

fn is_current(current: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    current.metadata.labels == wanted.metadata.labels
        && current.metadata.annotations == wanted.metadata.annotations
        && current.metadata.owner_references == wanted.metadata.owner_references
        && current.endpoints == wanted.endpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EndpointPort as Port, EndpointSubset};

    fn endpoints(ips: &[&str]) -> Endpoints {
        let address = |ip: &&str| EndpointAddress { ip: (*ip).to_string(), ..Default::default() };
        Endpoints {
            metadata: ObjectMeta { name: Some("db".into()), uid: Some("u".into()), ..Default::default() },
            subsets: Some(vec![EndpointSubset {
                addresses: Some(ips.iter().map(address).collect()),
                ports: Some(vec![Port { port: 5432, ..Default::default() }]),
                ..Default::default()
            }]),
        }
    }

    #[test]
    fn each_family_gets_a_slice_that_follows_the_addresses() {
        let first = plan(&endpoints(&["10.0.0.1", "fd00::1", "nonsense"]), Vec::new());
        let families: Vec<_> = first.create.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!(families, ["IPv4", "IPv6"]);
        let slices: Vec<_> = first.create.into_iter().map(Arc::new).collect();
        let same = plan(&endpoints(&["10.0.0.1", "fd00::1"]), slices.clone());
        assert!(same.create.is_empty() && same.update.is_empty() && same.delete.is_empty());
        let fewer = plan(&endpoints(&["10.0.0.2"]), slices);
        assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 1, 1));
    }

    #[test]
    fn some_objects_ask_not_to_be_mirrored() {
        let mut object = endpoints(&["10.0.0.1"]);
        assert!(is_mirrored(&object));
        object.metadata.labels = Some([(SKIP.to_string(), "true".to_string())].into());
        assert!(!is_mirrored(&object));
    }
}
