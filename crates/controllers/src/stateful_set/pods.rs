//! The pods of a StatefulSet: one per ordinal, each with a name, a host name and claims of its own.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::history::REVISION_HASH;
use crate::{owner, template};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of the set's pod with this ordinal.
pub fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or(""))
}

/// The ordinal in a pod's name, if it is one of this set's names.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest = pod.metadata.name.as_deref()?.strip_prefix(set.metadata.name.as_deref()?)?;
    rest.strip_prefix('-')?.parse().ok().filter(|ordinal| *ordinal >= 0)
}

/// The revision a pod was made from, by the name of the ControllerRevision.
pub fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).map_or("", String::as_str)
}

/// The pod with this ordinal, of this revision's template.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or("");
    let mut pod = template::pod(template, namespace, owner::reference(set));
    let name = name(set, ordinal);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_string(), name.clone());
    labels.insert(POD_INDEX.to_string(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_string(), revision.to_string());
    let default = StatefulSetSpec::default();
    let set_spec = set.spec.as_ref().unwrap_or(&default);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set_spec.service_name.clone().filter(|service| !service.is_empty());
    let volumes = spec.volumes.get_or_insert_default();
    for claim in set_spec.volume_claim_templates.iter().flatten() {
        let claim_name = claim.metadata.name.clone().unwrap_or_default();
        volumes.retain(|volume| volume.name != claim_name);
        volumes.push(Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: self::claim_name(set, claim, ordinal),
                ..Default::default()
            }),
            name: claim_name,
            ..Default::default()
        });
    }
    if volumes.is_empty() {
        spec.volumes = None;
    }
    pod
}

fn claim_name(set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}", claim.metadata.name.as_deref().unwrap_or(""), name(set, ordinal))
}

/// What happens with claims when the set is deleted and when it is scaled down.
fn retention(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |policy: Option<&String>| policy.map(String::as_str) == Some("Delete");
    (
        deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
        deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
    )
}

/// The claims of the pod with this ordinal. By the retention policy they may belong to the set and
/// go with it.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let (when_deleted, _) = retention(set);
    let owners = when_deleted.then(|| {
        vec![OwnerReference {
            controller: Some(true),
            block_owner_deletion: Some(true),
            ..owner::reference(set)
        }]
    });
    spec.volume_claim_templates
        .iter()
        .flatten()
        .map(|claim| {
            let mut claim = claim.clone();
            claim.metadata.name = Some(claim_name(set, &claim, ordinal));
            claim.metadata.namespace = set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
            claim.metadata.owner_references = owners.clone();
            claim.status = None;
            claim
        })
        .collect()
}

/// Whether the claims of removed ordinals are deleted.
pub fn deletes_claims_on_scale_down(set: &StatefulSet) -> bool {
    retention(set).1
}
