//! Label and field selectors.
//!
//! Source: `k8s.io/apimachinery/pkg/labels` and `…/fields`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A conjunction of requirements on labels. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold for it.
    pub operator: Operator,
}

/// What must hold for a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Present with one of the values (`a=b`, `a==b`, `a in (b, c)`).
    In(BTreeSet<String>),
    /// Absent or with another value (`a!=b`, `a notin (b, c)`).
    NotIn(BTreeSet<String>),
    /// Present (`a`).
    Exists,
    /// Absent (`!a`).
    DoesNotExist,
    /// A whole number above the bound (`a>5`).
    GreaterThan(i64),
    /// A whole number below the bound (`a<5`).
    LessThan(i64),
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct ParseError(pub String);

impl Selector {
    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Parses `a=b,c!=d,e in (f,g),!h,i,j>5`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { tokens: tokens(text)?, position: 0 };
        let mut requirements = parser.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// The selector for exactly these labels.
    pub fn of_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirements = labels
            .into_iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In(BTreeSet::from([value.clone()])),
            })
            .collect();
        Self { requirements }
    }

    /// The selector of an object's `spec.selector`. An unknown operator is an error; an empty
    /// selector matches everything, as upstream's `LabelSelectorAsSelector` does.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, ParseError> {
        let mut result = Self::of_labels(selector.match_labels.iter().flatten());
        for expression in selector.match_expressions.iter().flatten() {
            let values = || expression.values.iter().flatten().cloned().collect();
            let operator = match expression.operator.as_str() {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(ParseError(format!("{other:?} is not a valid label selector operator"))),
            };
            result.requirements.push(Requirement { key: expression.key.clone(), operator });
        }
        Ok(result)
    }

    /// Whether labels, looked up by key, satisfy every requirement.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.operator.holds(lookup(&requirement.key)))
    }

    /// Whether the labels satisfy every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether the labels of an object's metadata, which may be absent, satisfy every requirement.
    pub fn matches_optional(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_with(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
    }

    /// Whether the selector matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, sorted by key when parsed.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl Operator {
    /// Whether the operator holds for a label's value, `None` when the label is absent.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "=!(),><".contains(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.position).cloned();
        self.position += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, ParseError> {
        let mut requirements = Vec::new();
        while self.peek().is_some() {
            requirements.push(self.requirement()?);
            match self.next() {
                None => break,
                Some(Token::Symbol(",")) if self.peek().is_some() => {}
                Some(Token::Symbol(",")) => return Err(found("", "identifier after ','")),
                Some(other) => return Err(found(other.text(), "',' or 'end of string'")),
            }
        }
        Ok(requirements)
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        let negated = self.peek() == Some(&Token::Symbol("!"));
        if negated {
            self.position += 1;
        }
        let key = match self.next() {
            Some(Token::Word(word)) => word,
            other => return Err(found(other.as_ref().map_or("", Token::text), "identifier")),
        };
        check_key(&key)?;
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist });
        }
        let operator = match self.peek().cloned() {
            None | Some(Token::Symbol(",")) => Operator::Exists,
            Some(operator) => {
                self.position += 1;
                self.operator(&key, operator)?
            }
        };
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self, key: &str, operator: Token) -> Result<Operator, ParseError> {
        let one = |value: String| BTreeSet::from([value]);
        match operator.text() {
            "=" | "==" => Ok(Operator::In(one(self.value(key)?))),
            "!=" => Ok(Operator::NotIn(one(self.value(key)?))),
            "in" => Ok(Operator::In(self.values(key)?)),
            "notin" => Ok(Operator::NotIn(self.values(key)?)),
            "gt" | ">" => self.bound(key).map(Operator::GreaterThan),
            "lt" | "<" => self.bound(key).map(Operator::LessThan),
            other => Err(found(other, "in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn value(&mut self, key: &str) -> Result<String, ParseError> {
        let value = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            None | Some(Token::Symbol(",")) => return Ok(String::new()),
            Some(other) => return Err(found(other.text(), "identifier")),
        };
        self.position += 1;
        check_value(key, &value)?;
        Ok(value)
    }

    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, ParseError> {
        match self.next() {
            Some(Token::Symbol("(")) => {}
            other => return Err(found(other.as_ref().map_or("", Token::text), "'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Some(Token::Symbol(")")) => {
                    values.insert(String::new());
                    return Ok(values);
                }
                Some(Token::Symbol(",")) => {
                    values.insert(String::new());
                    continue;
                }
                Some(Token::Word(word)) => {
                    check_value(key, &word)?;
                    values.insert(word);
                }
                other => return Err(found(other.as_ref().map_or("", Token::text), "',', ')' or identifier")),
            }
            match self.next() {
                Some(Token::Symbol(")")) => return Ok(values),
                Some(Token::Symbol(",")) => {}
                other => return Err(found(other.as_ref().map_or("", Token::text), "',' or ')'")),
            }
        }
    }

    fn bound(&mut self, key: &str) -> Result<i64, ParseError> {
        let value = self.value(key)?;
        value.parse().map_err(|_| {
            ParseError(format!(
                "values[0][{key}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ))
        })
    }
}

fn found(found: &str, expected: &str) -> ParseError {
    ParseError(format!("found '{found}', expected: {expected}"))
}

const NAME_FORM: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_FORM: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn check_key(key: &str) -> Result<(), ParseError> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let problem = match name {
        "" => "name part must be non-empty",
        name if name.len() > 63 => "name part must be no more than 63 characters",
        name if !is_label_text(name) => NAME_FORM,
        _ => return Ok(()),
    };
    Err(ParseError(format!("key: Invalid value: {key:?}: {problem}")))
}

fn check_value(key: &str, value: &str) -> Result<(), ParseError> {
    let problem = match value {
        "" => return Ok(()),
        value if value.len() > 63 => "must be no more than 63 characters",
        value if !is_label_text(value) => VALUE_FORM,
        _ => return Ok(()),
    };
    Err(ParseError(format!("values[0][{key}]: Invalid value: {value:?}: {problem}")))
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    bytes.iter().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// A conjunction of comparisons of fields with values, as in `?fieldSelector=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The comparisons.
    pub terms: Vec<FieldTerm>,
}

/// One comparison of a [`FieldSelector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Path of the field, e.g. `spec.nodeName`.
    pub field: String,
    /// The value to compare with.
    pub value: String,
    /// Whether the field must have the value (`=`) or not (`!=`).
    pub equal: bool,
}

impl FieldSelector {
    /// Parses `a=b,c!=d`; `\,`, `\=` and `\\` stand for themselves in values.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in split_escaped(text) {
            if term.is_empty() {
                continue;
            }
            let (field, value, equal) = split_term(&term)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            terms.push(FieldTerm { field: field.to_owned(), value: unescape(value)?, equal });
        }
        Ok(Self { terms })
    }

    /// Whether fields, looked up by path, satisfy every comparison. An unknown field is empty.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (lookup(&term.field).unwrap_or("") == term.value) == term.equal)
    }

    /// The value that `field` must have, if the selector says so.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// Whether the selector matches everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

fn split_escaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    for (at, _) in term.char_indices() {
        let rest = &term[at..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..at], value, equal));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut result = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => result.push(escaped),
                _ => return Err(format!("invalid field selector: invalid escape sequence in {value:?}")),
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in {value:?}: {c}"));
            }
            c => result.push(c),
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn selectors_match_as_upstream() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("size", "7")]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (api, web)", true),
            ("app notin (web)", false),
            ("missing notin (web)", true),
            ("!missing", true),
            ("!app", false),
            ("app", true),
            ("size>5,size<10", true),
            ("size>7", false),
            ("missing!=x", true),
            ("app=", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&web), expected, "{text}");
        }
    }

    #[test]
    fn bad_selectors_are_explained() {
        for text in ["app in", "app in (a", "=x", "a=b=c", ",", "a,", "x y", "-a", "a=-b", "a>x"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn printing_is_canonical() {
        let text = Selector::parse("b in (y,x), a==1 ,!c").unwrap().to_string();
        assert_eq!(text, "a=1,b in (x,y),!c");
    }

    #[test]
    fn field_selectors_compare_and_unescape() {
        let selector = FieldSelector::parse(r"spec.nodeName=n\,1,status.phase!=Running").unwrap();
        assert_eq!(selector.required_value("spec.nodeName"), Some("n,1"));
        let lookup = |phase: &'static str| {
            selector.matches_with(move |field| match field {
                "spec.nodeName" => Some("n,1"),
                _ => Some(phase),
            })
        };
        assert!(lookup("Pending"));
        assert!(!lookup("Running"));
        assert!(FieldSelector::parse("nonsense").is_err());
    }
}
