//! ValidatingAdmissionPolicies: rules that refuse requests, warn, or leave a note in the audit log.

use std::collections::BTreeMap;

use cel::Value as Cel;
use serde::Serialize;
use serde_json::Value;

use super::definition::{Binding, Expressions, Policy, Validation};
use super::input::{Input, OUT_OF_BUDGET};
use super::{Work, namespace_object, work};
use crate::admission::Attributes;
use crate::admission::webhook::versions::Versions;
use crate::status::ApiError;

/// What the validations of one policy may cost for one object and binding (`RuntimeCELCostBudget`).
pub(super) const BUDGET: u64 = 10_000_000;
/// `celconfig.MaxEvaluatedMessageExpressionSizeBytes`.
const MESSAGE_BYTES_MAX: usize = 5 << 10;
/// Longer values of annotations are cut.
const ANNOTATION_BYTES_MAX: usize = 10 << 10;

/// A refusal, or what would be one under another action.
struct Denial {
    /// Index of the validation.
    index: usize,
    message: String,
    reason: String,
}

/// What an evaluation of one policy with one param came to.
#[derive(Default)]
struct Verdict {
    denials: Vec<Denial>,
    annotations: Vec<(String, String)>,
    /// Annotations that could not be made, which refuse the request whatever the actions are.
    failed_annotations: Vec<String>,
}

impl Verdict {
    fn failure(policy: &Policy, message: String) -> Self {
        let denial = Denial { index: 0, message, reason: String::new() };
        Self { denials: if policy.ignores_failures { Vec::new() } else { vec![denial] }, ..Self::default() }
    }
}

/// The first refusal, as the client sees it.
#[derive(Default)]
struct Refused(Option<(String, String)>);

impl Refused {
    fn add(&mut self, policy: &Policy, binding: Option<&Binding>, denial: &str, reason: &str) {
        if self.0.is_some() {
            return;
        }
        let bound = binding.map(|binding| format!(" with binding '{}'", binding.name)).unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{}'{bound} denied request: {denial}", policy.name);
        self.0 = Some((message, if reason.is_empty() { "Invalid" } else { reason }.to_owned()));
    }
}

/// Evaluates all policies that are for the request.
pub(crate) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let bound = attributes.call.server.dynamic_admission.policies.validating.bound();
    if bound.is_empty() {
        return Ok(());
    }
    let mut refused = Refused::default();
    let mut versions = Versions::new(attributes);
    for bound in bound.iter() {
        let policy = &bound.policy;
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let works = work(attributes, object, bound, |why, binding| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            if !policy.ignores_failures {
                refused.add(policy, binding, &format!("failed to configure {what}: {why}"), "");
            }
        })
        .await;
        if works.is_empty() {
            continue;
        }
        let namespace = namespace_object(attributes).await?;
        for Work { matched, binding, params } in works {
            for param in &params {
                let (shown, old) = versions.of(&matched, object).await?;
                let expressions = policy.expressions();
                let input = Input::new(attributes, &matched, &shown, &old).of_policy(
                    param.as_ref(),
                    namespace.as_ref(),
                    &expressions.variables,
                );
                let verdict = evaluate(policy, expressions, &input);
                for denial in &verdict.denials {
                    act(attributes, policy, binding, denial, &mut refused);
                }
                for why in &verdict.failed_annotations {
                    refused.add(policy, Some(binding), why, "");
                }
                for (key, value) in verdict.annotations {
                    let values = annotations.entry(key).or_default();
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
        }
        for (key, values) in annotations {
            attributes.call.annotate(&format!("{}/{key}", policy.name), values.join(", "));
        }
    }
    match refused.0 {
        None => Ok(()),
        Some((message, reason)) => {
            let mut error = attributes.forbidden(object, &message).cause("", message, "");
            error.code = match reason.as_str() {
                "Forbidden" => 403,
                "Unauthorized" => 401,
                "RequestEntityTooLarge" => 413,
                _ => 422,
            };
            error.reason = reason.into();
            Err(error)
        }
    }
}

/// A denial as the audit log has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditedFailure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [String],
}

/// Does what the binding says about a denial.
fn act(
    attributes: &Attributes<'_>,
    policy: &Policy,
    binding: &Binding,
    denial: &Denial,
    refused: &mut Refused,
) {
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => refused.add(policy, Some(binding), &denial.message, &denial.reason),
            "Audit" => {
                let failure = [AuditedFailure {
                    message: &denial.message,
                    policy: &binding.policy,
                    binding: &binding.name,
                    expression_index: denial.index,
                    validation_actions: &binding.actions,
                }];
                let key = "validation.policy.admission.k8s.io/validation_failure";
                attributes.call.annotate(key, serde_json::to_string(&failure).unwrap_or_default());
            }
            "Warn" => attributes.call.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, denial.message
            )),
            _ => {}
        }
    }
}

fn evaluate(policy: &Policy, expressions: &Expressions, input: &Input<'_>) -> Verdict {
    match expressions.conditions.hold(input) {
        Ok(true) => {}
        Ok(false) => return Verdict::default(),
        Err(why) => return Verdict::failure(policy, why),
    }
    let mut budget = BUDGET;
    let mut results = Vec::with_capacity(expressions.validations.len());
    for validation in &expressions.validations {
        match input.evaluate(&validation.expression, &mut budget) {
            Ok(result) => results.push(result.map(|value| matches!(value, Cel::Bool(true)))),
            Err(why) => return Verdict::failure(policy, why.to_owned()),
        }
    }
    let messages = messages(&expressions.validations, input, &mut budget);
    let mut verdict = Verdict::default();
    for (index, (validation, result)) in expressions.validations.iter().zip(results).enumerate() {
        let denial = match (result, &messages) {
            (Err(why), _) => (!policy.ignores_failures).then_some((why, String::new())),
            (_, None) => {
                let why = format!("failed messageExpression: {OUT_OF_BUDGET}");
                (!policy.ignores_failures).then_some((why, String::new()))
            }
            (Ok(true), _) => None,
            (Ok(false), Some(messages)) => {
                Some((message(validation, messages[index].as_deref()), validation.reason.clone()))
            }
        };
        if let Some((message, reason)) = denial {
            verdict.denials.push(Denial { index, message, reason });
        }
    }
    annotate(policy, expressions, input, verdict)
}

/// What the message expressions say; none when they cost too much.
fn messages(validations: &[Validation], input: &Input<'_>, budget: &mut u64) -> Option<Vec<Option<String>>> {
    let mut messages = Vec::with_capacity(validations.len());
    for validation in validations {
        let Some(expression) = &validation.message_expression else {
            messages.push(None);
            continue;
        };
        let value = input.evaluate(expression, budget).ok()?;
        messages.push(value.ok().and_then(|value| value.as_str().map(str::to_owned)));
    }
    Some(messages)
}

/// What a failed validation says: the text of its message expression if that is fit to be shown, else its
/// message, else its expression.
fn message(validation: &Validation, made: Option<&str>) -> String {
    let made = made.map(str::trim).filter(|text| text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n'));
    let texts = [made.unwrap_or_default(), validation.message.trim()];
    match texts.into_iter().find(|text| !text.is_empty()) {
        Some(text) => text.to_owned(),
        None => format!("failed expression: {}", validation.expression.source.trim()),
    }
}

fn annotate(policy: &Policy, expressions: &Expressions, input: &Input<'_>, mut verdict: Verdict) -> Verdict {
    let mut budget = BUDGET;
    for (key, expression) in &expressions.audit_annotations {
        let value = match input.evaluate(expression, &mut budget) {
            Ok(value) => value,
            Err(why) => return Verdict::failure(policy, why.to_owned()),
        };
        match value {
            Ok(Cel::String(text)) => {
                let mut value = text.as_str().trim();
                if value.len() > ANNOTATION_BYTES_MAX {
                    value = &value[..value.floor_char_boundary(ANNOTATION_BYTES_MAX)];
                }
                if !value.is_empty() {
                    verdict.annotations.push((key.clone(), value.to_owned()));
                }
            }
            Ok(Cel::Null) => {}
            Ok(other) => verdict.failed_annotations.push(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                expression.source,
                other.type_of()
            )),
            Err(_) if policy.ignores_failures => {}
            Err(why) => verdict.failed_annotations.push(why),
        }
    }
    verdict
}
