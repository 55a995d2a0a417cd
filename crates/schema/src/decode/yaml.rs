//! YAML bodies, with the meaning that go-yaml v2 gives them (YAML 1.1: `yes` is true, `0777` octal)
//! and turned into JSON values as `sigs.k8s.io/yaml` does. serde-saphyr's own values follow YAML
//! 1.2, so only its parser is used.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::{DecodeError, MAX_KEPT_DEPTH};
use crate::gotext;

/// Values that a document may hold with its aliases written out; long texts count as several.
const MAX_VALUES: usize = 1_000_000;
/// How many bytes of a text count as a value.
const BYTES_PER_VALUE: usize = 64;

/// Reads the first document of a YAML text as JSON values; of keys given twice, the last counts.
pub fn yaml_to_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    read(bytes).map(|(value, _)| value)
}

/// Also returns the text of a strict error, if keys were given twice.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let invalid = || DecodeError::Syntax("yaml: invalid leading UTF-8 octet".into());
    let text = std::str::from_utf8(bytes).map_err(|_| invalid())?;
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#'));
    if first.is_some_and(|l| l.starts_with('\t')) {
        // libyaml takes no tab for indentation; the parser used here does.
        return Err(fail("found character that cannot start any token".into()));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| fail(complaint(&e.info(), e.marker().line(), text)))?;
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|t| t.to_string()).unwrap_or_default();
                let merge = style == ScalarStyle::Plain && text == "<<";
                let value = scalar(&text, style, &tag).map_err(|e| fail(format!("line {line}: {e}")))?;
                builder.complete(value, anchor, line, merge)?;
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Open::list(anchor))?,
            Event::MappingStart(_, anchor, _) => builder.open(Open::map(anchor))?,
            Event::SequenceEnd | Event::MappingEnd => builder.close(line)?,
            Event::Alias(anchor) => {
                let value = builder.aliased(anchor)?;
                builder.complete(value, 0, line, false)?;
            }
            Event::DocumentEnd | Event::StreamEnd => break,
            _ => {}
        }
    }
    let duplicates = match builder.duplicates.as_slice() {
        [] => Vec::new(),
        lines => vec![format!("yaml: unmarshal errors:\n  {}", lines.join("\n  "))],
    };
    Ok((builder.root.unwrap_or_default(), duplicates))
}

/// The commonest complaints in libyaml's words. It counts lines from zero where it scans, and names none
/// where that is what it counts.
fn complaint(info: &str, line: usize, text: &str) -> String {
    let at = |line: usize, what: &str| match line {
        0 => what.to_owned(),
        line => format!("line {line}: {what}"),
    };
    let unclosed = |open: char, close: char| match text.trim_end().ends_with(open) {
        true => "did not find expected node content".to_owned(),
        false => format!("did not find expected ',' or '{close}'"),
    };
    match info {
        _ if info.contains("unclosed bracket '['") => at(line, &unclosed('[', ']')),
        _ if info.contains("unclosed bracket '{'") => at(line, &unclosed('{', '}')),
        _ if info.contains("unclosed quote") => at(line.saturating_sub(1), "found unexpected end of stream"),
        _ if info.contains("mapping values are not allowed") => {
            let line = if line == 1 { 0 } else { line };
            at(line, "mapping values are not allowed in this context")
        }
        _ if info.contains("tabs disallowed") => at(line, "found character that cannot start any token"),
        _ if info.contains("did not find expected key") => {
            at(line.saturating_sub(1), "did not find expected key")
        }
        _ if info.contains("unknown anchor") => {
            let named = text.lines().nth(line.saturating_sub(1)).and_then(|line| line.split('*').nth(1));
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            let name: String = named.unwrap_or_default().chars().take_while(|c| is_name(*c)).collect();
            format!("unknown anchor '{name}' referenced")
        }
        _ => at(line, info),
    }
}

fn fail(text: String) -> DecodeError {
    DecodeError::Syntax(format!("yaml: {text}"))
}

/// A collection that has been begun.
struct Open {
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Value>),
    Map { entries: Map<String, Value>, key: Option<Key>, merged: Vec<Value> },
}

enum Key {
    Name(String),
    /// `<<`: the value's entries become this map's.
    Merge,
}

impl Open {
    fn list(anchor: usize) -> Self {
        Self { anchor, kind: OpenKind::List(Vec::new()) }
    }

    fn map(anchor: usize) -> Self {
        Self { anchor, kind: OpenKind::Map { entries: Map::new(), key: None, merged: Vec::new() } }
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Value>,
    root: Option<Value>,
    duplicates: Vec<String>,
    values: usize,
}

impl Builder {
    fn open(&mut self, open: Open) -> Result<(), DecodeError> {
        self.open.push(open);
        if self.open.len() > MAX_KEPT_DEPTH { Err(fail("exceeded max depth".into())) } else { Ok(()) }
    }

    fn close(&mut self, line: usize) -> Result<(), DecodeError> {
        let Some(Open { anchor, kind }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            OpenKind::List(items) => Value::Array(items),
            OpenKind::Map { mut entries, merged, .. } => {
                for (key, value) in merged.into_iter().flat_map(sources) {
                    entries.entry(key).or_insert(value);
                }
                Value::Object(entries)
            }
        };
        self.complete(value, anchor, line, false)
    }

    /// A copy of an anchored value.
    fn aliased(&mut self, anchor: usize) -> Result<Value, DecodeError> {
        let anchors = std::mem::take(&mut self.anchors);
        let value = anchors.get(&anchor).unwrap_or(&Value::Null);
        let copy = self.spend(count(value)).map(|()| value.clone());
        self.anchors = anchors;
        copy
    }

    /// Accounts for values before they are made.
    fn spend(&mut self, values: usize) -> Result<(), DecodeError> {
        self.values += values;
        if self.values > MAX_VALUES {
            return Err(fail("document contains excessive aliasing".into()));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, value: Value, anchor: usize, line: usize, merge: bool) -> Result<(), DecodeError> {
        self.spend(1)?;
        if anchor > 0 {
            self.spend(count(&value))?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(value),
            Some(OpenKind::List(items)) => items.push(value),
            Some(OpenKind::Map { entries, key, merged }) => match key.take() {
                None if merge => *key = Some(Key::Merge),
                None => {
                    *key = Some(Key::Name(key_text(&value).map_err(|e| fail(format!("line {line}: {e}")))?))
                }
                Some(Key::Merge) => merged.push(value),
                Some(Key::Name(name)) => {
                    if entries.contains_key(&name) {
                        let quoted = gotext::quote(&name);
                        self.duplicates.push(format!("line {line}: key {quoted} already set in map"));
                    }
                    entries.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

/// The entries that a merge key brings; of several maps, the earlier count.
fn sources(value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(entries) => entries.into_iter().collect(),
        Value::Array(items) => items.into_iter().flat_map(sources).collect(),
        _ => Vec::new(),
    }
}

fn key_text(key: &Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Null => Ok(key.to_string()),
        Value::Array(_) | Value::Object(_) => Err(format!("invalid map key: {}", gotext::print(key))),
    }
}

/// How much a copy of a value counts.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(entries) => {
            1 + entries.iter().map(|(key, value)| key.len() / BYTES_PER_VALUE + count(value)).sum::<usize>()
        }
        Value::String(text) => 1 + text.len() / BYTES_PER_VALUE,
        _ => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: &str) -> Result<Value, String> {
    if tag.ends_with("binary") {
        let packed: String = text.split_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(packed)
            .map_err(|_| "!!binary value contains invalid base64 data".to_string())?;
        return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    }
    if style != ScalarStyle::Plain || tag.ends_with("str") || tag == "!" {
        return Ok(Value::from(text));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Err("json: unsupported value: +Inf".into());
        }
        "-.inf" | "-.Inf" | "-.INF" => return Err("json: unsupported value: -Inf".into()),
        ".nan" | ".NaN" | ".NAN" => return Err("json: unsupported value: NaN".into()),
        _ => number(text).unwrap_or_else(|| Value::from(text)),
    })
}

/// A number in go-yaml's notation: underscores, `0x`, `0b`, and octal with a leading zero.
fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    if let Some(int) = integer(&plain) {
        return Some(int);
    }
    let digits = plain.trim_start_matches(['+', '-']);
    let looks_like_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let float: f64 = looks_like_float.then(|| plain.parse().ok()).flatten()?;
    if float.fract() == 0.0 && float.abs() < 1e18 {
        return Some(Value::from(float as i64));
    }
    Number::from_f64(float).map(Value::Number)
}

fn integer(plain: &str) -> Option<Value> {
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, plain.strip_prefix('+').unwrap_or(plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return (-i128::from(magnitude)).try_into().ok().map(|int: i64| Value::from(int));
    }
    Some(Value::from(magnitude))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_mean_what_go_yaml_makes_of_them() {
        let text = "a: yes\nb: 'yes'\nc: 0777\nd: 1_000\ne: 1.5\nf: ~\ng: 2001-01-01\nh: 1e3\ni: 0x1F\nj: !!str 5\n1: x\non: y\n";
        assert_eq!(
            yaml_to_value(text.as_bytes()).unwrap(),
            json!({"a": true, "b": "yes", "c": 511, "d": 1000, "e": 1.5, "f": null, "g": "2001-01-01",
                "h": 1000, "i": 31, "j": "5", "1": "x", "true": true})
        );
    }

    #[test]
    fn anchors_merges_and_duplicates() {
        let text = "base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\nlist: [*b]\n---\nsecond: 1\n";
        assert_eq!(
            yaml_to_value(text.as_bytes()).unwrap(),
            json!({"base": {"x": 1, "z": 2}, "use": {"x": 1, "z": 3}, "list": [{"x": 1, "z": 2}]})
        );
        let (value, duplicates) = read(b"a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(value, json!({"a": 3, "b": 2}));
        assert_eq!(duplicates, ["yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"]);
        assert_eq!(yaml_to_value(b"# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn complaints_are_libyamls() {
        let text = |yaml: &str| yaml_to_value(yaml.as_bytes()).unwrap_err().to_string();
        assert_eq!(text("a: [b"), "yaml: line 1: did not find expected ',' or ']'");
        assert_eq!(text("\tx: y"), "yaml: found character that cannot start any token");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(yaml_to_value(text.as_bytes()).unwrap_err().to_string().contains("excessive aliasing"));
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1_000].join(", "));
        assert!(yaml_to_value(text.as_bytes()).unwrap_err().to_string().contains("excessive aliasing"));
    }
}
