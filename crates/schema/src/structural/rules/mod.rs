//! `x-kubernetes-validations`: CEL rules about custom objects.

mod compile;
mod declare;

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{Bindings, ErrorKind, Program, Schema};
use serde_json::{Map, Value};

use super::custom::Checked;
use super::ratcheting::{Correlated, MapList};
use super::{Rule, Structural};
use crate::field::{Error, Kind, Path};
pub(super) use compile::{Compiled, compile};

/// What all rules of one request may cost together (`RuntimeCELCostBudget`).
pub const REQUEST_BUDGET: i64 = 10_000_000;

/// How many broken rules of one object are reported.
const MAX_ERRORS: usize = 1_000;

/// The longest text that a `messageExpression` may make, in bytes.
const MAX_MESSAGE: usize = 5 << 10;

/// The compiled rules of a schema.
#[derive(Debug)]
pub struct Validator(Node);

/// The rules of one node of a schema and of those below it.
#[derive(Debug)]
struct Node {
    rules: Vec<(Rule, Compiled)>,
    /// Why no rule of the node could be compiled.
    broken: Option<String>,
    /// How expressions see values.
    schema: Arc<Schema>,
    ty: String,
    /// Set for lists of type `map`.
    list_map_keys: Vec<String>,
    /// Whether fields are compared with what they were before.
    correlatable: bool,
    items: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
}

/// How values of a schema are seen in expressions; for the checks of definitions.
pub(super) fn declare_schema(schema: &Structural, is_root: bool) -> Arc<Schema> {
    declare::declare(schema, is_root)
}

impl Validator {
    /// Compiles the rules of a schema; none if it has none.
    pub fn new(schema: &Structural, is_root: bool) -> Option<Validator> {
        if !has_rules(schema) {
            return None;
        }
        Node::new(schema, &declare::declare(schema, is_root)).map(Validator)
    }

    /// Evaluates all rules on an object within the budget of one request.
    pub fn check<'a>(
        &'a self,
        path: &Path<'a>,
        new: &'a Value,
        old: Option<&'a Value>,
        correlated: Option<Correlated<'a>>,
    ) -> Checked {
        self.check_within(&mut REQUEST_BUDGET.clone(), path, new, old, correlated)
    }

    /// Evaluates all rules on an object; the budget is negative afterwards if it did not suffice.
    pub(super) fn check_within<'a>(
        &'a self,
        budget: &mut i64,
        path: &Path<'a>,
        new: &'a Value,
        old: Option<&'a Value>,
        correlated: Option<Correlated<'a>>,
    ) -> Checked {
        let mut run = Run { budget: *budget, found: Checked::default() };
        let before = Before { current: correlated, nearest: None };
        let _ = run.node(&self.0, path, new, old, before);
        *budget = run.budget;
        run.found
    }
}

fn has_rules(schema: &Structural) -> bool {
    !schema.rules.is_empty()
        || schema.items.as_deref().is_some_and(has_rules)
        || schema.additional_schema().is_some_and(has_rules)
        || schema.properties.values().any(has_rules)
}

impl Node {
    /// The rules of a node; none if there are none at and below it.
    fn new(structural: &Structural, schema: &Arc<Schema>) -> Option<Node> {
        if !has_rules(structural) {
            return None;
        }
        let (compiled, broken) = match compile(structural, schema) {
            Ok(compiled) => (compiled, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let below = |structural: &Structural, schema: Option<&Arc<Schema>>| {
            // What expressions cannot see is not checked either.
            Node::new(structural, schema.filter(|schema| declare::is_visible(schema))?)
        };
        let items = structural.items.as_deref().and_then(|s| below(s, schema.items.as_ref()));
        let additional = structural.additional_schema();
        let additional = additional.and_then(|s| below(s, schema.additional_properties.as_ref()));
        let declared = |name: &str| schema.properties.as_ref()?.get(name);
        let properties = structural.properties.iter();
        let extensions = &structural.extensions;
        let is_map = structural.generic.r#type == "array" && extensions.list_type.as_deref() == Some("map");
        Some(Node {
            rules: structural.rules.iter().cloned().zip(compiled).collect(),
            broken,
            ty: structural.generic.r#type.clone(),
            list_map_keys: if is_map { extensions.list_map_keys.clone() } else { Vec::new() },
            correlatable: is_correlatable(extensions.map_type.as_deref()),
            items: items.map(Box::new),
            properties: properties
                .filter_map(|(name, s)| Some((name.clone(), below(s, declared(name))?)))
                .collect(),
            additional: additional.map(Box::new),
            schema: schema.clone(),
        })
    }
}

/// Whether the fields of a map of this type can be compared with what they were before.
pub(super) fn is_correlatable(map_type: Option<&str>) -> bool {
    matches!(map_type, None | Some("granular" | "atomic"))
}

/// What a value was before, or what the nearest value around it was that can be told.
#[derive(Clone, Copy, Default)]
struct Before<'a> {
    current: Option<Correlated<'a>>,
    nearest: Option<Correlated<'a>>,
}

impl<'a> Before<'a> {
    fn key(self, name: &str) -> Before<'a> {
        match self.current {
            None => self,
            Some(_) if self.nearest.is_none() && (name == "apiVersion" || name == "kind") => {
                Before::default()
            }
            Some(current) => Before { current: current.key(name), nearest: Some(current) },
        }
    }

    fn item(self, item: Option<Correlated<'a>>) -> Before<'a> {
        match self.current {
            None => self,
            Some(current) => Before { current: item, nearest: Some(current) },
        }
    }

    /// Whether what is wrong was as wrong before.
    fn unchanged(self) -> bool {
        self.current.or(self.nearest).is_some_and(|correlated| correlated.unchanged())
    }
}

/// One evaluation of all rules.
struct Run {
    budget: i64,
    found: Checked,
}

/// The budget is used up, or enough was found: no more rules are evaluated.
struct Exhausted;

impl Run {
    fn node<'a>(
        &mut self,
        node: &'a Node,
        path: &Path<'a>,
        new: &'a Value,
        old: Option<&'a Value>,
        before: Before<'a>,
    ) -> Result<(), Exhausted> {
        if new.is_null() {
            return Ok(());
        }
        self.rules(node, path, new, old.filter(|old| !old.is_null()), before)?;
        match new {
            Value::Array(items) => self.items(node, path, items, old.and_then(Value::as_array), before),
            Value::Object(entries) => {
                self.fields(node, path, entries, old.and_then(Value::as_object), before)
            }
            _ => Ok(()),
        }
    }

    fn items<'a>(
        &mut self,
        node: &'a Node,
        path: &Path<'a>,
        items: &'a [Value],
        old: Option<&'a Vec<Value>>,
        before: Before<'a>,
    ) -> Result<(), Exhausted> {
        let Some(check) = &node.items else { return Ok(()) };
        let old = MapList::new(old.map_or(&[], Vec::as_slice), &node.list_map_keys);
        let correlated = before.current.map(|current| current.items());
        for (i, item) in items.iter().enumerate() {
            let before = before.item(correlated.as_ref().and_then(|c| c.get(item)));
            self.node(check, &path.index(i), item, old.get(item), before)?;
        }
        Ok(())
    }

    fn fields<'a>(
        &mut self,
        node: &'a Node,
        path: &Path<'a>,
        entries: &'a Map<String, Value>,
        old: Option<&'a Map<String, Value>>,
        before: Before<'a>,
    ) -> Result<(), Exhausted> {
        let old = |name: &str| old.filter(|_| node.correlatable)?.get(name);
        if let Some(check) = &node.additional {
            for (name, value) in entries {
                self.node(check, &path.key(name), value, old(name), before.key(name))?;
            }
        }
        for (name, check) in &node.properties {
            if let Some(value) = entries.get(name) {
                self.node(check, &path.child(name), value, old(name), before.key(name))?;
            }
        }
        Ok(())
    }

    fn rules<'a>(
        &mut self,
        node: &'a Node,
        path: &Path<'a>,
        new: &'a Value,
        old: Option<&'a Value>,
        before: Before<'a>,
    ) -> Result<(), Exhausted> {
        let ty = node.ty.as_str();
        if let Some(broken) = &node.broken {
            let detail = format!("rule compiler initialization error: {broken}");
            return self.refuse(Error::invalid(path, ty, detail));
        }
        if node.rules.is_empty() {
            return Ok(());
        }
        if self.budget <= 0 {
            return self.out_of_budget(Error::invalid(path, ty, OUT_OF_BUDGET));
        }
        let this = cel::Value::typed(new, &node.schema);
        let previous = old.map(|old| cel::Value::typed(old, &node.schema));
        let optional = match &previous {
            Some(previous) => cel::Value::some(previous.clone()),
            None => cel::Value::Optional(None),
        };
        let mut plain = Bindings::new().bind("self", this.clone());
        if let Some(previous) = previous {
            plain = plain.bind("oldSelf", previous);
        }
        let with_optional = Bindings::new().bind("self", this).bind("oldSelf", optional);
        for (rule, compiled) in &node.rules {
            let is_optional = rule.optional_old_self == Some(true);
            if compiled.uses_old_self && old.is_none() && !is_optional {
                continue;
            }
            if let Some(error) = &compiled.error {
                self.refuse(Error::invalid(path, ty, format!("rule compile error: {error}")))?;
            }
            let Some(program) = &compiled.program else { continue };
            let bindings = if is_optional { &with_optional } else { &plain };
            if self.holds(rule, program, bindings, path, ty)? {
                continue;
            }
            let at =
                if compiled.field_path.is_empty() { path.clone() } else { path.child(&compiled.field_path) };
            let excused = !compiled.uses_old_self && before.unchanged();
            let detail = self.message(rule, compiled, &plain, &at, ty, excused)?;
            let shown = (ty != "object" && ty != "array").then(|| new.clone());
            self.report(by_reason(rule, &at, shown, detail), excused)?;
        }
        Ok(())
    }

    /// Whether a rule holds; an evaluation that fails is reported, and not reported again.
    fn holds(
        &mut self,
        rule: &Rule,
        program: &Program,
        bindings: &Bindings<'_>,
        path: &Path<'_>,
        ty: &str,
    ) -> Result<bool, Exhausted> {
        let outcome = program.eval(bindings, cel::PER_CALL_LIMIT);
        if !self.spend(outcome.cost) {
            return self.out_of_budget(Error::invalid(path, ty, OUT_OF_BUDGET)).map(|()| true);
        }
        let error = match outcome.result {
            Ok(value) => return Ok(matches!(value, cel::Value::Bool(true))),
            Err(error) => error,
        };
        let shown = shown(rule);
        if error.kind() == ErrorKind::CostLimit {
            let detail = format!(
                "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
            );
            return self.out_of_budget(Error::invalid(path, ty, detail)).map(|()| true);
        }
        let detail = if error.message().starts_with("no such overload") {
            format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            )
        } else {
            format!("{error} evaluating rule: {shown}")
        };
        self.refuse(Error::invalid(path, ty, detail))?;
        Ok(true)
    }

    /// What to say about a rule that does not hold.
    fn message(
        &mut self,
        rule: &Rule,
        compiled: &Compiled,
        bindings: &Bindings<'_>,
        path: &Path<'_>,
        ty: &str,
        excused: bool,
    ) -> Result<String, Exhausted> {
        let usual = || match rule.message.as_str() {
            "" => format!("failed rule: {}", shown(rule)),
            message => message.trim().to_owned(),
        };
        let Some(program) = &compiled.message else { return Ok(usual()) };
        let outcome = program.eval(bindings, cel::PER_CALL_LIMIT);
        let limited = matches!(&outcome.result, Err(error) if error.kind() == ErrorKind::CostLimit);
        let wrong = if !self.spend(outcome.cost) {
            "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned()
        } else if limited {
            format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                crate::field::quote(&rule.message_expression)
            )
        } else {
            let text = match &outcome.result {
                Ok(cel::Value::String(text)) => text.trim(),
                _ => "",
            };
            let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
            return Ok(if usable { text.to_owned() } else { usual() });
        };
        let _ = self.report(Error::invalid(path, ty, wrong), excused);
        self.budget = -1;
        Err(Exhausted)
    }

    fn spend(&mut self, cost: u64) -> bool {
        match i64::try_from(cost) {
            Ok(cost) if cost <= self.budget => {
                self.budget -= cost;
                true
            }
            _ => false,
        }
    }

    fn out_of_budget(&mut self, error: Error) -> Result<(), Exhausted> {
        self.budget = -1;
        let _ = self.refuse(error);
        Err(Exhausted)
    }

    fn refuse(&mut self, error: Error) -> Result<(), Exhausted> {
        self.report(error, false)
    }

    fn report(&mut self, error: Error, excused: bool) -> Result<(), Exhausted> {
        if excused {
            self.found.warnings.push(error.to_string());
        } else {
            self.found.errors.push(error);
        }
        let all = self.found.errors.len() + self.found.warnings.len();
        if all < MAX_ERRORS { Ok(()) } else { Err(Exhausted) }
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A rule in messages about its evaluation.
fn shown(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

fn by_reason(rule: &Rule, path: &Path<'_>, value: Option<Value>, detail: String) -> Error {
    let error = |kind, value, detail| Error { kind, field: path.to_string(), value, detail };
    match rule.reason.as_deref() {
        Some("FieldValueForbidden") => Error::forbidden(path, detail),
        Some("FieldValueRequired") => Error::required(path, detail),
        Some("FieldValueDuplicate") => error(Kind::Duplicate, value, String::new()),
        _ => error(Kind::Invalid, value, detail),
    }
}
