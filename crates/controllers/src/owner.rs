//! Controller references: who owns what, and taking in or letting go of objects by selector
//! (upstream's `controller_ref_manager.go`).

use std::sync::Arc;

use api::selector::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};
use serde_json::{Value, json};

/// The reference by which `owner` controls another object.
pub fn reference<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    let metadata = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_string(),
        kind: K::KIND.to_string(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference to the object's controller.
pub fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

/// The reference to the object's controller if that is of kind `K` (of any version of its group).
pub fn controller_of_kind<K: Resource>(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    controller(metadata).filter(|reference| {
        let group = reference.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        reference.kind == K::KIND && group == K::GROUP
    })
}

/// Whether the object is controlled by the owner with this uid.
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller(metadata).is_some_and(|reference| reference.uid == uid)
}

/// What a controller has to do about the objects that might be its own.
#[derive(Debug)]
pub struct Claims<K> {
    /// Objects it controls and selects.
    pub owned: Vec<Arc<K>>,
    /// Objects without a controller that it selects: to take in.
    pub adopt: Vec<Arc<K>>,
    /// Objects it controls but no longer selects: to let go.
    pub release: Vec<Arc<K>>,
}

/// Sorts `candidates` (controlled objects and orphans of the namespace) by what to do with them.
/// An owner that is being deleted neither adopts nor releases.
pub fn claim<K: Metadata<Ty = ObjectMeta>>(
    owner: &ObjectMeta,
    selector: &Selector,
    candidates: impl IntoIterator<Item = Arc<K>>,
) -> Claims<K> {
    let uid = owner.uid.as_deref().unwrap_or("");
    let owner_is_deleted = owner.deletion_timestamp.is_some();
    let mut claims = Claims { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in candidates {
        let metadata = object.metadata();
        let selected = selector.matches_optional(metadata.labels.as_ref());
        match controller(metadata) {
            Some(reference) if reference.uid == uid => {
                if selected {
                    claims.owned.push(object);
                } else if !owner_is_deleted {
                    claims.release.push(object);
                }
            }
            Some(_) => {}
            None => {
                if selected && !owner_is_deleted && metadata.deletion_timestamp.is_none() {
                    claims.adopt.push(object);
                }
            }
        }
    }
    claims
}

/// The strategic merge patch that makes `reference` the controller of the object with this uid.
pub fn adoption(reference: &OwnerReference, uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "ownerReferences": [reference]}})
}

/// The strategic merge patch that removes the reference to `owner_uid` from the object.
pub fn release(owner_uid: &str, uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures::pod;
    use k8s_openapi::api::core::v1::Pod;

    fn owned_by(mut pod: Pod, uid: &str) -> Arc<Pod> {
        pod.metadata.owner_references =
            Some(vec![OwnerReference { uid: uid.into(), controller: Some(true), ..Default::default() }]);
        Arc::new(pod)
    }

    fn labelled(name: &str, app: &str) -> Pod {
        let mut pod = pod(name, "Running", "n", None);
        pod.metadata.labels = Some([("app".to_string(), app.to_string())].into());
        pod
    }

    #[test]
    fn candidates_are_kept_adopted_released_or_left_alone() {
        let owner = ObjectMeta { uid: Some("me".into()), ..Default::default() };
        let selector = Selector::parse("app=web").unwrap();
        let candidates = || {
            vec![
                owned_by(labelled("mine", "web"), "me"),
                owned_by(labelled("strayed", "other"), "me"),
                owned_by(labelled("theirs", "web"), "them"),
                Arc::new(labelled("orphan", "web")),
                Arc::new(labelled("stranger", "other")),
            ]
        };
        let names =
            |pods: &[Arc<Pod>]| pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        let claims = claim(&owner, &selector, candidates());
        assert_eq!(names(&claims.owned), ["mine"]);
        assert_eq!(names(&claims.adopt), ["orphan"]);
        assert_eq!(names(&claims.release), ["strayed"]);

        let deleted = ObjectMeta { deletion_timestamp: Some(crate::pod::now()), ..owner };
        let claims = claim(&deleted, &selector, candidates());
        assert!(claims.adopt.is_empty() && claims.release.is_empty());
    }
}
