//! `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::Value;

use super::super::{Nested, ValueRules};
use super::failure::{At, Failures};
use super::{Check, Mode};
use crate::field::quote;

/// The compiled alternatives of one node.
#[derive(Debug)]
pub(super) struct Junctors {
    any_of: Vec<Check>,
    one_of: Vec<Check>,
    all_of: Vec<Check>,
    not: Option<Check>,
}

impl Junctors {
    pub(super) fn new(rules: &ValueRules, mode: Mode) -> Option<Junctors> {
        let all = |nested: &[Nested]| nested.iter().map(|n| Check::nested(n, mode)).collect::<Vec<_>>();
        let found = Junctors {
            any_of: all(&rules.any_of),
            one_of: all(&rules.one_of),
            all_of: all(&rules.all_of),
            not: rules.not.as_deref().map(|n| Check::nested(n, mode)),
        };
        let empty = found.any_of.is_empty()
            && found.one_of.is_empty()
            && found.all_of.is_empty()
            && found.not.is_none();
        (!empty).then_some(found)
    }

    /// Checks a value and answers the match count of what was kept.
    pub(super) fn run(&self, value: &Value, at: &At<'_>, failures: &mut Failures) -> i64 {
        let mut matched = 0;
        if !self.any_of.is_empty() {
            matched += self.run_any(value, at, failures);
        }
        if !self.one_of.is_empty() {
            matched += self.run_one(value, at, failures);
        }
        if !self.all_of.is_empty() {
            matched += self.run_all(value, at, failures);
        }
        if let Some(not) = &self.not {
            let mut found = Failures::default();
            not.run(value, at, None, &mut found);
            if found.len() == 0 {
                failures.plain(format!("{} must not validate the schema (not)", quote(&at.text())));
            }
        }
        matched
    }

    fn run_any(&self, value: &Value, at: &At<'_>, failures: &mut Failures) -> i64 {
        let mut best: Option<(i64, Failures)> = None;
        for check in &self.any_of {
            let mut found = Failures::default();
            let matched = check.run(value, at, None, &mut found);
            if found.len() == 0 {
                return matched;
            }
            if best.as_ref().is_none_or(|(most, _)| matched > *most) {
                best = Some((matched, found));
            }
        }
        failures.plain(format!("{} must validate at least one schema (anyOf)", quote(&at.text())));
        keep(best, failures)
    }

    fn run_one(&self, value: &Value, at: &At<'_>, failures: &mut Failures) -> i64 {
        let mut best: Option<(i64, Failures)> = None;
        let (mut valid, mut first_matched) = (0, 0);
        for check in &self.one_of {
            let mut found = Failures::default();
            let matched = check.run(value, at, None, &mut found);
            if found.len() == 0 {
                if valid == 0 {
                    first_matched = matched;
                }
                valid += 1;
                best = None;
            } else if valid == 0 && best.as_ref().is_none_or(|(most, _)| matched > *most) {
                best = Some((matched, found));
            }
        }
        if valid == 1 {
            return first_matched;
        }
        let how = match valid {
            0 => "Found none valid".to_owned(),
            n => format!("Found {n} valid alternatives"),
        };
        failures.plain(format!("{} must validate one and only one schema (oneOf). {how}", quote(&at.text())));
        keep(best, failures)
    }

    fn run_all(&self, value: &Value, at: &At<'_>, failures: &mut Failures) -> i64 {
        let (mut valid, mut matched) = (0, 0);
        for check in &self.all_of {
            let before = failures.len();
            matched += check.run(value, at, None, failures);
            if failures.len() == before {
                valid += 1;
            }
        }
        if valid != self.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            failures.plain(format!("{} must validate all the schemas (allOf){none}", quote(&at.text())));
        }
        matched
    }
}

/// Reports the failures of the alternative that fitted best.
fn keep(best: Option<(i64, Failures)>, failures: &mut Failures) -> i64 {
    let Some((matched, found)) = best else { return 0 };
    failures.append(found);
    matched
}
