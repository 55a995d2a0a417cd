//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away, and a few
//! namespaces never go away.
//!
//! Upstream forces live look-ups for namespaces that were deleted a moment ago, because its caches lag.
//! Here the answer to a delete waits for the cache, and what is missing there is asked for again.

use serde_json::Value;

use super::lookup::NAMESPACES;
use super::{Attributes, Operation};
use crate::kind::Backend;
use crate::status::ApiError;

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Whether a namespace is on its way out.
struct Terminating(bool);

impl Terminating {
    fn parse(namespace: &Value) -> Self {
        Self(namespace["status"]["phase"] == "Terminating")
    }
}

pub(super) async fn admit(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let (call, operation) = (attributes.call, attributes.operation);
    let kind = &call.kind;
    if attributes.is_resource("", "namespaces") {
        if operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
            let why = "this namespace may not be deleted";
            return Err(ApiError::forbidden(&kind.group, &kind.plural, attributes.name, why));
        }
        return Ok(());
    }
    // Reviews are about namespaces without being in them: whether one exists is nobody's business.
    if !kind.namespaced
        || !matches!(operation, Operation::Create | Operation::Update)
        || kind.storage.backend == Backend::Virtual
    {
        return Ok(());
    }
    let name = attributes.namespace;
    let Some(namespace) = NAMESPACES.get(call, "", name).await? else {
        return Err(ApiError::not_found("", "namespaces", name));
    };
    if operation != Operation::Create || !namespace.parsed(Terminating::parse).0 {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    Err(attributes.forbidden(object, why).cause(
        "NamespaceTerminating",
        format!("namespace {name} is being terminated"),
        "metadata.namespace",
    ))
}
