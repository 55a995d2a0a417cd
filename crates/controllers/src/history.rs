//! ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, which
//! `kubectl rollout history` shows and `kubectl rollout undo` goes back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Index, Informers};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::context::{Context, Error, gone_is_fine, is_already_exists};
use crate::owner;

/// Label of pods and revisions: the hash of the template.
pub const REVISION_HASH: &str = "controller-revision-hash";

/// The revisions of all owners.
#[derive(Clone)]
pub struct History {
    revisions: Index<ControllerRevision>,
}

/// Who keeps a history.
pub struct Keeper<'a> {
    /// The owner's metadata.
    pub metadata: &'a ObjectMeta,
    /// The reference that makes it the controller of its revisions.
    pub reference: OwnerReference,
    /// Its pod template.
    pub template: &'a PodTemplateSpec,
    /// How often a name was taken by another template's revision.
    pub collisions: i32,
    /// How many unused revisions are kept.
    pub limit: i32,
}

impl History {
    /// Starts the informer of revisions.
    pub fn new(informers: &Informers) -> Self {
        let revisions = informers.of::<ControllerRevision>().index(|revision| {
            owner::controller(&revision.metadata).map(|reference| reference.uid.clone()).into_iter().collect()
        });
        Self { revisions }
    }

    /// The revisions of an owner, oldest first.
    pub fn of(&self, uid: &str) -> Vec<Arc<ControllerRevision>> {
        let mut revisions = self.revisions.get(uid);
        revisions
            .sort_by(|a, b| a.revision.cmp(&b.revision).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
        revisions
    }

    /// Makes the keeper's template its newest revision and returns all revisions, oldest first.
    pub async fn sync(
        &self,
        context: &Context,
        keeper: &Keeper<'_>,
    ) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let namespace = keeper.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), namespace);
        let mut revisions = self.of(keeper.metadata.uid.as_deref().unwrap_or(""));
        let data = data_of(keeper.template);
        let next = revisions.last().map_or(1, |newest| newest.revision + 1);
        let same = |revision: &Arc<ControllerRevision>| {
            revision.data.as_ref().is_some_and(|stored| equal(&stored.0, &data))
        };
        match revisions.iter().rposition(same) {
            Some(position) if position + 1 == revisions.len() => {}
            Some(position) => {
                // Rolled back: an old revision becomes the newest again.
                let mut revision = ControllerRevision::clone(&revisions.remove(position));
                revision.revision = next;
                let name = revision.metadata.name.clone().unwrap_or_default();
                revisions.push(Arc::new(api.replace(&name, &PostParams::default(), &revision).await?));
            }
            None => revisions.push(Arc::new(create(&api, keeper, data, next).await?)),
        }
        Ok(revisions)
    }

    /// Deletes the oldest unused revisions beyond the keeper's limit.
    pub async fn truncate(
        &self,
        context: &Context,
        keeper: &Keeper<'_>,
        revisions: &[Arc<ControllerRevision>],
        used: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let namespace = keeper.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), namespace);
        let newest = revisions.len().saturating_sub(1);
        let idle: Vec<&Arc<ControllerRevision>> =
            revisions[..newest].iter().filter(|revision| !used(hash_of(revision))).collect();
        let surplus = idle.len().saturating_sub(usize::try_from(keeper.limit).unwrap_or(0));
        for revision in &idle[..surplus] {
            let name = revision.metadata.name.as_deref().unwrap_or("");
            gone_is_fine(api.delete(name, &DeleteParams::background()).await)?;
        }
        Ok(())
    }
}

/// The hash label of a revision.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    revision.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).map_or("", String::as_str)
}

/// The name of a revision.
pub fn name_of(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or("")
}

/// The template that a revision holds.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// A strategic merge patch that brings the template back, the form upstream stores.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

fn equal(a: &Value, b: &Value) -> bool {
    a == b
}

async fn create(
    api: &Api<ControllerRevision>,
    keeper: &Keeper<'_>,
    data: Value,
    number: i64,
) -> Result<ControllerRevision, Error> {
    let mut collisions = keeper.collisions;
    loop {
        let hash = crate::deployment::template_hash(keeper.template, collisions);
        let mut labels: BTreeMap<String, String> = keeper
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone())
            .unwrap_or_default();
        labels.insert(REVISION_HASH.to_string(), hash.clone());
        let name = format!("{}-{hash}", keeper.metadata.name.as_deref().unwrap_or(""));
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: keeper.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![keeper.reference.clone()]),
                ..Default::default()
            },
            data: Some(RawExtension(data.clone())),
            revision: number,
        };
        match api.create(&PostParams::default(), &revision).await {
            Ok(created) => return Ok(created),
            Err(error) if is_already_exists(&error) => {
                let existing = api.get(&name).await?;
                let uid = keeper.metadata.uid.as_deref().unwrap_or("");
                let same = existing.data.as_ref().is_some_and(|stored| equal(&stored.0, &data));
                if same && owner::is_controlled_by(&existing.metadata, uid) {
                    return Ok(existing);
                }
                collisions += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
