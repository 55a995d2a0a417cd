//! Kubernetes' lists library (`isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`).

use std::cmp::Ordering;

use super::{cost, order};
use crate::{Error, Function, List, Overload, Type, Value};

pub(super) fn functions() -> Vec<Function> {
    /// A function with an overload for each type of elements; the ids contain the types' names.
    macro_rules! per_type {
        ($name:literal, [$(($id:expr, $element:expr, $result:expr, $call:expr)),* $(,)?]) => {
            Function::new($name)$(.overload(scan(Overload::member($id, [Type::list($element)], $result, $call))))*
        };
    }
    macro_rules! comparable {
        ($name:literal, $before:literal, $call:expr) => {
            per_type!(
                $name,
                [
                    (concat!("list_int_", $before, "int"), Type::Int, Type::Int, $call),
                    (concat!("list_uint_", $before, "uint"), Type::Uint, Type::Uint, $call),
                    (concat!("list_double_", $before, "double"), Type::Double, Type::Double, $call),
                    (concat!("list_bool_", $before, "bool"), Type::Bool, Type::Bool, $call),
                    (concat!("list_duration_", $before, "duration"), Type::Duration, Type::Duration, $call),
                    (
                        concat!("list_timestamp_", $before, "timestamp"),
                        Type::Timestamp,
                        Type::Timestamp,
                        $call
                    ),
                    (concat!("list_string_", $before, "string"), Type::String, Type::String, $call),
                    (concat!("list_bytes_", $before, "bytes"), Type::Bytes, Type::Bytes, $call),
                ]
            )
        };
    }
    let any = || Type::param("A");
    vec![
        per_type!(
            "isSorted",
            [
                ("list_int_is_sorted_bool", Type::Int, Type::Bool, is_sorted),
                ("list_uint_is_sorted_bool", Type::Uint, Type::Bool, is_sorted),
                ("list_double_is_sorted_bool", Type::Double, Type::Bool, is_sorted),
                ("list_bool_is_sorted_bool", Type::Bool, Type::Bool, is_sorted),
                ("list_duration_is_sorted_bool", Type::Duration, Type::Bool, is_sorted),
                ("list_timestamp_is_sorted_bool", Type::Timestamp, Type::Bool, is_sorted),
                ("list_string_is_sorted_bool", Type::String, Type::Bool, is_sorted),
                ("list_bytes_is_sorted_bool", Type::Bytes, Type::Bool, is_sorted),
            ]
        ),
        per_type!(
            "sum",
            [
                ("list_int_sum_int", Type::Int, Type::Int, |args| sum(args, Value::Int(0))),
                ("list_uint_sum_uint", Type::Uint, Type::Uint, |args| sum(args, Value::Uint(0))),
                ("list_double_sum_double", Type::Double, Type::Double, |args| sum(args, Value::Double(0.0))),
                ("list_duration_sum_duration", Type::Duration, Type::Duration, |args| {
                    sum(args, Value::Duration(crate::Duration::default()))
                }),
            ]
        ),
        comparable!("max", "max_", |args| extreme(args, "max", Ordering::Less)),
        comparable!("min", "min_", |args| extreme(args, "min", Ordering::Greater)),
        Function::new("indexOf").overload(scan(Overload::member(
            "list_a_index_of_int",
            [Type::list(any()), any()],
            Type::Int,
            |args| position(args, |list, item| list.iter().position(|there| there == *item)),
        ))),
        Function::new("lastIndexOf").overload(scan(Overload::member(
            "list_a_last_index_of_int",
            [Type::list(any()), any()],
            Type::Int,
            |args| {
                position(args, |list, item| {
                    (0..list.len()).rev().find(|i| list.get(*i).as_ref() == Some(item))
                })
            },
        ))),
    ]
}

fn scan(overload: Overload) -> Overload {
    overload.cost(cost::estimate_scan, cost::actual_scan)
}

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, Error> {
    match args.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(Error::no_such_overload()),
    }
}

/// Elements that cannot be compared with each other, such as NaN, are not out of order.
fn is_sorted<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let mut previous: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        order::check_comparable(&item)?;
        if previous.is_some_and(|previous| order::compare(&previous, &item) == Some(Ordering::Greater)) {
            return Ok(Value::Bool(false));
        }
        previous = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Result<Value<'a>, Error> {
    list(args)?.iter().try_fold(zero, |sum, item| add(&sum, &item))
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>, Error> {
    let sum = match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
        (Value::Uint(a), Value::Uint(b)) => {
            let sum = a.checked_add(*b).map(Value::Uint);
            return sum.ok_or_else(|| Error::new("unsigned integer overflow"));
        }
        (Value::Double(a), Value::Double(b)) => Some(Value::Double(a + b)),
        (Value::Duration(a), Value::Duration(b)) => {
            a.nanos.checked_add(b.nanos).map(|nanos| Value::Duration(crate::Duration::from_nanos(nanos)))
        }
        _ => return Err(Error::no_such_overload()),
    };
    sum.ok_or_else(|| Error::new("integer overflow"))
}

/// The first element that none of the later ones is beyond: `worse` is how the result so far compares with a better
/// one. Elements that cannot be compared with it are passed over.
fn extreme<'a>(args: &[Value<'a>], name: &str, worse: Ordering) -> Result<Value<'a>, Error> {
    let mut best: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        order::check_comparable(&item)?;
        if best.as_ref().is_none_or(|best| order::compare(best, &item) == Some(worse)) {
            best = Some(item);
        }
    }
    best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

type Find = for<'v, 'a> fn(&'v List<'a>, &'v Value<'a>) -> Option<usize>;

fn position<'a>(args: &[Value<'a>], find: Find) -> Result<Value<'a>, Error> {
    let item = args.get(1).ok_or_else(Error::no_such_overload)?;
    Ok(Value::Int(find(list(args)?, item).map_or(-1, |index| index as i64)))
}
