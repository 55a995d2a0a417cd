//! The order of values of the types that have one.

use std::cmp::Ordering;

use crate::value::compare_numbers;
use crate::{Error, Value};

/// How two values compare; `None` if they do not.
pub(super) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => compare_numbers(a, b),
    }
}

/// Whether values of this one's type have an order.
pub(super) fn is_comparable(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::Bool(_)
            | Value::Duration(_)
            | Value::Timestamp(_)
            | Value::String(_)
            | Value::Bytes(_)
    )
}

/// An error unless values of this one's type have an order.
pub(super) fn check_comparable(value: &Value<'_>) -> Result<(), Error> {
    match value {
        Value::Invalid(why) => Err(Error::new(why.to_string())),
        value if is_comparable(value) => Ok(()),
        _ => Err(Error::no_such_overload()),
    }
}
