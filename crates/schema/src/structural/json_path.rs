//! JSONPath as client-go speaks it: `{.status.conditions[?(@.type=="Ready")].status}`.
//!
//! Written for printer columns, selectable fields and kubectl-like templates of one action; `range` and `end`
//! are not supported, missing keys are no errors.

use std::borrow::Cow;

use serde_json::Value;

/// How deep expressions may nest (unions and filters), and how many values a path may find.
const MAX_DEPTH: usize = 16;
const MAX_FOUND: usize = 10_000;

/// A compiled path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    /// Each action and text between actions; the first counts.
    parts: Vec<Vec<Node>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Number(Value),
    Bool(bool),
    Field(String),
    Wildcard,
    Recursive,
    Slice {
        from: Option<i64>,
        to: To,
        step: Option<i64>,
    },
    Union(Vec<Vec<Node>>),
    Filter {
        left: Vec<Node>,
        right: Vec<Node>,
        operator: String,
    },
    /// A word that means nothing here; fails when evaluated.
    Identifier(String),
}

/// The end of a slice.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Open,
    Given(i64),
    /// One after the start: the slice is an index.
    Next,
}

/// Values on their way through a path: most are part of the object.
type Found<'a> = Vec<Cow<'a, Value>>;

impl JsonPath {
    /// Parses a template such as `{.a.b}`. The errors are client-go's.
    pub fn parse(template: &str) -> Result<JsonPath, String> {
        Ok(JsonPath { parts: template_parts(template, 0)? })
    }

    /// The values that the template's first action finds in an object.
    pub fn find<'a>(&self, object: &'a Value) -> Result<Found<'a>, String> {
        let mut results = Vec::new();
        for (i, part) in self.parts.iter().enumerate() {
            // All actions are evaluated, so that errors anywhere count.
            let found = walk_list(vec![Cow::Borrowed(object)], part)?;
            if i == 0 {
                results = found;
            }
        }
        Ok(results)
    }
}

/// Go's text of a found value: JSON for objects and lists.
pub fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Object(_) | Value::Array(_) => {
            value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => super::value::go_float(n.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

fn template_parts(text: &str, depth: usize) -> Result<Vec<Vec<Node>>, String> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply".to_owned());
    }
    let mut parser = Parser { input: text, at: 0, depth };
    let mut parts = Vec::new();
    while parser.at < text.len() {
        match text[parser.at..].find('{') {
            Some(0) => {
                parser.at += 1;
                parts.push(parser.action()?);
            }
            found => {
                let end = found.map_or(text.len(), |i| parser.at + i);
                parts.push(vec![Node::Text(text[parser.at..end].to_owned())]);
                parser.at = end;
            }
        }
    }
    Ok(parts)
}

/// Parses what could stand inside of an action.
fn action(text: &str, depth: usize) -> Result<Vec<Node>, String> {
    let parts = template_parts(&format!("{{{text}}}"), depth + 1)?;
    Ok(parts.into_iter().next().unwrap_or_default())
}

struct Parser<'t> {
    input: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.input[self.at..]
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn action(&mut self) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        loop {
            if self.rest().starts_with('}') {
                self.at += 1;
                return Ok(nodes);
            }
            if self.rest().starts_with("[?(") {
                nodes.push(self.filter()?);
                continue;
            }
            if self.rest().starts_with("..") {
                if nodes.last() == Some(&Node::Recursive) {
                    return Err("invalid multiple recursive descent".to_owned());
                }
                self.at += 2;
                nodes.push(Node::Recursive);
                if self.rest().starts_with(alphanumeric) {
                    nodes.push(self.field());
                }
                continue;
            }
            let start = self.at;
            match self.next() {
                None | Some('\r' | '\n') => return Err("unclosed action".to_owned()),
                Some(' ' | '@' | '$') => {}
                Some('[') => self.array(&mut nodes)?,
                Some(quote @ ('"' | '\'')) => nodes.push(self.quoted(start, quote)?),
                Some('.') => nodes.push(self.field()),
                Some(c) if c == '+' || c == '-' || c.is_ascii_digit() => nodes.push(self.number(start)?),
                Some(c) if alphanumeric(c) => {
                    self.at = start;
                    nodes.push(self.identifier());
                }
                Some(c) => {
                    return Err(format!("unrecognized character in action: U+{:04X} '{c}'", c as u32));
                }
            }
        }
    }

    fn field(&mut self) -> Node {
        let start = self.at;
        while let Some(c) = self.rest().chars().next() {
            if terminator(c) {
                break;
            }
            self.next();
            if c == '\\' {
                self.next();
            }
        }
        match &self.input[start..self.at] {
            "*" => Node::Wildcard,
            name => Node::Field(name.replace('\\', "")),
        }
    }

    fn identifier(&mut self) -> Node {
        let end = self.rest().find(terminator).unwrap_or(self.rest().len());
        let name = &self.rest()[..end];
        self.at += end;
        match name {
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            name => Node::Identifier(name.to_owned()),
        }
    }

    fn number(&mut self, start: usize) -> Result<Node, String> {
        let digits = self.rest().find(|c: char| c != '.' && !c.is_ascii_digit());
        self.at += digits.unwrap_or(self.rest().len());
        let text = &self.input[start..self.at];
        let whole = text.parse::<i64>().map(Value::from);
        let number = whole.ok().or_else(|| text.parse::<f64>().ok().map(Value::from));
        number.map(Node::Number).ok_or_else(|| format!("cannot parse number {text}"))
    }

    fn quoted(&mut self, start: usize, quote: char) -> Result<Node, String> {
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some('\\') => match self.next() {
                    Some(c) if c == quote || c == '\\' => text.push(c),
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    _ => {
                        let shown = &self.input[start..self.at];
                        return Err(format!("unquote string {shown} error invalid syntax"));
                    }
                },
                Some(c) if c == quote => return Ok(Node::Text(text)),
                Some(c) => text.push(c),
            }
        }
    }

    fn array(&mut self, nodes: &mut Vec<Node>) -> Result<(), String> {
        let unterminated = || "unterminated array".to_owned();
        let end = self.rest().find([']', '\n']).ok_or_else(unterminated)?;
        let text = &self.rest()[..end];
        if self.rest()[end..].starts_with('\n') {
            return Err(unterminated());
        }
        self.at += end + 1;
        let text = if text == "*" { ":" } else { text };
        if text.contains(',') {
            let parts =
                text.split(',').map(|part| action(&format!("[{}]", part.trim_matches(' ')), self.depth));
            nodes.push(Node::Union(parts.collect::<Result<_, _>>()?));
            return Ok(());
        }
        let key = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
        if let Some(key) = key.filter(|key| !key.contains('\'')) {
            nodes.extend(action(&format!(".{key}"), self.depth)?);
            return Ok(());
        }
        nodes.push(slice(text)?);
        Ok(())
    }

    fn filter(&mut self) -> Result<Node, String> {
        self.at += 3;
        let start = self.at;
        let (mut pair, mut closed) = (None, false);
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated filter".to_owned()),
                Some(c @ ('"' | '\'')) => match pair {
                    None => pair = Some(c),
                    Some(open) if open == c && !self.input[..self.at - 1].ends_with('\\') => closed = true,
                    Some(_) => {}
                },
                Some(')') if pair.is_some() == closed => break,
                Some(_) => {}
            }
        }
        let text = &self.input[start..self.at - 1];
        if self.next() != Some(']') {
            return Err("unclosed array expect ]".to_owned());
        }
        let operator = |c: char| matches!(c, '!' | '<' | '>' | '=');
        let (Some(from), depth) = (text.find(operator).filter(|i| *i > 0), self.depth) else {
            return Ok(Node::Filter {
                left: action(text, self.depth)?,
                right: Vec::new(),
                operator: "exists".to_owned(),
            });
        };
        let length = text[from..].find(|c| !operator(c)).unwrap_or(text.len() - from);
        let (left, rest) = text.split_at(from);
        let (sign, right) = rest.split_at(length);
        if right.is_empty() {
            return Err(format!("unrecognized filter {text}"));
        }
        Ok(Node::Filter {
            left: action(left, depth)?,
            right: action(right, depth)?,
            operator: sign.to_owned(),
        })
    }
}

fn slice(text: &str) -> Result<Node, String> {
    let wrong = || format!("invalid array index {text}");
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || text.is_empty() {
        return Err(wrong());
    }
    let number = |part: &str| match part {
        "" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| wrong()),
    };
    let from = number(parts[0])?;
    let to = match parts.get(1) {
        None => To::Next,
        Some(part) => number(part)?.map_or(To::Open, To::Given),
    };
    Ok(Node::Slice { from, to, step: number(parts.get(2).copied().unwrap_or_default())? })
}

fn alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn terminator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

fn walk_list<'a>(mut values: Found<'a>, nodes: &[Node]) -> Result<Found<'a>, String> {
    for node in nodes {
        values = walk(values, node)?;
        values.truncate(MAX_FOUND);
    }
    Ok(values)
}

fn walk<'a>(values: Found<'a>, node: &Node) -> Result<Found<'a>, String> {
    let constant = |value: Value| Ok(values.iter().map(|_| Cow::Owned(value.clone())).collect());
    match node {
        Node::Text(text) => Ok(vec![Cow::Owned(Value::from(text.as_str()))]),
        Node::Number(number) => constant(number.clone()),
        Node::Bool(b) => constant((*b).into()),
        Node::Identifier(name) => Err(format!("unrecognized identifier {name}")),
        Node::Field(name) => Ok(values.into_iter().filter_map(|v| child(v, name)).collect()),
        Node::Wildcard => Ok(values.into_iter().flat_map(children).collect()),
        Node::Recursive => {
            let mut found = Vec::new();
            values.into_iter().for_each(|value| descend(value, &mut found));
            Ok(found)
        }
        Node::Slice { from, to, step } => {
            let mut found = Vec::new();
            for value in values {
                found.extend(slice_of(value, *from, *to, *step)?);
            }
            Ok(found)
        }
        Node::Union(parts) => {
            let mut found = Vec::new();
            for part in parts {
                found.extend(walk_list(values.clone(), part)?);
            }
            Ok(found)
        }
        Node::Filter { left, right, operator } => filter(values, left, right, operator),
    }
}

fn child<'a>(value: Cow<'a, Value>, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => value.get(name).map(Cow::Borrowed),
        Cow::Owned(value) => value.get(name).cloned().map(Cow::Owned),
    }
}

fn children(value: Cow<'_, Value>) -> Found<'_> {
    match value {
        Cow::Borrowed(Value::Object(entries)) => entries.values().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Owned(Value::Object(entries)) => entries.into_iter().map(|(_, v)| Cow::Owned(v)).collect(),
        Cow::Owned(Value::Array(items)) => items.into_iter().map(Cow::Owned).collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: Cow<'a, Value>, found: &mut Found<'a>) {
    let below = children(value.clone());
    if !below.is_empty() && found.len() < MAX_FOUND {
        found.push(value);
        below.into_iter().for_each(|value| descend(value, found));
    }
}

fn items_of(value: Cow<'_, Value>) -> Result<Found<'_>, String> {
    match &*value {
        Value::Array(_) => Ok(children(value)),
        other => Err(format!("{} is not array or slice", super::go_json::type_of(other))),
    }
}

fn slice_of(
    value: Cow<'_, Value>,
    from: Option<i64>,
    to: To,
    step: Option<i64>,
) -> Result<Found<'_>, String> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let items = items_of(value)?;
    let length = items.len() as i64;
    let given = from.unwrap_or(0);
    let start = if given < 0 { given.saturating_add(length) } else { given };
    let end = match to {
        To::Open => length,
        To::Given(n) if n < 0 => n.saturating_add(length),
        To::Given(n) => n,
        To::Next if given < 0 => given.saturating_add(1).saturating_add(length),
        To::Next => given.saturating_add(1),
    };
    if start == end {
        return Ok(Vec::new());
    }
    if start < 0 || start >= length {
        return Err(format!("array index out of bounds: index {start}, length {length}"));
    }
    if end < 0 || end > length {
        return Err(format!("array index out of bounds: index {}, length {length}", end - 1));
    }
    if start > end {
        return Err(format!("starting index {start} is greater than ending index {end}"));
    }
    let step = match step {
        Some(..=0) => return Err("step must be > 0".to_owned()),
        Some(step) => usize::try_from(step).unwrap_or(usize::MAX),
        None => 1,
    };
    let (start, count) = (start as usize, (end - start) as usize);
    Ok(items.into_iter().skip(start).take(count).step_by(step).collect())
}

fn filter<'a>(values: Found<'a>, left: &[Node], right: &[Node], operator: &str) -> Result<Found<'a>, String> {
    let mut found = Vec::new();
    for value in values {
        let shown = print(&value);
        let items =
            items_of(value).map_err(|_| format!("{shown} is not array or slice and cannot be filtered"))?;
        for item in items {
            let lefts = walk_list(vec![item.clone()], left);
            if operator == "exists" {
                if lefts.is_ok_and(|found| !found.is_empty()) {
                    found.push(item);
                }
                continue;
            }
            let (lefts, rights) = (lefts?, walk_list(vec![item.clone()], right)?);
            let (left, right) = match (&lefts[..], &rights[..]) {
                ([], _) | (_, []) => continue,
                ([left], [right]) => (left, right),
                _ => return Err("can only compare one element at a time".to_owned()),
            };
            if compare(left, right, operator)? {
                found.push(item.clone());
            }
        }
    }
    Ok(found)
}

/// As Go templates compare: only values of one kind.
fn compare(left: &Value, right: &Value, operator: &str) -> Result<bool, String> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let incompatible = || "incompatible types for comparison".to_owned();
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => left.cmp(&right),
            (None, None) => left.as_f64().partial_cmp(&right.as_f64()).ok_or_else(incompatible)?,
            _ => return Err(incompatible()),
        },
        (Value::Bool(left), Value::Bool(right)) if matches!(operator, "==" | "!=") => left.cmp(right),
        _ => return Err(incompatible()),
    };
    match operator {
        "<" => Ok(order == Less),
        ">" => Ok(order == Greater),
        "==" => Ok(order == Equal),
        "!=" => Ok(order != Equal),
        "<=" => Ok(order != Greater),
        ">=" => Ok(order != Less),
        other => Err(format!("unrecognized filter operator {other}")),
    }
}
