//! Jobs: pods that run to completion.

mod backoff;
mod conditions;
mod indexes;
mod per_index;
mod plan;
mod pods;
mod policy;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::selector::Selector;
use base::map::HashMap;
use client::{Event, EventType, Informer, Next, Recorder, WorkQueue, key_of, object_key, reference_to};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use self::backoff::Record;
use self::plan::{Observed, Plan, Wanted};
use crate::batch::slow_start;
use crate::context::{
    Context, Error, GATHER, gone_is_fine, is_namespace_terminating, is_not_found, message, split_key,
};
use crate::in_flight::InFlight;
use crate::replica_set::{adopt_pod, delete_pod, release};
use crate::written::Written;
use crate::{owner, pod};

pub(crate) use self::conditions::{find as condition, is_finished};

const WORKERS: usize = 16;
const EVENTS_PER_PASS: usize = 10;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        jobs: context.informers.of(),
        recorder: context.recorder("job-controller"),
        queue: WorkQueue::new(),
        in_flight: Arc::default(),
        written: Written::default(),
        backoffs: Arc::default(),
        context: context.clone(),
    });
    controller.watch();
    controller.jobs.synced().await;
    context.informers.of::<Pod>().synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    jobs: Informer<Job>,
    recorder: Recorder,
    queue: WorkQueue<String>,
    in_flight: Arc<InFlight>,
    written: Written,
    /// Failures since the last success, by the Job's uid. Lost in a restart, as upstream: the worst
    /// is one early retry.
    backoffs: Arc<Mutex<HashMap<String, Record>>>,
}

impl Controller {
    fn watch(&self) {
        let (queue, in_flight) = (self.queue.clone(), self.in_flight.clone());
        let backoffs = self.backoffs.clone();
        self.jobs.on_event(move |event| {
            if let Event::Deleted(job) = event {
                let uid = job.metadata.uid.as_deref().unwrap_or("");
                in_flight.forget(uid);
                backoffs.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
            }
            queue.add(key_of(event.object().as_ref()));
        });
        let (queue, in_flight, jobs) = (self.queue.clone(), self.in_flight.clone(), self.jobs.clone());
        self.context.informers.of::<Pod>().on_event(move |event| {
            let old = if let Event::Applied { old, .. } = event { *old } else { None };
            let new = event.object();
            let namespace = new.metadata.namespace.as_deref().unwrap_or("");
            let uid = new.metadata.uid.as_deref().unwrap_or("");
            let gone = matches!(event, Event::Deleted(_)) || pod::is_deleted(new);
            for p in [Some(new), old].into_iter().flatten() {
                if let Some(reference) = owner::controller_of_kind::<Job>(&p.metadata) {
                    in_flight.observed(&reference.uid, uid, gone);
                    queue.add_after(object_key(namespace, &reference.name), GATHER);
                }
            }
            if owner::controller(&new.metadata).is_none() && !gone && new.metadata.labels.is_some() {
                for job in jobs.in_namespace(namespace) {
                    if selector_of(&job).is_some_and(|s| s.matches_optional(new.metadata.labels.as_ref())) {
                        queue.add(key_of(job.as_ref()));
                    }
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        self.release_stray_pods(key).await?;
        let Some(job) = self.jobs.get_key(key) else { return Ok(Next::Wait) };
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let foreign = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if foreign.is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return Ok(Next::Wait);
        }
        let status = job.status.clone().unwrap_or_default();
        if is_finished(status.conditions.as_deref().unwrap_or(&[])) {
            self.lock_backoffs().remove(&uid);
            return self.expire(&job).await;
        }
        let version = |_: &str| job.metadata.resource_version.clone();
        if !self.written.is_visible(key, version) {
            return Ok(Next::After(Duration::from_millis(20)));
        }
        let observed = self.observe(&job, &uid).await?;
        let backoff = self.lock_backoffs().get(&uid).cloned().unwrap_or_default();
        let plan = plan::plan(&job, &observed, &backoff, &pod::now());
        self.execute(key, &job, &uid, &status, &plan).await?;
        if self.jobs.get_key(key).is_none_or(|now| now.metadata.uid != job.metadata.uid) {
            self.lock_backoffs().remove(&uid);
        }
        let soonest = plan.check_after.into_iter().chain(self.in_flight.come_back(&uid)).min();
        Ok(soonest.map_or(Next::Wait, Next::After))
    }

    fn lock_backoffs(&self) -> std::sync::MutexGuard<'_, HashMap<String, Record>> {
        self.backoffs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the Job has. What is in flight is read before the pods: seen in this order, a pod may
    /// be counted twice but never missed.
    async fn observe(&self, job: &Job, uid: &str) -> Result<Observed, Error> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or("");
        for (pod_uid, name) in self.in_flight.overdue(uid) {
            let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
            if api.get_opt(&name).await?.is_none_or(|live| live.metadata.uid.as_deref() != Some(&pod_uid)) {
                self.in_flight.observed(uid, &pod_uid, true);
            }
        }
        let unseen = self.in_flight.unseen(uid);
        let deleting = self.in_flight.being_deleted(uid);
        let mut candidates = self.context.pods.controlled_by(uid);
        candidates.extend(self.context.pods.orphans(namespace));
        let Some(selector) = selector_of(job) else { return Ok(Observed::default()) };
        let claims = owner::claim(&job.metadata, &selector, candidates);
        for pod in claims.release {
            release(&self.context, namespace, uid, &pod).await?;
        }
        let mut pods = claims.owned;
        for pod in claims.adopt.into_iter().filter(|p| pod::is_active(p)) {
            pods.extend(adopt_pod(&self.context, namespace, job, &pod).await?);
        }
        Ok(Observed { pods, unseen, deleting })
    }

    async fn execute(
        &self,
        key: &str,
        job: &Job,
        uid: &str,
        current: &JobStatus,
        plan: &Plan,
    ) -> Result<(), Error> {
        if normalised(current) != normalised(&plan.status) {
            let mut updated = job.clone();
            updated.status = Some(plan.status.clone());
            let namespace = job.metadata.namespace.as_deref().unwrap_or("");
            let api: Api<Job> = Api::namespaced(self.context.client.clone(), namespace);
            let name = job.metadata.name.as_deref().unwrap_or("");
            match api.replace_status(name, &PostParams::default(), &updated).await {
                Ok(job) => self.written.wrote(key, key, job.metadata.resource_version.as_deref()),
                Err(error) if is_not_found(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.lock_backoffs().insert(uid.to_string(), plan.backoff.clone());
        let about = reference_to(job);
        for (type_, reason, message) in &plan.events {
            self.recorder.event(&about, *type_, reason, message.clone());
        }
        for_each(&plan.release, |pod| async move { self.untrack(&pod).await }).await?;
        for_each(&plan.discard, |pod| async move {
            self.untrack(&pod).await?;
            self.delete(uid, job, &pod).await
        })
        .await?;
        for_each(&plan.delete, |pod| async move { self.delete(uid, job, &pod).await }).await?;
        self.create(job, uid, &plan.create).await
    }

    async fn untrack(&self, pod: &Pod) -> Result<(), kube::Error> {
        if !plan::is_tracked(pod) {
            return Ok(());
        }
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [plan::TRACKING]}});
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let name = pod.metadata.name.as_deref().unwrap_or("");
        gone_is_fine(api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await)
    }

    async fn delete(&self, uid: &str, job: &Job, pod: &Pod) -> Result<(), kube::Error> {
        let pod_uid = pod.metadata.uid.as_deref().unwrap_or("");
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        self.in_flight.deleting(uid, pod_uid);
        match delete_pod(&api, pod).await {
            Ok(()) => {
                let text = format!("Deleted pod: {}", pod.metadata.name.as_deref().unwrap_or(""));
                self.recorder.event(&reference_to(job), EventType::Normal, "SuccessfulDelete", text);
                Ok(())
            }
            Err(error) => {
                self.in_flight.not_deleting(uid, pod_uid);
                if is_not_found(&error) { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn create(&self, job: &Job, uid: &str, wanted: &[Wanted]) -> Result<(), Error> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let about = reference_to(job);
        self.in_flight.creating(uid, wanted.len());
        let items: Vec<(usize, Wanted)> = wanted.iter().copied().enumerate().collect();
        let (tried, result) = slow_start(items, |(number, (index, failures))| {
            let (api, about) = (&api, &about);
            async move {
                let result = api.create(&PostParams::default(), &pods::new_pod(job, index, failures)).await;
                let created = result.as_ref().ok().map(|pod| {
                    (pod.metadata.uid.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""))
                });
                self.in_flight.answered(uid, created);
                if let Some((_, name)) = created.filter(|_| number < EVENTS_PER_PASS) {
                    let text = format!("Created pod: {name}");
                    self.recorder.event(about, EventType::Normal, "SuccessfulCreate", text);
                }
                result.map(|_| ())
            }
        })
        .await;
        for _ in tried..wanted.len() {
            self.in_flight.answered(uid, None);
        }
        match result {
            Err(error) if !is_namespace_terminating(&error) => {
                let text = format!("Error creating: {}", message(&error));
                self.recorder.event(&about, EventType::Warning, "FailedCreate", text);
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// Lets go of pods whose Job is gone, is going or has ended; nobody would count them any more.
    async fn release_stray_pods(&self, key: &str) -> Result<(), Error> {
        let (namespace, name) = split_key(key);
        let job = self.jobs.get_key(key);
        let counting = job.as_ref().filter(|job| {
            let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
            !is_finished(conditions.unwrap_or(&[]))
        });
        if counting.is_some_and(|job| job.metadata.deletion_timestamp.is_none()) {
            return Ok(());
        }
        let strays: Vec<Arc<Pod>> = match &job {
            Some(job) => self.context.pods.controlled_by(job.metadata.uid.as_deref().unwrap_or("")),
            None => {
                let mut pods = self.context.informers.of::<Pod>().in_namespace(namespace);
                pods.retain(|p| {
                    plan::is_tracked(p)
                        && owner::controller_of_kind::<Job>(&p.metadata)
                            .is_some_and(|owner| owner.name == name)
                });
                if pods.is_empty() || self.exists(namespace, name).await? {
                    return Ok(());
                }
                pods
            }
        };
        for_each(&strays, |pod| async move { self.untrack(&pod).await }).await?;
        Ok(())
    }

    async fn exists(&self, namespace: &str, name: &str) -> Result<bool, kube::Error> {
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), namespace);
        Ok(api.get_opt(name).await?.is_some())
    }

    /// Deletes a finished Job once its time to live is over.
    async fn expire(&self, job: &Job) -> Result<Next, Error> {
        let Some(ttl) = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished) else {
            return Ok(Next::Wait);
        };
        if job.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or(&[]);
        let finished = condition(conditions, "Complete").or_else(|| condition(conditions, "Failed"));
        let Some(at) = finished.and_then(|condition| condition.last_transition_time.as_ref()) else {
            return Ok(Next::Wait);
        };
        let end = at.0 + Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let left = Duration::try_from(end.duration_since(base::clock::now())).unwrap_or_default();
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        let namespace = job.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), namespace);
        let name = job.metadata.name.as_deref().unwrap_or("");
        let preconditions = Preconditions {
            uid: job.metadata.uid.clone(),
            resource_version: job.metadata.resource_version.clone(),
        };
        gone_is_fine(api.delete(name, &DeleteParams::foreground().preconditions(preconditions)).await)?;
        Ok(Next::Wait)
    }
}

fn selector_of(job: &Job) -> Option<Selector> {
    Selector::from_label_selector(job.spec.as_ref()?.selector.as_ref()?).ok()
}

/// A status without the difference between what is empty and what is absent.
fn normalised(status: &JobStatus) -> JobStatus {
    let mut status = status.clone();
    let empty = UncountedTerminatedPods::default();
    status.uncounted_terminated_pods =
        status.uncounted_terminated_pods.filter(|uncounted| *uncounted != empty);
    status.completed_indexes = status.completed_indexes.filter(|indexes| !indexes.is_empty());
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    for count in [&mut status.active, &mut status.succeeded, &mut status.failed] {
        *count = count.filter(|count| *count != 0);
    }
    status
}

/// Runs a write for each pod, many at a time; all are tried, the first error is returned.
async fn for_each<F, Fut>(pods: &[Arc<Pod>], write: F) -> Result<(), kube::Error>
where
    F: Fn(Arc<Pod>) -> Fut,
    Fut: Future<Output = Result<(), kube::Error>>,
{
    let writes: Vec<Fut> = pods.iter().cloned().map(write).collect();
    let results: Vec<_> = futures::stream::iter(writes).buffer_unordered(32).collect().await;
    results.into_iter().collect()
}
