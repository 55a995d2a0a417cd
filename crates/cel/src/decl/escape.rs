//! Property names as CEL identifiers.

use std::borrow::Cow;

/// Words that are not identifiers in CEL.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The sequences and what stands for them.
const SEQUENCES: [(&str, &str); 4] = [("underscores", "__"), ("dot", "."), ("dash", "-"), ("slash", "/")];

/// Whether the word is reserved in CEL.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// The identifier for a property, or `None` if the name cannot be written as one.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((sequence, plain)) = SEQUENCES.iter().find(|(_, plain)| rest.starts_with(plain)) {
            escaped.push_str(&format!("__{sequence}__"));
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(escaped)
}

/// The property for an identifier, or `None` if it holds a sequence that stands for nothing.
pub fn unescape(identifier: &str) -> Option<String> {
    let mut name = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(start) = rest.find("__") {
        // A sequence is `__`, at least one character that is no underscore, `__`.
        let body = &rest[start + 2..];
        let end = body.find('_').unwrap_or(body.len());
        if end == 0 || !body[end..].starts_with("__") {
            // Not the beginning of a sequence: one underscore is passed over.
            let next = start + 1;
            name.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let word = &body[..end];
        let plain: Cow<'_, str> = match SEQUENCES.iter().find(|(sequence, _)| *sequence == word) {
            Some((_, plain)) => Cow::Borrowed(plain),
            None if is_reserved(word) && identifier.len() == word.len() + 4 => Cow::Borrowed(word),
            None => return None,
        };
        name.push_str(&rest[..start]);
        name.push_str(&plain);
        rest = &body[end + 2..];
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_identifiers_and_back() {
        let cases = [
            ("a", "a"),
            ("a.b", "a__dot__b"),
            ("a-b/c", "a__dash__b__slash__c"),
            ("a__b", "a__underscores__b"),
            ("namespace", "__namespace__"),
            ("_a", "_a"),
            ("___", "__underscores___"),
        ];
        for (name, identifier) in cases {
            assert_eq!(escape(name).as_deref(), Some(identifier), "{name}");
            assert_eq!(unescape(identifier).as_deref(), Some(name), "{identifier}");
        }
        for name in ["", "1a", "a b", "$ref", "é"] {
            assert_eq!(escape(name), None, "{name}");
        }
        for identifier in ["__unknown__", "a__if__", "__namespace__s"] {
            assert_eq!(unescape(identifier), None, "{identifier}");
        }
    }
}
