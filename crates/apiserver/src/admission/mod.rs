//! Admission: what is added to objects, and what is refused although it is valid.

use serde_json::Value;

use crate::call::Call;
use crate::status::ApiError;

mod namespace_lifecycle;

/// What is about to happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// Something taken for a write that has not happened yet: an address, a share of a quota.
#[derive(Default)]
#[must_use]
pub(crate) struct Reservation {
    release: Vec<Box<dyn FnOnce() + Send>>,
}

impl Reservation {
    /// Adds what to do if the write fails.
    pub fn on_failure(&mut self, release: impl FnOnce() + Send + 'static) {
        self.release.push(Box::new(release));
    }

    /// Keeps what was taken if the write succeeded, else gives it back.
    pub fn finish(mut self, succeeded: bool) {
        if succeeded {
            self.release.clear();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for release in self.release.drain(..) {
            release();
        }
    }
}

/// The mutating plugins, in upstream's order. `object` is in the request's version.
pub(crate) async fn admit(
    call: &Call,
    operation: Operation,
    subresource: &str,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let _ = subresource;
    namespace_lifecycle::admit(call, operation).await?;
    if operation != Operation::Delete {
        crate::authz::request::check_escalation(call, object, old)?;
    }
    Ok(())
}

/// The validating plugins, and what is allocated once the object is known to be valid. `object` is in
/// the stored version.
pub(crate) async fn validate(
    call: &Call,
    operation: Operation,
    subresource: &str,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Reservation, ApiError> {
    let _ = (call, operation, subresource, object, old, dry_run);
    Ok(Reservation::default())
}

/// Gives back what a deleted object held.
pub(crate) fn deleted(call: &Call, object: &Value) {
    let _ = (call, object);
}
