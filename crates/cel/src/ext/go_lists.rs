//! cel-go's lists extension, version 3 (`slice`, `flatten`, `sort`, `distinct`, …).

use std::cmp::Ordering;
use std::mem::discriminant;

use super::{cost, order};
use crate::{Error, Function, List, Overload, PER_CALL_LIMIT, Type, Value};

pub(super) fn functions() -> Vec<Function> {
    const I: Type = Type::Int;
    let list = || Type::list(Type::param("T"));
    let dynamic = || Type::list(Type::Dyn);
    let flat = |overload: Overload| overload.cost(cost::estimate_flatten, cost::actual_flatten);
    vec![
        Function::new("slice").overload(
            Overload::member("list_slice", [list(), I, I], list(), slice)
                .cost(cost::estimate_slice, cost::actual_output),
        ),
        Function::new("flatten")
            .overload(flat(Overload::member("list_flatten", [Type::list(list())], list(), flatten)))
            .overload(flat(Overload::member("list_flatten_int", [dynamic(), I], dynamic(), flatten))),
        sort_function(),
        sort_by_function(),
        Function::new("lists.range").overload(
            Overload::global("lists_range", [I], Type::list(I), range)
                .cost(cost::estimate_range, cost::actual_output),
        ),
        Function::new("reverse").overload(
            Overload::member("list_reverse", [list()], list(), reverse)
                .cost(cost::estimate_reverse, cost::actual_output),
        ),
        Function::new("distinct").overload(
            Overload::member("list_distinct", [list()], list(), distinct)
                .cost(cost::estimate_distinct, cost::actual_self_compare),
        ),
    ]
}

fn sort_function() -> Function {
    let quick = |id, element: Type| {
        Overload::member(id, [Type::list(element.clone())], Type::list(element), sort)
            .cost(cost::estimate_sort, cost::actual_self_compare)
    };
    let text = |id, element: Type| {
        Overload::member(id, [Type::list(element.clone())], Type::list(element), sort)
            .cost(cost::estimate_sort_text, cost::actual_self_compare)
    };
    Function::new("sort")
        .one_for_all()
        .overload(quick("list_int_sort", Type::Int))
        .overload(quick("list_uint_sort", Type::Uint))
        .overload(quick("list_double_sort", Type::Double))
        .overload(quick("list_bool_sort", Type::Bool))
        .overload(quick("list_google.protobuf.Duration_sort", Type::Duration))
        .overload(quick("list_google.protobuf.Timestamp_sort", Type::Timestamp))
        .overload(text("list_string_sort", Type::String))
        .overload(text("list_bytes_sort", Type::Bytes))
}

fn sort_by_function() -> Function {
    let list = || Type::list(Type::param("T"));
    let quick = |id, key: Type| {
        Overload::member(id, [list(), Type::list(key)], list(), sort_by)
            .cost(cost::estimate_sort_by, cost::actual_sort_by)
    };
    let text = |id, key: Type| {
        Overload::member(id, [list(), Type::list(key)], list(), sort_by)
            .cost(cost::estimate_sort_by_text, cost::actual_sort_by)
    };
    Function::new("@sortByAssociatedKeys")
        .one_for_all()
        .overload(quick("list_int_sortByAssociatedKeys", Type::Int))
        .overload(quick("list_uint_sortByAssociatedKeys", Type::Uint))
        .overload(quick("list_double_sortByAssociatedKeys", Type::Double))
        .overload(quick("list_bool_sortByAssociatedKeys", Type::Bool))
        .overload(quick("list_google.protobuf.Duration_sortByAssociatedKeys", Type::Duration))
        .overload(quick("list_google.protobuf.Timestamp_sortByAssociatedKeys", Type::Timestamp))
        .overload(text("list_string_sortByAssociatedKeys", Type::String))
        .overload(text("list_bytes_sortByAssociatedKeys", Type::Bytes))
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return Err(Error::no_such_overload());
    };
    let fail = |why: String| Err(Error::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return fail("negative indexes not supported".to_owned());
    };
    if from > to {
        return fail("start index must be less than or equal to end index".to_owned());
    }
    if list.len() < to {
        return fail(format!("list is length {}", list.len()));
    }
    Ok(Value::list((from..to).filter_map(|index| list.get(index)).collect()))
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        [other, rest @ ..] => {
            let rest: Vec<Type> = rest.iter().map(Value::type_of).collect();
            let depth = rest.first().map_or("", Type::runtime_name);
            let receiver = other.type_of();
            return Err(Error::new(format!(
                "no such overload: {}.flatten({depth})",
                receiver.runtime_name()
            )));
        }
        [] => return Err(Error::no_such_overload()),
    };
    if depth < 0 {
        return Err(Error::new("level must be non-negative"));
    }
    let mut flat = Vec::new();
    flatten_into(list, depth, &mut flat);
    Ok(Value::list(flat))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, flat: &mut Vec<Value<'a>>) {
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, flat),
            item => flat.push(item),
        }
    }
}

/// A longer list than the budget pays for is not even begun.
fn range<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::Int(count)] = args else { return Err(Error::no_such_overload()) };
    if *count > PER_CALL_LIMIT as i64 {
        return Err(Error::cost_limit());
    }
    Ok(Value::list((0..*count).map(Value::Int).collect()))
}

fn reverse<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut items: Vec<Value<'a>> = list.iter().collect();
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    // Every element is compared with every other, which the budget would refuse only afterwards.
    check_quadratic(list)?;
    let mut unique: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    Ok(Value::list(unique))
}

/// Refuses lists whose square the budget does not pay for.
fn check_quadratic(list: &List<'_>) -> Result<(), Error> {
    let length = list.len() as u64;
    if length.saturating_mul(length) > PER_CALL_LIMIT { Err(Error::cost_limit()) } else { Ok(()) }
}

fn sort<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list)] => sort_by_keys(list, list),
        [Value::String(_) | Value::Duration(_) | Value::Timestamp(_)] => Err(Error::no_such_overload()),
        _ => Err(Error::new("no such overload: sort")),
    }
}

fn sort_by<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list), Value::List(keys)] => sort_by_keys(list, keys),
        _ => Err(Error::no_such_overload()),
    }
}

/// The elements of a list in the order of the keys at the same positions.
fn sort_by_keys<'a>(list: &List<'a>, keys: &List<'a>) -> Result<Value<'a>, Error> {
    if list.len() != keys.len() {
        let (items, keys) = (list.len(), keys.len());
        return Err(Error::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {items} and {keys} elements respectively"
        )));
    }
    check_quadratic(list)?;
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.iter().zip(list.iter()).collect();
    if let Some((first, _)) = pairs.first() {
        if !order::is_comparable(first) {
            return Err(Error::new("list elements must be comparable"));
        }
        if pairs.iter().any(|(key, _)| discriminant(key) != discriminant(first)) {
            return Err(Error::new("list elements must have the same type"));
        }
    }
    pairs.sort_by(|(a, _), (b, _)| total_order(a, b));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

/// An order that is total also with NaN, which upstream leaves wherever its sorting puts it.
fn total_order(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Double(x), Value::Double(y)) => {
            x.partial_cmp(y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()))
        }
        _ => order::compare(a, b).unwrap_or(Ordering::Equal),
    }
}
