//! PEM blocks, and the outermost part of the DER in them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// One block, and what comes after it.
pub(super) struct Block<'a> {
    pub kind: &'a str,
    has_headers: bool,
    pub bytes: Vec<u8>,
    rest: &'a str,
}

/// Why the text is no certificate request.
pub(super) fn request_fault(pem: &[u8]) -> Option<String> {
    let pem = String::from_utf8_lossy(pem);
    let Some(block) = next(&pem).filter(|block| block.kind == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let der = &*block.bytes;
    if der.is_empty() {
        return Some("asn1: syntax error: sequence truncated".to_owned());
    }
    let Some((header, length)) = header(der) else {
        return Some("asn1: syntax error: truncated tag or length".to_owned());
    };
    let (class, tag, compound) = (der[0] >> 6, der[0] & 0x1f, der[0] & 0x20 != 0);
    if (class, tag, compound) != (0, 16, true) {
        return Some(format!(
            "asn1: structure error: tags don't match (16 vs {{class:{class} tag:{tag} length:{length} \
             isCompound:{compound}}}) {{optional:false explicit:false application:false private:false \
             defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false omitEmpty:false}} certificateRequest \
             @{header}"
        ));
    }
    (der.len() - header < length).then(|| "asn1: syntax error: data truncated".to_owned())
}

/// Why the text is no list of certificates; an empty one is fine.
pub(super) fn certificate_fault(pem: &[u8]) -> Option<String> {
    if pem.is_empty() {
        return None;
    }
    let pem = String::from_utf8_lossy(pem);
    let (mut rest, mut blocks) = (&*pem, 0);
    while let Some(block) = next(rest) {
        if block.kind != "CERTIFICATE" {
            let kind = crate::gotext::quote(block.kind);
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {kind}"));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        blocks += 1;
        let mut der = &*block.bytes;
        if der.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        while !der.is_empty() {
            match header(der) {
                Some((header, length)) if der[0] == 0x30 && der.len() - header >= length => {
                    der = &der[header + length..];
                }
                _ => return Some("x509: malformed certificate".to_owned()),
            }
        }
        rest = block.rest;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// How long the header of a DER element is, and its content.
pub(super) fn header(der: &[u8]) -> Option<(usize, usize)> {
    let first = *der.get(1)?;
    if first < 0x80 {
        return Some((2, usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    let bytes = der.get(2..2 + count).filter(|bytes| (1..=4).contains(&bytes.len()))?;
    Some((2 + count, bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))))
}

/// The blocks of a text; whatever is no block is passed over.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let block = next(rest)?;
        rest = block.rest;
        Some(block)
    })
}

/// The first block of a text, found as Go's `pem.Decode` finds it: by the next END line and the last BEGIN
/// line before it. So every byte is looked at once, however many lines have no counterpart.
fn next(text: &str) -> Option<Block<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    let mut rest = text;
    loop {
        let (before, trailer) = rest.split_once("\n-----END ")?;
        rest = trailer;
        let Some((front, inside)) = before.rsplit_once(BEGIN) else { continue };
        if !front.is_empty() && !front.ends_with('\n') {
            continue;
        }
        // The END line may come at once.
        let mut body = inside.split_once('\n').map(|(_, body)| body);
        let Some(kind) = split_line(inside).0.strip_suffix("-----") else { continue };
        let mut has_headers = false;
        while let Some(lines) = body.filter(|body| split_line(body).0.contains(':')) {
            body = lines.split_once('\n').map(|(_, after)| after);
            has_headers = true;
        }
        if has_headers && body.is_none() {
            continue;
        }
        let Some(after) = trailer.strip_prefix(kind).and_then(|after| after.strip_prefix("-----")) else {
            continue;
        };
        let (left, after) = split_line(after);
        let encoded: String = body.unwrap_or_default().chars().filter(|c| !" \t\r\n".contains(*c)).collect();
        if let (true, Ok(bytes)) = (left.is_empty(), BASE64.decode(encoded)) {
            return Some(Block { kind, has_headers, bytes, rest: after });
        }
    }
}

/// The first line without what is blank at its end, and all after it.
fn split_line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.trim_end_matches(['\r', ' ', '\t']), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_as_in_go() {
        let frame = |kind: &str, body: &str| format!("-----BEGIN {kind}-----\n{body}-----END {kind}-----\n");
        let request = |body: &str| request_fault(frame("CERTIFICATE REQUEST", body).as_bytes());
        assert_eq!(request("MAA=\n"), None);
        assert_eq!(request("MIIB\n").unwrap(), "asn1: syntax error: truncated tag or length");

        assert_eq!(request("MAQA\n").unwrap(), "asn1: syntax error: data truncated");
        assert!(
            request("eHg=\n")
                .unwrap()
                .starts_with("asn1: structure error: tags don't match (16 vs {class:1 tag:24")
        );
        assert_eq!(request_fault(b"x").unwrap(), "PEM block type must be CERTIFICATE REQUEST");
        let certificate = |body: &str| certificate_fault(frame("CERTIFICATE", body).as_bytes());
        assert_eq!(certificate(""), Some("found CERTIFICATE PEM block containing 0 certificates".to_owned()));
        assert_eq!(certificate("MIIB\n").unwrap(), "x509: malformed certificate");
        assert_eq!(certificate("A: b\n\nMIIB\n").unwrap(), "no PEM block headers are permitted");
        assert_eq!(certificate_fault(b"").or(certificate("MAA=\n")), None);
    }
}
