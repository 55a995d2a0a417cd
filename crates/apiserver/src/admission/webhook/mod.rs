//! Admission webhooks: users' own servers that change objects and refuse requests.
//!
//! [`Webhooks`] follows the configurations in the watch cache; [`mutate`] calls those that may change the
//! object one after the other, [`validate`] all others at once. A request that no configuration is for
//! pays for two reads of an empty list.

mod call;
mod config;
mod review;
pub(crate) mod rules;
pub(crate) mod versions;

use schema::decode::Strictness;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Attributes;
use super::dynamic::Reinvocation;
use crate::counters::Called;
use crate::status::ApiError;
use call::{Failure, ask, should_call, timed_out, weigh};
use config::{Configurations, Hook};
pub(crate) use review::user_info;
use rules::Matched;
use versions::Versions;

const MUTATING: &str = "/registry/mutatingwebhookconfigurations.admissionregistration.k8s.io/";
const VALIDATING: &str = "/registry/validatingwebhookconfigurations.admissionregistration.k8s.io/";

/// The webhooks of all configurations.
#[derive(Default)]
pub(crate) struct Webhooks {
    mutating: Configurations,
    validating: Configurations,
}

impl Webhooks {
    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        if let Some(name) = key.strip_prefix(MUTATING) {
            self.mutating.apply(name, value);
        } else if let Some(name) = key.strip_prefix(VALIDATING) {
            self.validating.apply(name, value);
        }
    }

    /// Forgets everything: the cache starts over.
    pub fn clear(&self) {
        self.mutating.clear();
        self.validating.clear();
    }
}

/// Calls the mutating webhooks, in order.
pub(crate) async fn mutate(
    attributes: &Attributes<'_>,
    object: &mut Value,
    reinvocation: &mut Reinvocation,
) -> Result<(), ApiError> {
    let hooks = attributes.call.server.dynamic_admission.webhooks.mutating.hooks();
    if hooks.is_empty() {
        return Ok(());
    }
    reinvocation.webhooks.begin(reinvocation.second, object);
    let mut versions = Versions::new(attributes);
    let mut asked = false;
    for (index, hook) in hooks.iter().enumerate() {
        let Some(matched) = should_call(hook, attributes, object, &mut versions).await? else { continue };
        asked = true;
        if reinvocation.second && !reinvocation.webhooks.wants(&hook.uid) {
            continue;
        }
        let started = Instant::now();
        let outcome = mutate_by(hook, attributes, &matched, object, &mut versions).await;
        count(attributes, hook, "admit", started, outcome.as_ref().err());
        let place = format!("round_{}_index_{index}", usize::from(reinvocation.second));
        let changed = matches!(outcome, Ok(Some(_)));
        annotate(attributes, hook, &place, outcome.as_ref().ok().and_then(Option::as_ref));
        if changed {
            reinvocation.webhooks.changed();
            reinvocation.needed = true;
        }
        if hook.reinvoked {
            reinvocation.webhooks.called(&hook.uid);
        }
        if let Err(failure) = outcome {
            fail(attributes, hook, failure, &place)?;
        }
    }
    if asked {
        reinvocation.webhooks.end(object);
    }
    Ok(())
}

/// The value of an annotation: which webhook did what.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Note<'a> {
    configuration: &'a str,
    webhook: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
}

/// Notes whether the webhook changed the object, and, where bodies are recorded, how.
fn annotate(attributes: &Attributes<'_>, hook: &Hook, place: &str, patch: Option<&Value>) {
    let Some(record) = &attributes.call.audit else { return };
    let (configuration, webhook) = (hook.configuration.as_str(), hook.name.as_str());
    let note = |key: String, note: &Note<'_>| {
        if let Ok(value) = serde_json::to_string(note) {
            record.annotate(&key, value);
        }
    };
    let mutated =
        Note { configuration, webhook, mutated: Some(patch.is_some()), patch: None, patch_type: None };
    note(format!("mutation.webhook.admission.k8s.io/{place}"), &mutated);
    if patch.is_some() && record.wants_body() {
        let patched = Note { mutated: None, patch, patch_type: Some("JSONPatch"), ..mutated };
        note(format!("patch.webhook.admission.k8s.io/{place}"), &patched);
    }
}

/// Counts a call that took from `started` until now.
fn count(
    attributes: &Attributes<'_>,
    hook: &Hook,
    sort: &'static str,
    started: Instant,
    failure: Option<&Failure>,
) {
    let (code, failed) = match failure {
        None => (200, false),
        Some(Failure::Rejected(error)) => (error.code, false),
        Some(Failure::Calling(error)) => (error.code, true),
    };
    let called = Called {
        name: &hook.name,
        sort,
        operation: attributes.operation.name(),
        code,
        failed,
        passed: failure.is_none() || (failed && hook.ignores_failures),
    };
    attributes.call.server.counters.webhooks.called(&called, started.elapsed());
}

/// Refuses, or lets pass what the webhook's policy says to ignore.
fn fail(attributes: &Attributes<'_>, hook: &Hook, failure: Failure, place: &str) -> Result<(), ApiError> {
    weigh(hook, failure)?;
    let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
    attributes.call.annotate(&key, hook.name.clone());
    if Instant::now() >= attributes.call.deadline { Err(timed_out()) } else { Ok(()) }
}

/// Lets the webhook change the object; its patch, if it did.
async fn mutate_by(
    hook: &Hook,
    attributes: &Attributes<'_>,
    matched: &Matched,
    object: &mut Value,
    versions: &mut Versions<'_>,
) -> Result<Option<Value>, Failure> {
    let (shown, old) = versions.of(matched, object).await.map_err(Failure::Rejected)?;
    let verdict = ask(hook, attributes, matched, &shown, &old, true).await?;
    let Some(patch) = verdict.patch else { return Ok(None) };
    let calling = |why: String| {
        Failure::Calling(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)))
    };
    let operations = schema::patch::parse_json(&patch, Strictness::Ignore);
    let (operations, _) = operations
        .map_err(|error| calling(format!("received undecodable patch in webhook response: {error}")))?;
    if operations.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let internal = |why: String| Failure::Rejected(ApiError::internal(why));
    if shown.is_null() {
        return Err(internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    if verdict.patch_type != "JSONPatch" {
        return Err(calling(format!("unsupported patch type {:?}", verdict.patch_type)));
    }
    let patched = schema::patch::json(&shown, &operations).map_err(|error| internal(error.to_string()))?;
    let changed =
        versions.take_back(matched, patched, Strictness::Ignore).await.map_err(Failure::Rejected)?;
    let is_changed = changed != *object;
    *object = changed;
    Ok(is_changed.then_some(operations))
}

/// Calls the validating webhooks, all at once. Of several refusals the client hears one.
pub(crate) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let hooks = attributes.call.server.dynamic_admission.webhooks.validating.hooks();
    if hooks.is_empty() {
        return Ok(());
    }
    let mut versions = Versions::new(attributes);
    let mut relevant = Vec::new();
    for hook in hooks.iter() {
        let Some(matched) = should_call(hook, attributes, object, &mut versions).await? else { continue };
        let converted = versions.converted(&matched, object).await?;
        relevant.push((hook, matched, converted));
    }
    if relevant.is_empty() {
        return Ok(());
    }
    if Instant::now() >= attributes.call.deadline {
        return Err(timed_out());
    }
    let calls = relevant.iter().enumerate().map(|(index, (hook, matched, converted))| async move {
        let requested = (object, attributes.old.unwrap_or(&Value::Null));
        let (shown, old) = converted.as_ref().map_or(requested, |(shown, old)| (shown, old));
        let started = Instant::now();
        let outcome = ask(hook, attributes, matched, shown, old, false).await;
        count(attributes, hook, "validating", started, outcome.as_ref().err());
        match outcome {
            Ok(_) => Ok(()),
            Err(failure) => fail_validating(attributes, hook, failure, index),
        }
    });
    futures::future::join_all(calls).await.into_iter().collect()
}

fn fail_validating(
    attributes: &Attributes<'_>,
    hook: &Hook,
    failure: Failure,
    index: usize,
) -> Result<(), ApiError> {
    weigh(hook, failure)?;
    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
    attributes.call.annotate(&key, hook.name.clone());
    Ok(())
}
