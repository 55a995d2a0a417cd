//! The paths of `fieldPath` and of selectable fields, checked against a schema.

use super::Structural;

/// A checked path, ready to be put behind another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath {
    /// As error paths print it: `spec.labels[a.b]`.
    pub text: String,
    /// Its first field.
    pub root: String,
}

/// Checks that a path of fields and map keys (`.a.b['c']`) leads to a field of the schema, and
/// answers the schema there. Array notation may be ruled out.
pub fn valid_field_path<'s>(
    path: &str,
    schema: &'s Structural,
    allow_brackets: bool,
) -> Result<(FieldPath, &'s Structural), String> {
    let mut found = FieldPath::default();
    let mut schema = schema;
    let mut tokens = Tokens(path);
    let ended = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        match token {
            "[" if !allow_brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or_else(ended)?;
                let inner = quoted.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
                let inner = inner.filter(|_| quoted.len() >= 2);
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(inner).map_err(|e| format!("invalid string literal: {e}"))?;
                schema = step(&mut found, schema, &name)?;
                let close = tokens.next().ok_or_else(ended)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
            }
            "." => schema = step(&mut found, schema, tokens.next().ok_or_else(ended)?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok((found, schema))
}

fn step<'s>(path: &mut FieldPath, schema: &'s Structural, name: &str) -> Result<&'s Structural, String> {
    let nowhere = || "does not refer to a valid field".to_owned();
    if path.root.is_empty() {
        path.root = name.to_owned();
    }
    if schema.properties.is_empty() {
        path.text.push_str(&format!("[{name}]"));
        return schema.additional_schema().ok_or_else(nowhere);
    }
    if !path.text.is_empty() {
        path.text.push('.');
    }
    path.text.push_str(name);
    schema.properties.get(name).ok_or_else(nowhere)
}

/// `.`, `[`, `]`, quoted strings with their quotes, and everything between.
struct Tokens<'p>(&'p str);

impl<'p> Iterator for Tokens<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let text = self.0;
        let first = text.chars().next()?;
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = text.as_bytes();
                let closing = (1..bytes.len()).find(|i| bytes[*i] == b'\'' && bytes[*i - 1] != b'\\');
                closing.map_or(text.len(), |i| i + 1)
            }
            _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(c @ ('\'' | '\\')) => out.push(c),
            Some(other) => return Err(format!("invalid escape char \\{other}")),
            None => out.push('\\'),
        }
    }
    Ok(out)
}
