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
                Scalar { text: key, depth, breaks: false }.write(out);
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
        Value::String(text) => Scalar { text, depth, breaks: true }.write(out),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

/// Whether a text can be a `|` block: no characters that need escapes.
fn is_literal(text: &str) -> bool {
    text.chars().all(is_printable) && !text.lines().any(|line| line.ends_with(' ')) && text.trim() != ""
}

/// What the encoder writes as it is. Characters beyond the first plane are not among it.
fn is_printable(c: char) -> bool {
    c == '\n' || matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// Lines go on after this many characters, at the next space.
const WIDTH: usize = 80;

/// A string on its way out.
struct Scalar<'a> {
    text: &'a str,
    /// How far lines that go on are indented.
    depth: usize,
    /// Whether lines may be broken: not in keys.
    breaks: bool,
}

impl Scalar<'_> {
    /// Writes a plain, single-quoted or double-quoted scalar, whichever Go's encoder takes.
    fn write(&self, out: &mut String) {
        let text = self.text;
        if text.is_empty()
            || resolves_to_other(text)
            || text.contains('\n')
            || !text.chars().all(is_printable)
        {
            out.push('"');
            self.write_letters(out, Style::Double);
            out.push('"');
        } else if is_plain(text) {
            self.write_letters(out, Style::Plain);
        } else {
            out.push('\'');
            self.write_letters(out, Style::Single);
            out.push('\'');
        }
    }

    fn write_letters(&self, out: &mut String, style: Style) {
        let line = out.rfind('\n').map_or(0, |end| end + 1);
        let mut column = out[line..].chars().count();
        let mut after_space = false;
        let last = self.text.len() - self.text.chars().next_back().map_or(0, char::len_utf8);
        for (at, c) in self.text.char_indices() {
            let start = out.len();
            let next_is_space = self.text[at + c.len_utf8()..].starts_with(' ');
            let inside = at > 0 && at < last;
            let fits = match style {
                Style::Plain => !next_is_space,
                Style::Single => inside && !next_is_space,
                Style::Double => inside,
            };
            if c == ' ' && self.breaks && !after_space && column > WIDTH && fits {
                out.push('\n');
                indent(self.depth, out);
                column = self.depth * 2;
                // A space at the beginning of a line would be taken for indentation.
                if style == Style::Double && next_is_space {
                    out.push('\\');
                    column += 1;
                }
            } else {
                match style {
                    Style::Double => escape(c, out),
                    Style::Single if c == '\'' => out.push_str("''"),
                    _ => out.push(c),
                }
                column += out[start..].chars().count();
            }
            after_space = c == ' ';
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

/// A character within double quotes.
fn escape(c: char, out: &mut String) {
    use std::fmt::Write as _;
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ if is_printable(c) => return out.push(c),
        _ => {
            // Writing into memory cannot fail.
            let _ = match u32::from(c) {
                code @ ..=0xff => write!(out, "\\x{code:02X}"),
                code @ ..=0xffff => write!(out, "\\u{code:04X}"),
                code => write!(out, "\\U{code:08X}"),
            };
            return;
        }
    };
    out.push('\\');
    out.push(short);
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

    #[test]
    fn long_lines_are_folded_and_odd_characters_escaped() {
        let words =
            "only the following media types are accepted: application/json;stream=watch, application/x";
        assert_eq!(
            super::to_string(&json!({"message": words})),
            "message: 'only the following media types are accepted: application/json;stream=watch,\n  application/x'\n"
        );
        assert_eq!(
            super::to_string(&json!({"a": "\u{e4}\u{1f389}\0\t"})),
            "a: \"\u{e4}\\U0001F389\\0\\t\"\n"
        );
        assert_eq!(super::to_string(&json!({"a": "tab\tand\nline"})), "a: \"tab\\tand\\nline\"\n");
    }
}
