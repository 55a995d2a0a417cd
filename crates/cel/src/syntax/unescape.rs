//! The values of string and bytes literals.

/// The text of a literal with its quotation marks (and `r`, but not `b`) as the bytes it stands for.
pub(super) fn unescape(literal: &str, is_bytes: bool) -> Result<Vec<u8>, &'static str> {
    let literal = literal.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, quoted) = match literal.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, &*literal),
    };
    let marks =
        if quoted.len() >= 6 && (quoted.starts_with("'''") || quoted.starts_with("\"\"\"")) { 3 } else { 1 };
    let Some(body) = quoted.get(marks..quoted.len().saturating_sub(marks)) else {
        return Err("unable to unescape string");
    };
    if raw || !body.contains('\\') {
        return Ok(body.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(backslash) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..backslash]);
        rest = escape(&rest[backslash + 1..], is_bytes, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Appends what the sequence (without its backslash) stands for, and answers what is behind it.
fn escape<'a>(rest: &'a str, is_bytes: bool, out: &mut Vec<u8>) -> Result<&'a str, &'static str> {
    let Some(c) = rest.chars().next() else {
        return Err("unable to unescape string, found '\\' as last character");
    };
    let plain = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '\'' | '"' | '`' | '?' => c as u8,
        _ => return numeric(c, rest, is_bytes, out),
    };
    out.push(plain);
    Ok(&rest[1..])
}

fn numeric<'a>(c: char, rest: &'a str, is_bytes: bool, out: &mut Vec<u8>) -> Result<&'a str, &'static str> {
    let (start, digits, radix, wrong) = match c {
        'x' | 'X' => (1, 2, 16, "unable to unescape string"),
        'u' if !is_bytes => (1, 4, 16, "unable to unescape string"),
        'U' if !is_bytes => (1, 8, 16, "unable to unescape string"),
        '0'..='3' => (0, 3, 8, "unable to unescape octal sequence in string"),
        _ => return Err("unable to unescape string"),
    };
    let text = rest.get(start..start + digits).ok_or(wrong)?;
    let value = u32::from_str_radix(text, radix).map_err(|_| wrong)?;
    if is_bytes {
        out.push(value as u8);
    } else {
        let c = char::from_u32(value).ok_or("invalid unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(&rest[start + digits..])
}
