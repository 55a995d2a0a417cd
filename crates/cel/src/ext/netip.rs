//! IP addresses and prefixes by the rules, and with the error texts, of Go's `net/netip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::gotext::{quote, quote_bytes};

/// An address and its zone, which is empty if it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zoned<'a> {
    pub addr: IpAddr,
    pub zone: &'a [u8],
}

/// An address and how many of its leading bits are the network's. The other bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub addr: IpAddr,
    pub bits: u8,
}

/// `netip.ParseAddr`. Takes bytes because a URL's host need not be UTF-8.
pub(super) fn parse_addr(text: &[u8]) -> Result<Zoned<'_>, String> {
    match text.iter().find(|b| b".:%".contains(b)) {
        Some(b'.') => {
            let fields = parse_v4(text, text)?;
            Ok(Zoned { addr: IpAddr::V4(Ipv4Addr::from(fields)), zone: b"" })
        }
        Some(b':') => parse_v6(text),
        Some(_) => Err(failure(text, "missing IPv6 address", b"")),
        None => Err(failure(text, "unable to parse IP", b"")),
    }
}

/// `netip.ParsePrefix`.
pub(super) fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let fail = |why: &str| format!("netip.ParsePrefix({}): {why}", quote(text));
    let Some((addr, bits)) = text.rsplit_once('/') else { return Err(fail("no '/'")) };
    let Zoned { addr, zone } = parse_addr(addr.as_bytes()).map_err(|why| fail(&why))?;
    if !zone.is_empty() {
        return Err(fail("IPv6 zones cannot be present in a prefix"));
    }
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = bits.len() > 1 && bits.starts_with('0');
    let parsed = if digits && !leading_zero { bits.parse::<i64>().ok() } else { None };
    let Some(length) = parsed else { return Err(fail(&format!("bad bits after slash: {}", quote(bits)))) };
    match u8::try_from(length) {
        Ok(bits) if bits <= bit_length(addr) => Ok(Prefix { addr, bits }),
        _ => Err(fail("prefix length out of range")),
    }
}

impl Prefix {
    /// The prefix with the bits of the host cleared.
    pub fn masked(self) -> Prefix {
        Prefix { addr: keep(self.addr, self.bits), bits: self.bits }
    }

    /// Whether the address is in the network.
    pub fn contains(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && keep(addr, self.bits) == keep(self.addr, self.bits)
    }

    /// Whether the whole of `other` is in the network.
    pub fn contains_prefix(self, other: Prefix) -> bool {
        self.bits <= other.bits && self.contains(other.addr)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

fn bit_length(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// The leading bits of an address, the others cleared.
fn keep(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

/// `parseAddrError.Error`.
fn failure(text: &[u8], why: &str, at: &[u8]) -> String {
    let text = quote_bytes(text);
    if at.is_empty() {
        format!("ParseAddr({text}): {why}")
    } else {
        format!("ParseAddr({text}): {why} (at {})", quote_bytes(at))
    }
}

/// The fields of the IPv4 address `part`, which is the end of `text`.
fn parse_v4(text: &[u8], part: &[u8]) -> Result<[u8; 4], String> {
    let fail = |why: &str, at: &[u8]| Err(failure(text, why, at));
    let mut fields = [0u8; 4];
    let (mut value, mut position, mut digits) = (0u32, 0, 0);
    for (i, &c) in part.iter().enumerate() {
        match c {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return fail("IPv4 field has octet with leading zero", b"");
                }
                value = value * 10 + u32::from(c - b'0');
                digits += 1;
                if value > 255 {
                    return fail("IPv4 field has value >255", b"");
                }
            }
            b'.' => {
                if i == 0 || i == part.len() - 1 || part[i - 1] == b'.' {
                    return fail("IPv4 field must have at least one digit", &part[i..]);
                }
                if position == 3 {
                    return fail("IPv4 address too long", b"");
                }
                fields[position] = value as u8;
                position += 1;
                (value, digits) = (0, 0);
            }
            _ => return fail("unexpected character", &part[i..]),
        }
    }
    if position < 3 {
        return fail("IPv4 address too short", b"");
    }
    fields[3] = value as u8;
    Ok(fields)
}

fn parse_v6(text: &[u8]) -> Result<Zoned<'_>, String> {
    let fail = |why: &str, at: &[u8]| Err(failure(text, why, at));
    let (mut rest, zone) = match text.iter().position(|b| *b == b'%') {
        Some(i) if i + 1 == text.len() => return fail("zone must be a non-empty string", b""),
        Some(i) => (&text[..i], &text[i + 1..]),
        None => (text, &b""[..]),
    };
    let mut bytes = [0u8; 16];
    let mut ellipsis = None;
    if let Some(after) = rest.strip_prefix(b"::") {
        ellipsis = Some(0);
        rest = after;
        if rest.is_empty() {
            return Ok(Zoned { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), zone });
        }
    }
    let mut filled = 0;
    while filled < 16 {
        let (group, length) = parse_group(text, rest)?;
        if rest.get(length) == Some(&b'.') {
            if ellipsis.is_none() && filled != 12 {
                return fail("embedded IPv4 address must replace the final 2 fields of the address", rest);
            }
            if filled + 4 > 16 {
                return fail("too many hex fields to fit an embedded IPv4 at the end of the address", rest);
            }
            bytes[filled..filled + 4].copy_from_slice(&parse_v4(text, rest)?);
            rest = b"";
            filled += 4;
            break;
        }
        bytes[filled..filled + 2].copy_from_slice(&group.to_be_bytes());
        filled += 2;
        rest = &rest[length..];
        match rest {
            [] => break,
            [b':'] => return fail("colon must be followed by more characters", rest),
            [b':', after @ ..] => rest = after,
            _ => return fail("unexpected character, want colon", rest),
        }
        if rest[0] == b':' {
            if ellipsis.is_some() {
                return fail("multiple :: in address", rest);
            }
            ellipsis = Some(filled);
            rest = &rest[1..];
            if rest.is_empty() {
                break;
            }
        }
    }
    if !rest.is_empty() {
        return fail("trailing garbage after address", rest);
    }
    match ellipsis {
        None if filled < 16 => return fail("address string too short", b""),
        Some(_) if filled == 16 => return fail("the :: must expand to at least one field of zeros", b""),
        Some(at) => {
            bytes.copy_within(at..filled, at + 16 - filled);
            bytes[at..at + 16 - filled].fill(0);
        }
        None => {}
    }
    Ok(Zoned { addr: IpAddr::V6(Ipv6Addr::from(bytes)), zone })
}

/// The group of hexadecimal digits at the start of `rest`, and how many digits it has.
fn parse_group(text: &[u8], rest: &[u8]) -> Result<(u16, usize), String> {
    let length = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if length > 4 {
        return Err(failure(text, "each group must have 4 or less digits", rest));
    }
    if length == 0 {
        return Err(failure(text, "each colon-separated field must have at least one digit", rest));
    }
    let value = rest[..length]
        .iter()
        .fold(0, |value, digit| value * 16 + char::from(*digit).to_digit(16).unwrap_or(0) as u16);
    Ok((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> String {
        match parse_addr(text.as_bytes()) {
            Ok(Zoned { addr, zone: b"" }) => addr.to_string(),
            Ok(Zoned { addr, zone }) => format!("{addr}%{}", String::from_utf8_lossy(zone)),
            Err(why) => why,
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("2001:DB8::0:0:0:abcd", "2001:db8::abcd"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("::", "::"),
            ("1::", "1::"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("", r#"ParseAddr(""): unable to parse IP"#),
            ("1.2.3", r#"ParseAddr("1.2.3"): IPv4 address too short"#),
            ("1.2.3.4.5", r#"ParseAddr("1.2.3.4.5"): IPv4 address too long"#),
            ("1.2..4", r#"ParseAddr("1.2..4"): IPv4 field must have at least one digit (at ".4")"#),
            ("1.2.3.256", r#"ParseAddr("1.2.3.256"): IPv4 field has value >255"#),
            ("1.2.3.04", r#"ParseAddr("1.2.3.04"): IPv4 field has octet with leading zero"#),
            ("1.2.3.x", r#"ParseAddr("1.2.3.x"): unexpected character (at "x")"#),
            (
                ":::1",
                r#"ParseAddr(":::1"): each colon-separated field must have at least one digit (at ":1")"#,
            ),
            ("1::2::3", r#"ParseAddr("1::2::3"): multiple :: in address (at ":3")"#),
            ("1:2", r#"ParseAddr("1:2"): address string too short"#),
            ("1:", r#"ParseAddr("1:"): colon must be followed by more characters (at ":")"#),
            ("12345::", r#"ParseAddr("12345::"): each group must have 4 or less digits (at "12345::")"#),
            (
                "1:2:3:4:5:6:7::8",
                r#"ParseAddr("1:2:3:4:5:6:7::8"): the :: must expand to at least one field of zeros"#,
            ),
            (
                "1:2:3:4:5:6:7:8:9",
                r#"ParseAddr("1:2:3:4:5:6:7:8:9"): trailing garbage after address (at "9")"#,
            ),
            ("::1%", r#"ParseAddr("::1%"): zone must be a non-empty string"#),
            ("%a", r#"ParseAddr("%a"): missing IPv6 address"#),
        ] {
            assert_eq!(addr(text), expected, "{text}");
        }
    }

    #[test]
    fn prefixes() {
        for (text, expected) in [
            ("10.1.2.3/8", "10.1.2.3/8"),
            ("::1/128", "::1/128"),
            ("10.0.0.0", r#"netip.ParsePrefix("10.0.0.0"): no '/'"#),
            ("10.0.0.0/33", r#"netip.ParsePrefix("10.0.0.0/33"): prefix length out of range"#),
            ("10.0.0.0/08", r#"netip.ParsePrefix("10.0.0.0/08"): bad bits after slash: "08""#),
            ("10.0.0.0/", r#"netip.ParsePrefix("10.0.0.0/"): bad bits after slash: """#),
            ("10/8", r#"netip.ParsePrefix("10/8"): ParseAddr("10"): unable to parse IP"#),
            ("fe80::%a/8", r#"netip.ParsePrefix("fe80::%a/8"): IPv6 zones cannot be present in a prefix"#),
        ] {
            assert_eq!(parse_prefix(text).map_or_else(|why| why, |p| p.to_string()), expected, "{text}");
        }
        let prefix = |text| parse_prefix(text).unwrap();
        assert_eq!(prefix("10.1.2.3/8").masked().to_string(), "10.0.0.0/8");
        assert_eq!(prefix("1.2.3.4/0").masked().to_string(), "0.0.0.0/0");
        assert!(prefix("10.1.2.3/8").contains("10.9.9.9".parse().unwrap()));
        assert!(!prefix("::/0").contains("10.9.9.9".parse().unwrap()));
        assert!(prefix("10.0.0.0/8").contains_prefix(prefix("10.2.0.0/16")));
        assert!(!prefix("10.0.0.0/8").contains_prefix(prefix("10.0.0.0/7")));
    }
}
