//! URLs by the rules, and with the error texts, of Go's `net/url`.

use std::collections::BTreeMap;

use base::gotext::quote_bytes;

use super::netip;

/// A URL in its parts. What was percent-encoded need not be UTF-8, so most parts are bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Url {
    pub scheme: String,
    pub host: Vec<u8>,
    opaque: Vec<u8>,
    user: Option<User>,
    path: Vec<u8>,
    /// The path as written, if that is not the usual encoding of `path`.
    raw_path: Vec<u8>,
    raw_query: Vec<u8>,
    fragment: Vec<u8>,
    raw_fragment: Vec<u8>,
    force_query: bool,
    omit_host: bool,
}

#[derive(Clone, Debug)]
struct User {
    name: Vec<u8>,
    password: Option<Vec<u8>>,
}

/// Which part of a URL is escaped or unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    User,
    Query,
    Fragment,
}

/// Go refuses a query of more parameters, and so answers none of them.
const MAX_QUERY_PARAMETERS: usize = 10_000;

impl Url {
    /// `url.Parse`.
    pub fn parse(text: &str) -> Result<Url, String> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let fail = |text: &str, why: String| format!("parse {}: {why}", quote_bytes(text.as_bytes()));
        let mut parsed = parse(url.as_bytes(), false).map_err(|why| fail(url, why))?;
        if !fragment.is_empty() {
            parsed.set_fragment(fragment.as_bytes()).map_err(|why| fail(text, why))?;
        }
        Ok(parsed)
    }

    /// `url.ParseRequestURI`: only absolute URLs and absolute paths. It takes a fragment for a part of what
    /// is before it, so it is good for checking only.
    pub fn check_request_uri(text: &str) -> Result<(), String> {
        parse(text.as_bytes(), true)
            .map(|_| ())
            .map_err(|why| format!("parse {}: {why}", quote_bytes(text.as_bytes())))
    }

    /// The host without port and brackets.
    pub fn hostname(&self) -> &[u8] {
        self.split_host().0
    }

    /// The port, or nothing.
    pub fn port(&self) -> &[u8] {
        self.split_host().1
    }

    /// The path, percent-encoded.
    pub fn escaped_path(&self) -> Vec<u8> {
        if self.path == b"*" { self.path.clone() } else { encoded(&self.path, &self.raw_path, Part::Path) }
    }

    /// The parameters of the query; what is malformed is left out.
    pub fn query(&self) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
        let mut values: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        let settings = || self.raw_query.split(|b| *b == b'&');
        if settings().count() > MAX_QUERY_PARAMETERS {
            return values;
        }
        for setting in settings().filter(|s| !s.is_empty() && !s.contains(&b';')) {
            let (key, value) = cut(setting, b'=').unwrap_or((setting, b""));
            if let (Ok(key), Ok(value)) = (unescape(key, Part::Query), unescape(value, Part::Query)) {
                values.entry(key).or_default().push(value);
            }
        }
        values
    }

    /// `URL.String`.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.scheme.is_empty() {
            out.extend_from_slice(self.scheme.as_bytes());
            out.push(b':');
        }
        if self.opaque.is_empty() {
            self.write_hierarchy(&mut out);
        } else {
            out.extend_from_slice(&self.opaque);
        }
        if self.force_query || !self.raw_query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(&self.raw_query);
        }
        if !self.fragment.is_empty() {
            out.push(b'#');
            out.extend(encoded(&self.fragment, &self.raw_fragment, Part::Fragment));
        }
        out
    }

    fn write_hierarchy(&self, out: &mut Vec<u8>) {
        let has_host = !self.host.is_empty() || self.user.is_some();
        if has_host || (!self.scheme.is_empty() && !self.omit_host) {
            if has_host || !self.path.is_empty() {
                out.extend_from_slice(b"//");
            }
            if let Some(user) = &self.user {
                out.extend(escape(&user.name, Part::User));
                if let Some(password) = &user.password {
                    out.push(b':');
                    out.extend(escape(password, Part::User));
                }
                out.push(b'@');
            }
            out.extend(escape(&self.host, Part::Host));
        }
        let path = self.escaped_path();
        if !path.is_empty() && path[0] != b'/' && !self.host.is_empty() {
            out.push(b'/');
        }
        // A colon in the first segment of a relative path would be taken for the end of a scheme.
        if out.is_empty() && cut(&path, b'/').map_or(&path[..], |(segment, _)| segment).contains(&b':') {
            out.extend_from_slice(b"./");
        }
        out.extend(path);
    }

    fn split_host(&self) -> (&[u8], &[u8]) {
        let (mut host, mut port) = (&self.host[..], &b""[..]);
        if let Some(colon) = host.iter().rposition(|b| *b == b':')
            && is_optional_port(&host[colon..])
        {
            (host, port) = (&host[..colon], &host[colon + 1..]);
        }
        if let [b'[', inner @ .., b']'] = host {
            host = inner;
        }
        (host, port)
    }

    fn set_path(&mut self, path: &[u8]) -> Result<(), String> {
        (self.path, self.raw_path) = decoded(path, Part::Path)?;
        Ok(())
    }

    fn set_fragment(&mut self, fragment: &[u8]) -> Result<(), String> {
        (self.fragment, self.raw_fragment) = decoded(fragment, Part::Fragment)?;
        Ok(())
    }
}

fn parse(text: &[u8], via_request: bool) -> Result<Url, String> {
    let fail = |why: &str| Err(why.to_owned());
    if text.iter().any(|b| *b < b' ' || *b == 0x7f) {
        return fail("net/url: invalid control character in URL");
    }
    if text.is_empty() && via_request {
        return fail("empty url");
    }
    let mut url = Url::default();
    if text == b"*" {
        url.path = b"*".to_vec();
        return Ok(url);
    }
    let (scheme, mut rest) = split_scheme(text)?;
    url.scheme = scheme.iter().map(|b| char::from(b.to_ascii_lowercase())).collect();
    if rest.ends_with(b"?") && rest.iter().filter(|b| **b == b'?').count() == 1 {
        url.force_query = true;
        rest = &rest[..rest.len() - 1];
    } else if let Some((before, query)) = cut(rest, b'?') {
        url.raw_query = query.to_vec();
        rest = before;
    }
    if !rest.starts_with(b"/") {
        if !url.scheme.is_empty() {
            url.opaque = rest.to_vec();
            return Ok(url);
        }
        if via_request {
            return fail("invalid URI for request");
        }
        if cut(rest, b'/').map_or(rest, |(segment, _)| segment).contains(&b':') {
            return fail("first path segment in URL cannot contain colon");
        }
    }
    let may_have_host = !url.scheme.is_empty() || (!via_request && !rest.starts_with(b"///"));
    if let Some(after) = rest.strip_prefix(b"//").filter(|_| may_have_host) {
        let end = after.iter().position(|b| *b == b'/').unwrap_or(after.len());
        (url.user, url.host) = parse_authority(&url.scheme, &after[..end])?;
        rest = &after[end..];
    } else if !url.scheme.is_empty() && rest.starts_with(b"/") {
        url.omit_host = true;
    }
    url.set_path(rest)?;
    Ok(url)
}

/// The scheme, if there is one, and what follows it.
fn split_scheme(text: &[u8]) -> Result<(&[u8], &[u8]), String> {
    for (i, c) in text.iter().enumerate() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok((b"", text))
}

fn parse_authority(scheme: &str, authority: &[u8]) -> Result<(Option<User>, Vec<u8>), String> {
    let Some(at) = authority.iter().rposition(|b| *b == b'@') else {
        return Ok((None, parse_host(scheme, authority)?));
    };
    let host = parse_host(scheme, &authority[at + 1..])?;
    let user = &authority[..at];
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(b);
    if !user.iter().all(allowed) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let user = match cut(user, b':') {
        None => User { name: unescape(user, Part::User)?, password: None },
        Some((name, password)) => {
            User { name: unescape(name, Part::User)?, password: Some(unescape(password, Part::User)?) }
        }
    };
    Ok((Some(user), host))
}

fn parse_host(scheme: &str, host: &[u8]) -> Result<Vec<u8>, String> {
    let bad_port = |port: &[u8]| format!("invalid port {} after host", quote_bytes(port));
    match host.iter().rposition(|b| *b == b'[') {
        Some(0) => return parse_ip_literal(host),
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    let first = host.iter().position(|b| *b == b':');
    // Some databases have URLs with several hosts; for the Web's own schemes Go is strict.
    let colon =
        if matches!(scheme, "http" | "https") { first } else { host.iter().rposition(|b| *b == b':') };
    if let Some(colon) = colon
        && !is_optional_port(&host[colon..])
    {
        return Err(bad_port(&host[colon..]));
    }
    unescape(host, Part::Host)
}

/// `[fe80::1%25en0]:80`.
fn parse_ip_literal(host: &[u8]) -> Result<Vec<u8>, String> {
    let Some(close) = host.iter().rposition(|b| *b == b']') else {
        return Err("missing ']' in host".to_owned());
    };
    let port = &host[close + 1..];
    if !is_optional_port(port) {
        return Err(format!("invalid port {} after host", quote_bytes(port)));
    }
    let name = &host[1..close];
    let name = match name.windows(3).position(|window| window == b"%25") {
        Some(zone) => {
            let mut address = unescape(&name[..zone], Part::Host)?;
            address.extend(unescape(&name[zone..], Part::Zone)?);
            address
        }
        None => unescape(name, Part::Host)?,
    };
    let literal = netip::parse_addr(&name).map_err(|why| format!("invalid host: {why}"))?;
    if literal.addr.is_ipv4() {
        return Err("invalid IP-literal".to_owned());
    }
    Ok([b"[", &name[..], b"]", port].concat())
}

/// Nothing, or a colon and digits.
fn is_optional_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn cut(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// The decoded form, and the encoded one unless that is the usual one.
fn decoded(text: &[u8], part: Part) -> Result<(Vec<u8>, Vec<u8>), String> {
    let plain = unescape(text, part)?;
    let raw = if escape(&plain, part) == text { Vec::new() } else { text.to_vec() };
    Ok((plain, raw))
}

/// The encoded form as it was written, if that is a valid one.
fn encoded(plain: &[u8], raw: &[u8], part: Part) -> Vec<u8> {
    let valid = |b: &u8| b"!$&'()*+,;=:@[]%".contains(b) || !must_escape(*b, part);
    if !raw.is_empty() && raw.iter().all(valid) { raw.to_vec() } else { escape(plain, part) }
}

fn unescape(text: &[u8], part: Part) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        match text[i] {
            b'%' => {
                let triple = &text[i..text.len().min(i + 3)];
                let Some(byte) = escaped_byte(triple).filter(|byte| may_be_escaped(*byte, triple, part))
                else {
                    return Err(format!("invalid URL escape {}", quote_bytes(triple)));
                };
                out.push(byte);
                i += 3;
                continue;
            }
            b'+' if part == Part::Query => out.push(b' '),
            c if matches!(part, Part::Host | Part::Zone) && c < 0x80 && must_escape(c, part) => {
                return Err(format!("invalid character {} in host name", quote_bytes(&[c])));
            }
            c => out.push(c),
        }
        i += 1;
    }
    Ok(out)
}

/// The byte that `%41` stands for.
fn escaped_byte(triple: &[u8]) -> Option<u8> {
    let [b'%', high, low] = *triple else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// In hosts only bytes that are not ASCII may be escaped, in zones also those that need not be.
fn may_be_escaped(byte: u8, triple: &[u8], part: Part) -> bool {
    match part {
        Part::Host => byte >= 0x80 || triple == b"%25",
        Part::Zone => triple == b"%25" || byte == b' ' || !must_escape(byte, Part::Host),
        _ => true,
    }
}

fn escape(text: &[u8], part: Part) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if must_escape(byte, part) {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}

/// `shouldEscape`.
fn must_escape(c: u8, part: Part) -> bool {
    if c.is_ascii_alphanumeric() || b"-_.~".contains(&c) {
        return false;
    }
    match part {
        Part::Path => !b"$&+,/:;=@".contains(&c),
        Part::Host | Part::Zone => !b"!$&'()*+,;=:[]<>\"".contains(&c),
        Part::User => !b"$&+,;=".contains(&c),
        Part::Query => true,
        Part::Fragment => !b"$&+,/:;=?@!()*".contains(&c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts that CEL shows, or the error.
    fn parts(text: &str) -> String {
        let url = match Url::check_request_uri(text).and_then(|()| Url::parse(text)) {
            Ok(url) => url,
            Err(why) => return why,
        };
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let query: Vec<String> = url
            .query()
            .iter()
            .flat_map(|(key, values)| values.iter().map(|value| format!("{}={}", show(key), show(value))))
            .collect();
        format!(
            "{}|{}|{}|{}|{}|{}|{}",
            url.scheme,
            show(&url.host),
            show(url.hostname()),
            show(url.port()),
            show(&url.escaped_path()),
            query.join(","),
            show(&url.text())
        )
    }

    #[test]
    fn parts_of_urls() {
        for (text, expected) in [
            (
                "HTTPS://u:p%40@Example.com:80/a b?k=1&k=2&x+y=%41&bad=%zz&c;d#f",
                "https|Example.com:80|Example.com|80|/a%20b|k=1,k=2,x y=A|https://u:p%40@Example.com:80/a%20b?k=1&k=2&x+y=%41&bad=%zz&c;d#f",
            ),
            ("https://[::1]:80/", "https|[::1]:80|::1|80|/||https://[::1]:80/"),
            ("http://[fe80::1%25en0]", "http|[fe80::1%en0]|fe80::1%en0||||http://[fe80::1%25en0]"),
            ("/a%2fb?", "||||/a%2fb||/a%2fb?"),
            ("mailto:a@b", "mailto||||||mailto:a@b"),
            ("file:/x", "file||||/x||file:/x"),
            ("file:///x", "file||||/x||file:///x"),
            ("*", "||||*||*"),
            ("a", r#"parse "a": invalid URI for request"#),
            ("", r#"parse "": empty url"#),
            (":x", r#"parse ":x": missing protocol scheme"#),
            ("/%4", r#"parse "/%4": invalid URL escape "%4""#),
            ("/\n", r#"parse "/\n": net/url: invalid control character in URL"#),
            ("http://a b/", r#"parse "http://a b/": invalid character " " in host name"#),
            ("http://%41/", r#"parse "http://%41/": invalid URL escape "%41""#),
            ("http://a:b", r#"parse "http://a:b": invalid port ":b" after host"#),
            ("http://a:1:2", r#"parse "http://a:1:2": invalid port ":1:2" after host"#),
            ("pg://a:1,b:2", "pg|a:1,b:2|a:1,b|2|||pg://a:1,b:2"),
            ("http://[1.2.3.4]/", r#"parse "http://[1.2.3.4]/": invalid IP-literal"#),
            ("http://[::1", r#"parse "http://[::1": missing ']' in host"#),
            ("http://[x]/", r#"parse "http://[x]/": invalid host: ParseAddr("x"): unable to parse IP"#),
            ("http://a^b@c/", r#"parse "http://a^b@c/": net/url: invalid userinfo"#),
            ("/x#%zz", r#"parse "/x#%zz": invalid URL escape "%zz""#),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}
