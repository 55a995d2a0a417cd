//! Addresses and node ports of services.
//!
//! What is taken follows from the services in the watch cache, plus what writes under way have
//! reserved; nothing else is stored, so nothing can leak.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use schema::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::{Attributes, Operation, Reservation};
use crate::call::Call;
use crate::object::meta;
use crate::status::ApiError;

const KEYS: &str = "/registry/services/";
/// Upstream's default range of node ports.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;
/// Explicit choices of the lower part are less likely to collide with drawn ones (KEP-3070, KEP-3668).
const PORT_BAND: i64 = 86;

/// A port as services take it: the same number may serve two protocols.
type PortKey = (i64, String);

/// What services hold.
#[derive(Default)]
struct Taken {
    /// By storage key of the service.
    services: BTreeMap<String, Holding>,
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<PortKey>,
    /// Held by writes that are not in the cache yet.
    reserved_addresses: BTreeSet<Ipv4Addr>,
    reserved_ports: BTreeSet<PortKey>,
}

#[derive(Default, Clone, PartialEq)]
struct Holding {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<PortKey>,
}

/// Hands out addresses and ports.
pub(crate) struct Allocator {
    base: u32,
    size: u32,
    taken: Mutex<Taken>,
}

impl Allocator {
    /// Over a range such as `10.96.0.0/16`.
    pub fn new(cidr: &str) -> Result<Self, String> {
        let bad = || format!("{cidr:?} is no IPv4 range such as 10.96.0.0/16");
        let (base, bits) = cidr.split_once('/').ok_or_else(bad)?;
        let base: Ipv4Addr = base.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=28).contains(bits)).ok_or_else(bad)?;
        let size = 1u32 << (32 - bits);
        Ok(Self { base: u32::from(base) & !(size - 1), size, taken: Mutex::default() })
    }

    /// The first address: the `kubernetes` service's.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        if !key.starts_with(KEYS) {
            return;
        }
        let holding = value
            .and_then(|value| serde_json::from_slice::<Value>(value).ok())
            .map(|service| Holding::of(&service));
        let mut taken = self.lock();
        if let Some(old) = taken.services.remove(key) {
            for address in &old.addresses {
                taken.addresses.remove(address);
            }
            for port in &old.ports {
                taken.ports.remove(port);
            }
        }
        if let Some(holding) = holding {
            taken.addresses.extend(&holding.addresses);
            taken.ports.extend(holding.ports.iter().cloned());
            taken.services.insert(key.to_owned(), holding);
        }
    }

    /// Forgets everything: the cache starts over.
    pub fn clear(&self) {
        let mut taken = self.lock();
        taken.services.clear();
        taken.addresses.clear();
        taken.ports.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset < self.size - 1
    }

    /// Reserves the address asked for.
    fn take_address(&self, address: Ipv4Addr) -> Result<(), &'static str> {
        if !self.contains(address) {
            return Err("the provided network does not match the current range");
        }
        let mut taken = self.lock();
        if taken.addresses.contains(&address) || !taken.reserved_addresses.insert(address) {
            return Err("provided IP is already allocated");
        }
        Ok(())
    }

    /// Reserves any address, from the upper part of the range first.
    fn draw_address(&self) -> Option<Ipv4Addr> {
        // KEP-3070: min(max(16, size / 16), 256) addresses are left to explicit choices.
        let band = (self.size / 16).clamp(16, 256).min(self.size / 2);
        let mut taken = self.lock();
        for (low, high) in [(band + 1, self.size - 1), (1, band + 1)] {
            let span = high - low;
            let start = base::rng::below(u64::from(span)) as u32;
            for step in 0..span {
                let address = Ipv4Addr::from(self.base + low + (start + step) % span);
                if !taken.addresses.contains(&address) && taken.reserved_addresses.insert(address) {
                    return Some(address);
                }
            }
        }
        None
    }

    fn take_port(&self, port: &PortKey, own: &[PortKey]) -> Result<(), String> {
        if !NODE_PORTS.contains(&port.0) {
            return Err(
                "provided port is not in the valid range. The range of valid ports is 30000-32767".to_owned()
            );
        }
        let mut taken = self.lock();
        let same_number = |(number, _): &&PortKey| *number == port.0;
        // A service may use one number for several protocols; two services may not share it.
        let foreign =
            |set: &BTreeSet<PortKey>| set.iter().filter(same_number).any(|held| !own.contains(held));
        if foreign(&taken.ports) || foreign(&taken.reserved_ports) || own.contains(port) {
            return Err("provided port is already allocated".to_owned());
        }
        taken.reserved_ports.insert(port.clone());
        Ok(())
    }

    fn draw_port(&self, protocol: &str) -> Option<i64> {
        let mut taken = self.lock();
        let (low, high) = (*NODE_PORTS.start(), *NODE_PORTS.end() + 1);
        for (low, high) in [(low + PORT_BAND, high), (low, low + PORT_BAND)] {
            let span = high - low;
            let start = base::rng::below(span.unsigned_abs()) as i64;
            for step in 0..span {
                let port = low + (start + step) % span;
                let used = |set: &BTreeSet<PortKey>| {
                    set.range((port, String::new())..(port + 1, String::new())).next().is_some()
                };
                if !used(&taken.ports) && !used(&taken.reserved_ports) {
                    taken.reserved_ports.insert((port, protocol.to_owned()));
                    return Some(port);
                }
            }
        }
        None
    }

    fn release(&self, holding: &Holding) {
        let mut taken = self.lock();
        for address in &holding.addresses {
            taken.reserved_addresses.remove(address);
        }
        for port in &holding.ports {
            taken.reserved_ports.remove(port);
        }
    }
}

impl Holding {
    fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        let addresses = spec["clusterIPs"].as_array().into_iter().flatten().chain(Some(&spec["clusterIP"]));
        let addresses: BTreeSet<Ipv4Addr> =
            addresses.filter_map(|text| text.as_str()?.parse().ok()).collect();
        let mut ports: Vec<PortKey> = spec["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|port| Some((port["nodePort"].as_i64().filter(|port| *port > 0)?, protocol(port))))
            .collect();
        if let Some(port) = spec["healthCheckNodePort"].as_i64().filter(|port| *port > 0) {
            ports.push((port, "TCP".to_owned()));
        }
        Self { addresses: addresses.into_iter().collect(), ports }
    }
}

fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}

/// Reserves what a new or changed service needs, and writes it into the service.
pub(super) fn allocate(
    attributes: &Attributes<'_>,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Reservation, ApiError> {
    let (call, operation) = (attributes.call, attributes.operation);
    let allocator = &call.server.services;
    let before = old.map(Holding::of).unwrap_or_default();
    let mut held = Holding::default();
    let result = fill(call, allocator, operation, service, &before, &mut held);
    let mut reservation = Reservation::default();
    let owner: Arc<Allocator> = allocator.clone();
    if result.is_err() || attributes.dry_run {
        owner.release(&held);
    } else {
        // The cache knows of the write by the time it is answered, so the reservation ends either way.
        reservation.when_done(move || owner.release(&held));
    }
    result.map(|()| reservation)
}

fn fill(
    call: &Call,
    allocator: &Allocator,
    operation: Operation,
    service: &mut Value,
    before: &Holding,
    held: &mut Holding,
) -> Result<(), ApiError> {
    let name = meta(service, "name").to_owned();
    let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    fill_address(call, allocator, &name, &mut service["spec"], before, held)?;
    if operation == Operation::Create || service["spec"].get("ipFamilies").is_none() {
        fill_families(&mut service["spec"]);
    }
    let wants_ports = kind == "NodePort"
        || (kind == "LoadBalancer"
            && service["spec"]["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true));
    fill_ports(call, allocator, &name, &mut service["spec"], before, held, wants_ports)?;
    fill_health_port(allocator, &mut service["spec"], before, held, &kind)
}

fn fill_address(
    call: &Call,
    allocator: &Allocator,
    name: &str,
    spec: &mut Value,
    before: &Holding,
    held: &mut Holding,
) -> Result<(), ApiError> {
    let path = Path::new("spec").child("clusterIPs");
    match spec["clusterIP"].as_str().unwrap_or_default() {
        "None" => {}
        "" => {
            let Some(address) = allocator.draw_address() else {
                return Err(ApiError::internal("failed to allocate a serviceIP: range is full"));
            };
            held.addresses.push(address);
            spec["clusterIP"] = address.to_string().into();
            spec["clusterIPs"] = json!([address.to_string()]);
        }
        text => {
            let shown = json!([text]);
            let Ok(address) = text.parse::<Ipv4Addr>() else {
                let error = Error::invalid(&path.index(0), shown, "IPv6 is not configured on this cluster");
                return Err(invalid(call, name, error));
            };
            if before.addresses.contains(&address) {
                return Ok(());
            }
            if let Err(why) = allocator.take_address(address) {
                let error = Error::invalid(&path, shown, format!("failed to allocate IP {address}: {why}"));
                return Err(invalid(call, name, error));
            }
            held.addresses.push(address);
        }
    }
    Ok(())
}

fn invalid(call: &Call, name: &str, error: Error) -> ApiError {
    let mut errors = ErrorList::new();
    errors.push(error);
    call.invalid(name, &errors)
}

fn fill_families(spec: &mut Value) {
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec["ipFamilyPolicy"].as_str().unwrap_or_default().is_empty() {
        let headless_without_selector =
            spec["clusterIP"] == "None" && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
        spec["ipFamilyPolicy"] =
            if headless_without_selector { "RequireDualStack" } else { "SingleStack" }.into();
        if headless_without_selector {
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
    }
}

fn fill_ports(
    call: &Call,
    allocator: &Allocator,
    name: &str,
    spec: &mut Value,
    before: &Holding,
    held: &mut Holding,
    draw: bool,
) -> Result<(), ApiError> {
    let path = Path::new("spec").child("ports");
    let Some(ports) = spec["ports"].as_array_mut() else { return Ok(()) };
    for (index, port) in ports.iter_mut().enumerate() {
        let protocol = protocol(port);
        let number = port["nodePort"].as_i64().unwrap_or(0);
        if number == 0 {
            if draw {
                let Some(number) = allocator.draw_port(&protocol) else {
                    return Err(ApiError::internal("failed to allocate a nodePort: range is full"));
                };
                held.ports.push((number, protocol));
                port["nodePort"] = number.into();
            }
            continue;
        }
        let key = (number, protocol);
        if before.ports.contains(&key) || !draw && !before.ports.is_empty() {
            continue;
        }
        let own: Vec<PortKey> = before.ports.iter().chain(&held.ports).cloned().collect();
        if let Err(why) = allocator.take_port(&key, &own) {
            return Err(invalid(
                call,
                name,
                Error::invalid(&path.index(index).child("nodePort"), number, why),
            ));
        }
        held.ports.push(key);
    }
    Ok(())
}

fn fill_health_port(
    allocator: &Allocator,
    spec: &mut Value,
    before: &Holding,
    held: &mut Holding,
    kind: &str,
) -> Result<(), ApiError> {
    if kind != "LoadBalancer" || spec["externalTrafficPolicy"] != "Local" {
        return Ok(());
    }
    let number = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    let key = (number, "TCP".to_owned());
    if number == 0 {
        let number = allocator
            .draw_port("TCP")
            .ok_or_else(|| ApiError::internal("failed to allocate a HealthCheck NodePort"))?;
        held.ports.push((number, "TCP".to_owned()));
        spec["healthCheckNodePort"] = number.into();
    } else if !before.ports.contains(&key) {
        let own: Vec<PortKey> = before.ports.iter().chain(&held.ports).cloned().collect();
        allocator.take_port(&key, &own).map_err(|why| {
            ApiError::internal(format!("failed to allocate requested HealthCheck NodePort {number}: {why}"))
        })?;
        held.ports.push(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_once() {
        let allocator = Allocator::new("10.96.0.0/16").unwrap();
        assert_eq!(allocator.first().to_string(), "10.96.0.1");
        let one: Ipv4Addr = "10.96.0.40".parse().unwrap();
        assert!(allocator.take_address(one).is_ok());
        assert!(allocator.take_address(one).is_err());
        assert!(allocator.take_address("10.96.0.0".parse().unwrap()).is_err());
        assert!(allocator.take_address("10.96.255.255".parse().unwrap()).is_err());
        let service =
            br#"{"metadata":{"name":"a"},"spec":{"clusterIP":"10.96.0.41","clusterIPs":["10.96.0.41"]}}"#;
        allocator.apply("/registry/services/d/a", Some(service));
        assert!(allocator.take_address("10.96.0.41".parse().unwrap()).is_err());
        allocator.apply("/registry/services/d/a", None);
        assert!(allocator.take_address("10.96.0.41".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_small_range_is_used_up_to_the_last_address() {
        let allocator = Allocator::new("10.0.0.0/28").unwrap();
        let drawn: BTreeSet<_> = std::iter::from_fn(|| allocator.draw_address()).collect();
        assert_eq!(drawn.len(), 14);
    }
}
