//! Rules that many kinds share, in the words of validation.

use std::collections::BTreeSet;

use api::quantity::Quantity;

use super::format::{self, NameRule};
use crate::cursor::Node;
use crate::field::ErrorList;

/// The text has a format; each violation is one error.
pub fn formatted(node: &Node, rule: fn(&str) -> Vec<String>, errs: &mut ErrorList) {
    errs.extend(rule(node.str()).into_iter().map(|m| node.invalid_str(m)));
}

/// The text is a name by a kind's rule.
pub fn named(node: &Node, rule: NameRule, errs: &mut ErrorList) {
    errs.extend(rule(node.str(), false).into_iter().map(|m| node.invalid_str(m)));
}

/// There is a text.
pub fn not_empty(node: &Node, errs: &mut ErrorList) -> bool {
    if node.is_empty() {
        errs.push(node.required(""));
    }
    !node.is_empty()
}

/// The text is one of some.
pub fn one_of(node: &Node, supported: &[&str], errs: &mut ErrorList) {
    if !supported.contains(&node.str()) {
        errs.push(node.not_supported(supported));
    }
}

/// There is a text, and it is one of some.
pub fn required_one_of(node: &Node, supported: &[&str], errs: &mut ErrorList) {
    if not_empty(node, errs) {
        one_of(node, supported, errs);
    }
}

/// The number is 0 or more.
pub fn nonnegative(node: &Node, errs: &mut ErrorList) {
    if node.i64() < 0 {
        errs.push(node.invalid_i64("must be greater than or equal to 0"));
    }
}

/// The number is 1 or more.
pub fn positive(node: &Node, errs: &mut ErrorList) {
    if node.i64() <= 0 {
        errs.push(node.invalid_i64("must be greater than zero"));
    }
}

/// The number satisfies a rule.
pub fn number(node: &Node, rule: fn(i64) -> Vec<String>, errs: &mut ErrorList) {
    errs.extend(rule(node.i64()).into_iter().map(|m| node.invalid_i64(m)));
}

/// If there is a file mode, it is one.
pub fn file_mode(node: &Node, errs: &mut ErrorList) {
    if !(0..=0o777).contains(&node.i64()) {
        errs.push(node.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

/// A path that stays below where it starts.
pub fn descending_path(node: &Node, errs: &mut ErrorList) {
    if node.str().starts_with('/') {
        errs.push(node.invalid_str("must be a relative path"));
    }
    no_backsteps(node, errs);
}

/// A descending path that does not look like the kubelet's own `..data`.
pub fn unreserved_path(node: &Node, errs: &mut ErrorList) {
    descending_path(node, errs);
    if node.str().starts_with("..") && !node.str().starts_with("../") {
        errs.push(node.invalid_str("must not start with '..'"));
    }
}

/// A path without `..`.
pub fn no_backsteps(node: &Node, errs: &mut ErrorList) {
    if node.str().split('/').any(|part| part == "..") {
        errs.push(node.invalid_str("must not contain '..'"));
    }
}

/// A port by number or by name.
pub fn port_number_or_name(node: &Node, errs: &mut ErrorList) {
    match node.opt_str() {
        Some(_) => formatted(node, format::port_name, errs),
        None => number(node, format::port_number, errs),
    }
}

/// An IP address in a field from before strict parsing.
pub fn ip_address(node: &Node, errs: &mut ErrorList) {
    match parse_ip(node.str()) {
        Some((_, Strictness::Strict)) => {}
        Some((_, Strictness::LeadingZeros)) => errs.push(node.invalid_str("must not have leading 0s")),
        Some((_, Strictness::Mapped)) => {
            errs.push(node.invalid_str("must not be an IPv4-mapped IPv6 address"));
        }
        None => {
            errs.push(node.invalid_str("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
        }
    }
}

/// An IP address in a field from before strict parsing, unless it is one of those that were there already.
pub fn new_ip_address(node: &Node, known: &BTreeSet<&str>, errs: &mut ErrorList) {
    if !known.contains(node.str()) {
        ip_address(node, errs);
    }
}

/// An IP address in its one canonical form.
pub fn canonical_ip_address(node: &Node, errs: &mut ErrorList) {
    let before = errs.len();
    ip_address(node, errs);
    if let (true, Some((ip, _))) = (errs.len() == before, parse_ip(node.str()))
        && ip.to_string() != node.str()
    {
        errs.push(node.invalid_str(format!("must be in canonical form (\"{ip}\")")));
    }
}

/// A CIDR block in a field from before strict parsing; says whether it is one at all.
pub fn cidr(node: &Node, errs: &mut ErrorList) -> bool {
    let Some((address, prefix)) =
        node.str().split_once('/').and_then(|(ip, len)| Some((parse_ip(ip)?, parse_prefix(ip, len)?)))
    else {
        errs.push(node.invalid_str("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        return false;
    };
    let (ip, strictness) = address;
    let zeros =
        strictness == Strictness::LeadingZeros || node.str().contains("/0") && !node.str().ends_with("/0");
    if zeros {
        errs.push(node.invalid_str("must not have leading 0s in IP or prefix length"));
    } else if strictness == Strictness::Mapped {
        errs.push(node.invalid_str("must not have an IPv4-mapped IPv6 address"));
    } else if host_bits(ip, prefix) != 0 {
        errs.push(node.invalid_str("must not have bits set beyond the prefix length"));
    }
    true
}

/// A CIDR block in its one canonical form.
pub fn canonical_cidr(node: &Node, errs: &mut ErrorList) {
    let before = errs.len();
    if !cidr(node, errs) || errs.len() != before {
        return;
    }
    if let Some((ip, prefix)) = node.str().split_once('/') {
        let canonical = parse_ip(ip).map(|(ip, _)| format!("{ip}/{prefix}")).unwrap_or_default();
        if canonical != node.str() {
            errs.push(node.invalid_str(format!("must be in canonical form (\"{canonical}\")")));
        }
    }
}

/// A CIDR block as it was written.
pub struct Cidr {
    /// The address, with bits behind the prefix.
    pub address: std::net::IpAddr,
    /// How many bits name the network.
    pub prefix: u32,
    /// How well the address is formed.
    pub strictness: Strictness,
}

impl Cidr {
    /// Whether bits behind the prefix are set.
    pub fn has_host_bits(&self) -> bool {
        host_bits(self.address, self.prefix) != 0
    }

    /// The network in canonical form.
    pub fn network(&self) -> String {
        let host = host_bits(self.address, self.prefix);
        let network: std::net::IpAddr = match self.address {
            std::net::IpAddr::V4(ip) => {
                (u32::from(ip) & !u32::try_from(host).unwrap_or(0)).to_be_bytes().into()
            }
            std::net::IpAddr::V6(ip) => (u128::from(ip) & !host).to_be_bytes().into(),
        };
        format!("{network}/{}", self.prefix)
    }

    /// The network of this one address.
    pub fn single(&self) -> String {
        format!("{}/{}", self.address, if self.address.is_ipv6() { 128 } else { 32 })
    }
}

/// Parses as sloppily as Go once did.
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    let (ip, length) = text.split_once('/')?;
    let (address, strictness) = parse_ip(ip)?;
    Some(Cidr { address, prefix: parse_prefix(ip, length)?, strictness })
}

fn parse_prefix(ip: &str, length: &str) -> Option<u32> {
    let max = if ip.contains(':') { 128 } else { 32 };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    length.parse().ok().filter(|n| digits && *n <= max)
}

fn host_bits(ip: std::net::IpAddr, prefix: u32) -> u128 {
    match ip {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip) & u32::MAX.checked_shr(prefix).unwrap_or(0)),
        std::net::IpAddr::V6(ip) => u128::from(ip) & u128::MAX.checked_shr(prefix).unwrap_or(0),
    }
}

/// How well an address is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// As it should be.
    Strict,
    /// An IPv4 address with zeros before its numbers.
    LeadingZeros,
    /// An IPv4 address inside of IPv6.
    Mapped,
}

/// Parses as sloppily as Go once did, and says how sloppily it had to.
pub fn parse_ip(text: &str) -> Option<(std::net::IpAddr, Strictness)> {
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        let mapped = matches!(ip, std::net::IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        return Some((ip, if mapped { Strictness::Mapped } else { Strictness::Strict }));
    }
    let stripped: Vec<&str> = text.split('.').map(|part| part.trim_start_matches('0')).collect();
    let plain: Vec<&str> = stripped.iter().map(|part| if part.is_empty() { "0" } else { part }).collect();
    let digits =
        text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.split('.').all(|p| !p.is_empty());
    let ip = plain.join(".").parse::<std::net::Ipv4Addr>().ok().filter(|_| digits)?;
    Some((ip.into(), Strictness::LeadingZeros))
}

/// The quantity in a field; zero if there is none.
pub fn quantity(node: &Node) -> Quantity {
    node.opt_str().and_then(|text| Quantity::parse(text).ok()).unwrap_or(Quantity::ZERO)
}

/// The quantity is not below zero.
pub fn nonnegative_quantity(node: &Node, errs: &mut ErrorList) {
    let quantity = quantity(node);
    if quantity.is_negative() {
        errs.push(node.invalid_as(quantity.to_string(), "must be greater than or equal to 0"));
    }
}

/// The quantity is above zero.
pub fn positive_quantity(node: &Node, errs: &mut ErrorList) {
    let quantity = quantity(node);
    if quantity <= Quantity::ZERO {
        errs.push(node.invalid_as(quantity.to_string(), "must be greater than zero"));
    }
}

/// Each of the nodes appears once.
pub fn unique<'a>(nodes: impl Iterator<Item = Node<'a>>, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for node in nodes {
        if !seen.insert(node.str()) {
            errs.push(node.duplicate());
        }
    }
}

/// A number that is not negative, or a percentage.
pub fn positive_int_or_percent(node: &Node, errs: &mut ErrorList) {
    match node.opt_str() {
        Some(_) => formatted(node, format::percent, errs),
        None => nonnegative(node, errs),
    }
}

/// A percentage is at most 100 %.
pub fn at_most_100_percent(node: &Node, errs: &mut ErrorList) {
    if percent(node).is_some_and(|percent| percent > 100) {
        errs.push(node.invalid("must not be greater than 100%"));
    }
}

fn percent(node: &Node) -> Option<i64> {
    node.opt_str().filter(|text| format::percent(text).is_empty())?.strip_suffix('%')?.parse().ok()
}

/// The number, whether of things or of percent.
pub fn int_or_percent(node: &Node) -> i64 {
    match node.opt_str() {
        Some(text) => percent(node).unwrap_or_else(|| text.parse().unwrap_or(0)),
        None => node.i64(),
    }
}

/// If there is a number, it is 0 or more.
pub fn nonnegative_fields(holder: &Node, fields: &[&'static str], errs: &mut ErrorList) {
    for field in fields {
        nonnegative(&holder.at(field), errs);
    }
}

/// A domain, a slash and a path: `acme.io/foo`.
pub fn domain_prefixed_path(node: &Node, errs: &mut ErrorList) {
    if !not_empty(node, errs) {
        return;
    }
    match node.str().split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            errs.extend(format::dns1123_subdomain(host).into_iter().map(|m| node.invalid_as(host, m)));
            if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
                let regex = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
                errs.push(node.invalid_as(path, format::regex_error("Invalid path", regex, &[])));
            }
        }
        _ => errs.push(node.invalid_str("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
}

/// Whether one CIDR block lies in another and is smaller.
pub fn is_strict_subset(inner: &str, outer: &str) -> bool {
    let parse = |text: &str| {
        let (ip, length) = text.split_once('/')?;
        Some((parse_ip(ip)?.0, parse_prefix(ip, length)?))
    };
    let (Some((inner, inner_prefix)), Some((outer, prefix))) = (parse(inner), parse(outer)) else {
        return false;
    };
    let contains = match (inner, outer) {
        (std::net::IpAddr::V4(a), std::net::IpAddr::V4(b)) => {
            let mask = !u32::MAX.checked_shr(prefix).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => {
            let mask = !u128::MAX.checked_shr(prefix).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    };
    contains && prefix < inner_prefix
}
