//! Admission that users configure: policies and webhooks, which come after all built-in plugins.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{self, AllPolicies};
use super::webhook::{self, Webhooks};
use super::{Attributes, ObjectKind};
use crate::status::ApiError;

/// The configurations of webhooks and policies, as the watch cache has them.
#[derive(Default)]
pub(crate) struct Dynamic {
    pub(super) webhooks: Webhooks,
    pub(super) policies: AllPolicies,
}

impl Dynamic {
    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        self.webhooks.apply(key, value);
        self.policies.apply(key, value);
    }

    /// Forgets everything: the cache starts over.
    pub fn clear(&self) {
        self.webhooks.clear();
        self.policies.clear();
    }
}

/// Whether webhooks and policies are not asked: they could lock everybody out of their own configuration.
fn is_exempt(kind: ObjectKind<'_>) -> bool {
    kind.group == "admissionregistration.k8s.io"
        && matches!(
            kind.kind,
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}

/// Whether policies are not asked, as upstream: what every component needs all the time, and stores nothing.
fn is_review(attributes: &Attributes<'_>) -> bool {
    let kind = &attributes.call.kind;
    attributes.subresource.is_empty()
        && matches!(kind.group.as_ref(), "authentication.k8s.io" | "authorization.k8s.io")
}

/// Which mutations are done once more because something else changed the object after them: upstream's
/// reinvocation context.
#[derive(Default)]
pub(crate) struct Reinvocation {
    /// This is the second round.
    pub second: bool,
    /// A second round is due.
    pub needed: bool,
    /// What webhooks left behind.
    pub(super) webhooks: Reinvoked,
    /// What policies left behind.
    pub(super) policies: Reinvoked,
}

impl Reinvocation {
    /// Begins the second round, if one is due.
    pub fn again(&mut self) -> bool {
        let due = self.needed && !self.second;
        self.second |= due;
        due
    }
}

/// Reinvocation as one plugin sees it.
#[derive(Default)]
pub(super) struct Reinvoked {
    last: Option<Value>,
    called: BTreeSet<String>,
    again: BTreeSet<String>,
}

impl Reinvoked {
    /// In the second round, others may have changed the object since.
    pub fn begin(&mut self, second: bool, object: &Value) {
        if second && self.last.as_ref() != Some(object) {
            self.changed();
        }
    }

    /// Everything that was called before is to be called again.
    pub fn changed(&mut self) {
        self.again.append(&mut self.called);
    }

    /// One that wants to be called again has been called.
    pub fn called(&mut self, uid: &str) {
        self.called.insert(uid.to_owned());
    }

    /// Whether to call it in the second round.
    pub fn wants(&self, uid: &str) -> bool {
        self.again.contains(uid)
    }

    /// This is what the plugin made of the object.
    pub fn end(&mut self, object: &Value) {
        self.last = Some(object.clone());
    }
}

/// Mutating policies, then mutating webhooks.
pub(super) async fn mutate(
    attributes: &Attributes<'_>,
    object: &mut Value,
    reinvocation: &mut Reinvocation,
) -> Result<(), ApiError> {
    if is_exempt(attributes.kind) {
        return Ok(());
    }
    if !is_review(attributes) {
        policy::mutate(attributes, object, reinvocation).await?;
    }
    webhook::mutate(attributes, object, reinvocation).await
}

/// Validating policies, then validating webhooks.
pub(super) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    if is_exempt(attributes.kind) {
        return Ok(());
    }
    if !is_review(attributes) {
        policy::validate(attributes, object).await?;
    }
    webhook::validate(attributes, object).await
}
