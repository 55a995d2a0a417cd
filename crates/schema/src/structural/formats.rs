//! The string formats that kube-openapi knows (`strfmt`).

use std::sync::LazyLock;

use regex::Regex;

use crate::validation::rules;

/// A known format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(super) enum Format {
    BsonObjectId, Uri, Email, Hostname, Ipv4, Ipv6, Cidr, Mac, Uuid, Uuid3, Uuid4, Uuid5, Isbn, Isbn10, Isbn13,
    CreditCard, Ssn, HexColor, RgbColor, Byte, Password, Date, Duration, DateTime, ShortName, LongName,
}

impl Format {
    /// The format of a name; dashes do not matter.
    pub(super) fn named(name: &str) -> Option<Format> {
        use Format::*;
        Some(match name.replace('-', "").as_str() {
            "bsonobjectid" => BsonObjectId,
            "uri" => Uri,
            "email" => Email,
            "hostname" => Hostname,
            "ipv4" => Ipv4,
            "ipv6" => Ipv6,
            "cidr" => Cidr,
            "mac" => Mac,
            "uuid" => Uuid,
            "uuid3" => Uuid3,
            "uuid4" => Uuid4,
            "uuid5" => Uuid5,
            "isbn" => Isbn,
            "isbn10" => Isbn10,
            "isbn13" => Isbn13,
            "creditcard" => CreditCard,
            "ssn" => Ssn,
            "hexcolor" => HexColor,
            "rgbcolor" => RgbColor,
            "byte" => Byte,
            "password" => Password,
            "date" => Date,
            "duration" => Duration,
            "datetime" => DateTime,
            "k8sshortname" => ShortName,
            "k8slongname" => LongName,
            _ => return None,
        })
    }

    /// Whether a text has the format.
    pub(super) fn matches(self, text: &str) -> bool {
        match self {
            Format::BsonObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Format::Uri => is_request_uri(text),
            Format::Email => is_email(text),
            Format::Hostname => is_hostname(text),
            Format::Ipv4 => text.contains('.') && rules::parse_ip(text).is_some(),
            Format::Ipv6 => text.contains(':') && text.parse::<std::net::Ipv6Addr>().is_ok(),
            Format::Cidr => is_cidr(text),
            Format::Mac => is_mac(text),
            Format::Uuid => is_uuid(text, None),
            Format::Uuid3 => is_uuid(text, Some(b'3')),
            Format::Uuid4 => is_uuid(text, Some(b'4')),
            Format::Uuid5 => is_uuid(text, Some(b'5')),
            Format::Isbn => is_isbn10(text) || is_isbn13(text),
            Format::Isbn10 => is_isbn10(text),
            Format::Isbn13 => is_isbn13(text),
            Format::CreditCard => is_credit_card(text),
            Format::Ssn => text.len() == 11 && SSN.is_match(text),
            Format::HexColor => HEX_COLOR.is_match(text),
            Format::RgbColor => RGB_COLOR.is_match(text),
            Format::Byte => BASE64.is_match(text),
            Format::Password => true,
            Format::Date => is_date(text),
            Format::Duration => is_duration(text),
            Format::DateTime => is_date_time(text),
            Format::ShortName => text.len() <= 63 && SHORT_NAME.is_match(text),
            Format::LongName => text.len() <= 253 && LONG_NAME.is_match(text),
        }
    }
}

/// Whether upstream heeds a format in schemas of a type (empty: none or several). It warns about others.
pub(super) fn is_recognized(ty: &str, format: &str) -> bool {
    match ty {
        _ if format.is_empty() => true,
        "" | "string" => Format::named(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn regex(pattern: &str) -> Regex {
    #[expect(clippy::unwrap_used, reason = "the patterns are constants below, all used in tests")]
    Regex::new(pattern).unwrap()
}

macro_rules! patterns {
    ($($name:ident = $pattern:expr;)*) => { $(static $name: LazyLock<Regex> = LazyLock::new(|| regex($pattern));)* };
}

patterns! {
    HOSTNAME = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    UUID = r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$";
    SSN = r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$";
    HEX_COLOR = r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\([\t\n\f\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\f\r ]*,[\t\n\f\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\f\r ]*,[\t\n\f\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\f\r ]*\)$";
    BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";
    CREDIT_CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
    TIME = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";
    GO_DURATION = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";
    LOOSE_DURATION = r"([0-9]+)[\t\n\f\r ]*([A-Za-zµ]+)";
    SHORT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    LONG_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
}

fn is_hostname(text: &str) -> bool {
    HOSTNAME.is_match(text) && text.len() <= 255 && text.split('.').all(|part| part.len() <= 63)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let Some((address, _)) = rules::parse_ip(address) else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    digits && prefix.parse::<u16>().is_ok_and(|bits| bits <= most)
}

/// 6, 8 or 20 bytes in Go's notations: `00:00:5e:00:53:01`, with dashes, or `0000.5e00.5301`.
fn is_mac(text: &str) -> bool {
    let hex = |part: &&str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let split = |separator: char, digits: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, digits))
    };
    split(':', 2, [6, 8, 20]) || split('-', 2, [6, 8, 20]) || split('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    if !UUID.is_match(text) {
        return false;
    }
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let variant = digits[16].to_ascii_lowercase();
    match version {
        None => true,
        Some(version @ (b'4' | b'5')) => {
            digits[12] == version && matches!(variant, b'8' | b'9' | b'a' | b'b')
        }
        Some(version) => digits[12] == version,
    }
}

/// The characters of an ISBN without separators.
fn isbn_digits(text: &str) -> Vec<u8> {
    text.bytes().filter(|b| !matches!(b, b'\t' | b'\n' | 0xc | b'\r' | b' ' | b'-')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    let (Some((last, front)), true) = (digits.split_last(), digits.len() == 10) else { return false };
    if !front.iter().all(u8::is_ascii_digit) || !(last.is_ascii_digit() || *last == b'X') {
        return false;
    }
    let sum: u32 = (1..).zip(front).map(|(i, digit)| i * u32::from(digit - b'0')).sum();
    let check = if *last == b'X' { 10 } else { u32::from(last - b'0') };
    (sum + 10 * check).is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let weighted =
        digits.iter().enumerate().map(|(i, d)| u32::from(d - b'0') * if i % 2 == 0 { 1 } else { 3 });
    weighted.sum::<u32>().is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |(i, b): (usize, u8)| {
        let digit = u32::from(b - b'0');
        match (i % 2, digit * 2) {
            (0, _) => digit,
            (_, twice @ 0..10) => twice,
            (_, twice) => twice % 10 + 1,
        }
    };
    CREDIT_CARD.is_match(&digits)
        && digits.bytes().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' || !text.is_ascii() {
        return false;
    }
    let digits = |range: std::ops::Range<usize>| {
        bytes[range].iter().try_fold(0i16, |n, b| b.is_ascii_digit().then(|| n * 10 + i16::from(b - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (digits(0..4), digits(5..7), digits(8..10)) else {
        return false;
    };
    jiff::civil::Date::new(year, month as i8, day as i8).is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let Some(found) = TIME.captures(time) else { return false };
    is_date(date) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// Go's durations, and numbers with Scala's units anywhere in the text.
fn is_duration(text: &str) -> bool {
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    if GO_DURATION.is_match(text) {
        return true;
    }
    let mut found = false;
    for capture in LOOSE_DURATION.captures_iter(text) {
        if capture[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = capture[2].to_lowercase();
        found |= UNITS.iter().any(|names| {
            let (last, _) = names.split_last().unwrap_or((&"", &[]));
            names.contains(&unit.as_str()) || unit.starts_with(last)
        });
    }
    found
}

/// Go's `url.ParseRequestURI` accepts it: an absolute URI or an absolute path.
pub(super) fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = split_scheme(text) else { return false };
    let path = rest.split('?').next().unwrap_or_default();
    if !path.starts_with('/') {
        return scheme.is_some();
    }
    let path = match path.strip_prefix("//") {
        Some(after) if scheme.is_some() => {
            let end = after.find('/').unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            if !is_authority(authority) {
                return false;
            }
            path
        }
        _ => path,
    };
    well_escaped(path)
}

/// The scheme, if there is one, and the rest; `None` if the text begins with a colon.
fn split_scheme(text: &str) -> Option<(Option<&str>, &str)> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i > 0 => return Some((Some(&text[..i]), &text[i + 1..])),
            ':' => return None,
            _ => break,
        }
    }
    Some((None, text))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(plain) || !well_escaped(user) {
        return false;
    }
    let port = match host.strip_prefix('[') {
        Some(after) => match after.rsplit_once(']') {
            Some((_, port)) => port,
            None => return false,
        },
        None => host.rfind(':').map_or("", |i| &host[i..]),
    };
    let valid_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    let forbidden = |c: char| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    valid_port && !host.contains(forbidden) && (host.starts_with('[') || !host.contains('%'))
}

fn well_escaped(text: &str) -> bool {
    let hex = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    text.split('%').skip(1).all(hex)
}

/// Go's `mail.ParseAddress` accepts it: `a@b`, or `Name <a@b>`.
fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    if let Some(rest) = address(text)
        && rest.trim_start_matches([' ', '\t']).is_empty()
    {
        return true;
    }
    let Some(open) = text.rfind('<') else { return false };
    let (name, rest) = text.split_at(open);
    phrase(name) && address(&rest[1..]).is_some_and(|rest| rest.trim_end_matches([' ', '\t']) == ">")
}

/// What follows an address.
fn address(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t']);
    let rest = if text.starts_with('"') { quoted_string(text)? } else { dot_atom(text)? };
    let domain = rest.strip_prefix('@')?;
    match domain.strip_prefix('[') {
        Some(literal) => {
            let (inner, rest) = literal.split_once(']')?;
            let address = inner.strip_prefix("IPv6:").unwrap_or(inner);
            address.parse::<std::net::IpAddr>().ok().map(|_| rest)
        }
        None => dot_atom(domain),
    }
}

fn dot_atom(text: &str) -> Option<&str> {
    let special =
        |c: char| matches!(c, '(' | ')' | '[' | ']' | ';' | '@' | '\\' | ',' | '<' | '>' | '"' | ':');
    let end = text.find(|c: char| special(c) || c <= ' ' || c == '\u{7f}').unwrap_or(text.len());
    let (atom, rest) = text.split_at(end);
    let valid = !atom.is_empty() && !atom.starts_with('.') && !atom.ends_with('.') && !atom.contains("..");
    valid.then_some(rest)
}

fn quoted_string(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (i > 1).then(|| &text[i + 1..]),
            c if c < ' ' && c != '\t' => return None,
            _ => {}
        }
    }
    None
}

/// A name before an address: words and quoted texts, or nothing.
fn phrase(text: &str) -> bool {
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let after = if rest.starts_with('"') { quoted_string(rest) } else { dot_atom(rest) };
        match after {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None => return false,
        }
    }
    true
}
