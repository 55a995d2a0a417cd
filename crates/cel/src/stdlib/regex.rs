//! Regular expressions of RE2's syntax by means of the `regex` crate.

use regex::{Regex, RegexBuilder};

/// How large a compiled expression may get, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles an expression of RE2's syntax. The error is worded like Go's.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_LIMIT)
        .nest_limit(1000)
        .build()
        .map_err(|error| error_text(pattern, &error))
}

/// RE2's syntax in the crate's: classes such as `\d` are of ASCII, `\Q…\E` quotes, `[` in a class is itself.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    // How many characters of the class at hand have been read; a `]` that comes first is itself.
    let mut in_class: Option<usize> = None;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        match (c, in_class) {
            ('\\', _) => {
                rest = escape(tail, in_class.is_some(), &mut out);
                in_class = in_class.map(|read| read + 1);
                continue;
            }
            ('[', None) => {
                in_class = Some(0);
                out.push('[');
                if let Some(negated) = tail.strip_prefix('^') {
                    out.push('^');
                    rest = negated;
                    continue;
                }
            }
            ('[', Some(read)) => {
                in_class = Some(read + 1);
                match tail.strip_prefix(':').and_then(|posix| posix.find(":]")) {
                    Some(end) => {
                        let length = 1 + end + 2;
                        out.push('[');
                        out.push_str(&tail[..length]);
                        rest = &tail[length..];
                        continue;
                    }
                    None => out.push_str("\\["),
                }
            }
            (']', Some(0)) => {
                in_class = Some(1);
                out.push_str("\\]");
            }
            (']', Some(_)) => {
                in_class = None;
                out.push(']');
            }
            ('&' | '~', Some(read)) => {
                in_class = Some(read + 1);
                out.push('\\');
                out.push(c);
            }
            (c, read) => {
                in_class = read.map(|read| read + 1);
                out.push(c);
            }
        }
        rest = tail;
    }
    out
}

/// Translates what comes behind a backslash, and answers what is behind that.
fn escape<'a>(tail: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = tail.chars().next() else {
        out.push('\\');
        return tail;
    };
    let rest = &tail[c.len_utf8()..];
    let (inside, outside) = match c {
        'd' => ("0-9", "[0-9]"),
        'D' => ("[^0-9]", "[^0-9]"),
        'w' => ("0-9A-Za-z_", "[0-9A-Za-z_]"),
        'W' => ("[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        's' => ("\\t\\n\\f\\r ", "[\\t\\n\\f\\r ]"),
        'S' => ("[^\\t\\n\\f\\r ]", "[^\\t\\n\\f\\r ]"),
        'b' if !in_class => ("", "(?-u:\\b)"),
        'B' if !in_class => ("", "(?-u:\\B)"),
        'Q' if !in_class => {
            let (quoted, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return behind;
        }
        'C' if !in_class => ("", "."),
        _ => {
            out.push('\\');
            out.push(c);
            return rest;
        }
    };
    out.push_str(if in_class { inside } else { outside });
    rest
}

fn error_text(pattern: &str, error: &regex::Error) -> String {
    let reason = match error {
        regex::Error::CompiledTooBig(_) => {
            return format!("error parsing regexp: expression too large: `{pattern}`");
        }
        other => other.to_string(),
    };
    let known = [
        ("unclosed group", "missing closing )"),
        ("unopened group", "unexpected )"),
        ("unclosed character class", "missing closing ]"),
        ("repetition operator missing expression", "missing argument to repetition operator"),
        ("invalid character class range", "invalid character class range"),
        ("look-around", "invalid or unsupported Perl syntax"),
        ("backreferences", "invalid escape sequence"),
        ("unrecognized escape sequence", "invalid escape sequence"),
        ("incomplete escape sequence", "trailing backslash at end of expression"),
        ("invalid repetition count range", "invalid repeat count"),
        ("Unicode property not found", "invalid character class range"),
    ];
    let go = known.iter().find(|(ours, _)| reason.contains(ours)).map_or("invalid syntax", |(_, go)| go);
    format!("error parsing regexp: {go}: `{pattern}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_is_that_of_re2() {
        let cases = [
            (r"^\d+$", "123", true),
            (r"^\d+$", "\u{663}", false),
            (r"^\w+$", "é", false),
            (r"^.$", "é", true),
            (r"[[a]", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]$", "]", false),
            (r"^[[:alpha:]\d_]+$", "a1_", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"\Qa.b\E+", "a.b", true),
            (r"^[\D]$", "x", true),
            (r"\bword\b", "a word.", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).map(|regex| regex.is_match(text)), Ok(expected), "{pattern} {text}");
        }
        assert_eq!(compile("a(").unwrap_err(), "error parsing regexp: missing closing ): `a(`");
    }
}
