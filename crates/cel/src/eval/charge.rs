//! What calls cost when they happen (`interpreter/runtimecost.go`).

use crate::function::{ActualFn, Overload};
use crate::syntax::operators;
use crate::value::Weights;
use crate::{Value, ext};

/// How the cost of a call follows from its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CostRule {
    One,
    /// The library's; the default if it answers nothing.
    Actual(ActualFn),
    /// The length of the first argument.
    Traversal,
    /// The elements of the second.
    Elements,
    /// The shorter of two.
    Shorter,
    /// Both.
    Sum,
    /// A text by a regular expression.
    Matches,
    /// A text by a text.
    Contains,
}

/// The cost per character of a string that is read once.
const STRING_TRAVERSAL: f64 = 0.1;
/// The cost of a regular expression per character.
const REGEX_LENGTH: f64 = 0.25;

impl CostRule {
    /// The rule of an overload. That of the standard library holds only if it is the only one that may apply.
    pub(super) fn of(overload: &Overload, is_only_one: bool) -> CostRule {
        if let Some(actual) = overload.actual {
            return CostRule::Actual(actual);
        }
        if !is_only_one {
            return CostRule::One;
        }
        match overload.id {
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
            | "strings_quote" | "string_format" => CostRule::Traversal,
            "in_list" => CostRule::Elements,
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes" => CostRule::Shorter,
            "add_string" | "add_bytes" => CostRule::Sum,
            "matches_string" => CostRule::Matches,
            "contains_string" => CostRule::Contains,
            _ => CostRule::One,
        }
    }

    /// The cost of a call.
    pub(super) fn cost<'a>(self, args: &[Value<'a>], result: &Value<'a>) -> u64 {
        let size = |index: usize| args.get(index).map_or(1, actual_size);
        let traversal = |size: f64| (size * STRING_TRAVERSAL).ceil() as u64;
        match self {
            CostRule::One => 1,
            CostRule::Actual(actual) => actual(args, result).unwrap_or(1),
            CostRule::Traversal => traversal(size(0) as f64),
            CostRule::Elements => size(1),
            CostRule::Shorter => traversal(size(0).min(size(1)) as f64),
            CostRule::Sum => traversal((size(0) + size(1)) as f64),
            CostRule::Matches => {
                let expression = (size(1) as f64 * REGEX_LENGTH).ceil() as u64;
                traversal(1.0 + size(0) as f64).saturating_mul(expression)
            }
            CostRule::Contains => traversal(size(0) as f64).saturating_mul(traversal(size(1) as f64)),
        }
    }
}

/// The cost of comparing two values.
pub(super) fn equality<'a>(operands: &[Value<'a>; 2], negated: bool) -> u64 {
    let [a, b] = operands;
    // Extension types are cheap to compare by `==` only.
    let of_extension = if negated { None } else { ext::cost::actual_equals(operands, &Value::Null) };
    of_extension.unwrap_or_else(|| {
        let shorter = actual_size(a).min(actual_size(b));
        (shorter as f64 * STRING_TRAVERSAL).ceil() as u64
    })
}

/// Walking values of at most this weight costs what it does upstream.
const SMALL_VALUE: u64 = 1024;
/// How much of a heavier one is walked for one unit of cost.
const WEIGHT_PER_COST: u64 = 64;

/// Whether the evaluation made the value, so that the request's size says nothing of its weight.
fn is_computed(value: &Value<'_>) -> bool {
    match value {
        Value::List(list) => list.weight().is_some(),
        Value::Map(map) => map.weight().is_some(),
        Value::Struct(_) => true,
        Value::Optional(Some(value)) => is_computed(value),
        _ => false,
    }
}

fn walk(weight: u64) -> u64 {
    if weight > SMALL_VALUE { weight / WEIGHT_PER_COST } else { 0 }
}

/// What it costs at least to compare two values. Upstream's cost, from the outermost lengths only, is more than that
/// for values that are not deep.
pub(super) fn equality_walk(operands: &[Value<'_>; 2], weights: &mut Weights) -> u64 {
    if !operands.iter().any(is_computed) {
        return 0;
    }
    let [a, b] = operands;
    walk(weights.of(a).min(weights.of(b)))
}

/// What the functions that compare elements cost in addition if the elements are deep.
pub(super) fn search_walk(function: &str, args: &[Value<'_>], weights: &mut Weights) -> u64 {
    let (a, b) = match (function, args) {
        (operators::IN, [item, list @ Value::List(_)]) => (list, item),
        ("indexOf" | "lastIndexOf", [list @ Value::List(_), item]) => (list, item),
        ("sets.contains" | "sets.intersects" | "sets.equivalent", [a, b]) => (a, b),
        ("distinct", [list]) => (list, list),
        _ => return 0,
    };
    if !is_computed(a) && !is_computed(b) {
        return 0;
    }
    let of_lists = !matches!(function, operators::IN | "indexOf" | "lastIndexOf");
    let (many, others) = (actual_size(a), if of_lists { actual_size(b) } else { 1 });
    let weight = weights.of(a).saturating_mul(others).min(weights.of(b).saturating_mul(many));
    walk(weight).saturating_sub(many.saturating_mul(others))
}

/// The size of what has one, else 1.
fn actual_size(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(value)) => actual_size(value),
        Value::Opaque(value) => value.size().unwrap_or(1),
        other => other.size().unwrap_or(1),
    }
}
