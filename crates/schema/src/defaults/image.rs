//! References to images, as far as defaults depend on them.
//!
//! Source: `github.com/distribution/reference`.

/// How long the path of a repository may be.
const PATH_MAX: usize = 255;

/// Images that may change under the same reference are pulled always.
pub fn pull_policy(image: &str) -> &'static str {
    // What is no reference has no tag, so it is not "latest".
    match tag(image) {
        Some(tag) if tag == Some("latest") || tag.is_none() && !image.contains('@') => "Always",
        _ => "IfNotPresent",
    }
}

/// The tag of a reference, if it has one; `None` if it is not a reference.
fn tag(image: &str) -> Option<Option<&str>> {
    if image.len() == 64 && image.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let (named, digest) = match image.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (image, None),
    };
    let (domain, rest) = split_domain(named);
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let library = if domain.is_none() && !path.contains('/') { "library/".len() } else { 0 };
    let valid = domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && path.len() + library <= PATH_MAX
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    valid.then_some(tag)
}

/// The registry, if the reference names one, and the rest.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let label = |label: &str| {
        let edges = label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric());
        edges && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = match address {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(label),
    };
    named && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case words with `.`, `_`, `__` or dashes between them.
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators: Vec<&str> = part.split(word).filter(|separator| !separator.is_empty()).collect();
    part.starts_with(word)
        && part.ends_with(word)
        && separators.iter().all(|s| [".", "_", "__"].contains(s) || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_digest(digest: &str) -> bool {
    let length = match digest.split_once(':').map(|(algorithm, _)| algorithm) {
        Some("sha256") => 64,
        Some("sha384") => 96,
        Some("sha512") => 128,
        _ => return false,
    };
    let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
    hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        let digest = format!("busybox:latest@sha256:{}", "0".repeat(64));
        let long = "x".repeat(300);
        for (image, policy) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("registry:5000/busybox", "Always"),
            ("registry:5000/busybox:1", "IfNotPresent"),
            ("[::1]:5000/busybox", "Always"),
            ("busybox@sha256:0000", "IfNotPresent"),
            (&digest, "Always"),
            ("Not An Image", "IfNotPresent"),
            ("../busybox", "IfNotPresent"),
            ("a..b/c", "IfNotPresent"),
            ("a/b__c-_d", "IfNotPresent"),
            (&long, "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
