//! The endpoints of a Service: which pods, under which addresses and ports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EndpointAddress, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod;

/// The ports of a slice, ordered, so that equal sets are equal.
pub type Ports = Vec<EndpointPort>;

/// The address families a Service has slices for: `IPv4`, `IPv6`.
pub fn address_types(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if families.is_empty() { vec!["IPv4".to_string()] } else { families }
}

/// Whether the Service has no virtual address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The endpoints of the Service in one address family, grouped by their ports: pods may give one
/// port name different numbers.
pub fn desired<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    address_type: &str,
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<(Ports, Vec<Endpoint>)> {
    let mut groups: BTreeMap<String, (Ports, Vec<Endpoint>)> = BTreeMap::new();
    for p in pods.into_iter().filter(|p| !pod::is_terminal(p)) {
        let Some(address) = address(p, address_type) else { continue };
        let ports = ports(service, p);
        if ports.is_empty() && !is_headless(service) {
            continue;
        }
        let group = groups.entry(port_key(&ports)).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(service, p, address, &zone_of));
    }
    groups.into_values().collect()
}

/// A text by which sets of ports are told apart.
pub fn port_key(ports: &[EndpointPort]) -> String {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let number = port.port.unwrap_or(0);
            format!("{}/{}/{number}/{}", text(&port.name), text(&port.protocol), text(&port.app_protocol))
        })
        .collect();
    texts.sort();
    texts.join(",")
}

/// Everything about a pod that its endpoints depend on.
pub fn fingerprint(p: &Pod) -> impl PartialEq + use<'_> {
    let status = p.status.as_ref();
    (
        status.and_then(|status| status.pod_ips.as_ref()),
        status.and_then(|status| status.pod_ip.as_ref()),
        pod::is_ready(p),
        pod::is_terminal(p),
        pod::is_deleted(p),
        pod::node_name(p),
        p.metadata.labels.as_ref(),
        p.metadata.uid.as_ref(),
    )
}

fn address(p: &Pod, address_type: &str) -> Option<String> {
    let status = p.status.as_ref()?;
    let fits = |address: &&str| address.contains(':') == (address_type == "IPv6") && !address.is_empty();
    let several = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    several.chain(status.pod_ip.as_deref()).find(fits).map(str::to_string)
}

fn endpoint(
    service: &Service,
    p: &Pod,
    address: String,
    zone_of: impl Fn(&str) -> Option<String>,
) -> Endpoint {
    let publish_all =
        service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let (serving, terminating) = (pod::is_ready(p), pod::is_deleted(p));
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish_all || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, p),
        node_name: pod::node_name(p).map(str::to_string),
        target_ref: Some(target(p)),
        zone: pod::node_name(p).and_then(zone_of),
        ..Default::default()
    }
}

/// The pod as an address of an Endpoints object, if it has one of the family.
pub fn endpoint_address(service: &Service, p: &Pod, address_type: &str) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: address(p, address_type)?,
        hostname: hostname(service, p),
        node_name: pod::node_name(p).map(str::to_string),
        target_ref: Some(target(p)),
    })
}

/// The name under which the Service's domain knows the pod.
fn hostname(service: &Service, p: &Pod) -> Option<String> {
    let spec = p.spec.as_ref()?;
    let in_service_domain = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| !hostname.is_empty() && in_service_domain)
}

fn target(p: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_string()),
        namespace: p.metadata.namespace.clone(),
        name: p.metadata.name.clone(),
        uid: p.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The Service's ports as the pod has them. A name that no container of the pod has is left out.
fn ports(service: &Service, p: &Pod) -> Ports {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(port, p)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_string()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn protocol(protocol: Option<&str>) -> &str {
    protocol.unwrap_or("TCP")
}

/// The number of a Service's port in a pod, unless no container has a port of that name.
pub fn target_port(port: &ServicePort, p: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => named_port(p, name, protocol(port.protocol.as_deref())),
    }
}

/// The number of a named container port, also of sidecars.
fn named_port(p: &Pod, name: &str, wanted: &str) -> Option<i32> {
    let spec = p.spec.as_ref()?;
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some(name) && protocol(port.protocol.as_deref()) == wanted)
        .map(|port| port.container_port)
}
