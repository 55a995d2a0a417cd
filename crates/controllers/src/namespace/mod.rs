//! Terminating namespaces: their content is deleted, then the namespace's own finalizer removed.

mod conditions;

use std::sync::Arc;
use std::time::Duration;

use client::{Informer, Next, WorkQueue, key_of};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};

use self::conditions::Findings;
use crate::context::{Context, Error, gone_is_fine, is_conflict, is_not_found, message};
use crate::discovery::{self, Resource};
use crate::pod;

const WORKERS: usize = 8;
/// How many resources of one namespace are emptied at a time.
const CONCURRENCY: usize = 8;
/// The finalizer that this controller removes.
const FINALIZER: &str = "kubernetes";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let namespaces: Informer<Namespace> = context.informers.of();
    let queue: WorkQueue<String> = WorkQueue::new();
    let add = queue.clone();
    namespaces.on_event(move |event| {
        if event.object().metadata.deletion_timestamp.is_some() {
            add.add(key_of(event.object().as_ref()));
        }
    });
    let controller = Arc::new(Controller { context: context.clone(), namespaces });
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    namespaces: Informer<Namespace>,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        let Some(namespace) = self.namespaces.get("", name) else { return Ok(Next::Wait) };
        let Some(deleted_at) = &namespace.metadata.deletion_timestamp else { return Ok(Next::Wait) };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        if !finalizers.is_some_and(|finalizers| finalizers.iter().any(|own| own == FINALIZER)) {
            return Ok(Next::Wait);
        }
        let findings = self.empty(name).await;
        if findings.is_empty() {
            self.finalize(&namespace).await?;
            return Ok(Next::Wait);
        }
        self.write_conditions(&namespace, &findings).await?;
        // Pods take their grace period; the longer it takes, the less often it is worth a look.
        let elapsed = base::clock::now().duration_since(deleted_at.0).unsigned_abs();
        Ok(Next::After((elapsed / 8).clamp(Duration::from_millis(100), Duration::from_secs(5))))
    }

    /// Deletes what is in the namespace and reports what is left. Pods go first and everything else
    /// only after the last of them has ended, so that no container outlives the NetworkPolicies,
    /// Secrets and accounts it ran under (KEP-5080).
    async fn empty(&self, namespace: &str) -> Findings {
        let mut findings = Findings::default();
        let resources = match discovery::deletable(&self.context.client).await {
            Ok(resources) => resources,
            Err(error) => {
                findings.discovery_error = Some(message(&error));
                return findings;
            }
        };
        let namespaced = resources.into_iter().filter(|resource| resource.namespaced);
        let (pods, others): (Vec<Resource>, Vec<Resource>) =
            namespaced.partition(|resource| resource.api.group.is_empty() && resource.api.plural == "pods");
        for stage in [pods, others] {
            let results: Vec<_> = futures::stream::iter(stage)
                .map(|resource| async move {
                    let left = self.delete_all(namespace, &resource).await;
                    (format!("{}.{}", resource.api.plural, resource.api.group), left)
                })
                .buffered(CONCURRENCY)
                .collect()
                .await;
            for (resource, left) in results {
                match left {
                    Ok(left) if left.is_empty() => {}
                    Ok(left) => {
                        for finalizer in left.iter().flatten() {
                            *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
                        }
                        findings.remaining.insert(resource, left.len());
                    }
                    Err(error) => findings.deletion_errors.push(message(&error)),
                }
            }
            if !findings.is_empty() {
                break;
            }
        }
        findings
    }

    /// Deletes all objects of a resource and returns the finalizers of each that is still there.
    async fn delete_all(
        &self,
        namespace: &str,
        resource: &Resource,
    ) -> Result<Vec<Vec<String>>, kube::Error> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), namespace, &resource.api);
        let list = || async {
            match api.list_metadata(&ListParams::default()).await {
                Ok(list) => Ok(list.items),
                // The resource has gone away, or never could be listed (405).
                Err(error) if is_not_found(&error) || is_unsupported(&error) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        };
        let present = list().await?;
        if present.is_empty() {
            return Ok(Vec::new());
        }
        if present.iter().any(|object| object.metadata.deletion_timestamp.is_none()) {
            let params = DeleteParams::background();
            if resource.collective {
                gone_is_fine(api.delete_collection(&params, &ListParams::default()).await)?;
            } else {
                for name in present.iter().filter_map(|object| object.metadata.name.as_deref()) {
                    gone_is_fine(api.delete(name, &params).await)?;
                }
            }
        } else if present.iter().all(|object| object.metadata.deletion_timestamp.is_some()) {
            return Ok(finalizers_of(present));
        }
        Ok(finalizers_of(list().await?))
    }

    async fn write_conditions(&self, namespace: &Namespace, findings: &Findings) -> Result<(), Error> {
        let mut updated = namespace.clone();
        let status = updated.status.get_or_insert_default();
        let current = status.conditions.clone().unwrap_or_default();
        let wanted = findings.conditions(&current, &pod::now());
        if wanted == current {
            return Ok(());
        }
        status.conditions = Some(wanted);
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        let name = namespace.metadata.name.as_deref().unwrap_or("");
        match api.replace_status(name, &PostParams::default(), &updated).await {
            Err(error) if is_conflict(&error) => Ok(()),
            result => Ok(gone_is_fine(result)?),
        }
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let mut updated = namespace.clone();
        if let Some(finalizers) = updated.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        // No resourceVersion: conditions may have been written meanwhile, and they do not matter.
        updated.metadata.resource_version = None;
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        let name = namespace.metadata.name.as_deref().unwrap_or("");
        gone_is_fine(api.replace_subresource("finalize", name, &PostParams::default(), &updated).await)?;
        Ok(())
    }
}

fn finalizers_of(objects: Vec<kube::core::PartialObjectMeta<DynamicObject>>) -> Vec<Vec<String>> {
    objects.into_iter().map(|object| object.metadata.finalizers.unwrap_or_default()).collect()
}

fn is_unsupported(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 405)
}
