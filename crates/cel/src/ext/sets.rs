//! cel-go's sets extension: lists taken for sets.

use super::cost;
use crate::{CallEstimate, CostEstimate, Error, EstimateArgs, Function, List, Overload, Type, Value};

pub(super) fn functions() -> Vec<Function> {
    let list = || Type::list(Type::param("T"));
    let of_two = |name, id, call| {
        let overload: Overload = Overload::global(id, [list(), list()], Type::Bool, call);
        Function::new(name).overload(overload.cost(estimate, actual))
    };
    let equivalent = Overload::global("list_sets_equivalent_list", [list(), list()], Type::Bool, equivalent);
    vec![
        of_two("sets.contains", "list_sets_contains_list", contains),
        of_two("sets.intersects", "list_sets_intersects_list", intersects),
        Function::new("sets.equivalent").overload(equivalent.cost(estimate_twice, actual_twice)),
    ]
}

fn both<'v, 'a>(args: &'v [Value<'a>]) -> Result<(&'v List<'a>, &'v List<'a>), Error> {
    match args {
        [Value::List(a), Value::List(b)] => Ok((a, b)),
        _ => Err(Error::no_such_overload()),
    }
}

fn contains_all<'a>(list: &List<'a>, part: &List<'a>) -> bool {
    part.iter().all(|item| list.contains(&item))
}

fn contains<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (list, part) = both(args)?;
    Ok(Value::Bool(contains_all(list, part)))
}

fn equivalent<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (a, b) = both(args)?;
    Ok(Value::Bool(contains_all(a, b) && contains_all(b, a)))
}

fn intersects<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (a, b) = both(args)?;
    Ok(Value::Bool(a.iter().any(|item| b.contains(&item))))
}

fn estimate_times(call: &EstimateArgs<'_>, factor: f64) -> Option<CallEstimate> {
    let [a, b] = call.args else { return None };
    let comparisons = call.size(a).multiply(call.size(b));
    cost::only(comparisons.multiply_by_cost_factor(factor).add(CostEstimate::fixed(1)))
}

fn estimate(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    estimate_times(call, 1.0)
}

fn estimate_twice(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    estimate_times(call, 2.0)
}

fn comparisons(args: &[Value<'_>]) -> Option<u64> {
    let [a, b] = args else { return None };
    Some(cost::size(a) * cost::size(b))
}

fn actual<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(1 + comparisons(args)?)
}

fn actual_twice<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(1 + 2 * comparisons(args)?)
}
