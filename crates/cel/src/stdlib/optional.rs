//! Optionals.

use super::convert::format_value;
use crate::function::{Call, Function, Overload};
use crate::syntax::operators as op;
use crate::{Error, Type, Value};

type Result<'a> = std::result::Result<Value<'a>, Error>;

fn value_type() -> Type {
    Type::param("V")
}

fn optional() -> Type {
    Type::optional(value_type())
}

/// An overload of `[]` or `[?]`, whose operand may itself be an optional.
pub(super) fn index(id: &'static str, of_optional: bool, of_map: bool) -> Overload {
    let (container, key) = match of_map {
        true => (Type::map(Type::param("K"), value_type()), Type::param("K")),
        false => (Type::list(value_type()), Type::Int),
    };
    let container = if of_optional { Type::optional(container) } else { container };
    Overload::of(id, false, vec![container, key], optional(), Call::Operator)
}

pub(super) fn functions() -> Vec<Function> {
    let list = || Type::list(value_type());
    let optionals = || Type::list(optional());
    let lazy = |name, id, other, result| {
        Function::new(name).overload(Overload::of(id, true, vec![optional(), other], result, Call::Operator))
    };
    vec![
        Function::new("optional.of").overload(Overload::global(
            "optional_of",
            [value_type()],
            optional(),
            of,
        )),
        Function::new("optional.ofNonZeroValue").overload(Overload::global(
            "optional_ofNonZeroValue",
            [value_type()],
            optional(),
            of_non_zero_value,
        )),
        Function::new("optional.none").overload(Overload::global("optional_none", [], optional(), none)),
        Function::new("value").overload(Overload::member(
            "optional_value",
            [optional()],
            value_type(),
            value,
        )),
        Function::new("hasValue").overload(Overload::member(
            "optional_hasValue",
            [optional()],
            Type::Bool,
            has_value,
        )),
        lazy("or", "optional_or_optional", optional(), optional()),
        lazy("orValue", "optional_orValue_value", value_type(), value_type()),
        Function::new(op::OPT_SELECT).overload(Overload::of(
            "select_optional_field",
            false,
            vec![Type::Dyn, Type::String],
            optional(),
            Call::Operator,
        )),
        Function::new(op::OPT_INDEX)
            .overload(index("list_optindex_optional_int", false, false))
            .overload(index("optional_list_optindex_optional_int", true, false))
            .overload(index("map_optindex_optional_value", false, true))
            .overload(index("optional_map_optindex_optional_value", true, true)),
        Function::new("first").overload(Overload::member("list_first", [list()], optional(), first)),
        Function::new("last").overload(Overload::member("list_last", [list()], optional(), last)),
        Function::new("optional.unwrap").overload(Overload::global(
            "optional_unwrap",
            [optionals()],
            list(),
            unwrap,
        )),
        Function::new("unwrapOpt").overload(Overload::member(
            "optional_unwrapOpt",
            [optionals()],
            list(),
            unwrap,
        )),
    ]
}

fn of<'a>(args: &[Value<'a>]) -> Result<'a> {
    args.first().cloned().map(Value::some).ok_or_else(Error::no_such_overload)
}

fn of_non_zero_value<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(value) if is_zero(value) => Ok(Value::Optional(None)),
        _ => of(args),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(b) => !b,
        Value::Int(i) => *i == 0,
        Value::Uint(u) => *u == 0,
        Value::Double(d) => *d == 0.0,
        Value::String(s) => s.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Duration(d) => d.nanos == 0,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn none<'a>(_args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Optional(None))
}

fn value<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(Error::new("optional.none() dereference")),
        _ => Err(Error::no_such_overload()),
    }
}

fn has_value<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => Err(Error::no_such_overload()),
    }
}

fn element<'a>(value: Option<Value<'a>>) -> Result<'a> {
    Ok(value.map_or(Value::Optional(None), Value::some))
}

fn first<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(list)] => element(list.get(0)),
        _ => Err(Error::no_such_overload()),
    }
}

fn last<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(list)] => element(list.len().checked_sub(1).and_then(|index| list.get(index))),
        _ => Err(Error::no_such_overload()),
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut values = Vec::new();
    for item in list.iter() {
        match item {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            other => return Err(Error::new(format!("value {} is not optional", format_value(&other)))),
        }
    }
    Ok(Value::list(values))
}
