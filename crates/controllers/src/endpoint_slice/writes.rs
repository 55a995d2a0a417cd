//! Carrying out a plan.

use client::key_of;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};

use super::plan::Plan;
use crate::context::{Error, gone_is_fine, is_namespace_terminating};
use crate::written::Written;

/// Makes the writes of a plan for the owner `key`.
pub async fn execute(
    api: &Api<EndpointSlice>,
    written: &Written,
    key: &str,
    plan: Plan,
) -> Result<(), Error> {
    let wrote = |slice: &EndpointSlice| {
        written.wrote(key, &key_of(slice), slice.metadata.resource_version.as_deref());
    };
    // New slices before old ones shrink: an endpoint that moves is never missing.
    for slice in plan.create {
        match api.create(&PostParams::default(), &slice).await {
            Ok(created) => wrote(&created),
            Err(error) if is_namespace_terminating(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    for slice in plan.update {
        let name = slice.metadata.name.as_deref().unwrap_or("");
        wrote(&api.replace(name, &PostParams::default(), &slice).await?);
    }
    for slice in plan.delete {
        let preconditions = Preconditions { uid: slice.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        let name = slice.metadata.name.as_deref().unwrap_or("");
        gone_is_fine(api.delete(name, &params).await)?;
        written.deleted(key, &key_of(slice.as_ref()));
    }
    Ok(())
}
