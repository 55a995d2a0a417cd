//! Regular expressions of RE2's syntax by means of the `regex` crate.

use regex::{Regex, RegexBuilder};

/// How large a compiled expression may get, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles an expression of RE2's syntax. The error is worded like Go's.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    check_repetitions(pattern)?;
    RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_LIMIT)
        .nest_limit(1000)
        .build()
        .map_err(|error| error_text(pattern, &error))
}

/// Go's bounds on `{n,m}`, also of those inside of one another, and its refusal of `a**`, which the crate does not have.
fn check_repetitions(pattern: &str) -> Result<(), String> {
    const MOST: u64 = 1000;
    let mut rest = pattern;
    // How often the innermost group, and those around it, repeat anything; and the same of the last item.
    let mut groups: Vec<u64> = vec![1];
    let mut last: u64 = 1;
    let mut repeated: Option<&str> = None;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '*' | '+' | '?' => 1,
            '{' => repeat_length(rest).unwrap_or(0),
            _ => 0,
        };
        if length > 0 {
            if let Some(before) = repeated {
                let operators = &before[..before.len() - rest.len() + length];
                return Err(format!(
                    "error parsing regexp: invalid nested repetition operator: `{operators}`"
                ));
            }
            let count = repeat_count(&rest[..length]);
            last = last.saturating_mul(count.max(1));
            if last > MOST {
                return Err(format!("error parsing regexp: invalid repeat count: `{}`", &rest[..length]));
            }
            if let Some(group) = groups.last_mut() {
                *group = last.max(*group);
            }
            repeated = Some(rest);
            rest = &rest[length..];
            rest = rest.strip_prefix('?').unwrap_or(rest);
            continue;
        }
        repeated = None;
        last = 1;
        match c {
            '(' => {
                groups.push(1);
                // `(?` opens a group of a kind and repeats nothing.
                rest = rest[1..].strip_prefix('?').unwrap_or(&rest[1..]);
            }
            ')' => {
                last = if groups.len() > 1 { groups.pop().unwrap_or(1) } else { 1 };
                if let Some(group) = groups.last_mut() {
                    *group = last.max(*group);
                }
                rest = &rest[1..];
            }
            '[' => rest = after_class(rest),
            '\\' => rest = after_escape(&rest[1..]),
            c => rest = &rest[c.len_utf8()..],
        }
    }
    Ok(())
}

/// The length of `{n}`, `{n,}` or `{n,m}` at the start, if there is one; other braces are text.
fn repeat_length(text: &str) -> Option<usize> {
    // No further than it can go: a pattern may be full of braces that nothing closes.
    let end = 1 + text[1..].find(|c: char| !c.is_ascii_digit() && c != ',')?;
    if !text[end..].starts_with('}') {
        return None;
    }
    let (least, most) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

/// How often an item is repeated at most, or at least if that has no bound: `{2,3}` is 3, `{2,}` is 2, `*` is 1.
fn repeat_count(operator: &str) -> u64 {
    let Some(counts) = operator.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else { return 1 };
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let count = if most.is_empty() { least } else { most };
    count.parse().unwrap_or(u64::MAX)
}

/// What follows a class such as `[]a\]]`.
fn after_class(text: &str) -> &str {
    let mut rest = &text[1..];
    rest = rest.strip_prefix('^').unwrap_or(rest);
    rest = rest.strip_prefix(']').unwrap_or(rest);
    while let Some(c) = rest.chars().next() {
        match c {
            ']' => return &rest[1..],
            '[' if rest.starts_with("[:") => {
                rest = class_name_length(&rest[2..]).map_or(&rest[1..], |length| &rest[2 + length + 2..]);
            }
            '\\' => rest = after_escape(&rest[1..]),
            c => rest = &rest[c.len_utf8()..],
        }
    }
    rest
}

/// The length of a name that `:]` follows, as in `[:alpha:]`.
fn class_name_length(text: &str) -> Option<usize> {
    let length = text.find(|c: char| !c.is_ascii_alphabetic() && c != '^')?;
    text[length..].starts_with(":]").then_some(length)
}

/// What follows an escape, whose backslash is already off: `\Q…\E`, `\pL`, `\p{Greek}`, `\x{10FFFF}` or one character.
fn after_escape(text: &str) -> &str {
    let Some(c) = text.chars().next() else { return text };
    let rest = &text[c.len_utf8()..];
    match c {
        'Q' => rest.split_once("\\E").map_or("", |(_, after)| after),
        'p' | 'P' | 'x' if rest.starts_with('{') => rest.find('}').map_or("", |end| &rest[end + 1..]),
        _ => rest,
    }
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
                match tail.strip_prefix(':').and_then(class_name_length) {
                    Some(name) => {
                        let length = 1 + name + 2;
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
    fn long_patterns_are_read_once() {
        for piece in ["{", "[[:", "{1,"] {
            let _ = compile(&piece.repeat(1 << 20));
        }
    }

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
