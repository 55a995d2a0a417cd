//! Formats of names and other strings. Each function returns what is wrong, in upstream's words;
//! nothing if the text is well formed.

/// A rule for names; `true` says that the text is a prefix to which random letters will be added.
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// A rule for texts: what is wrong with one.
pub type Rule = fn(&str) -> Vec<String>;

const LABEL_RE: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_RE: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY_RE: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// Joins a rule, examples and the regular expression that upstream quotes.
pub fn regex_error(rule: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{rule} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

/// "must be no more than 63 characters".
pub fn max_length_error(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// "must be between 1 and 65535, inclusive".
pub fn range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// Whether `text` begins and ends with an `edge` byte and has only `inner` bytes between; not empty.
fn edged(text: &str, edge: fn(&u8) -> bool, inner: fn(&u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(first) && edge(last) && bytes.iter().all(inner),
        _ => false,
    }
}

fn lower(b: &u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn lower_or_dash(b: &u8) -> bool {
    lower(b) || *b == b'-'
}

fn label_key_byte(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.".contains(b)
}

/// Label keys and values count bytes, where everything else says characters.
fn max_bytes_error(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

fn matches_label(text: &str) -> bool {
    edged(text, lower, lower_or_dash)
}

fn matches_subdomain(text: &str) -> bool {
    text.split('.').all(matches_label)
}

/// RFC 1123 label: at most 63 of `a-z0-9-`.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 63 {
        errs.push(max_length_error(63));
    }
    if !matches_label(text) {
        errs.push(if matches_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                        and must start and end with an alphanumeric character";
            regex_error(rule, LABEL_RE, &["my-name", "123-abc"])
        });
    }
    errs
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 bytes.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 253 {
        errs.push(max_length_error(253));
    }
    if !matches_subdomain(text) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
                    '-' or '.', and must start and end with an alphanumeric character";
        errs.push(regex_error(rule, SUBDOMAIN_RE, &["example.com"]));
    }
    errs
}

/// Like a subdomain, with underscores allowed in each label.
pub fn dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 253 {
        errs.push(max_length_error(253));
    }
    let label = |l: &str| edged(l.strip_prefix('_').unwrap_or(l), lower, |b| lower_or_dash(b) || *b == b'_');
    if !text.split('.').all(label) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
                    '_', '-' or '.', and must start and end with an alphanumeric character";
        let regex = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        errs.push(regex_error(rule, regex, &["example.com"]));
    }
    errs
}

/// `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 253 {
        errs.push(max_length_error(253));
    }
    if !text.strip_prefix("*.").is_some_and(matches_subdomain) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
                    which must consist of lower case alphanumeric characters, '-' or '.' and end with an \
                    alphanumeric character";
        errs.push(regex_error(rule, &format!(r"\*\.{SUBDOMAIN_RE}"), &["*.example.com"]));
    }
    errs
}

/// RFC 1035 label: as RFC 1123, but starting with a letter.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 63 {
        errs.push(max_length_error(63));
    }
    if !matches_label(text) || !text.as_bytes()[0].is_ascii_lowercase() {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                    alphabetic character, and end with an alphanumeric character";
        errs.push(regex_error(rule, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    errs
}

/// A label key: an optional subdomain and `/`, then a name of at most 63 bytes.
pub fn label_key(text: &str) -> Vec<String> {
    let rule = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                alphanumeric character";
    let name_error = || regex_error(rule, LABEL_KEY_RE, &["MyName", "my.name", "123-abc"]);
    let mut errs = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        ["", name] => {
            errs.push("prefix part must be non-empty".to_owned());
            name
        }
        [prefix, name] => {
            let wrong = dns1123_subdomain(prefix);
            errs.extend(
                wrong.iter().map(|e| format!("prefix part {}", e.replace("253 characters", "253 bytes"))),
            );
            name
        }
        _ => {
            let prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {} {prefix}", name_error())];
        }
    };
    if name.is_empty() {
        errs.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errs.push(format!("name part {}", max_bytes_error(63)));
    }
    if !edged(name, u8::is_ascii_alphanumeric, label_key_byte) {
        errs.push(format!("name part {}", name_error()));
    }
    errs
}

/// A label value: empty, or at most 63 bytes like a label key's name.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 63 {
        errs.push(max_bytes_error(63));
    }
    if !text.is_empty() && !edged(text, u8::is_ascii_alphanumeric, label_key_byte) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                    '.', and must start and end with an alphanumeric character";
        errs.push(regex_error(rule, &format!("({LABEL_KEY_RE})?"), &["MyValue", "my_value", "12345"]));
    }
    errs
}

/// A name that can be a part of a URL path.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    path_segment_prefix(text)
}

fn path_segment_prefix(text: &str) -> Vec<String> {
    let illegal = ["/", "%"].into_iter().filter(|s| text.contains(s));
    illegal.map(|s| format!("may not contain '{s}'")).collect()
}

/// A port number, 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A number between two bounds, inclusive.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) { Vec::new() } else { vec![range_error(low, high)] }
}

/// A user or group id.
pub fn posix_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// The name of a container port.
pub fn port_name(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    let mut check = |broken: bool, message: &str| {
        if broken {
            errs.push(message.to_owned());
        }
    };
    check(text.len() > 15, "must be no more than 15 characters");
    let charset = !text.is_empty() && text.bytes().all(|b| lower_or_dash(&b));
    check(!charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    check(!text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    check(text.contains("--"), "must not contain consecutive hyphens");
    check(text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen");
    errs
}

/// `12%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error(rule, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(rule, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    let rule =
        "a valid environment variable name must consist only of printable ASCII characters other than '='";
    vec![rule.to_owned()]
}

/// A key of a ConfigMap or Secret, which can become a file name.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if text.len() > 253 {
        errs.push(max_length_error(253));
    }
    if text.is_empty() || !text.bytes().all(|b| label_key_byte(&b)) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errs.push(regex_error(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." | ".." => errs.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => errs.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errs
}

/// A C identifier.
pub fn c_identifier(text: &str) -> Vec<String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.bytes().all(word) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit()) {
        return Vec::new();
    }
    let rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                alphanumeric characters or '_'";
    vec![regex_error(rule, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// A prefix may end with a dash, since more letters follow.
fn without_trailing_dash(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        // Upstream cuts two bytes and appends one; keep the length it sees.
        Some(rest) if prefix && !rest.is_empty() => {
            let mut cut = rest.len() - 1;
            while !rest.is_char_boundary(cut) {
                cut -= 1;
            }
            format!("{}a", &rest[..cut])
        }
        _ => text.to_owned(),
    }
}

/// Names that are RFC 1123 subdomains: most kinds.
pub fn name_is_subdomain(name: &str, prefix: bool) -> Vec<String> {
    dns1123_subdomain(&without_trailing_dash(name, prefix))
}

/// Names that are RFC 1123 labels: namespaces.
pub fn name_is_label(name: &str, prefix: bool) -> Vec<String> {
    dns1123_label(&without_trailing_dash(name, prefix))
}

/// Names that are RFC 1035 labels: services.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    dns1035_label(&without_trailing_dash(name, prefix))
}

/// Names that need only be parts of a URL path: RBAC.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { path_segment_prefix(name) } else { path_segment(name) }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(rule: fn(&str) -> Vec<String>, text: &str, expected: Expect) {
        expected.assert_eq(&rule(text).join("\n"));
    }

    #[test]
    fn well_formed_texts_pass() {
        let good: &[(Rule, &str)] = &[
            (dns1123_label, "a-1"),
            (dns1123_subdomain, "a.b-c.0"),
            (dns1123_subdomain_with_underscore, "_a.b_c"),
            (dns1035_label, "web-1"),
            (wildcard_dns1123_subdomain, "*.a.b"),
            (label_key, "example.com/My_Name.1"),
            (label_value, ""),
            (label_value, "A_b-c.1"),
            (port_name, "http-2"),
            (percent, "25%"),
            (env_var_name, "a b.c"),
            (config_map_key, ".dockercfg"),
            (c_identifier, "_a1"),
        ];
        for (rule, text) in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text}");
        }
        assert!(name_is_subdomain("web-", true).is_empty());
        assert!(!name_is_subdomain("web-", false).is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        check(dns1123_label, "a.b", expect!["must not contain dots"]);
        check(
            dns1123_subdomain,
            "A",
            expect![[
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]],
        );
        check(
            dns1035_label,
            "1a",
            expect![
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ],
        );
        check(label_key, "/x", expect!["prefix part must be non-empty"]);
        check(
            port_name,
            "-A--",
            expect![[r"
            must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            must contain at least one letter (a-z)
            must not contain consecutive hyphens
            must not begin or end with a hyphen"]],
        );
        check(config_map_key, "..", expect!["must not be '..'"]);
    }
}
