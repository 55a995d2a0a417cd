//! The end of a definition: its objects go first.

use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;

use super::parsed::Condition;
use super::{FINALIZER, conditions};
use crate::call::Call;
use crate::handlers::delete::{DeleteOptions, delete_object};
use crate::kind::Kind;
use crate::object::{finalizers, set_finalizers, set_meta};
use crate::request_info::RequestInfo;
use crate::server::Inner;

/// Deletes under way at once.
const DELETES_MAX: usize = 64;

/// The first delete of a definition: it ends when its objects are gone.
pub(crate) fn mark_for_deletion(object: &mut Value) {
    set_meta(object, "deletionTimestamp", base::clock::rfc3339(base::clock::now()).into());
    set_meta(object, "deletionGracePeriodSeconds", Value::Null);
    let mut names = finalizers(object);
    if !names.iter().any(|name| name == FINALIZER) {
        names.push(FINALIZER.to_owned());
        set_finalizers(object, &names);
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    conditions::set(object, &Condition::new("Terminating", "True", "InstanceDeletionPending", message));
}

/// What is said while objects are being deleted.
pub(super) fn in_progress() -> Condition {
    let message = "CustomResource deletion is in progress";
    Condition::new("Terminating", "True", "InstanceDeletionInProgress", message)
}

/// What is said when the objects are gone.
pub(super) fn completed() -> Condition {
    Condition::new("Terminating", "False", "InstanceDeletionCompleted", "removed all instances")
}

/// What is said when there never was an object.
pub(super) fn never_established() -> Condition {
    Condition::new("Terminating", "False", "NeverEstablished", "resource was never established")
}

/// What is said of definitions whose resource is built in.
pub(super) fn overlapping() -> Condition {
    let message = "instances overlap with built-in resources in storage";
    Condition::new("Terminating", "False", "OverlappingBuiltInResource", message)
}

/// Removes the finalizer.
pub(super) fn release(object: &mut Value) {
    let left: Vec<String> = finalizers(object).into_iter().filter(|name| name != FINALIZER).collect();
    set_finalizers(object, &left);
}

/// Deletes the objects of a kind, below admission as upstream does. Answers how many are still there:
/// their finalizers keep them.
pub(super) async fn delete_objects(server: &Arc<Inner>, kind: &Arc<Kind>) -> usize {
    let cache = server.cache_of(kind);
    let Some(resource) = cache.resource(&kind.storage.dir) else { return 0 };
    if let Err(error) = cache.fresh().await {
        tracing::error!(%error, "the objects of a deleted definition cannot be listed");
        return 1;
    }
    let objects: Vec<_> = resource.snapshot(cache.applied()).objects.values().cloned().collect();
    let deletes = objects.into_iter().map(|entry| {
        let info = RequestInfo {
            is_resource: true,
            verb: "deletecollection".to_owned(),
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            resource: kind.plural.to_string(),
            namespace: if kind.namespaced { entry.namespace().to_owned() } else { String::new() },
            name: entry.name().to_owned(),
            ..RequestInfo::default()
        };
        let call = Call::internal(server.clone(), kind.clone(), info);
        async move {
            let options = DeleteOptions { admitted: true, ..DeleteOptions::default() };
            match delete_object(&call, &options).await {
                Err(error) if error.code != 404 => {
                    tracing::warn!(%error, kind = %call.kind.kind, "an object of a deleted definition stays");
                }
                _ => {}
            }
        }
    });
    futures::stream::iter(deletes).buffer_unordered(DELETES_MAX).collect::<()>().await;
    resource.count()
}
