//! Revisions: which ReplicaSet runs the Deployment's current template, and in which order the
//! others did.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::scale;
use crate::owner;

/// Annotation with the revision number, on Deployments and their ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation with the revisions a ReplicaSet had before a rollback made it the newest again.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Label that tells the pods of one ReplicaSet from those of its siblings.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// The revision history is not let grow beyond this many characters.
const REVISION_HISTORY_CHARS: usize = 2000;
/// The longest name of an object.
const NAME_CHARS: usize = 253;

/// Annotations that belong to one object and are not copied from a Deployment to its ReplicaSets.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    scale::DESIRED_REPLICAS,
    scale::MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The ReplicaSet's revision number; zero when it has none.
pub fn revision(rs: &ReplicaSet) -> i64 {
    annotation(&rs.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The oldest ReplicaSet whose template is the Deployment's. There may be several after an upgrade.
pub fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    let template = &deployment.spec.as_ref()?.template;
    let same = |rs: &ReplicaSet| {
        rs.spec
            .as_ref()
            .and_then(|spec| spec.template.as_ref())
            .is_some_and(|own| same_template(own, template))
    };
    (0..sets.len()).filter(|&i| same(&sets[i])).min_by(|&a, &b| {
        let key = |i: usize| (scale::created(&sets[i]), sets[i].metadata.name.as_deref());
        key(a).cmp(&key(b))
    })
}

/// Whether two templates are equal but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && canonical_metadata(a) == canonical_metadata(b)
}

fn canonical_metadata(template: &PodTemplateSpec) -> ObjectMeta {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.creation_timestamp = None;
    if let Some(labels) = &mut metadata.labels {
        labels.remove(TEMPLATE_HASH);
    }
    metadata.labels = metadata.labels.filter(|labels| !labels.is_empty());
    metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
    metadata
}

/// A short text that stands for the template, safe in names and labels. Upstream hashes Go's dump
/// of the struct; only stability matters, so here it is FNV-1a over the canonical JSON.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let canonical =
        PodTemplateSpec { metadata: Some(canonical_metadata(template)), spec: template.spec.clone() };
    // Through `Value`, whose maps are sorted.
    let json = serde_json::to_value(&canonical).map(|value| value.to_string()).unwrap_or_default();
    let hash = json
        .bytes()
        .chain(collisions.to_le_bytes().into_iter().filter(|_| collisions > 0))
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    safe_encode(&hash.to_string())
}

/// Upstream's `rand.SafeEncodeString`: no vowels and nothing that reads like another character.
fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// The ReplicaSet for a template that has none yet, with zero replicas.
pub fn new_replica_set(deployment: &Deployment, revision: i64) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_string(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.to_string(), hash.clone());
    let base = deployment.metadata.name.as_deref()?;
    let base = base.get(..NAME_CHARS - 1 - hash.len()).unwrap_or(base);
    let mut rs = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    set_annotations(&mut rs, deployment, revision);
    scale::annotate(&mut rs, deployment);
    Some(rs)
}

/// Copies the Deployment's annotations to its new ReplicaSet and gives it this revision unless it
/// has a later one. Returns whether anything changed.
pub fn set_annotations(rs: &mut ReplicaSet, deployment: &Deployment, revision: i64) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref().unwrap_or("") {
        "" => 0,
        text => match text.parse() {
            Ok(number) => number,
            Err(_) => return changed,
        },
    };
    if old_number < revision {
        annotations.insert(REVISION.to_string(), revision.to_string());
        changed = true;
        if let Some(old) = old {
            remember(annotations, &old);
        }
    }
    changed
}

/// Appends a revision to the history, dropping the oldest ones that no longer fit.
fn remember(annotations: &mut BTreeMap<String, String>, old: &str) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|text| !text.is_empty()).collect();
    revisions.push(old);
    while revisions.len() > 1 && revisions.join(",").len() > REVISION_HISTORY_CHARS {
        revisions.remove(0);
    }
    annotations.insert(REVISION_HISTORY.to_string(), revisions.join(","));
}
