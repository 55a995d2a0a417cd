//! Where a rule was broken and how: field paths, validation errors and their exact texts.
//!
//! The texts are those of upstream's `k8s.io/apimachinery/pkg/util/validation/field`; clients and
//! tests match on them.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::rc::Rc;

pub use base::gotext::quote;
use serde_json::Value;

/// The way from an object's root to one of its fields.
///
/// Shares its front with the paths it was made from, and becomes text only when an error needs it. Most paths
/// lead to a field without fields of its own: their last step costs no allocation.
#[derive(Clone, Debug, Default)]
pub struct Path<'a> {
    front: Option<Rc<Link<'a>>>,
    /// The last step, unless it is the front's.
    last: Option<Step<'a>>,
}

#[derive(Debug)]
struct Link<'a> {
    parent: Option<Rc<Link<'a>>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself; prints as `<nil>`, as upstream's nil path does.
    pub const fn root() -> Self {
        Path { front: None, last: None }
    }

    /// A path of one field.
    pub fn new(name: &'a str) -> Self {
        Path::root().child(name)
    }

    /// The field `name` of the struct here: `spec` → `spec.name`.
    pub fn child(&self, name: &'a str) -> Self {
        self.step(Step::Child(name))
    }

    /// The item at `index` of the list here: `ports` → `ports[0]`.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// The entry `key` of the map here: `labels` → `labels[key]`.
    pub fn key(&self, key: &'a str) -> Self {
        self.step(Step::Key(key))
    }

    fn step(&self, step: Step<'a>) -> Self {
        Path { front: self.clone().shared().front, last: Some(step) }
    }

    /// The same path, as the front that many others will share.
    pub(crate) fn shared(self) -> Self {
        match self.last {
            Some(step) => Path { front: Some(Rc::new(Link { parent: self.front, step })), last: None },
            None => self,
        }
    }

    fn render(&self, out: &mut String) {
        if let Some(front) = &self.front {
            front.render(out);
        }
        if let Some(last) = self.last {
            last.render(out);
        }
    }
}

impl Link<'_> {
    fn render(&self, out: &mut String) {
        if let Some(parent) = &self.parent {
            parent.render(out);
        }
        self.step.render(out);
    }
}

impl Step<'_> {
    fn render(self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            // Upstream's path of a field without a name.
            Step::Child("") => write!(out, "[]"),
            Step::Child(name) if out.is_empty() => write!(out, "{name}"),
            Step::Child(name) => write!(out, ".{name}"),
            Step::Index(index) => write!(out, "[{index}]"),
            Step::Key(key) => write!(out, "[{key}]"),
        };
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.render(&mut text);
        f.write_str(if text.is_empty() { "<nil>" } else { &text })
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A reference leads nowhere.
    NotFound,
    /// Nothing where something must be.
    Required,
    /// Not unique where it must be.
    Duplicate,
    /// Malformed or out of bounds.
    Invalid,
    /// Not one of an enumeration.
    NotSupported,
    /// Well formed, but not allowed here.
    Forbidden,
    /// Longer than allowed; the value is not repeated.
    TooLong,
    /// Shorter than allowed; the value is not repeated.
    TooShort,
    /// More items than allowed.
    TooMany,
    /// Fewer items than needed.
    TooFew,
    /// Our fault, not the user's.
    Internal,
    /// Of another JSON type than the schema says.
    TypeInvalid,
}

impl Kind {
    /// The machine-readable reason in a `StatusCause`.
    pub fn reason(self) -> &'static str {
        match self {
            Kind::NotFound => "FieldValueNotFound",
            Kind::Required => "FieldValueRequired",
            Kind::Duplicate => "FieldValueDuplicate",
            Kind::Invalid => "FieldValueInvalid",
            Kind::NotSupported => "FieldValueNotSupported",
            Kind::Forbidden => "FieldValueForbidden",
            Kind::TooLong => "FieldValueTooLong",
            Kind::TooShort => "FieldValueTooShort",
            Kind::TooMany => "FieldValueTooMany",
            Kind::TooFew => "FieldValueTooFew",
            Kind::Internal => "InternalError",
            Kind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Kind::NotFound => "Not found",
            Kind::Required => "Required value",
            Kind::Duplicate => "Duplicate value",
            Kind::Invalid | Kind::TypeInvalid => "Invalid value",
            Kind::NotSupported => "Unsupported value",
            Kind::Forbidden => "Forbidden",
            Kind::TooLong => "Too long",
            Kind::TooShort => "Too short",
            Kind::TooMany => "Too many",
            Kind::TooFew => "Too few",
            Kind::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        use Kind::{Forbidden, Internal, Required, TooLong, TooShort};
        !matches!(self, Required | Forbidden | TooLong | TooShort | Internal)
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub kind: Kind,
    /// The rendered path of the field.
    pub field: String,
    /// The offending value; `None` leaves it out of the text.
    pub value: Option<Value>,
    /// More for humans; may be empty.
    pub detail: String,
}

impl Error {
    fn new(kind: Kind, path: &Path<'_>, value: Option<Value>, detail: impl Into<String>) -> Self {
        Error { kind, field: path.to_string(), value, detail: detail.into() }
    }

    /// "Required value".
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Error::new(Kind::Required, path, None, detail)
    }

    /// "Invalid value".
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, path, Some(value.into()), detail)
    }

    /// "Invalid value" for a value of the wrong JSON type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Error::new(Kind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// "Unsupported value", followed by the values there are, in the given order.
    pub fn not_supported(path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = match quoted.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", quoted.join(", ")),
        };
        Error::new(Kind::NotSupported, path, Some(value.into()), detail)
    }

    /// "Duplicate value".
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Error::new(Kind::Duplicate, path, Some(value.into()), "")
    }

    /// "Duplicate value" of an internal type of upstream's, shown as it prints there.
    pub fn duplicate_internal(path: &Path<'_>, shown: &str, detail: &str) -> Self {
        let separator = if detail.is_empty() { "" } else { ": " };
        Error::new(Kind::Duplicate, path, None, format!("{shown}{separator}{detail}"))
    }

    /// "Unsupported value" of an internal type of upstream's, shown as it prints there.
    pub fn not_supported_internal(path: &Path<'_>, shown: &str, supported: &[&str]) -> Self {
        let mut error = Error::not_supported(path, Value::Null, supported);
        error.value = None;
        error.detail = format!("{shown}: {}", error.detail);
        error
    }

    /// "Forbidden".
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Error::new(Kind::Forbidden, path, None, detail)
    }

    /// "Not found".
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Error::new(Kind::NotFound, path, Some(value.into()), "")
    }

    /// "Too long", in bytes.
    pub fn too_long(path: &Path<'_>, max_bytes: usize) -> Self {
        let detail = format!("may not be more than {}", counted(max_bytes, "byte"));
        Error::new(Kind::TooLong, path, None, detail)
    }

    /// "Too long", in characters.
    pub fn too_long_characters(path: &Path<'_>, max_characters: usize) -> Self {
        let detail = format!("may not be more than {}", counted(max_characters, "character"));
        Error::new(Kind::TooLong, path, None, detail)
    }

    /// "Too short", in characters.
    pub fn too_short(path: &Path<'_>, min_characters: usize) -> Self {
        let detail = format!("must be at least {}", counted(min_characters, "character"));
        Error::new(Kind::TooShort, path, None, detail)
    }

    /// "Too many": a list of `actual` items where at most `max` may be.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {}", counted(max, "item"));
        Error::new(Kind::TooMany, path, Some(actual.into()), detail)
    }

    /// "Too few": a list of `actual` items where at least `min` must be.
    pub fn too_few(path: &Path<'_>, actual: usize, min: usize) -> Self {
        let detail = format!("must have at least {}", counted(min, "item"));
        Error::new(Kind::TooFew, path, Some(actual.into()), detail)
    }

    /// "Internal error".
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Error::new(Kind::Internal, path, None, detail)
    }

    /// The text without the field, as `StatusCause.message` has it.
    pub fn body(&self) -> String {
        let mut body = self.kind.text().to_owned();
        if let (true, Some(value)) = (self.kind.shows_value(), &self.value) {
            body += ": ";
            match value {
                Value::String(text) => body += &quote(text),
                other => body += &go_json(other),
            }
        }
        if !self.detail.is_empty() {
            body += ": ";
            body += &self.detail;
        }
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// One entry of a Status's `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueRequired` and so on.
    pub reason: &'static str,
    /// The error's text without the field.
    pub message: String,
    /// The field's path.
    pub field: String,
}

/// More broken rules are not kept: an object has as many items as its sender likes, and nobody reads that far.
const MAX_ERRORS: usize = 10_000;
/// Nor are errors that show more values than this, all together: one may repeat a whole list for each of its items.
const MAX_SHOWN_BYTES: usize = 16 << 20;

/// All broken rules of one object, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct ErrorList {
    errors: Vec<Error>,
    /// About how many bytes the values of the errors take.
    shown: usize,
}

impl PartialEq for ErrorList {
    fn eq(&self, other: &Self) -> bool {
        self.errors == other.errors
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 16,
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| key.len() + weight(value)).sum::<usize>() + 16
        }
        _ => 8,
    }
}

impl ErrorList {
    /// Nothing wrong yet.
    pub const fn new() -> Self {
        ErrorList { errors: Vec::new(), shown: 0 }
    }

    /// Adds one error.
    pub fn push(&mut self, error: Error) {
        if !self.is_full() {
            self.shown += error.value.as_ref().map_or(0, weight);
            self.errors.push(error);
        }
    }

    /// Whether further errors would not be kept, so that there is no need to look for them.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS || self.shown >= MAX_SHOWN_BYTES
    }

    /// Whether no rule was broken.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// How many rules were broken, repetitions included.
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// The errors in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.errors.iter()
    }

    /// Errors as causes of a Status; unlike the message, with repetitions.
    pub fn causes(&self) -> Vec<Cause> {
        let cause = |e: &Error| Cause { reason: e.kind.reason(), message: e.body(), field: e.field.clone() };
        self.errors.iter().map(cause).collect()
    }

    /// All errors in one text: `a`, or `[a, b]`; each text once. Empty if there are none.
    pub fn message(&self) -> String {
        let mut seen = BTreeSet::new();
        let mut texts = Vec::new();
        for error in &self.errors {
            let text = error.to_string();
            if seen.insert(text.clone()) {
                texts.push(text);
            }
        }
        match texts.len() {
            0 | 1 => texts.pop().unwrap_or_default(),
            _ => format!("[{}]", texts.join(", ")),
        }
    }
}

impl Extend<Error> for ErrorList {
    fn extend<T: IntoIterator<Item = Error>>(&mut self, errors: T) {
        errors.into_iter().for_each(|error| self.push(error));
    }
}

impl FromIterator<Error> for ErrorList {
    fn from_iter<T: IntoIterator<Item = Error>>(errors: T) -> Self {
        let mut list = ErrorList::new();
        list.extend(errors);
        list
    }
}

impl IntoIterator for ErrorList {
    type Item = Error;
    type IntoIter = std::vec::IntoIter<Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'a> IntoIterator for &'a ErrorList {
    type Item = &'a Error;
    type IntoIter = std::slice::Iter<'a, Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.iter()
    }
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// JSON as Go's `encoding/json` writes it: `<`, `>` and `&` escaped.
pub(crate) fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_print_children_indexes_and_keys() {
        let containers = Path::new("spec").child("containers");
        assert_eq!(containers.index(3).child("name").to_string(), "spec.containers[3].name");
        assert_eq!(Path::new("metadata").child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
        assert_eq!(Path::root().to_string(), "<nil>");
    }

    #[test]
    fn errors_print_as_upstream() {
        let at = Path::new("spec").child("x");
        let list: ErrorList = [
            Error::required(&at, ""),
            Error::required(&at, "can not be empty"),
            Error::invalid(&at, "a\"b\n", "must be nicer"),
            Error::invalid(&at, 17, ""),
            Error::invalid(&at, json!({"a": "<b>"}), "no objects"),
            Error::not_supported(&at, "C", &["A", "B"]),
            Error::duplicate(&at, "twice"),
            Error::forbidden(&at, "not now"),
            Error::too_long(&at, 1),
            Error::too_long_characters(&at, 63),
            Error::too_many(&at, 5, 1),
            Error::not_found(&at, "gone"),
            Error::required(&at, ""),
        ]
        .into_iter()
        .collect();
        let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
        expect![[r#"
            spec.x: Required value
            spec.x: Required value: can not be empty
            spec.x: Invalid value: "a\"b\n": must be nicer
            spec.x: Invalid value: 17
            spec.x: Invalid value: {"a":"\u003cb\u003e"}: no objects
            spec.x: Unsupported value: "C": supported values: "A", "B"
            spec.x: Duplicate value: "twice"
            spec.x: Forbidden: not now
            spec.x: Too long: may not be more than 1 byte
            spec.x: Too long: may not be more than 63 characters
            spec.x: Too many: 5: must have at most 1 item
            spec.x: Not found: "gone"
            spec.x: Required value"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn one_error_stands_alone_and_repetitions_are_said_once() {
        let at = Path::new("a");
        let mut list = ErrorList::new();
        assert_eq!(list.message(), "");
        list.push(Error::required(&at, ""));
        list.push(Error::required(&at, ""));
        assert_eq!(list.message(), "a: Required value");
        list.push(Error::forbidden(&at, "b"));
        assert_eq!(list.message(), "[a: Required value, a: Forbidden: b]");
        assert_eq!(list.causes().len(), 3);
    }
}
