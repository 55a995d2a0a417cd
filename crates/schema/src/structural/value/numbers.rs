//! Rules about numbers.

use serde_json::{Number, Value};

use super::super::ValueRules;
use super::failure::{At, Failures};

/// The largest whole number that JavaScript can tell from its neighbours.
const MAX_JSON_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Range of the type, bounds and factor.
#[derive(Debug)]
pub(super) struct Numbers {
    range: Range,
    format: String,
    multiple_of: Option<f64>,
    maximum: Option<f64>,
    exclusive_maximum: bool,
    minimum: Option<f64>,
    exclusive_minimum: bool,
}

/// What numbers a type and format hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Any,
    Float32,
    Int32,
    Int64,
}

impl Numbers {
    /// `ty` is the type if there is one; nothing to check if there are no rules for it.
    pub(super) fn new(rules: &ValueRules, ty: &str, format: &str) -> Option<Numbers> {
        let (range, format) = match (ty, format) {
            ("integer", "int32") => (Range::Int32, format),
            ("integer", "int64") => (Range::Int64, format),
            ("integer", _) => (Range::Int64, ""),
            ("number", "float") => (Range::Float32, format),
            _ => (Range::Any, ""),
        };
        let needed = range != Range::Any
            || rules.multiple_of.is_some()
            || rules.maximum.is_some()
            || rules.minimum.is_some();
        needed.then(|| Numbers {
            range,
            format: format.to_owned(),
            multiple_of: rules.multiple_of,
            maximum: rules.maximum,
            exclusive_maximum: rules.exclusive_maximum,
            minimum: rules.minimum,
            exclusive_minimum: rules.exclusive_minimum,
        })
    }

    pub(super) fn run(&self, number: &Number, at: &At<'_>, failures: &mut Failures) {
        let float = number.as_f64().unwrap_or_default();
        let fits = match number.as_i64() {
            Some(int) => self.range != Range::Int32 || i32::try_from(int).is_ok(),
            None => self.holds(float),
        };
        if !fits {
            self.out_of_range("Checked", at, failures);
        }
        if let Some(factor) = self.multiple_of {
            let native = self.bound_holds(factor, "MultipleOf", at, failures);
            match number.as_i64().filter(|_| native) {
                Some(int) => multiple_of_int(int, go_int(factor), at, failures),
                None => multiple_of_float(float, factor, at, failures),
            }
        }
        if let Some(minimum) = self.minimum {
            let native = self.bound_holds(minimum, "Minimum boundary", at, failures);
            let words = if self.exclusive_minimum { "greater than" } else { "greater than or equal to" };
            let strict = self.exclusive_minimum;
            match number.as_i64().filter(|_| native) {
                Some(int) => {
                    let minimum = go_int(minimum);
                    if int < minimum || (strict && int == minimum) {
                        failures.invalid(at, int, format!("should be {words} {minimum}"));
                    }
                }
                None if float < minimum || (strict && float <= minimum) => {
                    failures.invalid(at, shown(number), format!("should be {words} {}", go_float(minimum)));
                }
                None => {}
            }
        }
        if let Some(maximum) = self.maximum {
            let native = self.bound_holds(maximum, "Maximum boundary", at, failures);
            let words = if self.exclusive_maximum { "less than" } else { "less than or equal to" };
            let strict = self.exclusive_maximum;
            match number.as_i64().filter(|_| native) {
                Some(int) => {
                    let maximum = go_int(maximum);
                    if int > maximum || (strict && int == maximum) {
                        failures.invalid(at, int, format!("should be {words} {maximum}"));
                    }
                }
                None if float > maximum || (strict && float >= maximum) => {
                    failures.invalid(at, shown(number), format!("should be {words} {}", go_float(maximum)));
                }
                None => {}
            }
        }
    }

    /// Whether a float is a number of the type.
    fn holds(&self, float: f64) -> bool {
        match self.range {
            Range::Any => true,
            Range::Float32 => float.abs() <= f64::from(f32::MAX),
            Range::Int32 => float.fract() == 0.0 && (-2_147_483_648.0..2_147_483_648.0).contains(&float),
            Range::Int64 => {
                float.fract() == 0.0
                    && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float)
            }
        }
    }

    /// Complains, as upstream, about every value if a bound is no number of the type.
    fn bound_holds(&self, bound: f64, what: &str, at: &At<'_>, failures: &mut Failures) -> bool {
        let holds = self.holds(bound);
        if !holds {
            self.out_of_range(what, at, failures);
        }
        holds
    }

    fn out_of_range(&self, what: &str, at: &At<'_>, failures: &mut Failures) {
        let ty = if self.range == Range::Float32 { "number" } else { "integer" };
        let format = match self.format.as_str() {
            "" => "(default format)".to_owned(),
            format => format!("with format {format}"),
        };
        failures.plain(format!("{what} value must be of type {ty} {format} in {}", at.text()));
    }
}

fn shown(number: &Number) -> Value {
    Value::Number(number.clone())
}

fn multiple_of_int(int: i64, factor: i64, at: &At<'_>, failures: &mut Failures) {
    if factor <= 0 {
        not_positive(factor.to_string(), factor.into(), at, failures);
    } else if int % factor != 0 {
        failures.invalid(at, int, format!("should be a multiple of {factor}"));
    }
}

fn multiple_of_float(float: f64, factor: f64, at: &At<'_>, failures: &mut Failures) {
    if factor <= 0.0 {
        return not_positive(go_float(factor), factor.into(), at, failures);
    }
    let times = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
    if !is_json_integer(times) {
        failures.invalid(at, float, format!("should be a multiple of {}", go_float(factor)));
    }
}

fn not_positive(factor: String, value: Value, at: &At<'_>, failures: &mut Failures) {
    let text = format!("factor MultipleOf declared for {} must be positive: {factor}", at.text());
    failures.invalid_text(at, value, text);
}

/// Go's conversion on amd64: what does not fit becomes the smallest number.
fn go_int(float: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float) {
        float as i64
    } else {
        i64::MIN
    }
}

/// go-openapi's idea of a whole number, which allows for a rounding error.
pub(super) fn is_json_integer(float: f64) -> bool {
    if !float.is_finite() || float.abs() > MAX_JSON_INTEGER {
        return false;
    }
    let whole = float.trunc();
    if float == whole {
        return true;
    }
    // Upstream compares with the truncated value only, and converts negative ones to unsigned numbers.
    float >= 1.0 && (float - whole) / (float + whole) < 1e-9
}

/// A float as Go prints it (`%v`): the shortest digits, with an exponent from 1e21 on and below 1e-4.
pub(in super::super) fn go_float(float: f64) -> String {
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..21).contains(&exponent) || float == 0.0 {
        return format!("{float}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
