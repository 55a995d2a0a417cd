//! Functions: their declarations, implementations and costs.

use regex::Regex;

use crate::cost::{CallEstimate, EstimateArgs};
use crate::{Error, Type, Value};

/// Calls a function; for a member overload the receiver is the first argument.
pub type CallFn = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, Error>;

/// Calls a function one of whose arguments is a regular expression.
pub type RegexFn = for<'a> fn(&[Value<'a>], &Regex) -> Result<Value<'a>, Error>;

/// The static cost of a call; `None` for the default.
pub type EstimateFn = fn(&EstimateArgs<'_>) -> Option<CallEstimate>;

/// The actual cost of a call, from its arguments (receiver first) and its result; `None` for the default (1).
pub type ActualFn = for<'v, 'a> fn(args: &'v [Value<'a>], result: &'v Value<'a>) -> Option<u64>;

/// A function: a name and its overloads.
#[derive(Clone, Debug)]
pub struct Function {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
    /// Whether all overloads do the same, so that none has to be chosen at run time.
    pub(crate) singleton: bool,
}

/// One signature of a function.
#[derive(Clone, Debug)]
pub struct Overload {
    pub(crate) id: &'static str,
    pub(crate) member: bool,
    pub(crate) params: Vec<Type>,
    pub(crate) result: Type,
    pub(crate) call: Call,
    pub(crate) estimate: Option<EstimateFn>,
    pub(crate) actual: Option<ActualFn>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Plain(CallFn),
    Regex {
        arg: usize,
        call: RegexFn,
    },
    /// Done by the evaluator itself.
    Operator,
}

impl Function {
    /// A function without overloads yet.
    pub fn new(name: &'static str) -> Function {
        Function { name, overloads: Vec::new(), singleton: false }
    }

    /// All overloads do the same, and the arguments are left to it.
    pub(crate) fn one_for_all(mut self) -> Function {
        self.singleton = true;
        self
    }

    /// With one more overload. Overloads are tried in the order in which they were added.
    pub fn overload(mut self, overload: Overload) -> Function {
        self.overloads.push(overload);
        self
    }
}

impl Overload {
    /// `name(params)`.
    pub fn global(id: &'static str, params: impl Into<Vec<Type>>, result: Type, call: CallFn) -> Overload {
        Overload::of(id, false, params.into(), result, Call::Plain(call))
    }

    /// `params[0].name(params[1..])`.
    pub fn member(id: &'static str, params: impl Into<Vec<Type>>, result: Type, call: CallFn) -> Overload {
        Overload::of(id, true, params.into(), result, Call::Plain(call))
    }

    /// The argument at this index (the receiver has index 0) is a regular expression, compiled by the evaluator.
    pub fn with_regex(mut self, arg: usize, call: RegexFn) -> Overload {
        self.call = Call::Regex { arg, call };
        self
    }

    /// With static and actual cost.
    pub fn cost(mut self, estimate: EstimateFn, actual: ActualFn) -> Overload {
        self.estimate = Some(estimate);
        self.actual = Some(actual);
        self
    }

    pub(crate) fn of(
        id: &'static str,
        member: bool,
        params: Vec<Type>,
        result: Type,
        call: Call,
    ) -> Overload {
        Overload { id, member, params, result, call, estimate: None, actual: None }
    }
}
