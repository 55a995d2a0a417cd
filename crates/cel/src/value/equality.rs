//! Equality across types.

use std::cmp::Ordering;

use super::{List, Map, Struct, Value};
use crate::decl::ListType;

/// Whether two values are equal; `None` if the first is of an extension type that cannot be compared with the second.
/// Inside of lists and maps that is as good as equal, as it is in cel-go.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Option<bool> {
    let equal = match (a, b) {
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Null, Value::Null) => true,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::List(a), Value::List(b)) => lists_equal(a, b),
        (Value::Map(a), Value::Map(b)) => maps_equal(a, b),
        (Value::Struct(a), Value::Struct(b)) => structs_equal(a, b),
        (Value::Opaque(a), Value::Opaque(b)) => return a.equals(&**b),
        (Value::Opaque(_), Value::Null) => false,
        (Value::Opaque(_), _) => return None,
        _ => compare_numbers(a, b) == Some(Ordering::Equal),
    };
    Some(equal)
}

/// Whether nothing says that two parts of larger values differ.
fn alike(a: &Value<'_>, b: &Value<'_>) -> bool {
    equal(a, b) != Some(false)
}

/// The order of two numbers of whatever types; `None` if one is not a number, or is NaN.
pub(crate) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(_) | Value::Uint(_), Value::Double(b)) => compare_to_double(a, *b),
        (Value::Double(a), Value::Int(_) | Value::Uint(_)) => compare_to_double(b, *a).map(Ordering::reverse),
        _ => None,
    }
}

/// As cel-go compares: out of the integer's range by order of magnitude, within it as doubles.
fn compare_to_double(integer: &Value<'_>, double: f64) -> Option<Ordering> {
    let (least, limit, value) = match integer {
        Value::Int(i) => (-(2f64.powi(63)), 2f64.powi(63), *i as f64),
        Value::Uint(u) => (0.0, 2f64.powi(64), *u as f64),
        _ => return None,
    };
    if double < least {
        Some(Ordering::Greater)
    } else if double > limit {
        Some(Ordering::Less)
    } else {
        value.partial_cmp(&double)
    }
}

fn lists_equal<'a>(a: &List<'a>, b: &List<'a>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.list_type() {
        ListType::Atomic => a.iter().zip(b.iter()).all(|(a, b)| alike(&a, &b)),
        ListType::Set => {
            let places = a.places();
            b.iter().all(|item| places.contains_key(&a.identity(&item)))
        }
        ListType::Map => {
            let places = a.places();
            b.iter().all(|theirs| {
                let mine = places.get(&a.identity(&theirs)).and_then(|place| a.get(*place));
                mine.is_some_and(|mine| alike(&mine, &theirs))
            })
        }
    }
}

fn maps_equal(a: &Map<'_>, b: &Map<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if let (Some((a, None)), Some((b, None))) = (a.as_json(), b.as_json())
        && std::ptr::eq(a, b)
    {
        return true;
    }
    unknown_members_equal(a, b)
        && a.iter().all(|(key, mine)| b.get(&key.to_value()).is_some_and(|theirs| alike(&mine, &theirs)))
}

/// Members for which there is no schema are compared as they are, if both maps have them.
fn unknown_members_equal(a: &Map<'_>, b: &Map<'_>) -> bool {
    let (Some((mine, Some(schema))), Some((theirs, _))) = (a.as_json(), b.as_json()) else { return true };
    mine.iter()
        .filter(|(name, _)| schema.property(name).is_none())
        .all(|(name, value)| theirs.get(name).is_none_or(|other| other == value))
}

fn structs_equal(a: &Struct<'_>, b: &Struct<'_>) -> bool {
    a.type_name == b.type_name
        && a.fields.len() == b.fields.len()
        && a.fields.iter().all(|(name, mine)| b.fields.get(name).is_some_and(|theirs| alike(mine, theirs)))
}
