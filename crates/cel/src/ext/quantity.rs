//! `quantity()`, `isQuantity()` and arithmetic with quantities.

use std::cmp::Ordering;

use super::amount::Amount;
use super::{cost, opaque};
use crate::{Error, Function, Opaque, Overload, Type, Value};

/// A quantity, of which CEL shows the amount only.
#[derive(Clone, Debug)]
struct Quantity {
    amount: Amount,
    /// Upstream's results of `add` and `sub` are of another Go type, with which no quantity can be compared by `==`.
    computed: bool,
}

impl Opaque for Quantity {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        let other = other.downcast_ref::<Quantity>().filter(|other| !other.computed)?;
        Some(self.amount == other.amount)
    }
}

fn ty() -> Type {
    Type::object("kubernetes.Quantity")
}

pub(super) fn functions() -> Vec<Function> {
    let parse = |overload: Overload| overload.cost(cost::estimate_parse, cost::actual_traverse);
    let nominal = |overload: Overload| overload.cost(cost::estimate_nominal, cost::actual_nominal);
    let of_one = |name, id, result, call| {
        Function::new(name).overload(nominal(Overload::member(id, [ty()], result, call)))
    };
    let of_two = |name, id, result, call| {
        Function::new(name).overload(nominal(Overload::member(id, [ty(), ty()], result, call)))
    };
    let with_int = |id, call| nominal(Overload::member(id, [ty(), Type::Int], ty(), call));
    vec![
        Function::new("quantity").overload(parse(Overload::global(
            "string_to_quantity",
            [Type::String],
            ty(),
            from_string,
        ))),
        Function::new("isQuantity").overload(parse(Overload::global(
            "is_quantity_string",
            [Type::String],
            Type::Bool,
            is_quantity,
        ))),
        // Unlike the others this is not a member: `sign(q)`.
        Function::new("sign").overload(nominal(Overload::global("quantity_sign", [ty()], Type::Int, sign))),
        of_two("isGreaterThan", "quantity_is_greater_than", Type::Bool, |args| order(args, Ordering::is_gt)),
        of_two("isLessThan", "quantity_is_less_than", Type::Bool, |args| order(args, Ordering::is_lt)),
        of_two("compareTo", "quantity_compare_to", Type::Int, compare_to),
        of_one("asApproximateFloat", "quantity_get_float", Type::Double, as_approximate_float),
        of_one("asInteger", "quantity_get_int", Type::Int, as_integer),
        of_one("isInteger", "quantity_is_integer", Type::Bool, is_integer),
        of_two("add", "quantity_add", ty(), |args| combine(args, Amount::add))
            .overload(with_int("quantity_add_int", |args| combine_int(args, Amount::add))),
        of_two("sub", "quantity_sub", ty(), |args| combine(args, Amount::sub))
            .overload(with_int("quantity_sub_int", |args| combine_int(args, Amount::sub))),
    ]
}

fn receiver<'v>(args: &'v [Value<'_>]) -> Result<&'v Amount, Error> {
    opaque::receiver::<Quantity>(args).map(|quantity| &quantity.amount)
}

fn both<'v>(args: &'v [Value<'_>]) -> Result<(&'v Amount, &'v Amount), Error> {
    Ok((receiver(args)?, &opaque::argument::<Quantity>(args, 1)?.amount))
}

fn from_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let amount = Amount::parse(opaque::text(args)?).map_err(|why| Error::new(why.to_string()))?;
    Ok(Value::opaque(Quantity { amount, computed: false }))
}

fn is_quantity<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(Amount::parse(opaque::text(args)?).is_ok()))
}

fn sign<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Int(receiver(args)?.sign()))
}

fn order<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Result<Value<'a>, Error> {
    let (a, b) = both(args)?;
    Ok(Value::Bool(holds(a.compare(b))))
}

fn compare_to<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (a, b) = both(args)?;
    Ok(Value::Int(a.compare(b) as i64))
}

fn as_approximate_float<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Double(receiver(args)?.as_f64()))
}

fn as_integer<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let integer = receiver(args)?.as_int();
    integer.map(Value::Int).ok_or_else(|| Error::new("cannot convert value to integer"))
}

fn is_integer<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(receiver(args)?.as_int().is_some()))
}

type Arithmetic = fn(&Amount, &Amount) -> Option<Amount>;

fn combine<'a>(args: &[Value<'a>], arithmetic: Arithmetic) -> Result<Value<'a>, Error> {
    let (a, b) = both(args)?;
    result(arithmetic(a, b))
}

fn combine_int<'a>(args: &[Value<'a>], arithmetic: Arithmetic) -> Result<Value<'a>, Error> {
    let Some(Value::Int(b)) = args.get(1) else { return Err(Error::no_such_overload()) };
    result(arithmetic(receiver(args)?, &Amount::from_int(*b)))
}

fn result<'a>(amount: Option<Amount>) -> Result<Value<'a>, Error> {
    let amount = amount.ok_or_else(|| Error::new("quantity out of range"))?;
    Ok(Value::opaque(Quantity { amount, computed: true }))
}
