//! Admission: what is added to objects, and what is refused although it is valid.

use serde_json::{Value, json};

use crate::call::Call;
use crate::object::{finalizers, meta, set_finalizers};
use crate::status::ApiError;

mod namespace_lifecycle;
mod node_restriction;
mod pods;
pub(crate) mod services;

pub(crate) use node_restriction::check_token;

/// What is about to happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// Something taken for a write that has not happened yet: an address, a share of a quota. Given back
/// when dropped, unless [`Reservation::finish`] says that the write succeeded.
#[derive(Default)]
#[must_use]
pub(crate) struct Reservation {
    done: Vec<Box<dyn FnOnce() + Send>>,
}

impl Reservation {
    /// What to do once the write has happened or failed.
    pub fn when_done(&mut self, act: impl FnOnce() + Send + 'static) {
        self.done.push(Box::new(act));
    }

    /// The write is over.
    pub fn finish(self) {}
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for act in self.done.drain(..) {
            act();
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
    namespace_lifecycle::admit(call, operation, object).await?;
    node_restriction::admit(call, operation, subresource, object, old)?;
    if operation == Operation::Delete {
        return Ok(());
    }
    let main = subresource.is_empty();
    match (call.kind.group.as_ref(), call.kind.kind.as_ref(), operation) {
        ("", "Pod", Operation::Create) => {
            pods::service_account(call, object).await?;
            pods::tolerations(object);
            pods::priority(call, operation, object, old).await?;
        }
        ("", "Pod", Operation::Update) if main => {
            pods::tolerations(object);
            pods::priority(call, operation, object, old).await?;
        }
        ("", "Node", Operation::Create) => taint_new_node(object),
        ("", "PersistentVolumeClaim", Operation::Create) => protect(object, "kubernetes.io/pvc-protection"),
        ("", "PersistentVolume", Operation::Create) => protect(object, "kubernetes.io/pv-protection"),
        _ => {}
    }
    Ok(())
}

/// TaintNodesByCondition: nothing runs on a node before it has said that it is ready.
fn taint_new_node(node: &mut Value) {
    const KEY: &str = "node.kubernetes.io/not-ready";
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if taints.iter().any(|taint| taint["key"] == KEY && taint["effect"] == "NoSchedule") {
        return;
    }
    let mut taints = taints;
    taints.push(json!({"key": KEY, "effect": "NoSchedule"}));
    node["spec"]["taints"] = Value::Array(taints);
}

/// StorageObjectInUseProtection: volumes outlive their users.
fn protect(object: &mut Value, finalizer: &str) {
    let mut names = finalizers(object);
    if !names.iter().any(|name| name == finalizer) {
        names.push(finalizer.to_owned());
        set_finalizers(object, &names);
    }
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
    if !subresource.is_empty() {
        return Ok(Reservation::default());
    }
    match (call.kind.group.as_ref(), call.kind.kind.as_ref()) {
        ("", "Service") => return services::allocate(call, operation, object, old, dry_run),
        ("rbac.authorization.k8s.io", _) => {
            crate::authz::request::check_escalation(call, object, old)?;
        }
        ("scheduling.k8s.io", "PriorityClass") => one_default_class(call, object)?,
        _ => {}
    }
    Ok(Reservation::default())
}

fn one_default_class(call: &Call, class: &Value) -> Result<(), ApiError> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    match pods::default_class(call) {
        Some(other) if meta(&other, "name") != meta(class, "name") => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta(&other, "name")
            );
            Err(ApiError::forbidden(&call.kind.group, &call.kind.plural, meta(class, "name"), why))
        }
        _ => Ok(()),
    }
}
