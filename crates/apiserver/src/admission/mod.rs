//! Admission: what is added to objects, and what is refused although it is valid.

use serde_json::{Value, json};

use crate::object::{finalizers, meta, set_finalizers};
use crate::status::ApiError;

mod attributes;
mod namespace_lifecycle;
mod node_restriction;
mod pods;
pub(crate) mod services;

pub(crate) use attributes::{Attributes, ObjectKind};
pub(crate) use node_restriction::check_token;

/// What is about to happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A connection: exec, attach, port forwarding, a proxy.
    Connect,
}

impl Operation {
    /// As webhooks and rules name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
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

    /// Both, until the write is over.
    pub fn join(mut self, mut other: Self) -> Self {
        self.done.append(&mut other.done);
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for act in self.done.drain(..) {
            act();
        }
    }
}

/// The mutating plugins, in upstream's order. They may change `object`, which is in the request's version.
pub(crate) async fn admit(attributes: &Attributes<'_>, object: &mut Value) -> Result<(), ApiError> {
    namespace_lifecycle::admit(attributes, object).await?;
    node_restriction::admit(attributes, object)?;
    if !attributes.subresource.is_empty() {
        return Ok(());
    }
    let kind = &attributes.call.kind;
    match (kind.group.as_ref(), kind.kind.as_ref(), attributes.operation) {
        ("", "Pod", Operation::Create) => {
            pods::service_account(attributes.call, object).await?;
            pods::tolerations(object);
            pods::priority(attributes, object).await?;
        }
        ("", "Pod", Operation::Update) => {
            pods::tolerations(object);
            pods::priority(attributes, object).await?;
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

/// What storage takes for a new or changed object before validating plugins see it: addresses, ports.
/// They are written into `object`, which like `old` is in the stored version.
pub(crate) fn allocate(
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Reservation, ApiError> {
    if attributes.is("", "services") {
        return services::allocate(attributes, object, old);
    }
    Ok(Reservation::default())
}

/// The validating plugins, in upstream's order. `object` is complete and valid, in the request's version.
pub(crate) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<Reservation, ApiError> {
    let call = attributes.call;
    if !attributes.subresource.is_empty()
        || matches!(attributes.operation, Operation::Delete | Operation::Connect)
    {
        return Ok(Reservation::default());
    }
    match (call.kind.group.as_ref(), call.kind.kind.as_ref()) {
        ("rbac.authorization.k8s.io", _) => {
            crate::authz::request::check_escalation(call, object, attributes.old)?;
        }
        ("scheduling.k8s.io", "PriorityClass") => one_default_class(attributes, object)?,
        _ => {}
    }
    Ok(Reservation::default())
}

fn one_default_class(attributes: &Attributes<'_>, class: &Value) -> Result<(), ApiError> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    match pods::default_class(attributes.call) {
        Some(other) if meta(&other, "name") != meta(class, "name") => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta(&other, "name")
            );
            Err(attributes.forbidden(class, why))
        }
        _ => Ok(()),
    }
}
