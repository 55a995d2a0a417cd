//! Liveness: machines that never join, vanish or have lived long enough.

use std::sync::Arc;
use std::time::Duration;

use api::karpenter::NodeClaim;
use client::{EventType, Next, reference_to};
use scaling::duration;

use crate::claim;
use crate::context::{Context, Error, lock};
use crate::decisions;
use crate::lifecycle::delete;

/// Deletes a claim whose time is up; `Some` if it did.
pub(crate) async fn check(context: &Arc<Context>, claim: &NodeClaim) -> Result<Option<Next>, Error> {
    let is_gone = claim::provider_id(claim).is_some_and(|id| lock(&context.gone).contains(id));
    let (reason, message) = if is_gone {
        ("InstanceGone", "its machine is gone".to_owned())
    } else if !claim::is(claim, claim::REGISTERED)
        && left(claim, claim::LAUNCHED, context.config.registration_timeout) == Some(Duration::ZERO)
    {
        let minutes = context.config.registration_timeout.as_secs() / 60;
        ("RegistrationTimeout", format!("its node has not joined within {minutes} minutes"))
    } else if lifetime_left(claim) == Some(Duration::ZERO) {
        ("Expired", format!("it has lived for {}", claim.spec.expire_after.as_deref().unwrap_or_default()))
    } else {
        return Ok(None);
    };
    let reference = reference_to(claim);
    context.recorder.event(&reference, EventType::Normal, reason, format!("removed because {message}"));
    let record = decisions::record("liveness", reason, format!("removed because {message}"));
    context.decisions.record(reference, Arc::new(record));
    delete(context, claim).await?;
    Ok(Some(Next::Wait))
}

/// When the claim's time will be up.
pub(crate) fn next(context: &Context, claim: &NodeClaim) -> Option<Duration> {
    let registration = if claim::is(claim, claim::REGISTERED) {
        None
    } else {
        left(claim, claim::LAUNCHED, context.config.registration_timeout)
    };
    registration.into_iter().chain(lifetime_left(claim)).min()
}

/// What is left of a time that began with a condition.
fn left(claim: &NodeClaim, condition: &str, time: Duration) -> Option<Duration> {
    let since = claim::since(claim, condition)?;
    let passed = Duration::try_from(base::clock::now().duration_since(since)).unwrap_or(Duration::ZERO);
    Some(time.saturating_sub(passed))
}

fn lifetime_left(claim: &NodeClaim) -> Option<Duration> {
    let lifetime = duration::parse(claim.spec.expire_after.as_deref()?)?;
    let created = claim::created(claim)?;
    let age = Duration::try_from(base::clock::now().duration_since(created)).unwrap_or(Duration::ZERO);
    Some(lifetime.saturating_sub(age))
}
