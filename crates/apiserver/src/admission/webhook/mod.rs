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

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Attributes;
use super::dynamic::Reinvocation;
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
        let outcome = mutate_by(hook, attributes, &matched, object, &mut versions).await;
        let changed = matches!(outcome, Ok(true));
        annotate(attributes, hook, (usize::from(reinvocation.second), index), changed);
        if changed {
            reinvocation.webhooks.changed();
            reinvocation.needed = true;
        }
        if hook.reinvoked {
            reinvocation.webhooks.called(&hook.uid);
        }
        if let Err(failure) = outcome {
            fail(attributes, hook, failure, "mutation", (usize::from(reinvocation.second), index))?;
        }
    }
    if asked {
        reinvocation.webhooks.end(object);
    }
    Ok(())
}

fn annotate(attributes: &Attributes<'_>, hook: &Hook, (round, index): (usize, usize), mutated: bool) {
    let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
    let value = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated});
    attributes.call.annotate(&key, value.to_string());
}

/// Refuses, or lets pass what the webhook's policy says to ignore.
fn fail(
    attributes: &Attributes<'_>,
    hook: &Hook,
    failure: Failure,
    sort: &str,
    (round, index): (usize, usize),
) -> Result<(), ApiError> {
    weigh(hook, failure)?;
    let key = format!("failed-open.{sort}.webhook.admission.k8s.io/round_{round}_index_{index}");
    attributes.call.annotate(&key, hook.name.clone());
    if Instant::now() >= attributes.call.deadline { Err(timed_out()) } else { Ok(()) }
}

/// Whether the webhook changed the object.
async fn mutate_by(
    hook: &Hook,
    attributes: &Attributes<'_>,
    matched: &Matched,
    object: &mut Value,
    versions: &mut Versions<'_>,
) -> Result<bool, Failure> {
    let (shown, old) = versions.of(matched, object).await.map_err(Failure::Rejected)?;
    let verdict = ask(hook, attributes, matched, &shown, &old, true).await?;
    let Some(patch) = verdict.patch else { return Ok(false) };
    let calling = |why: String| {
        Failure::Calling(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)))
    };
    let operations = serde_json::from_slice::<Value>(&patch).ok().filter(Value::is_array);
    let operations = operations.ok_or_else(|| {
        calling("received undecodable patch in webhook response: invalid JSON patch".to_owned())
    })?;
    if operations.as_array().is_some_and(Vec::is_empty) {
        return Ok(false);
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
    let changed = versions.take_back(matched, patched).await.map_err(Failure::Rejected)?;
    let is_changed = changed != *object;
    *object = changed;
    Ok(is_changed)
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
        match ask(hook, attributes, matched, shown, old, false).await {
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
