//! From a Service to an address, without any service proxy: this host may not route cluster addresses.

use serde_json::Value;

use crate::object::meta;
use crate::server::Inner;

/// Where to connect to for a port of a service: one of its ready endpoints, else its own address, else the
/// name it stands for. The errors are upstream's.
pub(crate) fn resolve(
    server: &Inner,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(String, u16), String> {
    let missing = || format!("service {name:?} not found");
    let registry = server.registry();
    let services = registry.resource("", "v1", "services").ok_or_else(missing)?;
    let service = server.cached(services, namespace, name).ok_or_else(missing)?.to_value();
    let spec = &service["spec"];
    match spec["type"].as_str().unwrap_or("ClusterIP") {
        "ExternalName" => {
            return Ok((spec["externalName"].as_str().unwrap_or_default().to_owned(), port));
        }
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let ports = spec["ports"].as_array();
    let chosen =
        ports.into_iter().flatten().find(|candidate| candidate["port"].as_u64() == Some(u64::from(port)));
    let chosen = chosen.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = chosen["name"].as_str().unwrap_or_default();
    let mut ends = ready_endpoints(server, namespace, name, port_name);
    if !ends.is_empty() {
        return Ok(ends.swap_remove(base::rng::below(ends.len() as u64) as usize));
    }
    match spec["clusterIP"].as_str().unwrap_or_default() {
        "None" => Err("cannot route to service with ClusterIP \"None\"".to_owned()),
        "" => Err(format!("no endpoints available for service {name:?}")),
        address => Ok((address.to_owned(), port)),
    }
}

/// Addresses of a service's endpoints that are ready, with their number for the port of that name.
pub(crate) fn ready_endpoints(
    server: &Inner,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Vec<(String, u16)> {
    let mut ends = Vec::new();
    let registry = server.registry();
    let Some(kind) = registry.resource("discovery.k8s.io", "v1", "endpointslices") else { return ends };
    let Some(slices) = server.cache_of(kind).resource(&kind.storage.dir) else { return ends };
    let objects = slices.snapshot(0).objects;
    let prefix = kind.prefix(Some(namespace));
    for slice in crate::cache::range(&objects, &prefix, None).map(|entry| entry.to_value()) {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != service {
            continue;
        }
        let named = |port: &&Value| port["name"].as_str().unwrap_or_default() == port_name;
        let port = slice["ports"].as_array().into_iter().flatten().find(named);
        let port = port.and_then(|port| port["port"].as_u64()).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] != false
                && let Some(address) = endpoint["addresses"][0].as_str()
            {
                ends.push((address.to_owned(), port));
            }
        }
    }
    if ends.is_empty() {
        ends = from_endpoints(server, namespace, service, port_name);
    }
    ends
}

/// The same from an Endpoints object, for services whose endpoints somebody wrote by hand.
fn from_endpoints(server: &Inner, namespace: &str, service: &str, port_name: &str) -> Vec<(String, u16)> {
    let registry = server.registry();
    let Some(kind) = registry.resource("", "v1", "endpoints") else { return Vec::new() };
    let Some(entry) = server.cached(kind, namespace, service) else { return Vec::new() };
    let endpoints = entry.to_value();
    debug_assert_eq!(meta(&endpoints, "name"), service);
    let mut ends = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let named = |port: &&Value| port["name"].as_str().unwrap_or_default() == port_name;
        let port = subset["ports"].as_array().into_iter().flatten().find(named);
        let port = port.and_then(|port| port["port"].as_u64()).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        for address in subset["addresses"].as_array().into_iter().flatten() {
            if let Some(ip) = address["ip"].as_str() {
                ends.push((ip.to_owned(), port));
            }
        }
    }
    ends
}
