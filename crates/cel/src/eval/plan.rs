//! Programs as the evaluator runs them: names resolved, constants folded, overloads chosen.
//!
//! The shapes are those of cel-go's planner, because what counts as one attribute (a variable with the
//! selections and indices behind it) decides what an evaluation costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::Regex;

use super::charge::CostRule;
use super::run::Run;
use crate::check::{Checked, Reference};
use crate::function::{Call, CallFn, Function, Overload, RegexFn};
use crate::stdlib;
use crate::syntax::ast::{Comprehension, Expr, ExprKind};
use crate::syntax::operators as op;
use crate::value::{Key, Value};
use crate::{Bindings, Error, Type};

/// A node.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Const(Value<'static>),
    Attribute(Box<Attribute>),
    And(Box<[Plan; 2]>),
    Or(Box<[Plan; 2]>),
    Equal {
        operands: Box<[Plan; 2]>,
        negated: bool,
    },
    NotStrictlyFalse(Box<Plan>),
    /// `or` of optionals; with `unwrap`, `orValue`.
    OptionalOr {
        operands: Box<[Plan; 2]>,
        unwrap: bool,
    },
    Call(Box<CallPlan>),
    /// `x in [constants]`.
    Member {
        value: Box<Plan>,
        set: Arc<BTreeSet<Key<'static>>>,
        /// Those that are no whole numbers.
        doubles: Vec<f64>,
    },
    List(Box<ListPlan>),
    Map(Box<[EntryPlan]>),
    Struct(Box<StructPlan>),
    Fold(Box<FoldPlan>),
    /// `accumulator + [element]`, which moves the accumulator.
    Append(Box<AppendPlan>),
    /// `cel.@mapInsert(accumulator, …)`, which moves the accumulator.
    Insert(Box<InsertPlan>),
}

/// A base and what is selected from it.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(super) base: Base,
    pub(super) qualifiers: Vec<Arc<Qualifier>>,
    /// Whether only the presence of the last one is asked for.
    pub(super) test_only: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Base {
    Variable(Arc<str>),
    /// A variable of a comprehension.
    Slot(usize),
    Relative(Plan),
    Conditional(Box<(Plan, Attribute, Attribute)>),
}

/// A selection or index.
#[derive(Clone, Debug)]
pub(super) struct Qualifier {
    pub(super) key: QualifierKey,
    pub(super) optional: bool,
}

#[derive(Clone, Debug)]
pub(super) enum QualifierKey {
    Const(Value<'static>),
    Attribute(Attribute),
}

#[derive(Clone, Debug)]
pub(crate) struct CallPlan {
    pub(super) function: &'static str,
    pub(super) args: Vec<Plan>,
    pub(super) target: Target,
    /// The types that the arguments must have, if it is not known that they do; otherwise empty.
    pub(super) guard: Vec<Type>,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Direct(Body, CostRule),
    /// Which overload it is depends on the arguments.
    Dispatch(Vec<Overload>),
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Plain(CallFn),
    Regex { arg: usize, call: RegexFn, compiled: Option<Regex> },
}

#[derive(Clone, Debug)]
pub(crate) struct ListPlan {
    pub(super) elements: Vec<Plan>,
    pub(super) optional: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct EntryPlan {
    pub(super) key: Plan,
    pub(super) value: Plan,
    pub(super) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct StructPlan {
    pub(super) type_name: Arc<str>,
    pub(super) fields: Vec<(Arc<str>, Plan, bool)>,
}

#[derive(Clone, Debug)]
pub(crate) struct FoldPlan {
    pub(super) range: Plan,
    pub(super) accumulator: usize,
    pub(super) init: Plan,
    pub(super) first: usize,
    pub(super) second: Option<usize>,
    pub(super) condition: Plan,
    pub(super) step: Plan,
    pub(super) result: Plan,
}

#[derive(Clone, Debug)]
pub(crate) struct AppendPlan {
    pub(super) accumulator: usize,
    pub(super) element: Plan,
}

#[derive(Clone, Debug)]
pub(crate) struct InsertPlan {
    pub(super) accumulator: usize,
    /// Without a key the value is a map whose entries are inserted.
    pub(super) key: Option<Plan>,
    pub(super) value: Plan,
}

impl CallPlan {
    /// The rule of the call's cost. When it is not decided which overload it is of, it is that of all but the ones
    /// that parse an argument, which come first.
    pub(super) fn usual_cost(&self) -> CostRule {
        match &self.target {
            Target::Direct(_, rule) => *rule,
            Target::Dispatch(overloads) => {
                overloads.last().map_or(CostRule::One, |overload| CostRule::of(overload, false))
            }
        }
    }
}

/// A plan and what it needs.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) slots: usize,
    /// The variables of the environment that it reads.
    pub(crate) variables: BTreeSet<Arc<str>>,
}

/// Plans a checked tree. Constant calls that fail, and constant expressions that do not compile, are errors.
pub(crate) fn plan(
    expr: &Expr,
    checked: &Checked,
    functions: &BTreeMap<&'static str, Function>,
) -> Result<Planned, Error> {
    let mut planner = Planner { checked, functions, scope: Vec::new(), slots: 0, variables: BTreeSet::new() };
    let plan = planner.plan(expr)?;
    Ok(Planned { plan, slots: planner.slots, variables: planner.variables })
}

struct Planner<'p> {
    checked: &'p Checked,
    functions: &'p BTreeMap<&'static str, Function>,
    /// The variables of comprehensions and their slots.
    scope: Vec<(Arc<str>, usize)>,
    slots: usize,
    variables: BTreeSet<Arc<str>>,
}

fn both(mut args: Vec<Plan>) -> Result<Box<[Plan; 2]>, Error> {
    match (args.pop(), args.pop()) {
        (Some(right), Some(left)) => Ok(Box::new([left, right])),
        _ => Err(Error::no_such_overload()),
    }
}

impl Planner<'_> {
    fn plan(&mut self, expr: &Expr) -> Result<Plan, Error> {
        match &expr.kind {
            ExprKind::Unspecified => Err(Error::new("unsupported expression")),
            ExprKind::Literal(value) => Ok(Plan::Const(value.clone())),
            ExprKind::Ident(name) => Ok(self.plan_ident(expr, name)),
            ExprKind::Select { operand, field, test_only } => {
                let operand = self.plan(operand)?;
                let key = QualifierKey::Const(Value::from(field.to_string()));
                let mut attribute = attribute_of(operand);
                qualify(&mut attribute, Arc::new(Qualifier { key, optional: false }), *test_only);
                Ok(Plan::Attribute(Box::new(attribute)))
            }
            ExprKind::Call { .. } => self.plan_call(expr),
            ExprKind::List { elements, optional } => {
                let elements = elements.iter().map(|element| self.plan(element)).collect::<Result<_, _>>()?;
                let list = Plan::List(Box::new(ListPlan { elements, optional: optional.clone() }));
                fold_constant(list)
            }
            ExprKind::Map(entries) => {
                let mut planned = Vec::with_capacity(entries.len());
                for entry in entries {
                    let (key, value) = (self.plan(&entry.key)?, self.plan(&entry.value)?);
                    planned.push(EntryPlan { key, value, optional: entry.optional });
                }
                fold_constant(Plan::Map(planned.into()))
            }
            ExprKind::Struct { type_name, fields } => {
                let mut planned = Vec::with_capacity(fields.len());
                for field in fields {
                    planned.push((field.name.clone(), self.plan(&field.value)?, field.optional));
                }
                Ok(Plan::Struct(Box::new(StructPlan { type_name: type_name.clone(), fields: planned })))
            }
            ExprKind::Comprehension(fold) => self.plan_fold(fold),
        }
    }

    fn plan_ident(&mut self, expr: &Expr, name: &Arc<str>) -> Plan {
        if let Some(Reference::Type(ty)) = self.checked.reference(expr.id) {
            return Plan::Const(Value::Type(ty.clone()));
        }
        let name = match name.strip_prefix('.') {
            Some(bare) => Arc::from(bare),
            None => name.clone(),
        };
        let base = match self.scope.iter().rev().find(|(local, _)| *local == name) {
            Some((_, slot)) => Base::Slot(*slot),
            None => {
                self.variables.insert(name.clone());
                Base::Variable(name)
            }
        };
        Plan::Attribute(Box::new(Attribute { base, qualifiers: Vec::new(), test_only: false }))
    }

    fn plan_call(&mut self, expr: &Expr) -> Result<Plan, Error> {
        let ExprKind::Call { function, target, args } = &expr.kind else {
            return Err(Error::no_such_overload());
        };
        if let Some(moved) = self.plan_accumulation(function, args)? {
            return Ok(moved);
        }
        let mut planned = Vec::with_capacity(args.len() + 1);
        for arg in target.iter().map(|target| &**target).chain(args) {
            planned.push(self.plan(arg)?);
        }
        match &**function {
            op::AND => Ok(Plan::And(both(planned)?)),
            op::OR => Ok(Plan::Or(both(planned)?)),
            op::EQUALS => Ok(Plan::Equal { operands: both(planned)?, negated: false }),
            op::NOT_EQUALS => Ok(Plan::Equal { operands: both(planned)?, negated: true }),
            op::CONDITIONAL => plan_conditional(planned),
            op::INDEX => plan_index(planned, false),
            op::OPT_INDEX | op::OPT_SELECT => plan_index(planned, true),
            op::NOT_STRICTLY_FALSE => match planned.pop() {
                Some(arg) => Ok(Plan::NotStrictlyFalse(Box::new(arg))),
                None => Err(Error::no_such_overload()),
            },
            "or" if target.is_some() => Ok(Plan::OptionalOr { operands: both(planned)?, unwrap: false }),
            "orValue" if target.is_some() => Ok(Plan::OptionalOr { operands: both(planned)?, unwrap: true }),
            name => self.plan_function(expr, name, planned),
        }
    }

    /// The steps of macros that make lists and maps, if they are on the innermost accumulator.
    fn plan_accumulation(&mut self, function: &str, args: &[Expr]) -> Result<Option<Plan>, Error> {
        let Some((Expr { kind: ExprKind::Ident(name), .. }, rest)) = args.split_first() else {
            return Ok(None);
        };
        if &**name != crate::syntax::ACCUMULATOR {
            return Ok(None);
        }
        let Some((_, accumulator)) = self.scope.iter().rev().find(|(local, _)| local == name) else {
            return Ok(None);
        };
        let accumulator = *accumulator;
        match (function, rest) {
            (op::ADD, [Expr { kind: ExprKind::List { elements, optional }, .. }]) if optional.is_empty() => {
                let [element] = &**elements else { return Ok(None) };
                let element = self.plan(element)?;
                Ok(Some(Plan::Append(Box::new(AppendPlan { accumulator, element }))))
            }
            (op::MAP_INSERT, [key, value]) => {
                let (key, value) = (Some(self.plan(key)?), self.plan(value)?);
                Ok(Some(Plan::Insert(Box::new(InsertPlan { accumulator, key, value }))))
            }
            (op::MAP_INSERT, [value]) => {
                let value = self.plan(value)?;
                Ok(Some(Plan::Insert(Box::new(InsertPlan { accumulator, key: None, value }))))
            }
            _ => Ok(None),
        }
    }

    fn plan_function(&mut self, expr: &Expr, name: &str, args: Vec<Plan>) -> Result<Plan, Error> {
        let unknown = || Error::new(format!("no such overload: {name}"));
        let name = name.strip_prefix('.').unwrap_or(name);
        let function = self.functions.get(name).ok_or_else(unknown)?;
        let Some(Reference::Overloads(matching)) = self.checked.reference(expr.id) else {
            return Err(unknown());
        };
        let overloads: Vec<&Overload> = matching.iter().filter_map(|i| function.overloads.get(*i)).collect();
        if let ([overload], [value, Plan::Const(Value::List(list))]) = (&*overloads, &*args)
            && overload.id == "in_list"
        {
            if list.is_empty() {
                return Ok(Plan::Const(Value::Bool(false)));
            }
            if list.iter().all(|item| Key::of(&item).is_some() || matches!(item, Value::Double(_))) {
                let set = list.iter().filter_map(|item| Key::matching(&item)).collect();
                let doubles = list.iter().filter_map(|item| match (Key::matching(&item), item) {
                    (None, Value::Double(d)) => Some(d),
                    _ => None,
                });
                let doubles = doubles.collect();
                return Ok(Plan::Member { value: Box::new(value.clone()), set: Arc::new(set), doubles });
            }
        }
        let target = match &*overloads {
            [overload] => Target::Direct(body(overload, &args)?, CostRule::of(overload, true)),
            [overload, ..] if function.singleton => {
                // Costs go by the overload, and it is not decided which one this is.
                Target::Direct(body(overload, &args)?, CostRule::One)
            }
            _ => Target::Dispatch(overloads.iter().map(|overload| (*overload).clone()).collect()),
        };
        let guard = match &*overloads {
            [overload] if !function.singleton && self.is_open(expr) => overload.params.clone(),
            _ => Vec::new(),
        };
        let call = Plan::Call(Box::new(CallPlan { function: function.name, args, target, guard }));
        match is_conversion(function.name) {
            true => fold_constant(call),
            false => Ok(call),
        }
    }

    /// Whether the checker does not know the types of all arguments. `flatten` takes lists that are flat already.
    fn is_open(&self, call: &Expr) -> bool {
        let ExprKind::Call { function, target, args } = &call.kind else { return false };
        let mut arguments = target.iter().map(|target| &**target).chain(args);
        &**function != "flatten" && arguments.any(|argument| has_unknown(self.checked.type_of(argument)))
    }

    fn slot(&mut self, name: &Arc<str>) -> usize {
        self.slots += 1;
        self.scope.push((name.clone(), self.slots - 1));
        self.slots - 1
    }

    fn plan_fold(&mut self, fold: &Comprehension) -> Result<Plan, Error> {
        let range = self.plan(&fold.iter_range)?;
        let init = self.plan(&fold.accu_init)?;
        let outer = self.scope.len();
        let accumulator = self.slot(&fold.accu_var);
        let inner = self.scope.len();
        let first = self.slot(&fold.iter_var);
        let second = fold.iter_var2.as_ref().map(|name| self.slot(name));
        let condition = self.plan(&fold.loop_condition)?;
        let step = self.plan(&fold.loop_step)?;
        self.scope.truncate(inner);
        let result = self.plan(&fold.result)?;
        self.scope.truncate(outer);
        let fold = FoldPlan { range, accumulator, init, first, second, condition, step, result };
        Ok(Plan::Fold(Box::new(fold)))
    }
}

/// Whether a part of the type is known only at run time.
fn has_unknown(ty: &Type) -> bool {
    match ty {
        Type::Dyn | Type::Any | Type::Param(_) | Type::Error => true,
        Type::List(element) => has_unknown(element),
        Type::Map(types) => has_unknown(&types.0) || has_unknown(&types.1),
        Type::Opaque(_, params) => params.iter().any(has_unknown),
        _ => false,
    }
}

fn attribute_of(plan: Plan) -> Attribute {
    match plan {
        Plan::Attribute(attribute) => *attribute,
        other => Attribute { base: Base::Relative(other), qualifiers: Vec::new(), test_only: false },
    }
}

/// Selects from the attribute; from both branches if it is a conditional.
fn qualify(attribute: &mut Attribute, qualifier: Arc<Qualifier>, test_only: bool) {
    if attribute.test_only {
        let inner = std::mem::replace(
            attribute,
            Attribute { base: Base::Slot(0), qualifiers: Vec::new(), test_only: false },
        );
        attribute.base = Base::Relative(Plan::Attribute(Box::new(inner)));
    }
    if let Base::Conditional(branches) = &mut attribute.base {
        qualify(&mut branches.1, qualifier.clone(), test_only);
        qualify(&mut branches.2, qualifier, test_only);
        return;
    }
    attribute.qualifiers.push(qualifier);
    attribute.test_only = test_only;
}

fn plan_conditional(args: Vec<Plan>) -> Result<Plan, Error> {
    let Ok([condition, if_true, if_false]) = <[Plan; 3]>::try_from(args) else {
        return Err(Error::no_such_overload());
    };
    let branches = Box::new((condition, attribute_of(if_true), attribute_of(if_false)));
    let base = Base::Conditional(branches);
    Ok(Plan::Attribute(Box::new(Attribute { base, qualifiers: Vec::new(), test_only: false })))
}

fn plan_index(args: Vec<Plan>, optional: bool) -> Result<Plan, Error> {
    let [operand, index] = *both(args)?;
    let key = match index {
        Plan::Const(value) => QualifierKey::Const(value),
        other => QualifierKey::Attribute(attribute_of(other)),
    };
    let mut attribute = attribute_of(operand);
    qualify(&mut attribute, Arc::new(Qualifier { key, optional }), false);
    Ok(Plan::Attribute(Box::new(attribute)))
}

fn body(overload: &Overload, args: &[Plan]) -> Result<Body, Error> {
    match overload.call {
        Call::Plain(call) => Ok(Body::Plain(call)),
        Call::Regex { arg, call } => {
            let compiled = match args.get(arg) {
                Some(Plan::Const(Value::String(pattern))) => {
                    Some(stdlib::regex::compile(pattern).map_err(Error::new)?)
                }
                _ => None,
            };
            Ok(Body::Regex { arg, call, compiled })
        }
        Call::Operator => Err(Error::new(format!("no such overload: {}", overload.id))),
    }
}

fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

/// The value of the node, if all that it depends on is constant.
fn fold_constant(plan: Plan) -> Result<Plan, Error> {
    let constant = |plan: &Plan| matches!(plan, Plan::Const(_));
    let foldable = match &plan {
        Plan::List(list) => list.elements.iter().all(constant),
        Plan::Map(entries) => entries.iter().all(|entry| constant(&entry.key) && constant(&entry.value)),
        Plan::Call(call) => call.args.len() == 1 && call.args.iter().all(constant),
        _ => false,
    };
    if !foldable {
        return Ok(plan);
    }
    let nothing = Bindings::new();
    let value = Run::new(&nothing, u64::MAX, 0).eval(&plan)?;
    Ok(Plan::Const(owned(&value)))
}

/// A copy that borrows from nothing.
fn owned(value: &Value<'_>) -> Value<'static> {
    let key = |key: Key<'_>| match key {
        Key::Bool(b) => Key::Bool(b),
        Key::Int(i) => Key::Int(i),
        Key::Uint(u) => Key::Uint(u),
        Key::String(s) => Key::String(s.to_string().into()),
    };
    match value {
        Value::Bool(b) => Value::Bool(*b),
        Value::Int(i) => Value::Int(*i),
        Value::Uint(u) => Value::Uint(*u),
        Value::Double(d) => Value::Double(*d),
        Value::String(s) => Value::from(s.to_string()),
        Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Value::Duration(d) => Value::Duration(*d),
        Value::Timestamp(t) => Value::Timestamp(*t),
        Value::List(list) => Value::list(list.iter().map(|item| owned(&item)).collect()),
        Value::Map(map) => {
            let entries: BTreeMap<_, _> = map.iter().map(|(k, v)| (key(k), owned(&v))).collect();
            Value::Map(entries.into())
        }
        Value::Type(ty) => Value::Type(ty.clone()),
        Value::Opaque(opaque) => Value::Opaque(opaque.clone()),
        Value::Optional(inner) => Value::Optional(inner.as_ref().map(|inner| Arc::new(owned(inner)))),
        Value::Invalid(message) => Value::Invalid(message.clone()),
        Value::Null | Value::Struct(_) | Value::Fields(_) => Value::Null,
    }
}

/// Whether an argument fits a parameter, as far as values show their types.
pub(super) fn fits(param: &Type, value: &Value<'_>) -> bool {
    match (param, value) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (Type::List(element), Value::List(list)) => list.get(0).is_none_or(|first| fits(element, &first)),
        (Type::Map(types), Value::Map(map)) => {
            map.iter().next().is_none_or(|(k, v)| fits(&types.0, &k.to_value()) && fits(&types.1, &v))
        }
        (param, value) => param.runtime_name() == value.type_of().runtime_name(),
    }
}
