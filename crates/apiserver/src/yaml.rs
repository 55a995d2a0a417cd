//! YAML out, in the style of `sigs.k8s.io/yaml`: sorted keys, two spaces, lists not indented.

use serde_json::Value;

/// The document, with a final newline.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Writes a value that starts on a line of its own.
fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                // The first key of a list item follows its dash.
                if index > 0 || !out.ends_with("- ") {
                    indent(depth, out);
                }
                out.push_str(&scalar(key));
                out.push(':');
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        out.push('\n');
                        block(value, depth + 1, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        block(value, depth, out);
                    }
                    _ => {
                        out.push(' ');
                        inline(value, depth + 1, out);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !out.ends_with("- ") {
                    indent(depth, out);
                }
                out.push_str("- ");
                block(item, depth + 1, out);
            }
        }
        other => inline(other, depth, out),
    }
}

fn inline(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(text) if text.contains('\n') && is_literal(text) => {
            out.push('|');
            match (text.ends_with('\n'), text.ends_with("\n\n")) {
                (false, _) => out.push('-'),
                (true, true) => out.push('+'),
                _ => {}
            }
            if text.starts_with([' ', '\n']) {
                out.push('2');
            }
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    indent(depth, out);
                    out.push_str(line);
                }
            }
        }
        Value::String(text) => out.push_str(&scalar(text)),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

/// Whether a text can be a `|` block: no characters that need escapes.
fn is_literal(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
        && !text.lines().any(|line| line.ends_with(' '))
        && text.trim() != ""
}

/// A string as a plain, single-quoted or double-quoted scalar, whichever Go's encoder takes.
fn scalar(text: &str) -> String {
    if text.is_empty() || resolves_to_other(text) || text.chars().any(|c| c.is_control() || c == '\u{feff}') {
        return double_quoted(text);
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn double_quoted(text: &str) -> String {
    // JSON's escapes are a subset of YAML's.
    Value::from(text).to_string()
}

/// Whether a reader would take the plain text for something that is not a string.
fn resolves_to_other(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ".nan", ".inf", "-.inf", "+.inf",
        "<<", "=",
    ];
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return true;
    }
    let plain = text.replace('_', "");
    let unsigned = plain.strip_prefix(['-', '+']).unwrap_or(&plain);
    let first = unsigned.chars().next().unwrap_or(' ');
    if !first.is_ascii_digit() && first != '.' {
        return false;
    }
    let radix = |prefix: &str, radix| {
        unsigned.strip_prefix(prefix).is_some_and(|digits| u64::from_str_radix(digits, radix).is_ok())
    };
    unsigned.parse::<f64>().is_ok()
        || radix("0x", 16)
        || radix("0b", 2)
        || radix("0o", 8)
        || is_timestamp(text)
        || is_base60(unsigned)
}

fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[5].is_ascii_digit()
        && text.chars().all(|c| c.is_ascii_digit() || "-:.TtZz+ ".contains(c))
}

fn is_base60(text: &str) -> bool {
    text.contains(':') && text.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.')
}

fn is_plain(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    if first.is_whitespace() || text.ends_with(char::is_whitespace) || "!&*#|>@`\"'%{}[],".contains(first) {
        return false;
    }
    if "-?:".contains(first) && text.chars().nth(1).is_none_or(char::is_whitespace) {
        return false;
    }
    !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.starts_with("---")
        && !text.starts_with("...")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn documents_look_like_upstreams() {
        let object = json!({
            "apiVersion": "v1", "data": {"colon": "a: b", "e": "", "multi": "a\nb\n", "n": "5", "q": "it's"},
            "metadata": {"labels": {"a": "true"}, "list": [{"x": [1, 2], "y": {}}, "z"], "empty": []},
        });
        let expected = "apiVersion: v1\ndata:\n  colon: 'a: b'\n  e: \"\"\n  multi: |\n    a\n    b\n  \"n\": \"5\"\n  q: it's\n\
                        metadata:\n  empty: []\n  labels:\n    a: \"true\"\n  list:\n  - x:\n    - 1\n    - 2\n    \"y\": {}\n  - z\n";
        assert_eq!(super::to_string(&object), expected);
    }
}
