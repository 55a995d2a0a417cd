//! Addresses and node ports of services.
//!
//! What is taken follows from the services in the watch cache, plus what writes under way have
//! reserved; nothing else is stored, so nothing can leak.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use schema::field::{Error, ErrorList, Path};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::service_addresses::{self as addresses, Range};
use super::service_ports::{self, Ports};
use super::{Attributes, Reservation};
use crate::call::Call;
use crate::object::meta;
use crate::server::Inner;
use crate::status::ApiError;

const KEYS: &str = "/registry/services/";
/// Upstream's default range of node ports.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;
/// Explicit choices of the lower part are less likely to collide with drawn ones (KEP-3070, KEP-3668).
const PORT_BAND: i64 = 86;

const TAKEN: &str = "provided IP is already allocated";
pub(super) const PORT_TAKEN: &str = "provided port is already allocated";

/// What services hold.
#[derive(Default)]
struct Taken {
    /// By storage key of the service.
    services: BTreeMap<String, Holding>,
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<i64>,
    /// Held by writes that are not in the cache yet.
    reserved_addresses: BTreeSet<Ipv4Addr>,
    reserved_ports: BTreeSet<i64>,
    /// Given up, and still claimed by an IPAddress.
    freed: Vec<Ipv4Addr>,
}

#[derive(Default, Clone, PartialEq)]
struct Holding {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<i64>,
}

/// Hands out addresses and ports.
pub(crate) struct Allocator {
    /// The cluster's own range.
    cidr: String,
    first: Ipv4Addr,
    taken: Mutex<Taken>,
    /// Wakes whoever takes [`Allocator::take_freed`].
    pub freed: Arc<Notify>,
}

impl Allocator {
    /// Over a range such as `10.96.0.0/16`.
    pub fn new(cidr: &str) -> Result<Self, String> {
        let range = Range::parse(cidr).filter(|range| (4..=1 << 24).contains(&range.size));
        let range = range.ok_or_else(|| format!("{cidr:?} is no IPv4 range such as 10.96.0.0/16"))?;
        Ok(Self {
            cidr: cidr.to_owned(),
            first: Ipv4Addr::from(range.base + 1),
            taken: Mutex::default(),
            freed: Arc::default(),
        })
    }

    /// The first address: the `kubernetes` service's.
    pub fn first(&self) -> Ipv4Addr {
        self.first
    }

    /// The cluster's own range.
    pub fn cidr(&self) -> &str {
        &self.cidr
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
        let mut free = Vec::new();
        if let Some(old) = taken.services.remove(key) {
            for address in &old.addresses {
                taken.addresses.remove(address);
            }
            for port in &old.ports {
                taken.ports.remove(port);
            }
            free = old.addresses;
        }
        if let Some(holding) = holding {
            taken.addresses.extend(&holding.addresses);
            taken.ports.extend(&holding.ports);
            taken.services.insert(key.to_owned(), holding);
        }
        free.retain(|address| !taken.addresses.contains(address));
        if !free.is_empty() {
            taken.freed.extend(free);
            self.freed.notify_one();
        }
    }

    /// The addresses that services have given up since the last call.
    pub fn take_freed(&self) -> Vec<Ipv4Addr> {
        std::mem::take(&mut self.lock().freed)
    }

    /// The storage key and address of every service that has one.
    pub fn held(&self) -> Vec<(String, Ipv4Addr)> {
        let taken = self.lock();
        let pairs = taken
            .services
            .iter()
            .flat_map(|(key, holding)| holding.addresses.iter().map(move |address| (key.clone(), *address)));
        pairs.collect()
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

    /// Whether a stored service has the address.
    pub fn is_held(&self, address: Ipv4Addr) -> bool {
        self.lock().addresses.contains(&address)
    }

    /// Whether a stored service has the address, or one that is being written.
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        let taken = self.lock();
        taken.addresses.contains(&address) || taken.reserved_addresses.contains(&address)
    }

    /// Reserves the address asked for.
    fn take_address(&self, ranges: &[Range], address: Ipv4Addr) -> Result<(), &'static str> {
        if !ranges.iter().any(|range| range.contains(address)) {
            return Err("the provided network does not match the current range");
        }
        let mut taken = self.lock();
        if taken.addresses.contains(&address) || !taken.reserved_addresses.insert(address) {
            return Err(TAKEN);
        }
        Ok(())
    }

    /// Reserves any address, from the upper part of each range first.
    fn draw_address(&self, ranges: &[Range]) -> Option<Ipv4Addr> {
        let mut taken = self.lock();
        for range in ranges.iter().filter(|range| range.size > 2) {
            // KEP-3070: min(max(16, size / 16), 256) addresses are left to explicit choices; none of small
            // ranges.
            let hosts = range.size - 2;
            let band = if hosts <= 16 { 0 } else { (hosts / 16).clamp(16, 256) };
            for (low, high) in [(band + 1, range.size - 1), (1, band + 1)] {
                let span = high.saturating_sub(low);
                if span == 0 {
                    continue;
                }
                let start = base::rng::below(u64::from(span)) as u32;
                for step in 0..span {
                    let address = Ipv4Addr::from(range.base + low + (start + step) % span);
                    if !taken.addresses.contains(&address) && taken.reserved_addresses.insert(address) {
                        return Some(address);
                    }
                }
            }
        }
        None
    }

    /// Whether some service has the port.
    pub(super) fn has_port(&self, port: i64) -> bool {
        let taken = self.lock();
        taken.ports.contains(&port) || taken.reserved_ports.contains(&port)
    }

    /// Reserves the port asked for.
    pub(super) fn take_port(&self, port: i64) -> Result<(), &'static str> {
        if !NODE_PORTS.contains(&port) {
            return Err("provided port is not in the valid range. The range of valid ports is 30000-32767");
        }
        let mut taken = self.lock();
        if taken.ports.contains(&port) || !taken.reserved_ports.insert(port) {
            return Err(PORT_TAKEN);
        }
        Ok(())
    }

    /// Reserves any port.
    pub(super) fn draw_port(&self) -> Option<i64> {
        let mut taken = self.lock();
        let (low, high) = (*NODE_PORTS.start(), *NODE_PORTS.end() + 1);
        for (low, high) in [(low + PORT_BAND, high), (low, low + PORT_BAND)] {
            let span = high - low;
            let start = base::rng::below(span.unsigned_abs()) as i64;
            for step in 0..span {
                let port = low + (start + step) % span;
                if !taken.ports.contains(&port) && taken.reserved_ports.insert(port) {
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
        let listed = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
        let ports: BTreeSet<i64> = listed
            .chain(Some(&spec["healthCheckNodePort"]))
            .filter_map(|port| port.as_i64().filter(|port| *port > 0))
            .collect();
        Self { addresses: addresses.into_iter().collect(), ports: ports.into_iter().collect() }
    }
}

/// The addresses that a service has.
pub(super) fn addresses_of(service: &Value) -> Vec<Ipv4Addr> {
    Holding::of(service).addresses
}

/// Reserves what a new or changed service needs, and writes it into the service. Fields that contradict
/// each other are refused here already, before validation looks at the rest.
pub(super) async fn allocate(
    attributes: &Attributes<'_>,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Reservation, ApiError> {
    let call = attributes.call;
    // Dropped, it gives back whatever has been reserved by then.
    let mut held = Held { server: call.server.clone(), holding: Holding::default() };
    let name = meta(service, "name").to_owned();
    addresses::families(service, old).map_err(|errors| call.invalid(&name, &errors))?;
    if addresses::needs_address(service, old) {
        fill_address(attributes, &name, &mut service["spec"], &mut held.holding).await?;
    }
    let mut ports = Ports::new(&call.server.services, attributes.dry_run, &mut held.holding.ports);
    service_ports::allocate(&mut ports, &mut service["spec"], old.map(|old| &old["spec"])).map_err(
        |refusal| match refusal {
            service_ports::Refusal::Field(error) => invalid(call, &name, error),
            service_ports::Refusal::Internal(error) => ApiError::internal(error),
            service_ports::Refusal::Plain(error) => {
                ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(error) }
            }
        },
    )?;
    let mut reservation = Reservation::default();
    if !attributes.dry_run {
        // The cache knows of the write by the time it is answered, so the reservation ends either way.
        reservation.when_done(move || drop(held));
    }
    Ok(reservation)
}

/// What is reserved for one write.
struct Held {
    server: Arc<Inner>,
    holding: Holding,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.server.services.release(&self.holding);
        let lost: Vec<Ipv4Addr> = std::mem::take(&mut self.holding.addresses)
            .into_iter()
            .filter(|address| !self.server.services.is_taken(*address))
            .collect();
        if !lost.is_empty() {
            tokio::spawn(addresses::release(self.server.clone(), lost));
        }
    }
}

async fn fill_address(
    attributes: &Attributes<'_>,
    name: &str,
    spec: &mut Value,
    held: &mut Holding,
) -> Result<(), ApiError> {
    let (call, dry_run) = (attributes.call, attributes.dry_run);
    let allocator = &call.server.services;
    let ranges = addresses::ranges(call);
    let text = spec["clusterIPs"][0].as_str().unwrap_or_default().to_owned();
    if text.is_empty() {
        let address = match ranges.first() {
            // Upstream's dry run does not look for an address either.
            Some(range) if dry_run => Ipv4Addr::from(range.base),
            _ => draw_address(call, name, &ranges, held).await?,
        };
        spec["clusterIP"] = address.to_string().into();
        spec["clusterIPs"] = json!([address.to_string()]);
        return Ok(());
    }
    // Validation has seen to that.
    let Ok(address) = text.parse::<Ipv4Addr>() else { return Ok(()) };
    let taken = if dry_run {
        match ranges.first() {
            Some(range) if range.contains(address) => Ok(()),
            Some(range) => Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            )),
            None => Err("allocator not ready".to_owned()),
        }
    } else {
        match allocator.take_address(&ranges, address) {
            Ok(()) => {
                held.addresses.push(address);
                match addresses::claim(&call.server, address, &call.info.namespace, name).await? {
                    true => Ok(()),
                    false => Err(TAKEN.to_owned()),
                }
            }
            Err(why) => Err(why.to_owned()),
        }
    };
    taken.map_err(|why| {
        let path = Path::new("spec").child("clusterIPs");
        let shown = spec["clusterIPs"].clone();
        invalid(call, name, Error::invalid(&path, shown, format!("failed to allocate IP {address}: {why}")))
    })
}

async fn draw_address(
    call: &Call,
    name: &str,
    ranges: &[Range],
    held: &mut Holding,
) -> Result<Ipv4Addr, ApiError> {
    loop {
        let Some(address) = call.server.services.draw_address(ranges) else {
            let name = schema::gotext::quote(name);
            return Err(ApiError::internal(format!(
                "failed to allocate a serviceIP for Service {name}: range is full"
            )));
        };
        // Given back at the end only, so that it is not drawn again.
        held.addresses.push(address);
        if addresses::claim(&call.server, address, &call.info.namespace, name).await? {
            return Ok(address);
        }
    }
}

fn invalid(call: &Call, name: &str, error: Error) -> ApiError {
    let mut errors = ErrorList::new();
    errors.push(error);
    call.invalid(name, &errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_once() {
        let allocator = Allocator::new("10.96.0.0/16").unwrap();
        let ranges = [Range::parse("10.96.0.0/16").unwrap()];
        assert_eq!(allocator.first().to_string(), "10.96.0.1");
        let take = |text: &str| allocator.take_address(&ranges, text.parse().unwrap());
        assert!(take("10.96.0.40").is_ok());
        assert!(take("10.96.0.40").is_err());
        assert!(take("10.96.0.0").is_err());
        assert!(take("10.96.255.255").is_err());
        let service =
            br#"{"metadata":{"name":"a"},"spec":{"clusterIP":"10.96.0.41","clusterIPs":["10.96.0.41"]}}"#;
        allocator.apply("/registry/services/d/a", Some(service));
        assert!(take("10.96.0.41").is_err());
        allocator.apply("/registry/services/d/a", None);
        assert_eq!(allocator.take_freed().len(), 1);
        assert!(take("10.96.0.41").is_ok());
    }

    #[test]
    fn small_ranges_are_used_up_to_the_last_address() {
        let allocator = Allocator::new("10.0.0.0/28").unwrap();
        let ranges = [Range::parse("10.0.0.0/28").unwrap(), Range::parse("10.0.1.0/26").unwrap()];
        let drawn: BTreeSet<_> = std::iter::from_fn(|| allocator.draw_address(&ranges)).collect();
        assert_eq!(drawn.len(), 14 + 62);
    }
}
