//! How expensive the rules of a schema are at most, all together.

use serde_json::Value;

use crate::field::Path;

/// What one expression may cost.
pub(super) const EXPRESSION_LIMIT: u64 = 10_000_000;
/// What all expressions of a schema may cost together.
pub(super) const SCHEMA_LIMIT: u64 = 100_000_000;

/// How many expressions are named when the total is too high.
const MOST_EXPENSIVE: usize = 4;

/// The sum, and who contributed most to it.
#[derive(Default)]
pub(super) struct TotalCost<'a> {
    pub total: u64,
    pub most_expensive: Vec<(Path<'a>, u64)>,
}

impl<'a> TotalCost<'a> {
    pub fn observe(&mut self, path: Path<'a>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost < SCHEMA_LIMIT / 100 {
            return;
        }
        self.most_expensive.push((path, cost));
        self.most_expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.most_expensive.truncate(MOST_EXPENSIVE);
    }
}

/// How often there can be a value of a schema below this one, given how often of this; `None` if there is no
/// bound.
pub(super) fn cardinality_below(schema: &Value, cardinality: Option<u64>) -> Option<u64> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64).map(|n| u64::try_from(n).unwrap_or(0));
    let factor = match schema.get("type").and_then(Value::as_str) {
        Some("object") if schema.get("additionalProperties").is_some_and(|v| !v.is_null()) => {
            bound("maxProperties")?
        }
        Some("array") => bound("maxItems")?,
        _ => 1,
    };
    Some(cardinality?.saturating_mul(factor))
}

/// What is said about a cost that is too high.
pub(super) fn message(what: &str, cost: u64, limit: u64) -> String {
    let exceeds = cost as f64 / limit as f64;
    let factor = if exceeds > 100.0 {
        "more than 100x".to_owned()
    } else if exceeds < 1.5 {
        format!("{exceeds:.6}x")
    } else {
        format!("{exceeds:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
