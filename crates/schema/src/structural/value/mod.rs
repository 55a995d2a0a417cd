//! Checks values against a schema, in kube-openapi's words.
//!
//! Follows `k8s.io/kube-openapi/pkg/validation/validate` check by check, since its texts, their
//! order and (in `anyOf` and `oneOf`) the choice of what to report depend on it. A schema is
//! compiled once; checking a valid value allocates nothing.

mod failure;
mod junctors;
mod numbers;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::formats::{self, Format};
use super::ratcheting::Correlated;
use super::{Additional, META_FIELDS, Nested, Structural, ValueRules, regexp};
use crate::field::{ErrorList, Path};
use failure::{At, Failures};
use numbers::Numbers;
pub(super) use numbers::go_float;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Objects: formats that upstream does not know are ignored.
    Objects,
    /// Defaults in schemas.
    Defaults,
}

/// A compiled schema.
#[derive(Debug)]
pub struct Validator(Check);

/// One compiled node of a schema.
#[derive(Debug)]
struct Check {
    types: Types,
    nullable: bool,
    /// As written; empty if none, or ignored.
    format: String,
    known_format: Option<Format>,
    enumeration: Vec<Value>,
    strings: Option<Box<Strings>>,
    numbers: Option<Box<Numbers>>,
    items: Option<Box<Check>>,
    sizes: Option<Box<Sizes>>,
    properties: BTreeMap<String, Check>,
    additional: Others,
    required: Vec<String>,
    junctors: Option<Box<junctors::Junctors>>,
}

/// Which JSON types are allowed.
#[derive(Debug, Default)]
struct Types {
    /// As error texts list them; empty if all are.
    text: String,
    number: bool,
    integer: bool,
}

#[derive(Debug)]
struct Strings {
    max_length: Option<i64>,
    min_length: Option<i64>,
    pattern: Option<(String, Result<Regex, String>)>,
}

#[derive(Debug)]
struct Sizes {
    max_items: Option<i64>,
    min_items: Option<i64>,
    unique_items: bool,
    max_properties: Option<i64>,
    min_properties: Option<i64>,
}

/// What fields that are not named may be.
#[derive(Debug)]
enum Others {
    Anything,
    Nothing,
    Matching(Box<Check>),
}

impl Validator {
    /// Compiles a schema.
    pub fn new(schema: &Structural, mode: Mode) -> Validator {
        Validator(Check::new(schema, mode))
    }

    /// Everything wrong with a value that is at `path`.
    pub fn check(&self, path: &Path<'_>, value: &Value) -> ErrorList {
        self.check_update(path, value, None)
    }

    /// Everything wrong with a changed value, but for what is wrong with unchanged parts of it.
    pub fn check_update<'v>(
        &self,
        path: &Path<'_>,
        value: &'v Value,
        before: Option<Correlated<'v>>,
    ) -> ErrorList {
        let mut failures = Failures::default();
        self.0.run(value, &At::root(), before, &mut failures);
        failures.into_errors(path)
    }
}

impl Check {
    fn new(schema: &Structural, mode: Mode) -> Check {
        let int_or_string = schema.extensions.int_or_string && mode == Mode::Objects;
        let types = Types::new(if int_or_string { "integer,string" } else { &schema.generic.r#type });
        let mut check = Check::of_values(schema.values(), types, mode);
        check.nullable = schema.generic.nullable;
        check.items = schema.items.as_deref().map(|s| Box::new(Check::new(s, mode)));
        check.properties = schema.properties.iter().map(|(k, s)| (k.clone(), Check::new(s, mode))).collect();
        check.additional = match &schema.additional {
            None | Some(Additional::Any(true)) => Others::Anything,
            Some(Additional::Any(false)) => Others::Nothing,
            Some(Additional::Schema(s)) => Others::Matching(Box::new(Check::new(s, mode))),
        };
        check
    }

    fn nested(rules: &Nested, mode: Mode) -> Check {
        let mut check = Check::of_values(&rules.values, Types::new(&rules.generic.r#type), mode);
        check.nullable = rules.generic.nullable;
        check.items = rules.items.as_deref().map(|s| Box::new(Check::nested(s, mode)));
        check.properties =
            rules.properties.iter().map(|(k, s)| (k.clone(), Check::nested(s, mode))).collect();
        check
    }

    fn of_values(rules: &ValueRules, types: Types, mode: Mode) -> Check {
        let ignored = mode == Mode::Objects && !formats::is_recognized(types.single(), &rules.format);
        let format = if ignored { String::new() } else { rules.format.clone() };
        let has_sizes = rules.max_items.is_some()
            || rules.min_items.is_some()
            || rules.unique_items
            || rules.max_properties.is_some()
            || rules.min_properties.is_some();
        let has_strings =
            rules.max_length.is_some() || rules.min_length.is_some() || !rules.pattern.is_empty();
        Check {
            nullable: false,
            known_format: Format::named(&format),
            enumeration: rules.enumeration.clone(),
            strings: has_strings.then(|| Box::new(Strings::new(rules))),
            numbers: Numbers::new(rules, types.single(), &format).map(Box::new),
            items: None,
            sizes: has_sizes.then(|| {
                Box::new(Sizes {
                    max_items: rules.max_items,
                    min_items: rules.min_items,
                    unique_items: rules.unique_items,
                    max_properties: rules.max_properties,
                    min_properties: rules.min_properties,
                })
            }),
            properties: BTreeMap::new(),
            additional: Others::Anything,
            required: rules.required.clone(),
            junctors: junctors::Junctors::new(rules, mode).map(Box::new),
            types,
            format,
        }
    }

    /// Checks a value and answers how many checks applied to it (upstream's match count).
    fn run<'v>(
        &self,
        value: &'v Value,
        at: &At<'_>,
        before: Option<Correlated<'v>>,
        failures: &mut Failures,
    ) -> i64 {
        let first = failures.len();
        let matched = match value {
            Value::Null => self.null(at, failures),
            value => self.value(value, at, before, failures),
        };
        if failures.len() > first && before.is_some_and(|before| before.unchanged()) {
            failures.truncate(first);
        }
        matched
    }

    fn null(&self, at: &At<'_>, failures: &mut Failures) -> i64 {
        let allowed = self.types.text.is_empty() || self.nullable;
        if !allowed {
            failures.wrong_type(at, &self.types.text, "null");
        }
        self.check_enumeration(&Value::Null, at, failures);
        i64::from(allowed)
    }

    fn value<'v>(
        &self,
        value: &'v Value,
        at: &At<'_>,
        before: Option<Correlated<'v>>,
        failures: &mut Failures,
    ) -> i64 {
        let mut matched = 0;
        if !self.types.text.is_empty() || !self.format.is_empty() {
            matched += 1 + i64::from(self.check_type(value, at, failures));
        }
        matched += 2;
        if let Some(junctors) = &self.junctors {
            matched += junctors.run(value, at, failures);
        }
        match value {
            Value::String(text) => {
                matched += 1 + i64::from(self.known_format.is_some());
                self.check_string(text, at, failures);
            }
            Value::Number(number) => {
                matched += 2;
                if let Some(numbers) = &self.numbers {
                    numbers.run(number, at, failures);
                }
            }
            Value::Array(items) => matched += 2 + self.check_items(items, at, before, failures),
            _ => {}
        }
        matched += 2;
        self.check_enumeration(value, at, failures);
        if let Value::Object(entries) = value {
            matched += 1 + self.check_fields(entries, at, before, failures);
        }
        matched
    }

    fn check_type(&self, value: &Value, at: &At<'_>, failures: &mut Failures) -> bool {
        let (name, format) = type_and_format(value);
        let float_int =
            name == "number" && self.types.integer && value.as_f64().is_some_and(numbers::is_json_integer);
        let int_float = name == "integer" && self.types.number;
        let fits = self.types.contains(name) || float_int || int_float;
        let text_or_list = matches!(value, Value::String(_) | Value::Array(_));
        if !self.format.is_empty() && !text_or_list && !fits && format != self.format {
            failures.wrong_type(at, &self.format, format);
            return false;
        }
        if !self.format.is_empty() && text_or_list && !self.types.number && !self.types.integer {
            return true;
        }
        if !fits {
            failures.wrong_type(at, &self.types.text, name);
        }
        fits
    }

    fn check_string(&self, text: &str, at: &At<'_>, failures: &mut Failures) {
        if let Some(strings) = &self.strings {
            strings.run(text, at, failures);
        }
        if let Some(format) = self.known_format
            && !format.matches(text)
        {
            failures.wrong_format(at, &self.format, text);
        }
    }

    fn check_items<'v>(
        &self,
        items: &'v [Value],
        at: &At<'_>,
        before: Option<Correlated<'v>>,
        failures: &mut Failures,
    ) -> i64 {
        let mut matched = 0;
        if let Some(check) = &self.items {
            let before = before.map(|before| before.items());
            for (i, item) in items.iter().enumerate() {
                let before = before.as_ref().and_then(|before| before.get(item));
                matched += check.run(item, &at.index(i), before, failures);
            }
        }
        if let Some(sizes) = &self.sizes {
            let size = items.len() as i64;
            if let Some(min) = sizes.min_items.filter(|min| size < *min) {
                failures.invalid(at, size, format!("should have at least {min} items"));
            }
            if let Some(max) = sizes.max_items.filter(|max| size > *max) {
                failures.too_many(at, size, max, "items");
            }
            if sizes.unique_items && has_duplicates(items) {
                failures.invalid(at, "", "shouldn't contain duplicates".to_owned());
            }
        }
        matched
    }

    fn check_fields<'v>(
        &self,
        entries: &'v Map<String, Value>,
        at: &At<'_>,
        before: Option<Correlated<'v>>,
        failures: &mut Failures,
    ) -> i64 {
        if let Some(sizes) = &self.sizes {
            let size = entries.len() as i64;
            if let Some(min) = sizes.min_properties.filter(|min| size < *min) {
                failures.invalid(at, size, format!("should have at least {min} properties"));
            }
            if let Some(max) = sizes.max_properties.filter(|max| size > *max) {
                failures.too_many(at, size, max, "properties");
            }
        }
        // What has become of type and kind is not visible here, so it is no excuse.
        let of_field = |name: &str| {
            let hidden = at.is_root() && META_FIELDS[..2].contains(&name);
            before.filter(|_| !hidden).and_then(|before| before.key(name))
        };
        let mut matched = 0;
        match &self.additional {
            Others::Anything => {}
            Others::Nothing => {
                for name in entries.keys().filter(|name| !self.properties.contains_key(*name)) {
                    failures.forbidden_property(at, name);
                }
            }
            Others::Matching(check) => {
                for (name, value) in entries.iter().filter(|(name, _)| !self.properties.contains_key(*name)) {
                    matched += check.run(value, &at.other(name), of_field(name), failures);
                }
            }
        }
        for (name, value) in entries {
            if let Some(check) = self.properties.get(name) {
                matched += check.run(value, &at.property(name), of_field(name), failures);
            }
        }
        for name in &self.required {
            if !entries.contains_key(name) {
                failures.required(at, name);
            }
        }
        matched
    }

    fn check_enumeration(&self, value: &Value, at: &At<'_>, failures: &mut Failures) {
        if !self.enumeration.is_empty() && !self.enumeration.iter().any(|allowed| converts_to(value, allowed))
        {
            failures.not_one_of(at, value, &self.enumeration);
        }
    }
}

impl Types {
    fn new(text: &str) -> Types {
        let text = text.to_owned();
        Types { number: text == "number", integer: text.starts_with("integer"), text }
    }

    fn contains(&self, name: &str) -> bool {
        self.text.split(',').any(|allowed| allowed == name)
    }

    /// The type, if it is known which it is.
    fn single(&self) -> &str {
        if self.text.contains(',') { "" } else { &self.text }
    }
}

impl Strings {
    fn new(rules: &ValueRules) -> Strings {
        let pattern = Some(&rules.pattern).filter(|pattern| !pattern.is_empty());
        Strings {
            max_length: rules.max_length,
            min_length: rules.min_length,
            pattern: pattern.map(|pattern| (pattern.clone(), regexp::compile(pattern))),
        }
    }

    /// As upstream, the first thing that is wrong is enough.
    fn run(&self, text: &str, at: &At<'_>, failures: &mut Failures) {
        if self.max_length.is_some() || self.min_length.is_some() {
            // Counting characters can be spared where bytes settle it.
            let bytes = text.len() as i64;
            if let Some(max) =
                self.max_length.filter(|max| bytes > *max && text.chars().count() as i64 > *max)
            {
                return failures.too_long(at, max);
            }
            let too_short = |min: &i64| {
                bytes < *min || (bytes < min.saturating_mul(4) && (text.chars().count() as i64) < *min)
            };
            if let Some(min) = self.min_length.filter(too_short) {
                return failures.invalid(at, text, format!("should be at least {min} chars long"));
            }
        }
        match &self.pattern {
            Some((pattern, Ok(regex))) if !regex.is_match(text) => {
                failures.invalid(at, text, format!("should match '{pattern}'"));
            }
            Some((pattern, Err(error))) => {
                let detail = format!("should match '{pattern}, but pattern is invalid: {error}'");
                failures.invalid(at, text, detail);
            }
            _ => {}
        }
    }
}

/// The JSON type and Go's format of a value that is not null.
fn type_and_format(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Number(n) if n.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// Whether a value is an allowed one after Go's conversion to the type of the latter.
fn converts_to(value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Number(value), Value::Number(allowed)) => match (value.as_i64(), allowed.as_i64()) {
            (Some(value), Some(allowed)) => value == allowed,
            (None, Some(allowed)) => value.as_f64().is_some_and(|f| f as i64 == allowed),
            _ => value.as_f64() == allowed.as_f64(),
        },
        (value, allowed) => value == allowed,
    }
}

fn has_duplicates(items: &[Value]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    items.iter().any(|item| !seen.insert(item.to_string()))
}
