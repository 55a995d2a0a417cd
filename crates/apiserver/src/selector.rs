//! Label and field selectors of list, watch and deletecollection, with upstream's parser errors.

use std::collections::BTreeMap;

use schema::field::{Error, Path};
use schema::validation::format;

use crate::status::ApiError;
use serde_json::Value;

/// What a requirement asks of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

/// A parsed label selector; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    /// Parses the query parameter.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        Parser::new(text).parse().map_err(ApiError::bad_request)
    }

    /// From a `metav1.LabelSelector`; `None` for an operator that does not exist.
    pub fn of(selector: &Value) -> Option<Self> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match expression["operator"].as_str()? {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return None,
            };
            let values = expression["values"].as_array().into_iter().flatten();
            requirements.push(Requirement {
                key: expression["key"].as_str()?.to_owned(),
                operator,
                values: values.filter_map(|value| value.as_str().map(str::to_owned)).collect(),
            });
        }
        Some(Self(requirements))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels.get(&requirement.key).map(String::as_str)))
    }
}

impl Requirement {
    fn matches(&self, label: Option<&str>) -> bool {
        let number = |label: Option<&str>| label.and_then(|text| text.parse::<i64>().ok());
        match self.operator {
            Operator::In => label.is_some_and(|label| self.values.iter().any(|value| value == label)),
            Operator::NotIn => !label.is_some_and(|label| self.values.iter().any(|value| value == label)),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan(bound) => number(label).is_some_and(|number| number > bound),
            Operator::LessThan(bound) => number(label).is_some_and(|number| number < bound),
        }
    }
}

const SPECIAL: &str = "=!(),><";

/// The grammar of `k8s.io/apimachinery/pkg/labels`, errors included.
struct Parser<'a> {
    tokens: Vec<&'a str>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if SPECIAL.contains(first) {
                if ["==", "!="].iter().any(|pair| rest.starts_with(pair)) { 2 } else { 1 }
            } else {
                rest.find(|c: char| SPECIAL.contains(c) || c.is_whitespace()).unwrap_or(rest.len())
            };
            tokens.push(&rest[..length]);
            rest = rest[length..].trim_start();
        }
        Self { tokens, position: 0 }
    }

    /// The next token without taking it; empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.position).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn is_identifier(token: &str) -> bool {
        token.chars().next().is_some_and(|first| !SPECIAL.contains(first))
    }

    fn parse(mut self) -> Result<LabelSelector, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                "" => break,
                token if token == "!" || Self::is_identifier(token) => {
                    let requirement = self
                        .requirement()
                        .map_err(|error| format!("unable to parse requirement: {error}"))?;
                    requirements.push(requirement);
                    match self.take() {
                        "" => break,
                        "," => {
                            let next = self.peek();
                            if next != "!" && !Self::is_identifier(next) {
                                return Err(format!("found '{next}', expected: identifier after ','"));
                            }
                        }
                        other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
                    }
                }
                other => return Err(format!("found '{other}', expected: !, identifier, or 'end of string'")),
            }
        }
        requirements.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
        Ok(LabelSelector(requirements))
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == "!";
        if negated {
            self.take();
        }
        let key = self.take();
        if !Self::is_identifier(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        check(format::label_key(key), &Path::root(), key)?;
        let key = key.to_owned();
        if negated || matches!(self.peek(), "" | ",") {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: Vec::new() });
        }
        let operator = self.take();
        let values = match operator {
            "in" | "notin" => self.values()?,
            "=" | "==" | "!=" | ">" | "<" => vec![self.exact_value()?],
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Self::checked(key, operator, values)
    }

    fn checked(key: String, operator: &str, values: Vec<String>) -> Result<Requirement, String> {
        let root = Path::new("values");
        let operator = match operator {
            ">" | "<" => {
                let Ok(number) = values[0].parse() else {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    return Err(Error::invalid(&root.index(0), values[0].as_str(), why).to_string());
                };
                if operator == ">" { Operator::GreaterThan(number) } else { Operator::LessThan(number) }
            }
            "in" | "notin" if values.is_empty() => {
                let why = "for 'in', 'notin' operators, values set can't be empty";
                return Err(Error::invalid(&root, serde_json::json!([]), why).to_string());
            }
            "in" | "=" | "==" => Operator::In,
            _ => Operator::NotIn,
        };
        for (index, value) in values.iter().enumerate() {
            check(format::label_value(value), &root.index(index).key(&key), value)?;
        }
        Ok(Requirement { key, operator, values })
    }

    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            token if Self::is_identifier(token) => Ok(self.take().to_owned()),
            other => Err(format!("found '{other}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.take();
        if open != "(" {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut values = Vec::new();
        match self.peek() {
            // As upstream, nothing between the parentheses is the empty value.
            ")" => {
                self.take();
                return Ok(vec![String::new()]);
            }
            token if token == "," || Self::is_identifier(token) => {}
            other => return Err(format!("found '{other}', expected: ',', ')' or identifier")),
        }
        loop {
            let mut value = String::new();
            if Self::is_identifier(self.peek()) {
                value = self.take().to_owned();
            }
            if !values.contains(&value) {
                values.push(value);
            }
            match self.take() {
                "," => {}
                ")" => break,
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
        values.sort();
        Ok(values)
    }
}

fn check(errors: Vec<String>, path: &Path<'_>, value: &str) -> Result<(), String> {
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid(path, value, errors.join("; ")).to_string()) }
}

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field, such as `spec.nodeName`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// True for `!=`.
    pub negated: bool,
}

/// A parsed field selector; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<FieldTerm>);

impl FieldSelector {
    /// Parses the query parameter: terms split at unescaped commas, `=`, `==` and `!=`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pieces = split_unescaped(text);
        pieces.sort_unstable();
        let mut terms = Vec::new();
        for term in pieces.into_iter().filter(|term| !term.is_empty()) {
            let place = term.char_indices().map(|(at, _)| at);
            let mut operators = place.filter_map(|at| {
                let operator =
                    ["!=", "==", "="].into_iter().find(|operator| term[at..].starts_with(operator))?;
                Some((&term[..at], operator, &term[at + operator.len()..]))
            });
            let Some((field, operator, value)) = operators.next() else {
                let why = format!("invalid selector: '{text}'; can't understand '{term}'");
                return Err(ApiError::bad_request(why));
            };
            let value = unescape(value)
                .map_err(|why| ApiError::bad_request(format!("invalid field selector: {why}")))?;
            // No field without a value is everything.
            if !field.is_empty() || !value.is_empty() {
                terms.push(FieldTerm { field: field.to_owned(), value, negated: operator == "!=" });
            }
        }
        Ok(Self(terms))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object is selected, asking `value` for its fields.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> &'a str) -> bool {
        self.0.iter().all(|term| (value(&term.field) == term.value) != term.negated)
    }

    /// The one name that can match, if the selector demands one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|term| !term.negated && term.field == field).map(|term| term.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' if !escaped => escaped = true,
            b',' if !escaped => {
                pieces.push(&text[start..index]);
                start = index + 1;
            }
            _ => escaped = false,
        }
    }
    pieces.push(&text[start..]);
    pieces
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => return Err(format!("invalid escape sequence: \\{next}")),
                None => return Err("invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("unescaped character in value: {}", c as u32)),
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn matches(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(LabelSelector::parse(selector).unwrap().matches(&labels), expected, "{selector}");
    }

    #[track_caller]
    fn fails(selector: &str, message: &str) {
        assert_eq!(LabelSelector::parse(selector).unwrap_err().message, message, "{selector}");
    }

    #[test]
    fn label_selectors_match() {
        let web = [("app", "web"), ("n", "5")];
        matches("", &web, true);
        matches("app=web,n in (4, 5)", &web, true);
        matches("app!=web", &web, false);
        matches("other!=web,!other", &web, true);
        matches("n>4,n<6", &web, true);
        matches("app notin (web)", &web, false);
        matches("in", &[("in", "")], true);
    }

    #[test]
    fn label_selector_errors_are_upstreams() {
        fails("n in", "unable to parse requirement: found '' expected: '('");
        fails("n=a=b", "found '=', expected: ',' or 'end of string'");
        fails("=a", "found '=', expected: !, identifier, or 'end of string'");
        fails("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
        fails("n in (a", "unable to parse requirement: found '', expected: ',' or ')'");
        fails("n=a,,m=b", "found ',', expected: identifier after ','");
    }

    #[test]
    fn field_selectors() {
        let value = |field: &str| if field == "metadata.name" { "a" } else { "" };
        assert!(FieldSelector::parse("metadata.name==a,x!=1").unwrap().matches(value));
        assert!(!FieldSelector::parse("metadata.name=a\\,b").unwrap().matches(value));
        assert_eq!(
            FieldSelector::parse("metadata.name>a").unwrap_err().message,
            "invalid selector: 'metadata.name>a'; can't understand 'metadata.name>a'"
        );
    }
}
