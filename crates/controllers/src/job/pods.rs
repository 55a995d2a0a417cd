//! The pods of a Job.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::indexes::COMPLETION_INDEX;
use super::per_index::Failures;
use super::plan::TRACKING;
use crate::{owner, template};

const COMPLETION_INDEX_ENV: &str = "JOB_COMPLETION_INDEX";

/// A pod of the Job, with a completion index if the Job is an Indexed one, and with how often the index has
/// failed if there is a limit to that.
pub fn new_pod(job: &Job, index: Option<i32>, failures: Option<Failures>) -> Pod {
    let default = Default::default();
    let template = job.spec.as_ref().map_or(&default, |spec| &spec.template);
    let namespace = job.metadata.namespace.as_deref().unwrap_or("");
    let mut pod = template::pod(template, namespace, owner::reference(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.to_string());
    }
    if let Some(index) = index {
        number(&mut pod, job.metadata.name.as_deref().unwrap_or(""), index);
    }
    if let Some(failures) = failures {
        failures.note_on(&mut pod);
    }
    pod
}

fn number(pod: &mut Pod, job: &str, index: i32) {
    let entry = || (COMPLETION_INDEX.to_string(), index.to_string());
    pod.metadata.annotations.get_or_insert_default().extend([entry()]);
    pod.metadata.labels.get_or_insert_default().extend([entry()]);
    pod.metadata.generate_name = Some(format!("{job}-{index}-"));
    let Some(spec) = &mut pod.spec else { return };
    spec.hostname = Some(format!("{job}-{index}"));
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if env.iter().any(|variable| variable.name == COMPLETION_INDEX_ENV) {
            continue;
        }
        env.push(EnvVar {
            name: COMPLETION_INDEX_ENV.to_string(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: format!("metadata.labels['{COMPLETION_INDEX}']"),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
}
