//! `ip()`, `isIP()`, `ip.isCanonical()` and what can be asked of an address.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base::gotext::quote;

use super::netip::{self, Zoned};
use super::{cost, opaque};
use crate::{Error, Function, Opaque, Overload, Type, Value};

/// An address, never with a zone and never an IPv4 address in the clothes of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip(pub IpAddr);

impl Ip {
    pub fn ty() -> Type {
        Type::Opaque(Arc::from("net.IP"), Arc::from([]))
    }

    /// Parses the text of an address; the error is upstream's.
    pub fn parse(text: &str) -> Result<Ip, Error> {
        let Zoned { addr, zone } = netip::parse_addr(text.as_bytes()).map_err(|why| {
            Error::new(format!("IP Address {} parse error during conversion from string: {why}", quote(text)))
        })?;
        if !zone.is_empty() {
            return Err(Error::new(format!("IP address {} with zone value is not allowed", quote(text))));
        }
        if is_mapped(addr) {
            return Err(mapped(text));
        }
        Ok(Ip(addr))
    }

    fn is_global_unicast(self) -> bool {
        let limited_broadcast = self.0 == IpAddr::V4(Ipv4Addr::BROADCAST);
        !self.0.is_unspecified()
            && !limited_broadcast
            && !self.0.is_loopback()
            && !self.0.is_multicast()
            && !self.is_link_local_unicast()
    }

    fn is_link_local_unicast(self) -> bool {
        match self.0 {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
    }

    fn is_link_local_multicast(self) -> bool {
        match self.0 {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }
    }
}

/// Whether the address is `::ffff:1.2.3.4`.
pub(super) fn is_mapped(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// The error for such an address.
pub(super) fn mapped(text: &str) -> Error {
    Error::new(format!("IPv4-mapped IPv6 address {} is not allowed", quote(text)))
}

impl Opaque for Ip {
    fn type_of(&self) -> Type {
        Ip::ty()
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        opaque::equal(self, other)
    }

    /// How many bytes the address has.
    fn size(&self) -> Option<u64> {
        Some(if self.0.is_ipv4() { 4 } else { 16 })
    }
}

pub(super) fn functions() -> Vec<Function> {
    let ip = Ip::ty;
    let ask = |name, id, call| {
        let overload = Overload::member(id, [ip()], Type::Bool, call);
        Function::new(name).overload(overload.cost(cost::estimate_nominal, cost::actual_nominal))
    };
    let parse = |overload: Overload| overload.cost(cost::estimate_parse, cost::actual_traverse);
    vec![
        Function::new("ip").overload(parse(Overload::global(
            "string_to_ip",
            [Type::String],
            ip(),
            from_string,
        ))),
        Function::new("isIP").overload(parse(Overload::global("is_ip", [Type::String], Type::Bool, is_ip))),
        Function::new("ip.isCanonical").overload(
            Overload::global("ip_is_canonical", [Type::String], Type::Bool, is_canonical)
                .cost(estimate_is_canonical, cost::actual_traverse_twice),
        ),
        Function::new("family").overload(
            Overload::member("ip_family", [ip()], Type::Int, family)
                .cost(cost::estimate_nominal, cost::actual_nominal),
        ),
        ask("isUnspecified", "ip_is_unspecified", |args| of(args, |ip| ip.0.is_unspecified())),
        ask("isLoopback", "ip_is_loopback", |args| of(args, |ip| ip.0.is_loopback())),
        ask("isLinkLocalMulticast", "ip_is_link_local_multicast", |args| {
            of(args, Ip::is_link_local_multicast)
        }),
        ask("isLinkLocalUnicast", "ip_is_link_local_unicast", |args| of(args, Ip::is_link_local_unicast)),
        ask("isGlobalUnicast", "ip_is_global_unicast", |args| of(args, Ip::is_global_unicast)),
        Function::new("string").overload(Overload::global("ip_to_string", [ip()], Type::String, to_string)),
    ]
}

fn of<'a>(args: &[Value<'a>], ask: fn(Ip) -> bool) -> Result<Value<'a>, Error> {
    receiver(args).map(|ip| Value::Bool(ask(ip)))
}

fn receiver(args: &[Value<'_>]) -> Result<Ip, Error> {
    args.first().and_then(|value| value.downcast::<Ip>().copied()).ok_or_else(Error::no_such_overload)
}

fn from_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::opaque(Ip::parse(opaque::text(args)?)?))
}

fn is_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(Ip::parse(opaque::text(args)?).is_ok()))
}

fn is_canonical<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = opaque::text(args)?;
    Ok(Value::Bool(Ip::parse(text)?.0.to_string() == text))
}

fn estimate_is_canonical(call: &crate::EstimateArgs<'_>) -> Option<crate::CallEstimate> {
    cost::only(call.size(call.args.first()?).multiply_by_cost_factor(2.0 * cost::STRING_TRAVERSAL))
}

fn family<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Int(if receiver(args)?.0.is_ipv4() { 4 } else { 6 }))
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::from(receiver(args)?.0.to_string()))
}
