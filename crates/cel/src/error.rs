//! Errors of evaluation, and the issues that compilation finds.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Why an evaluation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The expression has no value; `&&`, `||` and the macros may absorb such an error.
    Evaluation,
    /// The budget is used up; never absorbed.
    CostLimit,
    /// The host stopped the evaluation; never absorbed.
    Cancelled,
}

/// The error an expression evaluates to. `Display` is cel-go's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
}

impl Error {
    /// An evaluation error.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Error {
        Error { kind: ErrorKind::Evaluation, message: message.into() }
    }

    /// The evaluation is to be given up at once, for a reason of the host's.
    pub fn cancelled(message: impl Into<Cow<'static, str>>) -> Error {
        Error { kind: ErrorKind::Cancelled, message: message.into() }
    }

    /// The budget is used up.
    pub fn cost_limit() -> Error {
        Error {
            kind: ErrorKind::CostLimit,
            message: Cow::Borrowed("operation cancelled: actual cost limit exceeded"),
        }
    }

    /// No overload of the function takes these arguments.
    pub fn no_such_overload() -> Error {
        Error::new("no such overload")
    }

    /// The map or object has no such key.
    pub fn no_such_key(key: &str) -> Error {
        Error::new(format!("no such key: {key}"))
    }

    /// An argument that is not of a type the function takes.
    pub fn unexpected_type(name: &str) -> Error {
        Error::new(format!("unexpected type '{name}'"))
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether logical operators and macros may absorb the error.
    pub fn is_absorbable(&self) -> bool {
        self.kind == ErrorKind::Evaluation
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// A place in the source: line from 1, column (in code points) from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line, from 1; -1 if the place is not known.
    pub line: i32,
    /// The column in code points, from 0.
    pub column: i32,
}

impl Location {
    /// No place.
    pub const NONE: Location = Location { line: -1, column: -1 };
}

/// One thing wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub location: Location,
    /// What.
    pub message: String,
}

/// Why an expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    /// The issues in order of their places. At most 100 are kept.
    pub issues: Vec<Issue>,
    /// The expression.
    pub source: Arc<str>,
    /// How many there were.
    pub total: usize,
    /// The expression is right, but cannot be made into a program: why (`int('x')`). Kubernetes prefixes such texts
    /// with `program instantiation failed: ` and all others with `compilation failed: `.
    pub instantiation: Option<String>,
}

/// How many issues are kept, and printed.
const MAX_ISSUES: usize = 100;

impl Issues {
    pub(crate) fn new(source: Arc<str>) -> Issues {
        Issues { issues: Vec::new(), source, total: 0, instantiation: None }
    }

    pub(crate) fn push(&mut self, location: Location, message: impl Into<String>) {
        self.total += 1;
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue { location, message: message.into() });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    /// The issues with what Kubernetes says in front of them.
    pub fn explain(&self) -> String {
        let step = if self.instantiation.is_some() { "program instantiation" } else { "compilation" };
        format!("{step} failed: {self}")
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.instantiation {
            return f.write_str(message);
        }
        let mut sorted: Vec<&Issue> = self.issues.iter().collect();
        sorted.sort_by_key(|issue| issue.location);
        for (i, issue) in sorted.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            issue.display(f, &self.source)?;
        }
        if self.total > self.issues.len() {
            write!(f, "\n{} more errors were truncated", self.total - self.issues.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

impl Issue {
    /// The text with the line of the source and a mark under the place. Wide characters get wide marks.
    fn display(&self, f: &mut fmt::Formatter<'_>, source: &str) -> fmt::Result {
        let Location { line, column } = self.location;
        if source.is_empty() {
            // Nothing has no places: cel-go finds neither the column nor the line.
            return write!(f, "ERROR: <input>:{line}:0: {}", self.message);
        }
        write!(f, "ERROR: <input>:{}:{}: {}", line, column + 1, self.message)?;
        let Some(text) = usize::try_from(line - 1).ok().and_then(|n| source.split('\n').nth(n)) else {
            return Ok(());
        };
        let text = text.replace('\t', " ");
        write!(f, "\n | {text}\n | ")?;
        let column = usize::try_from(column).unwrap_or(0);
        if text.len() > MAX_SNIPPET {
            return Ok(());
        }
        for c in text.chars().take(column) {
            f.write_str(if c.len_utf8() == 1 { "." } else { "\u{ff0e}" })?;
        }
        let wide = text.chars().nth(column).is_some_and(|c| c.len_utf8() > 1);
        f.write_str(if wide { "\u{ff3e}" } else { "^" })
    }
}

/// Longer lines are shown without the mark.
const MAX_SNIPPET: usize = 16384;
