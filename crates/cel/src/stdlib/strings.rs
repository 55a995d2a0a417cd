//! Methods of strings.

use ::regex::Regex;

use crate::function::{Function, Overload};
use crate::{Error, Type, Value};

type Result<'a> = std::result::Result<Value<'a>, Error>;

pub(super) fn functions() -> Vec<Function> {
    let strings = || [Type::String, Type::String];
    vec![
        Function::new("contains").one_for_all().overload(Overload::member(
            "contains_string",
            strings(),
            Type::Bool,
            contains,
        )),
        Function::new("endsWith").one_for_all().overload(Overload::member(
            "ends_with_string",
            strings(),
            Type::Bool,
            ends_with,
        )),
        Function::new("startsWith").one_for_all().overload(Overload::member(
            "starts_with_string",
            strings(),
            Type::Bool,
            starts_with,
        )),
        Function::new("matches")
            .one_for_all()
            .overload(Overload::global("matches", strings(), Type::Bool, no_overload).with_regex(1, matches))
            .overload(
                Overload::member("matches_string", strings(), Type::Bool, no_overload).with_regex(1, matches),
            ),
    ]
}

fn no_overload<'a>(_args: &[Value<'a>]) -> Result<'a> {
    Err(Error::no_such_overload())
}

fn test<'a>(args: &[Value<'a>], test: fn(&str, &str) -> bool) -> Result<'a> {
    match args {
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(test(a, b))),
        _ => Err(Error::no_such_overload()),
    }
}

fn contains<'a>(args: &[Value<'a>]) -> Result<'a> {
    test(args, |a, b| a.contains(b))
}

fn ends_with<'a>(args: &[Value<'a>]) -> Result<'a> {
    test(args, |a, b| a.ends_with(b))
}

fn starts_with<'a>(args: &[Value<'a>]) -> Result<'a> {
    test(args, |a, b| a.starts_with(b))
}

fn matches<'a>(args: &[Value<'a>], pattern: &Regex) -> Result<'a> {
    match args {
        [Value::String(text), ..] => Ok(Value::Bool(pattern.is_match(text))),
        _ => Err(Error::no_such_overload()),
    }
}
