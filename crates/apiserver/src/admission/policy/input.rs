//! What expressions are evaluated on: one request, in the version that a policy or webhook matches.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cel::{Activation, Error, Fields, Key, Map, PER_CALL_LIMIT, Value};
use schema::policy_expressions::{Compiled, VARIABLES};
use serde_json::json;

use crate::admission::Attributes;
use crate::admission::webhook::{rules::Matched, user_info};

type Tree = serde_json::Value;

/// The budget is spent: nothing more is evaluated.
pub(crate) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Values of the variables that expressions know.
pub(crate) struct Input<'a> {
    attributes: &'a Attributes<'a>,
    matched: &'a Matched,
    object: &'a Tree,
    old: &'a Tree,
    params: Option<&'a Tree>,
    namespace: Option<&'a Tree>,
    /// Made when an expression asks for it.
    request: OnceLock<Tree>,
    variables: Variables<'a>,
}

/// `variables`: each is evaluated when it is first read.
struct Variables<'a> {
    compiled: &'a [(String, Compiled)],
    values: Vec<Variable>,
    /// Cost of what was evaluated since somebody asked.
    spent: AtomicU64,
}

#[derive(Default)]
struct Variable {
    value: OnceLock<Result<Value<'static>, Error>>,
    /// It is being evaluated, so that it cannot be read.
    begun: AtomicBool,
}

impl<'a> Input<'a> {
    /// Without params, namespace and variables.
    pub fn new(
        attributes: &'a Attributes<'a>,
        matched: &'a Matched,
        object: &'a Tree,
        old: &'a Tree,
    ) -> Self {
        let variables = Variables { compiled: &[], values: Vec::new(), spent: AtomicU64::new(0) };
        Self {
            attributes,
            matched,
            object,
            old,
            params: None,
            namespace: None,
            request: OnceLock::new(),
            variables,
        }
    }

    /// With `params`, `namespaceObject` and the policy's variables.
    pub fn of_policy(
        mut self,
        params: Option<&'a Tree>,
        namespace: Option<&'a Tree>,
        compiled: &'a [(String, Compiled)],
    ) -> Self {
        (self.params, self.namespace) = (params, namespace);
        let values = compiled.iter().map(|_| Variable::default()).collect();
        self.variables = Variables { compiled, values, spent: AtomicU64::new(0) };
        self
    }

    /// Evaluates an expression at the expense of the budget.
    ///
    /// # Errors
    /// The outer one when the budget is spent, the inner one when the expression has no value.
    pub fn evaluate<'b>(
        &'b self,
        compiled: &'b Compiled,
        budget: &mut u64,
    ) -> Result<Result<Value<'b>, String>, &'static str> {
        let program = match &compiled.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let outcome = program.eval(self, PER_CALL_LIMIT);
        let cost = outcome.cost.saturating_add(self.variables.spent.swap(0, Ordering::Relaxed));
        *budget = budget.checked_sub(cost).ok_or(OUT_OF_BUDGET)?;
        Ok(outcome
            .result
            .map_err(|error| format!("expression '{}' resulted in error: {error}", compiled.source)))
    }

    fn request(&self) -> &Tree {
        self.request.get_or_init(|| {
            let attributes = self.attributes;
            let requested = &attributes.call.kind;
            let (kind, resource) = (&self.matched.kind, &self.matched.resource);
            let mut request = json!({
                "uid": "",
                "kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
                "resource": {
                    "group": resource.group, "version": resource.version, "resource": resource.plural,
                },
                "requestKind": {
                    "group": attributes.kind.group,
                    "version": attributes.kind.version,
                    "kind": attributes.kind.kind,
                },
                "requestResource": {
                    "group": requested.group, "version": requested.version, "resource": requested.plural,
                },
                "operation": attributes.operation.name(),
                "userInfo": user_info(attributes),
                "dryRun": attributes.dry_run,
                "options": attributes.options(),
                "object": null,
                "oldObject": null,
            });
            let texts = [
                ("subResource", attributes.subresource),
                ("requestSubResource", attributes.subresource),
                ("name", attributes.name),
                ("namespace", attributes.namespace),
            ];
            for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
                request[field] = text.into();
            }
            request
        })
    }
}

impl Activation for Input<'_> {
    fn resolve(&self, name: &str) -> Result<Option<Value<'_>>, Error> {
        Ok(Some(match name {
            "object" => Value::json(self.object),
            "oldObject" => Value::json(self.old),
            "params" => shown(self.params),
            "namespaceObject" => shown(self.namespace),
            "request" => Value::json(self.request()),
            "variables" => Value::Fields(self),
            _ => return super::authorizer::resolve(self.attributes, name),
        }))
    }
}

impl Fields for Input<'_> {
    fn field(&self, name: &str) -> Option<Result<Value<'_>, Error>> {
        let variables = &self.variables;
        // Of two with the same name the later counts.
        let index = variables.compiled.iter().rposition(|(known, _)| known == name)?;
        let variable = &variables.values[index];
        if let Some(value) = variable.value.get() {
            return Some(value.clone());
        }
        if variable.begun.swap(true, Ordering::Relaxed) {
            return Some(Err(Error::new(format!("variable {name:?} refers to itself"))));
        }
        let value = variable.value.get_or_init(|| {
            let compiled = &variables.compiled[index].1;
            let program = compiled
                .program
                .as_ref()
                .map_err(|why| Error::new(format!("composited variable {name:?} fails to compile: {why}")))?;
            let outcome = program.eval(self, PER_CALL_LIMIT);
            variables.spent.fetch_add(outcome.cost, Ordering::Relaxed);
            outcome.result.map(owned).map_err(|error| {
                Error::new(format!("composited variable {name:?} fails to evaluate: {error}"))
            })
        });
        Some(value.clone())
    }

    fn type_name(&self) -> &str {
        VARIABLES
    }
}

fn shown(tree: Option<&Tree>) -> Value<'_> {
    tree.map_or(Value::Null, Value::json)
}

/// A value that borrows nothing, so that it can be kept for other expressions.
fn owned(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Null => Value::Null,
        Value::Bool(value) => Value::Bool(value),
        Value::Int(value) => Value::Int(value),
        Value::Uint(value) => Value::Uint(value),
        Value::Double(value) => Value::Double(value),
        Value::String(text) => Value::from(text.as_str().to_owned()),
        Value::Bytes(bytes) => Value::Bytes(bytes),
        Value::Duration(value) => Value::Duration(value),
        Value::Timestamp(value) => Value::Timestamp(value),
        Value::List(list) => Value::list(list.iter().map(owned).collect()),
        Value::Map(map) => {
            let entries: BTreeMap<Key<'static>, Value<'static>> =
                map.iter().map(|(key, value)| (owned_key(key), owned(value))).collect();
            Value::Map(Map::from(entries))
        }
        Value::Struct(object) => {
            let fields = object.fields.iter().map(|(name, value)| (name.clone(), owned(value.clone())));
            let fields = std::sync::Arc::new(fields.collect());
            Value::Struct(cel::Struct { type_name: object.type_name.clone(), fields })
        }
        Value::Optional(value) => {
            Value::Optional(value.map(|value| std::sync::Arc::new(owned((*value).clone()))))
        }
        Value::Type(ty) => Value::Type(ty),
        Value::Opaque(value) => Value::Opaque(value),
        Value::Fields(_) => Value::Invalid("variables cannot be the value of a variable".into()),
        Value::Invalid(why) => Value::Invalid(why),
    }
}

fn owned_key(key: Key<'_>) -> Key<'static> {
    match key {
        Key::Bool(value) => Key::Bool(value),
        Key::Int(value) => Key::Int(value),
        Key::Uint(value) => Key::Uint(value),
        Key::String(text) => Key::String(text.as_str().to_owned().into()),
    }
}
