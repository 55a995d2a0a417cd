//! `cidr()`, `isCIDR()` and what can be asked of a network.

use std::sync::Arc;

use super::ip::{self, Ip};
use super::netip::{self, Prefix};
use super::{cost, opaque};
use crate::{
    CallEstimate, CostEstimate, Error, EstimateArgs, Function, Opaque, Overload, SizeEstimate, Type, Value,
};

/// A network, whose address may have bits set that are the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr(Prefix);

impl Cidr {
    pub fn ty() -> Type {
        Type::Opaque(Arc::from("net.CIDR"), Arc::from([]))
    }

    fn parse(text: &str) -> Result<Cidr, Error> {
        const CONTEXT: &str = "network address parse error during conversion from string";
        // Upstream puts the same context before an error twice.
        let prefix =
            netip::parse_prefix(text).map_err(|why| Error::new(format!("{CONTEXT}: {CONTEXT}: {why}")))?;
        if ip::is_mapped(prefix.addr) {
            return Err(Error::new(format!("{CONTEXT}: {}", ip::mapped(text))));
        }
        Ok(Cidr(prefix))
    }
}

impl Opaque for Cidr {
    fn type_of(&self) -> Type {
        Cidr::ty()
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        opaque::equal(self, other)
    }

    /// How many bytes the network's part of the address has.
    fn size(&self) -> Option<u64> {
        Some(u64::from(self.0.bits).div_ceil(8))
    }
}

pub(super) fn functions() -> Vec<Function> {
    let cidr = Cidr::ty;
    let parse = |overload: Overload| overload.cost(cost::estimate_parse, cost::actual_traverse);
    let access = |overload: Overload| overload.cost(cost::estimate_nominal, cost::actual_nominal);
    vec![
        Function::new("cidr").overload(parse(Overload::global(
            "string_to_cidr",
            [Type::String],
            cidr(),
            from_string,
        ))),
        Function::new("isCIDR").overload(parse(Overload::global(
            "is_cidr",
            [Type::String],
            Type::Bool,
            is_cidr,
        ))),
        Function::new("containsIP")
            .overload(
                Overload::member(
                    "cidr_contains_ip_string",
                    [cidr(), Type::String],
                    Type::Bool,
                    contains_ip_text,
                )
                .cost(estimate_contains_ip_text, actual_contains_ip_text),
            )
            .overload(
                Overload::member("cidr_contains_ip_ip", [cidr(), Ip::ty()], Type::Bool, contains_ip)
                    .cost(estimate_contains_ip, actual_contains_ip),
            ),
        Function::new("containsCIDR")
            .overload(
                Overload::member(
                    "cidr_contains_cidr_string",
                    [cidr(), Type::String],
                    Type::Bool,
                    contains_cidr_text,
                )
                .cost(estimate_contains_cidr_text, actual_contains_cidr_text),
            )
            .overload(
                Overload::member("cidr_contains_cidr", [cidr(), cidr()], Type::Bool, contains_cidr)
                    .cost(estimate_contains_cidr, actual_contains_cidr),
            ),
        Function::new("ip").overload(access(Overload::member("cidr_ip", [cidr()], Ip::ty(), to_ip))),
        Function::new("prefixLength").overload(access(Overload::member(
            "cidr_prefix_length",
            [cidr()],
            Type::Int,
            prefix_length,
        ))),
        Function::new("masked").overload(access(Overload::member("cidr_masked", [cidr()], cidr(), masked))),
        Function::new("string").overload(Overload::global(
            "cidr_to_string",
            [cidr()],
            Type::String,
            to_string,
        )),
    ]
}

fn receiver(args: &[Value<'_>]) -> Result<Cidr, Error> {
    opaque::receiver::<Cidr>(args).copied()
}

fn from_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::opaque(Cidr::parse(opaque::text(args)?)?))
}

fn is_cidr<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(Cidr::parse(opaque::text(args)?).is_ok()))
}

fn contains_ip_text<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = args.get(1).and_then(Value::as_str).ok_or_else(Error::no_such_overload)?;
    // Upstream loses the parser's error here.
    let ip = Ip::parse(text).map_err(|_| Error::no_such_overload())?;
    Ok(Value::Bool(receiver(args)?.0.contains(ip.0)))
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let ip = opaque::argument::<Ip>(args, 1)?;
    Ok(Value::Bool(receiver(args)?.0.contains(ip.0)))
}

fn contains_cidr_text<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = args.get(1).and_then(Value::as_str).ok_or_else(Error::no_such_overload)?;
    let other = Cidr::parse(text)?;
    Ok(Value::Bool(receiver(args)?.0.contains_prefix(other.0)))
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let other = opaque::argument::<Cidr>(args, 1)?;
    Ok(Value::Bool(receiver(args)?.0.contains_prefix(other.0)))
}

fn to_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::opaque(Ip(receiver(args)?.0.addr)))
}

fn prefix_length<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Int(i64::from(receiver(args)?.0.bits)))
}

fn masked<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::opaque(Cidr(receiver(args)?.0.masked())))
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::from(receiver(args)?.0.to_string()))
}

/// Two addresses, of 4 or 16 bytes each, are compared.
fn comparison() -> CostEstimate {
    let bytes = SizeEstimate::new(4, 16);
    bytes.add(bytes).multiply_by_cost_factor(cost::STRING_TRAVERSAL)
}

/// The address is also masked, and the lengths of the prefixes are compared.
fn prefix_comparison() -> CostEstimate {
    let masking = SizeEstimate::new(4, 16).multiply_by_cost_factor(cost::STRING_TRAVERSAL);
    comparison().add(masking).add(CostEstimate::fixed(1))
}

/// The cost, and that of parsing the argument.
fn with_parsing(call: &EstimateArgs<'_>, comparison: CostEstimate) -> Option<CallEstimate> {
    let parsing = call.size(call.args.first()?).multiply_by_cost_factor(cost::STRING_TRAVERSAL);
    cost::only(comparison.add(parsing))
}

fn estimate_contains_ip(_: &EstimateArgs<'_>) -> Option<CallEstimate> {
    cost::only(comparison())
}

fn estimate_contains_ip_text(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    with_parsing(call, comparison())
}

fn estimate_contains_cidr(_: &EstimateArgs<'_>) -> Option<CallEstimate> {
    cost::only(prefix_comparison())
}

fn estimate_contains_cidr_text(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    with_parsing(call, prefix_comparison())
}

fn actual_contains_ip<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(cost::scaled(2 * cost::size(args.first()?), cost::STRING_TRAVERSAL))
}

fn actual_contains_ip_text<'v, 'a>(args: &'v [Value<'a>], result: &'v Value<'a>) -> Option<u64> {
    Some(actual_contains_ip(args, result)? + actual_parsing(args)?)
}

fn actual_contains_cidr<'v, 'a>(args: &'v [Value<'a>], result: &'v Value<'a>) -> Option<u64> {
    let masking = cost::scaled(cost::size(args.first()?), cost::STRING_TRAVERSAL) + 1;
    Some(actual_contains_ip(args, result)? + masking)
}

fn actual_contains_cidr_text<'v, 'a>(args: &'v [Value<'a>], result: &'v Value<'a>) -> Option<u64> {
    Some(actual_contains_cidr(args, result)? + actual_parsing(args)?)
}

fn actual_parsing(args: &[Value<'_>]) -> Option<u64> {
    Some(cost::scaled(cost::size(args.get(1)?), cost::STRING_TRAVERSAL))
}
