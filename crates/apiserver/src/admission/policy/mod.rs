//! Admission policies: rules in CEL, kept as objects, that refuse requests ([`validating`]) or change
//! objects ([`mutating`]).
//!
//! A policy does nothing until it is bound. A request that no bound policy is for pays for two reads of an
//! empty list.

mod apply;
mod authorizer;
pub(crate) mod conditions;
mod definition;
mod input;
mod mutating;
mod params;
mod validating;

use serde_json::Value;

use super::Attributes;
use super::webhook::rules::{Matched, namespace_of};
use crate::status::ApiError;
use definition::{Binding, Bound, Policies};

pub(super) use mutating::mutate;
pub(super) use validating::validate;

/// All policies.
pub(super) struct AllPolicies {
    validating: Policies,
    mutating: Policies,
}

impl Default for AllPolicies {
    fn default() -> Self {
        Self {
            validating: Policies::new(
                "/registry/validatingadmissionpolicies.admissionregistration.k8s.io/",
                "/registry/validatingadmissionpolicybindings.admissionregistration.k8s.io/",
            ),
            mutating: Policies::new(
                "/registry/mutatingadmissionpolicies.admissionregistration.k8s.io/",
                "/registry/mutatingadmissionpolicybindings.admissionregistration.k8s.io/",
            ),
        }
    }
}

impl AllPolicies {
    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        if key.contains(".admissionregistration.k8s.io/") {
            self.validating.apply(key, value);
            self.mutating.apply(key, value);
        }
    }

    /// Forgets everything: the cache starts over.
    pub fn clear(&self) {
        self.validating.clear();
        self.mutating.clear();
    }
}

/// A binding that is for a request, and the params to evaluate its policy with.
struct Work<'a> {
    matched: Matched,
    binding: &'a Binding,
    params: Vec<Option<Value>>,
}

/// What a policy has to do about a request. What keeps it from finding out is reported.
async fn work<'a>(
    attributes: &Attributes<'_>,
    object: &Value,
    bound: &'a Bound,
    mut report: impl FnMut(&str, Option<&Binding>),
) -> Vec<Work<'a>> {
    let mut works = Vec::new();
    let policy = &bound.policy;
    let Some(constraints) = &policy.constraints else {
        report("policy contained no match constraints, a required field", None);
        return works;
    };
    match constraints.matches(attributes, object).await {
        Ok(Some(_)) => {}
        Ok(None) => return works,
        Err(error) => {
            report(&error.message, None);
            return works;
        }
    }
    let param_kind = policy.param_kind.as_ref().map(|kind| kind.resolve(attributes)).transpose();
    let param_kind = match param_kind {
        Ok(kind) => kind,
        Err(why) => {
            report(&why, None);
            return works;
        }
    };
    for binding in &bound.bindings {
        if let Some(constraints) = &binding.constraints {
            match constraints.matches(attributes, object).await {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(error) => {
                    report(&error.message, Some(binding));
                    continue;
                }
            }
        }
        // The version is the one that the policy asks for, whatever the binding says.
        let Ok(Some(matched)) = constraints.matches(attributes, object).await else { continue };
        match params::collect(attributes, param_kind.as_ref(), binding.param_ref.as_ref()).await {
            Ok(params) => works.push(Work { matched, binding, params }),
            Err(why) => report(&why, Some(binding)),
        }
    }
    works
}

/// The fields of the request's Namespace that expressions may see; none for what is in no namespace.
async fn namespace_object(attributes: &Attributes<'_>) -> Result<Option<Value>, ApiError> {
    let kind = attributes.kind;
    let is_namespace = kind.group.is_empty() && kind.version == "v1" && kind.kind == "Namespace";
    if attributes.namespace.is_empty() || is_namespace {
        return Ok(None);
    }
    let mut namespace = namespace_of(attributes).await?;
    if let Some(metadata) = namespace["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.remove("ownerReferences");
        metadata.remove("selfLink");
    }
    if let Some(fields) = namespace.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    Ok(Some(namespace))
}
