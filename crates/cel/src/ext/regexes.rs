//! `find()` and `findAll()`.

use regex::Regex;

use super::cost;
use crate::{CallEstimate, Error, EstimateArgs, Function, Overload, SizeEstimate, Type, Value};

pub(super) fn functions() -> Vec<Function> {
    const S: Type = Type::String;
    let strings = || Type::list(S);
    let costed = |overload: Overload| overload.cost(estimate, actual);
    vec![
        Function::new("find").overload(costed(
            Overload::member("string_find_string", [S, S], S, uncompiled).with_regex(1, find),
        )),
        Function::new("findAll")
            .overload(costed(
                Overload::member("string_find_all_string", [S, S], strings(), uncompiled)
                    .with_regex(1, find_all),
            ))
            .overload(costed(
                Overload::member("string_find_all_string_int", [S, S, Type::Int], strings(), uncompiled)
                    .with_regex(1, find_all),
            )),
    ]
}

/// Stands where the evaluator calls the function that takes a compiled expression.
fn uncompiled<'a>(_: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Err(Error::no_such_overload())
}

fn find<'a>(args: &[Value<'a>], regex: &Regex) -> Result<Value<'a>, Error> {
    let Some(text) = args.first().and_then(Value::as_str) else { return Err(Error::no_such_overload()) };
    Ok(Value::from(regex.find(text).map_or("", |found| found.as_str()).to_owned()))
}

fn find_all<'a>(args: &[Value<'a>], regex: &Regex) -> Result<Value<'a>, Error> {
    let (text, limit) = match args {
        [Value::String(text), _] => (text, -1),
        [Value::String(text), _, Value::Int(limit)] => (text, *limit),
        _ => return Err(Error::no_such_overload()),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = regex.find_iter(text).take(limit);
    Ok(Value::list(found.map(|part| Value::from(part.as_str().to_owned())).collect()))
}

/// Each character of the text, and one more, may have to be tried with all of the expression.
fn estimate(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let text = call.size(call.target?);
    let regex = call.size(call.args.first()?).multiply_by_cost_factor(cost::REGEX_LENGTH);
    let traversal = text.add(SizeEstimate::fixed(1)).multiply_by_cost_factor(cost::STRING_TRAVERSAL);
    Some(CallEstimate { cost: traversal.multiply(regex), result_size: Some(SizeEstimate::new(0, text.max)) })
}

fn actual<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    let traversal = cost::scaled(1 + cost::size(args.first()?), cost::STRING_TRAVERSAL);
    Some(traversal * cost::scaled(cost::size(args.get(1)?), cost::REGEX_LENGTH))
}
