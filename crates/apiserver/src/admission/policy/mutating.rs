//! MutatingAdmissionPolicies: rules that change objects, by JSON patches or apply configurations.

use cel::Value as Cel;
use schema::decode::Strictness;
use schema::policy_expressions::Compiled;
use serde_json::{Value, json};

use super::apply;
use super::definition::{Binding, Bound, Mutation, Policy};
use super::input::Input;
use super::validating::BUDGET;
use super::{Work, namespace_object, work};
use crate::admission::dynamic::Reinvocation;
use crate::admission::webhook::rules::Matched;
use crate::admission::webhook::versions::Versions;
use crate::admission::{Attributes, Operation};
use crate::object::meta;
use crate::status::ApiError;

/// Why a policy cannot do its work: upstream's `PolicyError`.
struct Failure {
    text: String,
    reason: &'static str,
}

impl Failure {
    fn new(policy: &Policy, binding: Option<&Binding>, why: &str, reason: &'static str) -> Self {
        let text = match binding {
            Some(binding) => {
                format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name)
            }
            None => format!("policy {:?} denied request: {why}", policy.name),
        };
        Self { text, reason }
    }
}

/// One policy with one binding and one param.
struct Invocation<'a> {
    bound: &'a Bound,
    binding: &'a Binding,
    matched: Matched,
    param: Option<Value>,
}

impl Invocation<'_> {
    /// Tells invocations apart, for the second round.
    fn uid(&self) -> String {
        let param = self.param.as_ref().map(|param| (meta(param, "namespace"), meta(param, "name")));
        let (namespace, name) = param.unwrap_or_default();
        format!("{}/{}/{namespace}/{name}", self.bound.policy.name, self.binding.name)
    }
}

/// Lets all policies that are for the request change the object.
pub(crate) async fn mutate(
    attributes: &Attributes<'_>,
    object: &mut Value,
    reinvocation: &mut Reinvocation,
) -> Result<(), ApiError> {
    let bound = attributes.call.server.dynamic_admission.policies.mutating.bound();
    // There is nothing to change about a delete.
    if bound.is_empty() || attributes.operation == Operation::Delete {
        return Ok(());
    }
    let mut failures: Vec<Failure> = Vec::new();
    let invocations = invocations(attributes, object, &bound, &mut failures).await;
    if !invocations.is_empty() {
        invoke(attributes, object, &invocations, reinvocation, &mut failures).await?;
    }
    let Some(first) = failures.first() else { return Ok(()) };
    let mut error = attributes.forbidden(object, "admission request denied by policy");
    error.message.clone_from(&first.text);
    if !first.reason.is_empty() {
        error.reason = first.reason.into();
    }
    Err(failures.into_iter().fold(error, |error, failure| error.cause("", failure.text, "")))
}

async fn invocations<'a>(
    attributes: &Attributes<'_>,
    object: &Value,
    bound: &'a [Bound],
    failures: &mut Vec<Failure>,
) -> Vec<Invocation<'a>> {
    let mut invocations = Vec::new();
    for bound in bound {
        let policy = &bound.policy;
        let works = work(attributes, object, bound, |why, binding| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            if !policy.ignores_failures {
                let why = format!("failed to configure {what}: {why}");
                failures.push(Failure::new(policy, binding, &why, ""));
            }
        })
        .await;
        for Work { matched, binding, params } in works {
            for param in params {
                let matched = Matched { resource: matched.resource.clone(), kind: matched.kind.clone() };
                invocations.push(Invocation { bound, binding, matched, param });
            }
        }
    }
    invocations
}

async fn invoke(
    attributes: &Attributes<'_>,
    object: &mut Value,
    invocations: &[Invocation<'_>],
    reinvocation: &mut Reinvocation,
    failures: &mut Vec<Failure>,
) -> Result<(), ApiError> {
    reinvocation.policies.begin(reinvocation.second, object);
    let namespace = namespace_object(attributes).await?;
    let mut versions = Versions::new(attributes);
    let mut dirty = false;
    for invocation in invocations {
        let policy = &invocation.bound.policy;
        let mut fail = |why: &str| {
            if !policy.ignores_failures {
                failures.push(Failure::new(policy, Some(invocation.binding), why, "Invalid"));
            }
        };
        let expressions = policy.expressions();
        {
            let (shown, old) = versions.of(&invocation.matched, object).await?;
            let input = Input::new(attributes, &invocation.matched, &shown, &old).of_policy(
                invocation.param.as_ref(),
                namespace.as_ref(),
                &expressions.variables,
            );
            match expressions.conditions.hold(&input) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    fail(&why);
                    continue;
                }
            }
        }
        let uid = invocation.uid();
        if reinvocation.second && !reinvocation.policies.wants(&uid) {
            continue;
        }
        let mut changed = false;
        for mutation in &expressions.mutations {
            let (shown, old) = versions.of(&invocation.matched, object).await?;
            let input = Input::new(attributes, &invocation.matched, &shown, &old).of_policy(
                invocation.param.as_ref(),
                namespace.as_ref(),
                &expressions.variables,
            );
            let made = match mutation {
                Mutation::JsonPatch(expression) => by_patch(&input, expression, &shown),
                Mutation::ApplyConfiguration(expression) => {
                    by_configuration(&input, expression, &shown, &invocation.matched)
                }
            };
            drop(input);
            match made {
                Ok(Some(made)) => {
                    let made = versions.take_back(&invocation.matched, made, Strictness::Strict).await?;
                    dirty = true;
                    changed |= made != *object;
                    *object = made;
                }
                // A test in the patch did not hold: the patch is not for this object.
                Ok(None) => {}
                Err(why) => fail(&why),
            }
        }
        if changed {
            reinvocation.policies.changed();
            reinvocation.needed = true;
        }
        if policy.reinvoked {
            reinvocation.policies.called(&uid);
        }
    }
    if dirty {
        reinvocation.policies.changed();
        reinvocation.needed = true;
    }
    reinvocation.policies.end(object);
    Ok(())
}

fn value_of<'b>(input: &'b Input<'_>, expression: &'b Compiled) -> Result<Cel<'b>, String> {
    // What does not compile is said without the words of an evaluation.
    if let Err(why) = &expression.program {
        return Err(why.clone());
    }
    let mut budget = BUDGET;
    input.evaluate(expression, &mut budget).map_err(str::to_owned)?
}

/// The object with the patch; none where a test of the patch does not hold.
fn by_patch(input: &Input<'_>, expression: &Compiled, object: &Value) -> Result<Option<Value>, String> {
    let Cel::List(list) = value_of(input, expression)? else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut operations = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Cel::Struct(patch) = item else {
            return Err(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned()
            );
        };
        let text = |field: &str| patch.fields.get(field).and_then(Cel::as_str).unwrap_or_default();
        let mut operation = json!({"op": text("op"), "path": text("path")});
        if !text("from").is_empty() {
            operation["from"] = text("from").into();
        }
        if let Some(value) = patch.fields.get("value") {
            if matches!(value, Cel::Struct(_)) {
                apply::check_type_names(value).map_err(|why| format!("type mismatch: {why}"))?;
            }
            operation["value"] = value.to_json().map_err(|why| {
                format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
            })?;
        }
        operations.push(operation);
    }
    let mut patched = object.clone();
    for operation in operations {
        // One at a time, to tell a failed test from a patch that does not fit.
        let is_test = operation["op"] == "test";
        match schema::patch::json(&patched, &Value::Array(vec![operation])) {
            Ok(next) => patched = next,
            Err(_) if is_test => return Ok(None),
            Err(why) => return Err(format!("JSON Patch: {why}")),
        }
    }
    Ok(Some(patched))
}

fn by_configuration(
    input: &Input<'_>,
    expression: &Compiled,
    object: &Value,
    matched: &Matched,
) -> Result<Option<Value>, String> {
    let value = value_of(input, expression)?;
    apply::check_type_names(&value).map_err(|why| format!("type mismatch: {why}"))?;
    let configuration = value.to_json().map_err(|why| format!("invalid return type: {why}"))?;
    let merged = apply::merge(object, configuration, matched);
    merged.map(Some).map_err(|why| format!("error applying patch: {why}"))
}
