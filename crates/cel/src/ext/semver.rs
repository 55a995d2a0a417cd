//! `semver()`, `isSemver()` and what can be asked of a version.

use std::cmp::Ordering;

use super::semver_version::Version;
use super::{cost, opaque};
use crate::{Error, Function, Opaque, Overload, Type, Value};

#[derive(Clone, Debug)]
struct Semver(Version);

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.0.compare(&other.0).is_eq()
    }
}

impl Opaque for Semver {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        opaque::equal(self, other)
    }
}

fn ty() -> Type {
    Type::object("kubernetes.Semver")
}

pub(super) fn functions() -> Vec<Function> {
    let parse = |overload: Overload| overload.cost(cost::estimate_parse, cost::actual_traverse);
    let nominal = |overload: Overload| overload.cost(cost::estimate_nominal, cost::actual_nominal);
    let number =
        |name, id, call| Function::new(name).overload(nominal(Overload::member(id, [ty()], Type::Int, call)));
    let of_two = |name, id, result, call| {
        Function::new(name).overload(nominal(Overload::member(id, [ty(), ty()], result, call)))
    };
    const S: Type = Type::String;
    const B: Type = Type::Bool;
    vec![
        Function::new("semver")
            .overload(parse(Overload::global("string_to_semver", [S], ty(), from_string)))
            .overload(parse(Overload::global("string_bool_to_semver", [S, B], ty(), from_string))),
        Function::new("isSemver")
            .overload(parse(Overload::global("is_semver_string", [S], B, is_semver)))
            .overload(parse(Overload::global("is_semver_string_bool", [S, B], B, is_semver))),
        of_two("isGreaterThan", "semver_is_greater_than", B, |args| order(args, Ordering::is_gt)),
        of_two("isLessThan", "semver_is_less_than", B, |args| order(args, Ordering::is_lt)),
        of_two("compareTo", "semver_compare_to", Type::Int, compare_to),
        number("major", "semver_major", |args| part(args, |version| version.major)),
        number("minor", "semver_minor", |args| part(args, |version| version.minor)),
        number("patch", "semver_patch", |args| part(args, |version| version.patch)),
    ]
}

/// The outer error is that of the call, the inner one that of the text.
fn parse(args: &[Value<'_>]) -> Result<Result<Version, String>, Error> {
    let text = opaque::text(args)?;
    match args.get(1) {
        None | Some(Value::Bool(false)) => Ok(Version::parse(text)),
        Some(Value::Bool(true)) => Ok(Version::parse_normalized(text)),
        Some(_) => Err(Error::no_such_overload()),
    }
}

fn from_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::opaque(Semver(parse(args)?.map_err(Error::new)?)))
}

fn is_semver<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(parse(args)?.is_ok()))
}

fn compared(args: &[Value<'_>]) -> Result<Ordering, Error> {
    Ok(opaque::receiver::<Semver>(args)?.0.compare(&opaque::argument::<Semver>(args, 1)?.0))
}

fn order<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(holds(compared(args)?)))
}

fn compare_to<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Int(compared(args)? as i64))
}

fn part<'a>(args: &[Value<'a>], part: fn(&Version) -> u64) -> Result<Value<'a>, Error> {
    Ok(Value::Int(part(&opaque::receiver::<Semver>(args)?.0) as i64))
}
