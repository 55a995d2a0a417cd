//! Arithmetic, ordering and containers.

use std::cmp::Ordering;

use super::convert::format_value;
use crate::value::{Duration, Key, Map, Timestamp, Value, compare_numbers, of_value};
use crate::{Error, Type};

type Result<'a> = std::result::Result<Value<'a>, Error>;

fn int_overflow() -> Error {
    Error::new("integer overflow")
}

fn uint_overflow() -> Error {
    Error::new("unsigned integer overflow")
}

fn duration_overflow() -> Error {
    Error::new("duration overflow")
}

fn timestamp_overflow() -> Error {
    Error::new("timestamp overflow")
}

fn int<'a>(n: Option<i64>) -> Result<'a> {
    n.map(Value::Int).ok_or_else(int_overflow)
}

fn uint<'a>(n: Option<u64>) -> Result<'a> {
    n.map(Value::Uint).ok_or_else(uint_overflow)
}

fn duration<'a>(nanos: Option<i64>) -> Result<'a> {
    nanos.map(|nanos| Value::Duration(Duration { nanos })).ok_or_else(duration_overflow)
}

/// No overload for these arguments: named by the operator if the first has no such operator at all.
fn no_overload<'a>(name: &str, first: &Value<'a>, has_operator: fn(&Value<'_>) -> bool) -> Result<'a> {
    // Values of these types are asked whether they know a method of this name, and say so themselves.
    let is_receiver = matches!(first, Value::String(_) | Value::Duration(_) | Value::Timestamp(_));
    if has_operator(first) || is_receiver {
        Err(Error::no_such_overload())
    } else {
        Err(Error::new(format!("no such overload: {name}")))
    }
}

pub(super) fn not<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn add<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => {
            let mut joined = String::with_capacity(a.len() + b.len());
            joined.push_str(a);
            joined.push_str(b);
            Ok(Value::from(joined))
        }
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::bytes([&**a, &**b].concat())),
        [Value::List(a), Value::List(b)] => Ok(Value::List(a.clone().concat(b))),
        [Value::Duration(a), Value::Duration(b)] => duration(a.nanos.checked_add(b.nanos)),
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            moved(*at, by.nanos)
        }
        [first, ..] => no_overload("_+_", first, |v| {
            !matches!(
                v,
                Value::Bool(_)
                    | Value::Null
                    | Value::Map(_)
                    | Value::Type(_)
                    | Value::Optional(_)
                    | Value::Opaque(_)
            )
        }),
        [] => Err(Error::no_such_overload()),
    }
}

fn moved<'a>(at: Timestamp, nanos: i64) -> Result<'a> {
    at.checked_add_nanos(nanos).map(Value::Timestamp).ok_or_else(timestamp_overflow)
}

pub(super) fn subtract<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.nanos.checked_sub(b.nanos)),
        [Value::Timestamp(at), Value::Duration(by)] => match by.nanos.checked_neg() {
            Some(nanos) => moved(*at, nanos),
            None => Err(duration_overflow()),
        },
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            let nanos = i64::try_from(a.as_nanosecond() - b.as_nanosecond()).map_err(|_| int_overflow())?;
            Ok(Value::Duration(Duration { nanos }))
        }
        [first, ..] => no_overload("_-_", first, is_subtractor),
        [] => Err(Error::no_such_overload()),
    }
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}

fn is_subtractor(value: &Value<'_>) -> bool {
    is_number(value) || matches!(value, Value::Duration(_) | Value::Timestamp(_))
}

pub(super) fn multiply<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        [first, ..] => no_overload("_*_", first, is_number),
        [] => Err(Error::no_such_overload()),
    }
}

pub(super) fn divide<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Error::new("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a / b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        [first, ..] => no_overload("_/_", first, is_number),
        [] => Err(Error::no_such_overload()),
    }
}

pub(super) fn modulo<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Error::new("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a % b)),
        [first, ..] => no_overload("_%_", first, |v| matches!(v, Value::Int(_) | Value::Uint(_))),
        [] => Err(Error::no_such_overload()),
    }
}

pub(super) fn negate<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a)] => int(a.checked_neg()),
        [Value::Double(a)] => Ok(Value::Double(-a)),
        [Value::Duration(a)] => duration(a.nanos.checked_neg()),
        [Value::Bool(_) | Value::String(_) | Value::Timestamp(_)] => Err(Error::no_such_overload()),
        _ => Err(Error::new("no such overload: -_")),
    }
}

fn compare(name: &str, args: &[Value<'_>]) -> std::result::Result<Ordering, Error> {
    Ok(match args {
        [Value::Bool(a), Value::Bool(b)] => a.cmp(b),
        [Value::String(a), Value::String(b)] => a.cmp(b),
        [Value::Bytes(a), Value::Bytes(b)] => a.cmp(b),
        [Value::Timestamp(a), Value::Timestamp(b)] => a.cmp(b),
        [Value::Duration(a), Value::Duration(b)] => a.cmp(b),
        [a, b] if is_number(a) && is_number(b) => {
            return compare_numbers(a, b).ok_or_else(|| Error::new("NaN values cannot be ordered"));
        }
        [
            Value::Bool(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Timestamp(_)
            | Value::Duration(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_),
            _,
        ] => return Err(Error::no_such_overload()),
        _ => return Err(Error::new(format!("no such overload: {name}"))),
    })
}

pub(super) fn less<'a>(args: &[Value<'a>]) -> Result<'a> {
    compare("_<_", args).map(|order| Value::Bool(order.is_lt()))
}

pub(super) fn less_equals<'a>(args: &[Value<'a>]) -> Result<'a> {
    compare("_<=_", args).map(|order| Value::Bool(order.is_le()))
}

pub(super) fn greater<'a>(args: &[Value<'a>]) -> Result<'a> {
    compare("_>_", args).map(|order| Value::Bool(order.is_gt()))
}

pub(super) fn greater_equals<'a>(args: &[Value<'a>]) -> Result<'a> {
    compare("_>=_", args).map(|order| Value::Bool(order.is_ge()))
}

pub(super) fn size<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first().and_then(Value::size) {
        Some(size) => Ok(Value::Int(size as i64)),
        None => Err(Error::new("no such overload: size")),
    }
}

pub(super) fn contained<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value, Value::List(list)] => Ok(Value::Bool(list.contains(value))),
        [key, Value::Map(map)] => Ok(Value::Bool(map.get(key).is_some())),
        [Value::String(name), Value::Fields(fields)] => match fields.field(name) {
            Some(Err(error)) => Err(error),
            found => Ok(Value::Bool(found.is_some())),
        },
        _ => Err(Error::no_such_overload()),
    }
}

/// A value as the index of a list.
pub(crate) fn index_of(value: &Value<'_>) -> std::result::Result<i64, Error> {
    let unsupported = || Error::new(format!("unsupported index value {} in list", format_value(value)));
    match value {
        Value::Int(i) => Ok(*i),
        Value::Uint(u) => i64::try_from(*u).map_err(|_| unsupported()),
        Value::Double(_) => match Key::matching(value) {
            Some(Key::Int(i)) => Ok(i),
            _ => Err(unsupported()),
        },
        other => {
            let name = other.type_of();
            Err(Error::new(format!("unsupported index type '{}' in list", list_or_name(&name))))
        }
    }
}

/// Go prints the types of lists and maps with their parameters.
fn list_or_name(ty: &Type) -> String {
    match ty {
        Type::List(_) => "list(dyn)".to_owned(),
        Type::Map(_) => "map(dyn, dyn)".to_owned(),
        other => other.runtime_name().to_owned(),
    }
}

/// Adds an entry that must not be there yet.
pub(crate) fn insert<'a>(
    map: &mut Map<'a>,
    key: &Value<'a>,
    value: Value<'a>,
    weight: u64,
) -> std::result::Result<(), Error> {
    let name = || format_value(key);
    let checked = Key::of(key).or_else(|| Key::matching(key));
    let checked = checked.ok_or_else(|| Error::new(format!("unsupported key type: {}", name())))?;
    match map.insert(checked, value, weight) {
        true => Ok(()),
        false => Err(Error::new(format!("insert failed: key {} already exists", name()))),
    }
}

pub(super) fn insert_entry<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Map(map), key, value] => {
            let mut map = map.clone();
            insert(&mut map, key, value.clone(), of_value(value))?;
            Ok(Value::Map(map))
        }
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn insert_map<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Map(map), Value::Map(more)] => {
            let mut map = map.clone();
            for (key, value) in more.iter() {
                let weight = of_value(&value);
                insert(&mut map, &key.to_value(), value, weight)?;
            }
            Ok(Value::Map(map))
        }
        _ => Err(Error::no_such_overload()),
    }
}
