//! Go doc comments as OpenAPI descriptions: the `.docs` files beside the type table.
//!
//! One type a line, its fields below it, indented by two spaces: a name, a space, the text with `\n`
//! and `\\` escaped. `=Type.field` instead of a text means that the text is the same as there. Of an
//! enum, the text is what is added to the description of a field of its type. The rules that make a
//! description out of a comment are those of kube-openapi's generator.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The comment above a declaration, line by line, as Go's parser sees it.
#[derive(Default)]
pub struct Comment(Vec<String>);

impl Comment {
    /// Takes in one line of source, trimmed. A comment goes on; anything else ends it, and gets it.
    pub fn above(&mut self, source: &str) -> Vec<String> {
        if let Some(text) = source.strip_prefix("//") {
            self.push(text);
            return Vec::new();
        }
        let comment = self.take();
        // A comment behind code belongs to what stands on the next line, says Go's parser.
        if let Some((_, trailing)) = source.rsplit_once("` //") {
            self.push(trailing);
        }
        comment
    }

    fn push(&mut self, text: &str) {
        if !is_directive(text) {
            self.0.push(text.strip_prefix(' ').unwrap_or(text).trim_end().to_string());
        }
    }

    fn take(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.0);
        let start = lines.iter().position(|line| !line.is_empty()).unwrap_or(lines.len());
        lines.drain(..start);
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
        lines
    }
}

/// `//go:generate`, `//nolint:all`: not part of the text.
fn is_directive(text: &str) -> bool {
    let word = text.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).unwrap_or(0);
    word > 0
        && text[word..].starts_with(':')
        && text[word + 1..].starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The description that OpenAPI gets from a comment.
pub fn description(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines.iter().take_while(|line| *line != "---") {
        let line = line.trim_end_matches(' ');
        let leading = line.trim_start_matches(' ');
        if line.is_empty() {
            text.pop();
            text.push_str("\n\n");
        } else if leading.starts_with("TODO") || leading.starts_with('+') {
            // Notes and instructions.
        } else if line.starts_with([' ', '\t']) {
            text.pop();
            let _ = write!(text, "\n{line}\n");
        } else {
            let _ = write!(text, "{line} ");
        }
    }
    // What is added to the text of an enum's field begins a paragraph, and finds this one begun.
    let begun = if text.ends_with("\n\n") { "\n" } else { "" };
    match text.trim() {
        "" => String::new(),
        text => format!("{text}{begun}"),
    }
}

/// What is added to the description of fields of an enum: value, name of the constant, its comment.
pub fn enum_values<'a>(constants: impl Iterator<Item = (&'a str, &'a str, &'a [String])>) -> String {
    let mut by_value: BTreeMap<&str, (String, &str)> = BTreeMap::new();
    for (value, name, comment) in constants {
        let comment = comment.join(" ");
        let longer = |known: &(String, &str)| (comment.len(), &known.0) > (known.0.len(), &comment);
        if by_value.get(value).is_none_or(longer) {
            by_value.insert(value, (comment, name));
        }
    }
    let mut lines: Vec<String> = by_value
        .iter()
        .map(|(value, (comment, name))| {
            let comment = comment.trim();
            let comment = comment.strip_prefix(name).unwrap_or(comment);
            let words: Vec<&str> = comment.split_whitespace().collect();
            format!(" - `\"{value}\"` {}", words.join(" ")).trim_end().to_string()
        })
        .collect();
    lines.sort();
    format!("\n\nPossible enum values:\n{}", lines.join("\n"))
}

/// Writes a `.docs` file.
#[derive(Default)]
pub struct Docs {
    out: String,
    /// Where a text was written first.
    known: BTreeMap<String, String>,
}

impl Docs {
    /// A type and its text, which may be empty.
    pub fn of_type(&mut self, name: &str, text: &str) {
        let text = self.shared(name, text);
        let _ = writeln!(self.out, "{}", format!("{name} {text}").trim_end());
    }

    /// A field of the last type.
    pub fn of_field(&mut self, of: &str, name: &str, text: &str) {
        if !text.is_empty() {
            let text = self.shared(&format!("{of}.{name}"), text);
            let _ = writeln!(self.out, "  {name} {text}");
        }
    }

    fn shared(&mut self, place: &str, text: &str) -> String {
        if let Some(first) = self.known.get(text) {
            return format!("={first}");
        }
        if text.len() > place.len() {
            self.known.insert(text.to_string(), place.to_string());
        }
        text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
    }

    /// The file.
    pub fn finish(self) -> String {
        self.out
    }
}
