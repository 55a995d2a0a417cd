//! One call of one webhook.

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::config::Hook;
use super::review::{self, Verdict};
use super::rules::{self, Matched};
use super::versions::Versions;
use crate::admission::Attributes;
use crate::admission::policy::conditions::Input;
use crate::status::ApiError;

/// The largest answer: a patch that makes an object of the largest size, in base64, and then some.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Why a webhook did not say yes.
pub(super) enum Failure {
    /// It could not be asked, or did not answer as it should: `failurePolicy` decides.
    Calling(ApiError),
    /// It said no, or may not be asked.
    Rejected(ApiError),
}

impl Failure {
    /// 500 with upstream's `ErrCallingWebhook`.
    fn calling(hook: &Hook, why: impl std::fmt::Display) -> Self {
        Self::Calling(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)))
    }
}

/// 504 for a request whose time is over.
pub(super) fn timed_out() -> ApiError {
    let message = "Timeout: request did not complete within requested timeout";
    ApiError::new(504, "Timeout", message).about("", "", "")
}

/// Whether the webhook is for this request, and in which version it wants to see it.
///
/// # Errors
/// 403 or 404 where that cannot be found out.
pub(super) async fn should_call(
    hook: &Hook,
    attributes: &Attributes<'_>,
    object: &Value,
    versions: &mut Versions<'_>,
) -> Result<Option<Matched>, ApiError> {
    // Rules are cheap and rarely match; upstream looks at selectors first, but for webhooks that no rule
    // chooses what they say does not count.
    let Some(matched) = rules::find(&hook.rules, hook.equivalent, attributes) else { return Ok(None) };
    let selector = |selector: &Option<_>| {
        selector.clone().ok_or_else(|| ApiError::internal("a label selector has an unknown operator"))
    };
    let namespaces = selector(&hook.namespace_selector)?;
    let in_namespace = rules::namespace_matches(&namespaces, attributes, object).await;
    if matches!(in_namespace, Ok(false)) {
        return Ok(None);
    }
    if !rules::object_matches(&selector(&hook.object_selector)?, attributes, object) {
        return Ok(None);
    }
    in_namespace?;
    if hook.conditions.is_empty() {
        return Ok(Some(matched));
    }
    let (object, old) = versions.of(&matched, object).await?;
    let input = Input::new(attributes, &matched, &object, &old);
    match hook.conditions.hold(&input) {
        Ok(true) => Ok(Some(matched)),
        Ok(false) => Ok(None),
        Err(why) => {
            let kind = &attributes.call.kind;
            Err(ApiError::forbidden(&kind.group, &kind.plural, attributes.name, why))
        }
    }
}

/// Asks the webhook about an object in the version it wants; warnings and annotations are passed on.
pub(super) async fn ask(
    hook: &Hook,
    attributes: &Attributes<'_>,
    matched: &Matched,
    object: &Value,
    old: &Value,
    mutating: bool,
) -> Result<Verdict, Failure> {
    let call = attributes.call;
    if attributes.dry_run {
        match hook.takes_dry_runs {
            Some(true) => {}
            Some(false) => {
                let why = format!("admission webhook {:?} does not support dry run", hook.name);
                return Err(Failure::Rejected(ApiError::bad_request(why)));
            }
            None => return Err(Failure::calling(hook, "Webhook SideEffects is nil")),
        }
    }
    let Some(version) = hook.review else {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::calling(hook, format!("could not create admission objects: {why}")));
    };
    let endpoint = hook
        .endpoint
        .as_ref()
        .map_err(|error| Failure::calling(hook, format!("could not get REST client: {error}")))?;
    let uid = base::rng::uuid();
    let review = review::request(attributes, matched, version, &uid, object, old);
    let timeout = hook.timeout.min(call.deadline.saturating_duration_since(Instant::now()));
    let body = Bytes::from(review.to_string());
    let failed =
        |why: &dyn std::fmt::Display| Failure::calling(hook, format!("failed to call webhook: {why}"));
    let answer = call.server.webhook_clients.post(endpoint, body, timeout, ANSWER_BYTES_MAX).await;
    let answer = answer.map_err(|error| failed(&error))?;
    let verdict = match review::verify(&answer, version, &uid, mutating) {
        Ok(verdict) => verdict,
        Err((why, true)) => return Err(failed(&why)),
        Err((why, false)) => {
            return Err(Failure::calling(hook, format!("received invalid webhook response: {why}")));
        }
    };
    for (key, value) in &verdict.audit_annotations {
        call.annotate(&format!("{}/{key}", hook.name), value.clone());
    }
    for warning in &verdict.warnings {
        call.warn(warning.clone());
    }
    if !verdict.allowed {
        return Err(Failure::Rejected(review::refusal(&hook.name, &verdict.status)));
    }
    Ok(verdict)
}

/// What a failure means for the request: `Ok` where the webhook's failures do not count.
pub(super) fn weigh(hook: &Hook, failure: Failure) -> Result<(), ApiError> {
    match failure {
        Failure::Rejected(error) => Err(error),
        Failure::Calling(error) if hook.ignores_failures => {
            tracing::warn!(webhook = hook.name, %error, "failed calling a webhook, failing open");
            Ok(())
        }
        Failure::Calling(error) => {
            tracing::warn!(webhook = hook.name, %error, "failed calling a webhook, failing closed");
            Err(error)
        }
    }
}
