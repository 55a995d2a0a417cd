//! Pods from templates.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// A pod of the template, controlled by `owner`, with a generated name that begins with the
/// owner's.
pub fn pod(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let metadata = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(&owner.name)),
            namespace: Some(namespace.to_string()),
            labels: metadata.and_then(|metadata| metadata.labels.clone()),
            annotations: metadata.and_then(|metadata| metadata.annotations.clone()),
            finalizers: metadata.and_then(|metadata| metadata.finalizers.clone()),
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The owner's name and a dash, unless that could not begin a pod's name.
fn name_prefix(owner: &str) -> String {
    const MAX_PREFIX: usize = 253 - 5;
    let prefix = format!("{owner}-");
    if prefix.len() > MAX_PREFIX { owner.to_string() } else { prefix }
}
