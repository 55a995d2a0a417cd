//! Where webhooks are: a URL, or a path of a Service.

use super::format;
use crate::cursor::Node;
use crate::field::ErrorList;
use crate::gotext::quote;

/// An `https` URL without user, query and fragment.
pub(crate) fn url(url: &Node, errs: &mut ErrorList) {
    let form = "; desired format: https://host[/path]";
    let parsed = match parse(url.str()) {
        Ok(parsed) => parsed,
        Err(why) => {
            let shown = quote(url.str().split('#').next().unwrap_or_default());
            errs.push(url.required(format!("url must be a valid URL: parse {shown}: {why}{form}")));
            return;
        }
    };
    if parsed.scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{form}");
        errs.push(url.invalid_as(parsed.scheme, detail));
    }
    if parsed.host.is_empty() {
        errs.push(url.invalid_as("", format!("host must be specified{form}")));
    }
    if let Some(user) = parsed.user {
        errs.push(url.invalid_as(user, "user information is not permitted in the URL"));
    }
    if !parsed.fragment.is_empty() {
        errs.push(url.invalid_as(parsed.fragment, "fragments are not permitted in the URL"));
    }
    if !parsed.query.is_empty() {
        errs.push(url.invalid_as(parsed.query, "query parameters are not permitted in the URL"));
    }
}

/// The parts of a URL.
#[derive(Debug, Default, PartialEq)]
struct Url<'a> {
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// Parses as Go's `net/url` does, with its texts.
fn parse(text: &str) -> Result<Url<'_>, String> {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme: scheme.to_ascii_lowercase(), query, fragment, ..Url::default() };
    if !rest.starts_with('/') {
        if url.scheme.is_empty() && rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        if url.scheme.is_empty() {
            check_escapes(rest)?;
        }
        return Ok(url);
    }
    let mut path = rest;
    if let Some(authority) =
        rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///"))
    {
        let end = authority.find('/').unwrap_or(authority.len());
        let (authority, after) = authority.split_at(end);
        path = after;
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        check_host(host)?;
        if user.is_some_and(|user| !user.bytes().all(is_user_byte)) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        (url.user, url.host) = (user, host);
    }
    check_escapes(path)?;
    check_escapes(fragment)?;
    Ok(url)
}

/// What is before the colon, if it can be a scheme.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        host.rsplit_once(']').ok_or("missing ']' in host")?.1
    } else {
        host.rfind(':').map_or("", |colon| &host[colon..])
    };
    let number = port.strip_prefix(':').unwrap_or("");
    if !port.is_empty() && (!port.starts_with(':') || !number.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    for (at, c) in host.char_indices() {
        let rest = &host[at..];
        let escaped = |rest: &str| rest.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if c == '%' && (rest.starts_with("%25") || escaped(rest).is_some_and(|byte| byte >= 0x80)) {
            continue;
        }
        if c == '%' {
            return Err(format!("invalid URL escape {}", quote(&prefix(rest))));
        }
        let allowed = c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(c) || !c.is_ascii();
        if !allowed {
            return Err(format!("invalid character {} in host name", quote(c.encode_utf8(&mut [0; 4]))));
        }
    }
    Ok(())
}

fn is_user_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b)
}

/// Every percent sign stands before two hexadecimal digits.
fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let rest = &text[at..];
        if !rest.get(1..3).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(format!("invalid URL escape {}", quote(&prefix(rest))));
        }
    }
    Ok(())
}

/// An escape as it is shown when it is none.
fn prefix(rest: &str) -> String {
    rest.chars().take(3).collect()
}

/// A reference to a Service, its port, and a path there.
pub(crate) fn service(service: &Node, errs: &mut ErrorList) {
    // Upstream takes the name for the namespace and the other way round.
    for (field, reported) in [("namespace", "name"), ("name", "namespace")] {
        if service.at(field).is_empty() {
            errs.push(service.at(reported).required(""));
        }
    }
    let port = service.at("port");
    if !format::port_number(port.i64()).is_empty() {
        let detail = format!("port is not valid: {}", format::range_error(1, 65535));
        errs.push(port.invalid_i64(detail));
    }
    if let Some(path) = service.at("path").opt() {
        service_path(&path, errs);
    }
}

fn service_path(path: &Node, errs: &mut ErrorList) {
    let text = path.str();
    if text == "/" || text.is_empty() {
        return;
    }
    if text == "//" {
        errs.push(path.invalid_str("segment[0] may not be empty"));
        return;
    }
    if !text.starts_with('/') {
        errs.push(path.invalid_str("must start with a '/'"));
    }
    // What is first is taken for the slash, whatever it is.
    let first = text.chars().next().map_or(0, char::len_utf8);
    let steps = &text[first..];
    let steps = steps.strip_suffix('/').unwrap_or(steps);
    for (i, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            errs.push(path.invalid_str(format!("segment[{i}] may not be empty")));
            continue;
        }
        let wrong = format::dns1123_subdomain(step);
        errs.extend(wrong.into_iter().map(|m| path.invalid_str(format!("segment[{i}]: {m}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_as_in_go() {
        let parsed = parse("HTTPS://u:p@[::1]:80/a?b=c#d").unwrap();
        assert_eq!(
            parsed,
            Url { scheme: "https".into(), user: Some("u:p"), host: "[::1]:80", query: "b=c", fragment: "d" }
        );
        let faults = [
            ("://", "missing protocol scheme"),
            ("https://a b", "invalid character \" \" in host name"),
            ("https://a:x", "invalid port \":x\" after host"),
            ("https://a/%zz", "invalid URL escape \"%zz\""),
            ("%", "invalid URL escape \"%\""),
            ("1:2", "first path segment in URL cannot contain colon"),
            ("https://[::1", "missing ']' in host"),
            ("https://a\n", "net/url: invalid control character in URL"),
        ];
        for (url, fault) in faults {
            assert_eq!(parse(url).unwrap_err(), fault, "{url}");
        }
        assert_eq!(parse("a").unwrap(), Url::default());
    }
}
