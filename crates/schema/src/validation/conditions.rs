//! Lists of `metav1.Condition`.

use std::collections::BTreeSet;

use super::{format, labels, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const REASON_MAX_BYTES: usize = 1024;
const MESSAGE_MAX_BYTES: usize = 32 * 1024;

/// Conditions, each of whose types appears once.
pub fn validate(list: &Node, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let kind = condition.at("type");
        if !seen.insert(kind.str()) {
            errs.push(Error::duplicate(kind.path(), kind.str()));
        }
        self::condition(&condition, errs);
    }
}

fn condition(condition: &Node, errs: &mut ErrorList) {
    labels::label_name(&condition.at("type"), errs);
    rules::one_of(&condition.at("status"), &["False", "True", "Unknown"], errs);
    let generation = condition.at("observedGeneration");
    if generation.i64() < 0 {
        errs.push(generation.invalid_i64("must be greater than or equal to zero"));
    }
    rules::not_empty(&condition.at("lastTransitionTime"), errs);
    let reason = condition.at("reason");
    if rules::not_empty(&reason, errs) {
        if !is_reason(reason.str()) {
            errs.push(reason.invalid_str(format::regex_error(
                "a condition reason must start with alphabetic character, optionally followed by a string of \
                 alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
                "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
                &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
            )));
        }
        if reason.len() > REASON_MAX_BYTES {
            errs.push(reason.too_long(REASON_MAX_BYTES));
        }
    }
    let message = condition.at("message");
    if message.len() > MESSAGE_MAX_BYTES {
        errs.push(message.too_long(MESSAGE_MAX_BYTES));
    }
}

fn is_reason(reason: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    reason.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && reason.bytes().all(|b| word(b) || b == b',' || b == b':')
        && reason.bytes().last().is_some_and(word)
}
