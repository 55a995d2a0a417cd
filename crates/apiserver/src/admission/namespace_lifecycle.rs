//! Nothing is created in a namespace that does not exist or is going away.

use serde_json::Value;

use super::{Attributes, Operation};
use crate::object::meta;
use crate::status::ApiError;

/// Namespaces that may not be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) async fn admit(attributes: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let (call, operation) = (attributes.call, attributes.operation);
    let kind = &call.kind;
    if operation == Operation::Delete
        && kind.group.is_empty()
        && kind.kind == "Namespace"
        && IMMORTAL.contains(&call.info.name.as_str())
    {
        return Err(ApiError::forbidden(
            &kind.group,
            &kind.plural,
            &call.info.name,
            "this namespace may not be deleted",
        ));
    }
    if !kind.namespaced
        || operation != Operation::Create
        || kind.storage.backend == crate::kind::Backend::Virtual
    {
        return Ok(());
    }
    let name = call.info.namespace.as_str();
    let Some(namespaces) = call.server.registry().resource("", "v1", "namespaces").cloned() else {
        return Ok(());
    };
    let mut entry = call.server.cached(&namespaces, "", name);
    if entry.is_none() {
        entry = call.server.current(&namespaces, "", name).await?;
    }
    let Some(entry) = entry else {
        return Err(ApiError::not_found("", "namespaces", name));
    };
    // Namespaces rarely go away, so most creates look at the bytes only.
    if !entry.bytes().windows(19).any(|window| window == b"\"deletionTimestamp\"") {
        return Ok(());
    }
    let namespace = entry.try_value()?;
    if meta(&namespace, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let error = ApiError::forbidden(&kind.group, &kind.plural, meta(object, "name"), why);
    Err(error.cause(
        "NamespaceTerminating",
        format!("namespace {name} is being terminated"),
        "metadata.namespace",
    ))
}
