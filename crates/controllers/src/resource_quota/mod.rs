//! ResourceQuotas: counts anew what a namespace uses, and says so in the status.
//!
//! Admission adds what is created; what goes away is found here. Pods are counted from the informer,
//! everything else is listed when a quota that counts it is looked at. What has been deleted is told by
//! the pods' informer and by one watch (of metadata only) for each other resource that some quota counts.

mod count;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::quota::Evaluator;
use api::resource_list::{self as lists, ResourceList};
use client::{Event, Informer, Next, WorkQueue, key_of};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{Api, PostParams};
use serde_json::Value;

use crate::context::{Context, Error, gone_is_fine, is_conflict, split_key};
use crate::discovery::{self, Resource};
use crate::garbage_collector::monitor::{Observation, follow};

const WORKERS: usize = 4;
/// Changes are gathered for this long: counting costs more than waiting.
const GATHER: Duration = Duration::from_millis(100);
/// After somebody else has written the status, and now and then anyway, it is checked.
const CHECK: Duration = Duration::from_secs(2);
const RECOUNT: Duration = Duration::from_secs(300);
/// How long what the API server serves is taken as known.
const DISCOVERY: Duration = Duration::from_secs(30);

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        quotas: context.informers.of(),
        pods: context.informers.of(),
        queue: WorkQueue::new(),
        resources: Mutex::default(),
        monitors: Mutex::default(),
        context: context.clone(),
    });
    controller.watch();
    controller.quotas.synced().await;
    controller.pods.synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    queue: WorkQueue<String>,
    /// What the API server serves, and since when that is known.
    resources: Mutex<Option<(tokio::time::Instant, Arc<Vec<Resource>>)>>,
    /// The resources that are watched, by qualified name. Ends with the controller.
    monitors: Mutex<BTreeMap<String, tokio::task::AbortHandle>>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let monitors = self.monitors.get_mut().unwrap_or_else(PoisonError::into_inner);
        monitors.values().for_each(tokio::task::AbortHandle::abort);
    }
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.quotas.on_event(move |event| {
            let Event::Applied { old, new } = event else { return };
            let same = old.is_some_and(|old| old.spec == new.spec);
            queue.add_after(key_of(new.as_ref()), if same { CHECK } else { Duration::ZERO });
        });
        let (queue, quotas) = (self.queue.clone(), self.quotas.clone());
        self.pods.on_event(move |event| {
            let recount = match event {
                Event::Applied { old: Some(old), new } => counts_differently(old, new),
                Event::Applied { old: None, .. } => false,
                Event::Deleted { .. } => true,
            };
            if recount {
                let namespace = event.object().metadata.namespace.as_deref().unwrap_or("");
                replenish(&queue, &quotas, namespace);
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(quota) = self.quotas.get_key(key) else { return Ok(Next::Wait) };
        let object = count::to_value(quota.as_ref());
        let (namespace, name) = split_key(key);
        let hard = lists::read(&object["spec"]["hard"]);
        let before = lists::read(&object["status"]["used"]);
        let mut used = before.clone();
        for resource in self.counted(&hard).await? {
            let Some(evaluator) = Evaluator::of(&resource.api.group, &resource.api.plural) else { continue };
            self.monitor(&resource);
            let counted = if evaluator == Evaluator::Pods {
                let pods = self.pods.in_namespace(namespace);
                count::sum(
                    &evaluator,
                    &hard,
                    &object["spec"],
                    pods.iter().map(|pod| count::to_value(pod.as_ref())),
                )
            } else {
                let objects = count::list(&self.context.client, &resource, namespace, &evaluator).await?;
                count::sum(&evaluator, &hard, &object["spec"], objects.into_iter())
            };
            used.extend(counted);
        }
        used.retain(|name, _| hard.contains_key(name));
        if used != before || hard != lists::read(&object["status"]["hard"]) {
            return self.write(namespace, name, &quota, &hard, &used).await;
        }
        Ok(Next::After(RECOUNT))
    }

    async fn write(
        &self,
        namespace: &str,
        name: &str,
        quota: &ResourceQuota,
        hard: &ResourceList,
        used: &ResourceList,
    ) -> Result<Next, Error> {
        let quantities = |list: &ResourceList| {
            Some(list.iter().map(|(name, quantity)| (name.clone(), (*quantity).into())).collect())
        };
        let mut updated = quota.clone();
        let status = updated.status.get_or_insert_default();
        (status.hard, status.used) = (quantities(hard), quantities(used));
        let api: Api<ResourceQuota> = Api::namespaced(self.context.client.clone(), namespace);
        match api.replace_status(name, &PostParams::default(), &updated).await {
            // Something was charged meanwhile: count again, on top of that.
            Err(error) if is_conflict(&error) => Ok(Next::After(GATHER)),
            written => {
                gone_is_fine(written)?;
                Ok(Next::After(RECOUNT))
            }
        }
    }

    /// The resources that one of the names in `hard` counts.
    async fn counted(&self, hard: &ResourceList) -> Result<Vec<Resource>, Error> {
        let known = self.resources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = match known {
            Some((since, resources)) if since.elapsed() < DISCOVERY => resources,
            _ => {
                let resources = Arc::new(discovery::deletable(&self.context.client).await?);
                let now = tokio::time::Instant::now();
                *self.resources.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((now, resources.clone()));
                resources
            }
        };
        let counts = |resource: &&Resource| {
            resource.namespaced
                && Evaluator::of(&resource.api.group, &resource.api.plural)
                    .is_some_and(|evaluator| hard.keys().any(|name| evaluator.counts(name)))
        };
        Ok(all.iter().filter(counts).cloned().collect())
    }

    /// Watches a resource from now on, pods aside.
    fn monitor(&self, resource: &Resource) {
        let api = &resource.api;
        if !resource.watchable || (api.group.is_empty() && api.plural == "pods") {
            return;
        }
        let mut monitors = self.monitors.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}.{}", api.plural, api.group);
        // A kind that was removed and came back needs a new watch.
        if monitors.get(&name).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (queue, quotas) = (self.queue.clone(), self.quotas.clone());
        let (client, resource, stop) =
            (self.context.client.clone(), resource.clone(), self.context.stop.clone());
        // Only these can count more or less after they have been created.
        let updates = matches!(
            (api.group.as_str(), api.plural.as_str()),
            ("", "services" | "persistentvolumeclaims") | ("resource.k8s.io", "resourceclaims")
        );
        let task = tokio::spawn(async move {
            let observe = |observation: Observation| match observation {
                Observation::Deleted(meta) => replenish(&queue, &quotas, &meta.namespace),
                Observation::Applied(meta) if updates => replenish(&queue, &quotas, &meta.namespace),
                _ => {}
            };
            stop.run_until_cancelled(follow(client, &resource, observe)).await;
        });
        monitors.insert(name, task.abort_handle());
    }
}

/// Looks at all quotas of a namespace soon.
fn replenish(queue: &WorkQueue<String>, quotas: &Informer<ResourceQuota>, namespace: &str) {
    for quota in quotas.in_namespace(namespace) {
        queue.add_after(key_of(quota.as_ref()), GATHER);
    }
}

/// Whether a pod has ended, or counts in another scope or with other resources than before.
fn counts_differently(old: &Pod, new: &Pod) -> bool {
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let deadline = |pod: &Pod| {
        let seconds = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        seconds.is_some_and(|seconds| seconds >= 0)
    };
    let resources = |pod: &Pod| -> Vec<Value> {
        let status = pod.status.as_ref();
        let all = status.into_iter().flat_map(|status| {
            [&status.container_statuses, &status.init_container_statuses]
                .into_iter()
                .flat_map(|list| list.iter().flatten())
        });
        all.map(|status| count::to_value(&status.resources)).collect()
    };
    ended(old) != ended(new) || deadline(old) != deadline(new) || resources(old) != resources(new)
}
