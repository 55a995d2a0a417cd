//! One evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Activation;
use super::charge;
use super::plan::{
    AppendPlan, Attribute, Base, Body, CallPlan, EntryPlan, FoldPlan, InsertPlan, ListPlan, Plan,
    QualifierKey, StructPlan, Target, fits,
};
use crate::Error;
use crate::function::Call;
use crate::stdlib::{self, format_value, index_of, insert};
use crate::syntax::operators;
use crate::value::{Key, LARGEST_WEIGHT, List, Map, Str, Struct, Value, Weights, equal};

type Result<'a> = std::result::Result<Value<'a>, Error>;

/// The cost of making a list, a map and an object.
const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const STRUCT_COST: u64 = 40;
/// Joining lists to one of at most this many elements costs what it does upstream.
const SMALL_LIST: usize = 1024;
/// Lists may not be joined to larger ones.
const LARGEST_LIST: usize = 1 << 20;
/// How many elements of a larger list are copied for one unit of cost.
const ELEMENTS_PER_COST: usize = 64;

/// The state of an evaluation.
pub(crate) struct Run<'a> {
    activation: &'a dyn Activation,
    slots: Vec<Slot<'a>>,
    pub(crate) cost: u64,
    budget: u64,
    weights: Weights,
}

/// A variable of a comprehension.
#[derive(Clone)]
enum Slot<'a> {
    Empty,
    /// An accumulator that nobody has asked for yet.
    Lazy(&'a Plan),
    Filled(Value<'a>),
    Failed(Error),
}

impl<'a> Slot<'a> {
    fn of(result: Result<'a>) -> Slot<'a> {
        match result {
            Ok(value) => Slot::Filled(value),
            Err(error) => Slot::Failed(error),
        }
    }
}

/// A constant without counting its users.
fn borrowed<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::String(s) => Value::String(Str::Borrowed(s)),
        other => other.clone(),
    }
}

/// Input that does not fit its schema is an error to whoever reads it.
fn valid(value: Value<'_>) -> Result<'_> {
    match value {
        Value::Invalid(message) => Err(Error::new(message.to_string())),
        value => Ok(value),
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(activation: &'a dyn Activation, budget: u64, slots: usize) -> Run<'a> {
        Run { activation, slots: vec![Slot::Empty; slots], cost: 0, budget, weights: Weights::default() }
    }

    fn charge(&mut self, cost: u64) -> std::result::Result<(), Error> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.budget { Err(Error::cost_limit()) } else { Ok(()) }
    }

    /// Evaluates a node.
    pub(crate) fn eval(&mut self, plan: &'a Plan) -> Result<'a> {
        match plan {
            Plan::Const(value) => Ok(borrowed(value)),
            Plan::Attribute(attribute) => self.attribute(attribute),
            Plan::And(terms) => self.logical(terms, false),
            Plan::Or(terms) => self.logical(terms, true),
            Plan::Equal { operands, negated } => self.equal(operands, *negated),
            Plan::NotStrictlyFalse(arg) => self.not_strictly_false(arg),
            Plan::OptionalOr { operands, unwrap } => self.optional_or(operands, *unwrap),
            Plan::Call(call) => self.call(call),
            Plan::Member { value, set, doubles } => {
                let value = self.eval(value)?;
                Ok(Value::Bool(match (Key::matching(&value), value) {
                    (Some(key), _) => contains(set, &key),
                    (None, Value::Double(d)) => doubles.contains(&d),
                    (None, _) => false,
                }))
            }
            Plan::List(list) => self.list(list),
            Plan::Map(entries) => self.map(entries),
            Plan::Struct(object) => self.object(object),
            Plan::Fold(fold) => self.fold(fold),
            Plan::Append(append) => self.append(append),
            Plan::Insert(entry) => self.insert(entry),
        }
    }

    // Attributes.

    fn attribute(&mut self, attribute: &'a Attribute) -> Result<'a> {
        let result = self.resolve(attribute);
        if !attribute.test_only && !matches!(attribute.base, Base::Conditional(_)) {
            self.charge(1)?;
        }
        result
    }

    fn base(&mut self, base: &'a Base) -> Result<'a> {
        match base {
            Base::Variable(name) => match self.activation.resolve(name)? {
                Some(value) => valid(value),
                None => Err(Error::new(format!("no such attribute(s): {name}"))),
            },
            Base::Slot(slot) => self.slot(*slot),
            Base::Relative(plan) => self.eval(plan),
            Base::Conditional(branches) => match self.eval(&branches.0)? {
                Value::Bool(true) => self.resolve(&branches.1),
                Value::Bool(false) => self.resolve(&branches.2),
                _ => Err(Error::no_such_overload()),
            },
        }
    }

    fn slot(&mut self, slot: usize) -> Result<'a> {
        if let Slot::Lazy(init) = self.slots[slot] {
            self.slots[slot] = Slot::of(self.eval(init));
        }
        match &self.slots[slot] {
            Slot::Filled(value) => Ok(value.clone()),
            Slot::Failed(error) => Err(error.clone()),
            Slot::Empty | Slot::Lazy(_) => Err(Error::new("no such attribute(s)")),
        }
    }

    fn resolve(&mut self, attribute: &'a Attribute) -> Result<'a> {
        let mut value = self.base(&attribute.base)?;
        let Some(last) = attribute.qualifiers.len().checked_sub(1) else { return Ok(value) };
        let mut optional = false;
        if let Value::Optional(inner) = value {
            match inner {
                Some(inner) => value = Value::clone(&inner),
                None if attribute.test_only => return Ok(Value::Bool(false)),
                None => return Ok(Value::Optional(None)),
            }
            optional = true;
        }
        for (index, qualifier) in attribute.qualifiers.iter().enumerate() {
            optional |= qualifier.optional;
            let key = match &qualifier.key {
                QualifierKey::Const(key) => borrowed(key),
                QualifierKey::Attribute(attribute) => self.resolve(attribute)?,
            };
            let found = find(&value, &key);
            if attribute.test_only && index == last {
                // What is not there costs nothing below an optional.
                let present = matches!(found, Ok(Some(_)));
                self.charge(u64::from(present || !optional))?;
                return found.map(|found| Value::Bool(found.is_some()));
            }
            value = match found {
                Ok(Some(found)) => {
                    self.charge(1)?;
                    found
                }
                Ok(None) if optional && attribute.test_only => return Ok(Value::Bool(false)),
                Ok(None) if optional => return Ok(Value::Optional(None)),
                Ok(None) => {
                    self.charge(1)?;
                    return Err(missing(&value, &key));
                }
                Err(error) => {
                    self.charge(1)?;
                    return Err(error);
                }
            };
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    // Logic.

    /// `||` if `decisive` is true, else `&&`. An error counts only if the other term does not decide.
    fn logical(&mut self, terms: &'a [Plan; 2], decisive: bool) -> Result<'a> {
        let mut failed = None;
        for term in terms {
            match self.eval(term) {
                Ok(Value::Bool(b)) if b == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(Error::no_such_overload())),
                Err(error) if error.is_absorbable() => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Value::Bool(!decisive)),
        }
    }

    fn not_strictly_false(&mut self, arg: &'a Plan) -> Result<'a> {
        let result = match self.eval(arg) {
            Ok(Value::Bool(b)) => b,
            Ok(_) => true,
            Err(error) if error.is_absorbable() => true,
            Err(error) => return Err(error),
        };
        self.charge(1)?;
        Ok(Value::Bool(result))
    }

    /// The outer error is one that ends the evaluation.
    fn eval_unless_stopped(&mut self, plan: &'a Plan) -> std::result::Result<Result<'a>, Error> {
        match self.eval(plan) {
            Err(error) if !error.is_absorbable() => Err(error),
            result => Ok(result),
        }
    }

    /// Both operands, which are evaluated even if the first has no value; what failed costs 1.
    fn operands(&mut self, operands: &'a [Plan]) -> std::result::Result<[Value<'a>; 2], Error> {
        let left = self.eval(&operands[0]);
        if left.as_ref().is_err_and(|error| !error.is_absorbable()) {
            return left.map(|left| [left, Value::Null]);
        }
        let right = self.eval(&operands[1]);
        match (left, right) {
            (Ok(left), Ok(right)) => Ok([left, right]),
            (_, Err(error)) if !error.is_absorbable() => Err(error),
            (Err(error), _) | (_, Err(error)) => {
                self.charge(1)?;
                Err(error)
            }
        }
    }

    fn equal(&mut self, operands: &'a [Plan; 2], negated: bool) -> Result<'a> {
        let operands = self.operands(operands)?;
        let walk = charge::equality_walk(&operands, &mut self.weights);
        self.charge(charge::equality(&operands, negated).max(walk))?;
        let [left, right] = &operands;
        match equal(left, right) {
            Some(equal) => Ok(Value::Bool(equal != negated)),
            None if negated => Ok(Value::Bool(true)),
            None => Err(Error::no_such_overload()),
        }
    }

    fn optional_or(&mut self, operands: &'a [Plan; 2], unwrap: bool) -> Result<'a> {
        match self.eval(&operands[0])? {
            Value::Optional(Some(value)) if unwrap => Ok(Value::clone(&value)),
            Value::Optional(None) => self.eval(&operands[1]),
            other => Ok(other),
        }
    }

    // Calls.

    fn call(&mut self, call: &'a CallPlan) -> Result<'a> {
        match &*call.args {
            [] => self.invoke(call, &[]),
            [arg] => match self.eval(arg) {
                Ok(arg) => self.invoke(call, &[arg]),
                Err(error) => self.fail(call, &[Value::Null], error),
            },
            [left, right] => match (self.eval_unless_stopped(left)?, self.eval_unless_stopped(right)?) {
                (Ok(left), Ok(right)) => self.invoke(call, &[left, right]),
                (Err(error), Ok(right)) => self.fail(call, &[Value::Null, right], error),
                (Ok(left), Err(error)) => self.fail(call, &[left, Value::Null], error),
                (Err(error), Err(_)) => self.fail(call, &[Value::Null, Value::Null], error),
            },
            more => {
                let mut args = Vec::with_capacity(more.len());
                for arg in more {
                    args.push(self.eval(arg)?);
                }
                self.invoke(call, &args)
            }
        }
    }

    /// A call with arguments that have no value. It costs what it would with something small in their place.
    fn fail(&mut self, call: &'a CallPlan, args: &[Value<'a>], error: Error) -> Result<'a> {
        // Where the regular expression is a constant the call is given up before it is counted.
        let is_counted = !matches!(&call.target, Target::Direct(Body::Regex { compiled: Some(_), .. }, _));
        if is_counted && error.is_absorbable() {
            self.charge(call.usual_cost().cost(args, &Value::Null))?;
        }
        Err(error)
    }

    fn invoke(&mut self, call: &'a CallPlan, args: &[Value<'a>]) -> Result<'a> {
        if let [Value::List(left), Value::List(right)] = args
            && call.function == operators::ADD
        {
            self.admit_list(left.len() + right.len())?;
        }
        let walk = charge::search_walk(call.function, args, &mut self.weights);
        self.charge(walk)?;
        let admitted = call.guard.iter().zip(args).all(|(param, arg)| fits(param, arg));
        let (result, rule) = match &call.target {
            Target::Direct(_, rule) if !admitted => (Err(no_overload(call.function, args)), *rule),
            Target::Direct(Body::Plain(function), rule) => (function(args), *rule),
            Target::Direct(Body::Regex { arg, call: body, compiled }, rule) => {
                let result = match compiled {
                    Some(regex) => body(args, regex),
                    None => with_regex(call.function, *arg, *body, args),
                };
                (result, *rule)
            }
            Target::Dispatch(overloads) => {
                let matching = overloads.iter().find(|overload| {
                    overload.params.len() == args.len()
                        && overload.params.iter().zip(args).all(|(param, arg)| fits(param, arg))
                });
                match matching {
                    Some(overload) => {
                        let result = match overload.call {
                            Call::Plain(function) => function(args),
                            Call::Regex { arg, call: body } => with_regex(call.function, arg, body, args),
                            Call::Operator => Err(Error::no_such_overload()),
                        };
                        (result, call.usual_cost())
                    }
                    None => (Err(no_overload(call.function, args)), call.usual_cost()),
                }
            }
        };
        let cost = match &result {
            Ok(value) => rule.cost(args, value),
            Err(_) => rule.cost(args, &Value::Null),
        };
        self.charge(cost)?;
        self.admit(valid(result?)?)
    }

    /// Refuses values that it would take too long to walk, such as one that holds itself twice, many times over.
    /// Upstream makes them, since making them takes little.
    fn admit(&mut self, mut value: Value<'a>) -> Result<'a> {
        if self.weights.admit(&mut value) { Ok(value) } else { Err(Error::cost_limit()) }
    }

    /// Joining lists costs nothing by their size upstream, where they are not copied. Here they are, so that large
    /// ones cost something, and there is an end to it.
    fn admit_list(&mut self, size: usize) -> std::result::Result<(), Error> {
        if size > LARGEST_LIST {
            return Err(Error::cost_limit());
        }
        if size > SMALL_LIST {
            self.charge((size / ELEMENTS_PER_COST) as u64)?;
        }
        Ok(())
    }

    // Aggregates.

    fn list(&mut self, list: &'a ListPlan) -> Result<'a> {
        let mut items = Vec::with_capacity(list.elements.len());
        for (index, element) in list.elements.iter().enumerate() {
            let value = self.eval(element)?;
            if list.optional.binary_search(&index).is_err() {
                items.push(value);
                continue;
            }
            match value {
                Value::Optional(Some(value)) => items.push(Value::clone(&value)),
                Value::Optional(None) => {}
                other => {
                    let shown = format_value(&other);
                    let message =
                        format!("cannot initialize optional list element from non-optional value {shown}");
                    return Err(Error::new(message));
                }
            }
        }
        self.charge(LIST_COST)?;
        self.admit(Value::list(items))
    }

    fn map(&mut self, entries: &'a [EntryPlan]) -> Result<'a> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = self.eval(&entry.value)?;
            let Some(checked) = Key::of(&key).or_else(|| Key::matching(&key)) else {
                return Err(Error::new(format!("unsupported key type: {}", key.type_of().runtime_name())));
            };
            match optional_entry(value, entry.optional, &key)? {
                Some(value) => map.insert(checked, value),
                None => map.remove(&checked),
            };
        }
        self.charge(MAP_COST)?;
        self.admit(Value::Map(Map::from(map)))
    }

    fn object(&mut self, object: &'a StructPlan) -> Result<'a> {
        let mut fields = BTreeMap::new();
        for (name, value, optional) in &object.fields {
            let value = self.eval(value)?;
            match optional_entry(value, *optional, &Value::from(&**name))? {
                Some(value) => fields.insert(name.clone(), value),
                None => fields.remove(name),
            };
        }
        self.charge(STRUCT_COST)?;
        let fields = Arc::new(fields.into());
        self.admit(Value::Struct(Struct { type_name: object.type_name.clone(), fields }))
    }

    // Comprehensions.

    fn fold(&mut self, fold: &'a FoldPlan) -> Result<'a> {
        let range = self.eval(&fold.range)?;
        self.slots[fold.accumulator] = Slot::Lazy(&fold.init);
        match (&range, fold.second) {
            (Value::List(list), _) => self.fold_list(fold, list)?,
            (Value::Map(map), second) => {
                for (key, value) in map.iter() {
                    self.slots[fold.first] = Slot::Filled(key.to_value());
                    if let Some(second) = second {
                        self.slots[second] = Slot::of(valid(value));
                    }
                    if !self.step(fold)? {
                        break;
                    }
                }
            }
            (other, _) => {
                return Err(Error::new(format!("got '{}', expected iterable type", go_type(other))));
            }
        }
        let result = self.eval(&fold.result);
        self.slots[fold.accumulator] = Slot::Empty;
        result
    }

    fn fold_list(&mut self, fold: &'a FoldPlan, list: &List<'a>) -> std::result::Result<(), Error> {
        for (index, item) in list.iter().enumerate() {
            match fold.second {
                Some(second) => {
                    self.slots[fold.first] = Slot::Filled(Value::Int(index as i64));
                    self.slots[second] = Slot::of(valid(item));
                }
                None => self.slots[fold.first] = Slot::of(valid(item)),
            }
            if !self.step(fold)? {
                break;
            }
        }
        Ok(())
    }

    /// One element; `false` if the condition says that it is enough. Errors go to the accumulator.
    fn step(&mut self, fold: &'a FoldPlan) -> std::result::Result<bool, Error> {
        match self.eval(&fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if !error.is_absorbable() => return Err(error),
            _ => {}
        }
        let next = self.eval(&fold.step);
        if let Err(error) = &next
            && !error.is_absorbable()
        {
            return Err(error.clone());
        }
        self.slots[fold.accumulator] = Slot::of(next);
        Ok(true)
    }

    /// The accumulator, moved out of its slot. Whoever takes it makes the next one.
    fn take(&mut self, slot: usize) -> Result<'a> {
        if let Slot::Lazy(init) = self.slots[slot] {
            return self.eval(init);
        }
        match std::mem::replace(&mut self.slots[slot], Slot::Empty) {
            Slot::Filled(value) => Ok(value),
            Slot::Failed(error) => Err(error),
            Slot::Empty | Slot::Lazy(_) => Err(Error::new("no such attribute(s)")),
        }
    }

    fn append(&mut self, append: &'a AppendPlan) -> Result<'a> {
        self.charge(1)?;
        let element = self.eval(&append.element);
        if let Err(error) = &element
            && !error.is_absorbable()
        {
            return element;
        }
        // A list of a constant is itself a constant.
        let list_cost = if matches!(append.element, Plan::Const(_)) { 0 } else { LIST_COST };
        self.charge(list_cost)?;
        self.charge(1)?;
        match self.take(append.accumulator)? {
            Value::List(mut list) => {
                let element = element?;
                let weight = self.weights.of(&element);
                list.push(element, weight);
                admit_weight(list.weight())?;
                Ok(Value::List(list))
            }
            _ => Err(Error::no_such_overload()),
        }
    }

    fn insert(&mut self, entry: &'a InsertPlan) -> Result<'a> {
        self.charge(1)?;
        let key = match &entry.key {
            Some(key) => Some(self.eval(key)?),
            None => None,
        };
        let value = self.eval(&entry.value)?;
        self.charge(1)?;
        let Value::Map(mut map) = self.take(entry.accumulator)? else {
            return Err(Error::no_such_overload());
        };
        match (key, value) {
            (Some(key), value) => {
                let weight = self.weights.of(&value);
                insert(&mut map, &key, value, weight)?;
            }
            (None, Value::Map(more)) => {
                for (key, value) in more.iter() {
                    let weight = self.weights.of(&value);
                    insert(&mut map, &key.to_value(), value, weight)?;
                }
            }
            (None, _) => return Err(Error::no_such_overload()),
        }
        admit_weight(map.weight())?;
        Ok(Value::Map(map))
    }
}

fn admit_weight(weight: Option<u64>) -> std::result::Result<(), Error> {
    if weight.is_some_and(|weight| weight > LARGEST_WEIGHT) { Err(Error::cost_limit()) } else { Ok(()) }
}

fn contains(set: &std::collections::BTreeSet<Key<'static>>, key: &Key<'_>) -> bool {
    // The set's keys outlive the value's, so that the set may be read as one of shorter-lived keys.
    fn shorten<'s, 'k>(
        set: &'s std::collections::BTreeSet<Key<'static>>,
    ) -> &'s std::collections::BTreeSet<Key<'k>> {
        set
    }
    shorten(set).contains(key)
}

/// What a key stands for in a value; `None` if there is nothing.
fn find<'a>(value: &Value<'a>, key: &Value<'a>) -> std::result::Result<Option<Value<'a>>, Error> {
    let found = match (value, key) {
        (Value::Map(map), Value::String(key)) => map.property(key),
        (Value::Map(map), Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            if map.needs_string_keys() {
                return Err(Error::no_such_overload());
            }
            map.get(key)
        }
        (Value::List(list), key) => {
            let index = index_of(key)?;
            usize::try_from(index).ok().and_then(|index| list.get(index))
        }
        (Value::Fields(fields), Value::String(key)) => match fields.field(key) {
            Some(field) => Some(field?),
            None => None,
        },
        (Value::Struct(object), Value::String(key)) => object.fields.get(&**key).cloned(),
        (Value::Invalid(message), _) => return Err(Error::new(message.to_string())),
        (_, Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_)) => None,
        (_, key) => {
            return Err(Error::new(format!("invalid qualifier type: {}", key.type_of().runtime_name())));
        }
    };
    found.map(valid).transpose()
}

fn missing(value: &Value<'_>, key: &Value<'_>) -> Error {
    match value {
        Value::List(_) => Error::new(format!("index out of bounds: {}", format_value(key))),
        _ => Error::no_such_key(&format_value(key)),
    }
}

fn optional_entry<'a>(
    value: Value<'a>,
    optional: bool,
    key: &Value<'a>,
) -> std::result::Result<Option<Value<'a>>, Error> {
    match value {
        value if !optional => Ok(Some(value)),
        Value::Optional(inner) => Ok(inner.map(|inner| Value::clone(&inner))),
        other => {
            let (key, shown) = (format_value(key), format_value(&other));
            Err(Error::new(format!(
                "cannot initialize optional entry '{key}' from non-optional value {shown}"
            )))
        }
    }
}

/// The type of a value as cel-go's own source calls it.
fn go_type(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "types.Null",
        Value::Bool(_) => "types.Bool",
        Value::Int(_) => "types.Int",
        Value::Uint(_) => "types.Uint",
        Value::Double(_) => "types.Double",
        Value::String(_) => "types.String",
        Value::Bytes(_) => "types.Bytes",
        Value::Duration(_) => "types.Duration",
        Value::Timestamp(_) => "types.Timestamp",
        Value::Optional(_) => "*types.Optional",
        Value::Type(_) => "*types.Type",
        _ => "ref.Val",
    }
}

fn with_regex<'a>(function: &str, arg: usize, call: crate::RegexFn, args: &[Value<'a>]) -> Result<'a> {
    let Some(Value::String(pattern)) = args.get(arg) else { return Err(Error::no_such_overload()) };
    // Kubernetes' functions say more than the language's own.
    let context = if function == "matches" { "" } else { "Illegal regex: " };
    let regex = stdlib::regex::compile(pattern).map_err(|why| Error::new(format!("{context}{why}")))?;
    call(args, &regex)
}

fn no_overload(function: &str, args: &[Value<'_>]) -> Error {
    let types: Vec<String> = args.iter().map(|arg| arg.type_of().runtime_name().to_owned()).collect();
    Error::new(format!("no such overload: {function}({})", types.join(", ")))
}
