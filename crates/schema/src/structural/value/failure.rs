//! What a check found wrong, in kube-openapi's words, and its translation into field errors.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::field::{Error, ErrorList, Kind, Path, quote};
use crate::gotext;

/// How many failures of one object are reported. Upstream has no limit; nobody reads more.
const MAX_FAILURES: usize = 1_000;

/// The way to a value, on the stack of the walk; text only when something is wrong.
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Property(&'a str),
    /// A field that the schema does not name. At the root its name begins with a dot, as upstream.
    Other(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn root() -> At<'static> {
        At { parent: None, step: Step::Root }
    }

    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(super) fn property(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Property(name) }
    }

    pub(super) fn other(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Other(name) }
    }

    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.parent.map(At::text).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Property(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Other(name) => {
                text.push('.');
                text.push_str(name);
            }
            // Writing to a String cannot fail.
            Step::Index(index) => drop(write!(text, "[{index}]")),
        }
        text
    }
}

/// One thing that is wrong.
struct Failure {
    /// The path, if the failure belongs to a field.
    name: Option<String>,
    kind: Kind,
    value: Option<Value>,
    /// The detail of the field error.
    detail: String,
    /// kube-openapi's own text: equal ones are reported once.
    text: String,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Failures {
    list: Vec<Failure>,
    /// How many more there were.
    dropped: usize,
}

impl Failures {
    pub(super) fn len(&self) -> usize {
        self.list.len() + self.dropped
    }

    /// Forgets what was found since there were `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
        self.dropped = len.saturating_sub(self.list.len());
    }

    pub(super) fn append(&mut self, others: Failures) {
        others.list.into_iter().for_each(|failure| self.push(failure));
        self.dropped += others.dropped;
    }

    fn push(&mut self, failure: Failure) {
        if self.list.len() < MAX_FAILURES {
            self.list.push(failure);
        } else {
            self.dropped += 1;
        }
    }

    /// A failure that upstream reports without a field.
    pub(super) fn plain(&mut self, text: String) {
        let value = Some("".into());
        self.push(Failure { name: None, kind: Kind::Invalid, value, detail: text.clone(), text });
    }

    /// "Invalid value", with a text about the field.
    pub(super) fn invalid(&mut self, at: &At<'_>, value: impl Into<Value>, what: String) {
        let name = at.text();
        let text = format!("{name} in body {what}");
        self.push(Failure {
            name: Some(name),
            kind: Kind::Invalid,
            value: Some(value.into()),
            detail: text.clone(),
            text,
        });
    }

    /// As `invalid`, with a text that does not begin with the field.
    pub(super) fn invalid_text(&mut self, at: &At<'_>, value: impl Into<Value>, text: String) {
        self.push(Failure {
            name: Some(at.text()),
            kind: Kind::Invalid,
            value: Some(value.into()),
            detail: text.clone(),
            text,
        });
    }

    pub(super) fn wrong_type(&mut self, at: &At<'_>, wanted: &str, found: &str) {
        let name = at.text();
        let text = format!("{name} in body must be of type {wanted}: {}", quote(found));
        self.push(Failure {
            name: Some(name),
            kind: Kind::TypeInvalid,
            value: Some(found.into()),
            detail: text.clone(),
            text,
        });
    }

    pub(super) fn wrong_format(&mut self, at: &At<'_>, format: &str, found: &str) {
        self.wrong_type(at, format, found);
    }

    pub(super) fn required(&mut self, at: &At<'_>, name: &str) {
        let name = format!("{}.{name}", at.text());
        let text = format!("{name} in body is required");
        self.push(Failure {
            name: Some(name),
            kind: Kind::Required,
            value: None,
            detail: String::new(),
            text,
        });
    }

    pub(super) fn forbidden_property(&mut self, at: &At<'_>, property: &str) {
        let name = at.text();
        let text = format!("{name}.{property} in body is a forbidden property");
        self.push(Failure {
            name: Some(name),
            kind: Kind::Invalid,
            value: Some(property.into()),
            detail: text.clone(),
            text,
        });
    }

    pub(super) fn not_one_of(&mut self, at: &At<'_>, value: &Value, allowed: &[Value]) {
        let name = at.text();
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let quoted: Vec<String> = allowed.iter().map(|value| quote(&shown(value))).collect();
        let printed: Vec<String> = allowed.iter().map(gotext::print).collect();
        self.push(Failure {
            text: format!("{name} in body should be one of [{}]", printed.join(" ")),
            name: Some(name),
            kind: Kind::NotSupported,
            value: Some(value.clone()),
            detail: format!("supported values: {}", quoted.join(", ")),
        });
    }

    pub(super) fn too_long(&mut self, at: &At<'_>, max: i64) {
        let name = at.text();
        let detail = Error::too_long(&Path::root(), usize::try_from(max).unwrap_or_default()).detail;
        let text = format!("{name} in body should be at most {max} chars long");
        self.push(Failure { name: Some(name), kind: Kind::TooLong, value: None, detail, text });
    }

    pub(super) fn too_many(&mut self, at: &At<'_>, actual: i64, max: i64, of: &str) {
        let name = at.text();
        let detail = Error::too_many(&Path::root(), 0, usize::try_from(max).unwrap_or_default()).detail;
        let text = format!("{name} in body should have at most {max} {of}");
        self.push(Failure {
            name: Some(name),
            kind: Kind::TooMany,
            value: Some(actual.into()),
            detail,
            text,
        });
    }

    /// Field errors, each text once, of a value that is at `path`.
    pub(super) fn into_errors(self, path: &Path<'_>) -> ErrorList {
        if self.list.is_empty() {
            return ErrorList::new();
        }
        let at_root = path.to_string() == "<nil>";
        let prefix = if at_root { String::new() } else { path.to_string() };
        let field = |name: Option<&str>| match name.map(|n| n.strip_prefix('.').unwrap_or(n)).unwrap_or("") {
            "" => path.to_string(),
            name if at_root => name.to_owned(),
            name => format!("{prefix}.{name}"),
        };
        let mut seen = BTreeSet::new();
        let mut errs = ErrorList::new();
        for failure in self.list {
            if seen.insert(failure.text) {
                errs.push(Error {
                    kind: failure.kind,
                    field: field(failure.name.as_deref()),
                    value: failure.value,
                    detail: failure.detail,
                });
            }
        }
        errs
    }
}
