//! Regular expressions as Go reads them: its syntax, its complaints, matched by the `regex` crate.
//!
//! A pattern is read by the rules of Go's `regexp/syntax` and written down again in the crate's
//! syntax, where classes such as `\d` would be of Unicode, `{` would always begin a repetition, and
//! `[`, `&&` and `~~` would mean something in a class.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

/// How deep groups may nest, and the largest repeat count.
const MAX_DEPTH: usize = 1_000;
const MAX_REPEAT: u32 = 1_000;
/// How large a compiled pattern may get, in bytes. Go has no such limit, but a limit on time.
const MAX_COMPILED: usize = 4 << 20;
/// Longer patterns do not fit into that, so that they need not be read.
const MAX_PATTERN: usize = 256 << 10;

/// Compiles a pattern; the error is Go's.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let complain = |what: &str, shown: &str| format!("error parsing regexp: {what}: `{shown}`");
    if pattern.len() > MAX_PATTERN {
        return Err(complain("expression too large", pattern));
    }
    let mut translator = Translator { pattern, at: 0, out: String::new(), depth: 0 };
    translator.run().map_err(|error| complain(error.what, &error.shown))?;
    RegexBuilder::new(&translator.out)
        .size_limit(MAX_COMPILED)
        .nest_limit(MAX_DEPTH as u32 * 2)
        .build()
        .map_err(|_| complain("expression too large", pattern))
}

/// What is wrong, and with which part of the pattern.
struct Error {
    what: &'static str,
    shown: String,
}

fn error<T>(what: &'static str, shown: &str) -> Result<T, Error> {
    Err(Error { what, shown: shown.to_owned() })
}

struct Translator<'p> {
    pattern: &'p str,
    at: usize,
    out: String,
    depth: usize,
}

impl<'p> Translator<'p> {
    fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    /// What was read since `start`.
    fn since(&self, start: usize) -> &'p str {
        &self.pattern[start..self.at]
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Reads `text` if it comes next.
    fn eat(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    fn run(&mut self) -> Result<(), Error> {
        // Whether there is something to repeat, and where the repetition before began.
        let (mut operand, mut last_repeat) = (false, None);
        while let Some(c) = self.rest().chars().next() {
            let start = self.at;
            let mut repeat = None;
            match c {
                '(' => operand = self.group(operand)?,
                '|' => {
                    self.copy();
                    operand = false;
                }
                ')' => {
                    self.copy();
                    if self.depth == 0 {
                        return error("unexpected )", self.pattern);
                    }
                    self.depth -= 1;
                    operand = true;
                }
                '^' | '$' | '.' => {
                    self.copy();
                    operand = true;
                }
                '[' => {
                    self.class()?;
                    operand = true;
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    self.repetition(start, operand, last_repeat)?;
                    repeat = Some(start);
                }
                '{' => match self.counts() {
                    Some((min, max)) => {
                        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
                            return error("invalid repeat count", self.since(start));
                        }
                        self.repetition(start, operand, last_repeat)?;
                        repeat = Some(start);
                    }
                    None => {
                        self.at += 1;
                        self.literal('{');
                        operand = true;
                    }
                },
                '\\' => {
                    self.escape()?;
                    operand = true;
                }
                c => {
                    self.at += c.len_utf8();
                    self.literal(c);
                    operand = true;
                }
            }
            last_repeat = repeat;
        }
        if self.depth > 0 { error("missing closing )", self.pattern) } else { Ok(()) }
    }

    /// A character that means the same in both.
    fn copy(&mut self) {
        if let Some(c) = self.next() {
            self.out.push(c);
        }
    }

    fn literal(&mut self, c: char) {
        if c.is_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(self.out, "\\x{{{:x}}}", c as u32);
        }
    }

    /// Opens a group or sets flags; answers whether something precedes that can be repeated.
    fn group(&mut self, operand: bool) -> Result<bool, Error> {
        let start = self.at;
        let rest = self.rest();
        let named =
            ["(?P<", "(?<"].into_iter().find(|open| rest.len() > open.len() && rest.starts_with(open));
        if let Some(open) = named {
            let Some(end) = rest.find('>') else { return error("invalid named capture", rest) };
            let name = rest.get(open.len()..end).unwrap_or_default();
            self.at += end + 1;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return error("invalid named capture", self.since(start));
            }
            self.out.push('(');
        } else if rest.starts_with("(?") {
            if !self.flags(start)? {
                return Ok(operand);
            }
        } else {
            self.copy();
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return error("expression nests too deeply", self.pattern);
        }
        Ok(false)
    }

    /// `(?i)`, `(?i-s:`; whether a group is opened.
    fn flags(&mut self, start: usize) -> Result<bool, Error> {
        self.at += 2;
        let (mut negative, mut seen) = (false, false);
        while let Some(c) = self.next() {
            match c {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !negative => (negative, seen) = (true, false),
                ':' | ')' if !negative || seen => {
                    if self.since(start) != "(?)" {
                        self.out.push_str(self.since(start));
                    }
                    return Ok(c == ':');
                }
                _ => break,
            }
        }
        error("invalid or unsupported Perl syntax", self.since(start))
    }

    /// What comes after a repetition operator that began at `start`.
    fn repetition(&mut self, start: usize, operand: bool, last: Option<usize>) -> Result<(), Error> {
        self.eat("?");
        if let Some(last) = last {
            return error("invalid nested repetition operator", self.since(last));
        }
        if !operand {
            return error("missing argument to repetition operator", self.since(start));
        }
        self.out.push_str(self.since(start));
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,3}`, read only if it is one.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let end = self.rest().find('}')?;
        let inner = &self.rest()[1..end];
        let number = |digits: &str| {
            let valid = digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.is_empty()
                && (digits == "0" || !digits.starts_with('0'));
            valid.then(|| digits.parse::<u32>().unwrap_or(u32::MAX))
        };
        let counts = match inner.split_once(',') {
            None => number(inner).map(|n| (n, Some(n))),
            Some((min, "")) => number(min).map(|n| (n, None)),
            Some((min, max)) => number(min).zip(number(max)).map(|(min, max)| (min, Some(max))),
        }?;
        self.at += end + 1;
        Some(counts)
    }

    fn escape(&mut self) -> Result<(), Error> {
        if self.eat("\\A") {
            self.out.push_str("\\A");
        } else if self.eat("\\z") {
            self.out.push_str("\\z");
        } else if self.eat("\\b") {
            self.out.push_str("(?-u:\\b)");
        } else if self.eat("\\B") {
            self.out.push_str("(?-u:\\B)");
        } else if self.rest().starts_with("\\C") {
            return error("invalid escape sequence", "\\C");
        } else if self.eat("\\Q") {
            let (quoted, length) = match self.rest().split_once("\\E") {
                Some((quoted, _)) => (quoted, quoted.len() + 2),
                None => (self.rest(), self.rest().len()),
            };
            self.at += length;
            quoted.chars().for_each(|c| self.literal(c));
        } else if let Some(class) = self.class_escape()? {
            self.out.push('[');
            self.out.push_str(&class);
            self.out.push(']');
        } else {
            let c = self.character()?;
            self.literal(c);
        }
        Ok(())
    }

    /// `\d` or `\p{Greek}`, as it stands in a class.
    fn class_escape(&mut self) -> Result<Option<String>, Error> {
        let known = [
            ("\\d", "0-9"),
            ("\\D", "[^0-9]"),
            ("\\s", "\\t\\n\\f\\r\\x20"),
            ("\\S", "[^\\t\\n\\f\\r\\x20]"),
            ("\\w", "0-9A-Za-z_"),
            ("\\W", "[^0-9A-Za-z_]"),
        ];
        for (escape, class) in known {
            if self.eat(escape) {
                return Ok(Some(class.to_owned()));
            }
        }
        let start = self.at;
        if !self.eat("\\p") && !self.eat("\\P") {
            return Ok(None);
        }
        if self.rest().starts_with('{') {
            let Some(end) = self.rest().find('}') else {
                return error("invalid character class range", &self.pattern[start..]);
            };
            self.at += end + 1;
        } else {
            self.next();
        }
        let class = self.since(start);
        if Regex::new(class).is_err() {
            return error("invalid character class range", class);
        }
        Ok(Some(class.to_owned()))
    }

    /// One escaped character.
    fn character(&mut self) -> Result<char, Error> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.next() else { return error("trailing backslash at end of expression", "") };
        let octal = |c: Option<char>| c.and_then(|c| c.to_digit(8));
        let found = match c {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' => self.hexadecimal(),
            '0'..='7' if c == '0' || octal(self.rest().chars().next()).is_some() => {
                let mut code = c as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = octal(self.rest().chars().next()) else { break };
                    self.at += 1;
                    code = code * 8 + digit;
                }
                char::from_u32(code)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        match found {
            Some(c) => Ok(c),
            None => error("invalid escape sequence", self.since(start)),
        }
    }

    /// `7f` or `{10ffff}`.
    fn hexadecimal(&mut self) -> Option<char> {
        if !self.eat("{") {
            let high = self.next()?.to_digit(16);
            let low = self.next()?.to_digit(16);
            return char::from_u32(high? * 16 + low?);
        }
        let (mut code, mut digits) = (0u32, 0);
        loop {
            match self.next()? {
                '}' if digits > 0 => return char::from_u32(code),
                c => {
                    code = code * 16 + c.to_digit(16)?;
                    if code > char::MAX as u32 {
                        return None;
                    }
                    digits += 1;
                }
            }
        }
    }

    fn class(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.copy();
        if self.rest().starts_with('^') {
            self.copy();
        }
        let mut first = true;
        while first || !self.rest().starts_with(']') {
            first = false;
            if let Some(length) = self.posix_class()? {
                self.out.push_str(&self.rest()[..length]);
                self.at += length;
                continue;
            }
            if let Some(class) = self.class_escape()? {
                self.out.push_str(&class);
                continue;
            }
            let from = self.at;
            let low = self.class_character(start)?;
            self.literal(low);
            let rest = self.rest();
            if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
                self.at += 1;
                let high = self.class_character(start)?;
                if high < low {
                    return error("invalid character class range", self.since(from));
                }
                self.out.push('-');
                self.literal(high);
            }
        }
        self.copy();
        Ok(())
    }

    /// The length of a `[:alpha:]` that comes next.
    fn posix_class(&self) -> Result<Option<usize>, Error> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        let Some(after) = self.rest().strip_prefix("[:") else { return Ok(None) };
        let Some(end) = after.find(":]") else { return Ok(None) };
        let (name, length) = (&after[..end], end + 4);
        if NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Ok(Some(length));
        }
        error("invalid character class range", &self.rest()[..length])
    }

    fn class_character(&mut self, class: usize) -> Result<char, Error> {
        match self.rest().chars().next() {
            None => error("missing closing ]", &self.pattern[class..]),
            Some('\\') => self.character(),
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        let cases = [
            (r"^\d+$", "123", true),
            (r"^\d+$", "\u{663}", false),
            (r"^\w+$", "é", false),
            (r"^.$", "é", true),
            (r"[[a]", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]$", "]", false),
            (r"^[[:alpha:]\d_]+$", "a1_", true),
            (r"^[a&&b~~-]+$", "a&b~-", true),
            (r"\Qa.b\E+", "a.bbb", true),
            (r"^[\D]$", "x", true),
            (r"\bword\B", "words", true),
            (r"^\${.*}$", "${x}", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^a{2,3}?$", "aaa", true),
            (r"^\101\x42\x{43}\t$", "ABC\t", true),
            (r"(?i)^a(?-i:B)$", "AB", true),
            (r"(?i)^a(?-i:B)$", "Ab", false),
            (r"^(?P<x>a)(?<y>b)$", "ab", true),
            (r"^\p{Greek}\pL[\p{Lu}\PN]$", "αaA", true),
            ("^a$", "a\n", false),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "a.b-c", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).map(|r| r.is_match(text)), Ok(expected), "{pattern} {text:?}");
        }
    }

    #[test]
    fn complaints_are_those_of_go() {
        let cases = [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("x[z-a]", "invalid character class range: `z-a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a|+", "missing argument to repetition operator: `+`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
            (r"\p{Klingon}", r"invalid character class range: `\p{Klingon}`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ];
        for (pattern, expected) in cases {
            let error = compile(pattern).map(drop).unwrap_err();
            assert_eq!(error, format!("error parsing regexp: {expected}"), "{pattern}");
        }
    }
}
