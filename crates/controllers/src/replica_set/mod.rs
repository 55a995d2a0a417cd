//! ReplicaSets and ReplicationControllers: as many pods of a template as asked for.

mod deletion_order;
mod kinds;
mod plan;

use std::sync::Arc;

use api::selector::Selector;
use client::{Event, EventType, Informer, Next, Recorder, WorkQueue, key_of, object_key, reference_to};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use self::kinds::Replicated;
use self::plan::{Action, Failure, Observed};
use crate::batch::slow_start;
use crate::context::{Context, Error, GATHER, gone_is_fine, is_namespace_terminating, is_not_found, message};
use crate::in_flight::InFlight;
use crate::{owner, pod, template};

pub(crate) use self::deletion_order::choose as choose_for_deletion;

const WORKERS: usize = 16;
/// How many of the pods of one pass get an event of their own; the rest would only be noise.
const EVENTS_PER_PASS: usize = 10;

/// Runs the controller of ReplicaSets until the context is stopped.
pub async fn run(context: Context) {
    run_kind::<ReplicaSet>(context).await;
}

/// Runs the controller of ReplicationControllers until the context is stopped.
pub async fn run_replication_controllers(context: Context) {
    run_kind::<ReplicationController>(context).await;
}

async fn run_kind<K: Replicated>(context: Context) {
    let controller = Arc::new(Controller::<K>::new(&context));
    controller.watch(&context);
    controller.sets.synced().await;
    context.informers.of::<Pod>().synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller<K>>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller<K> {
    context: Context,
    sets: Informer<K>,
    recorder: Recorder,
    queue: WorkQueue<String>,
    in_flight: Arc<InFlight>,
}

impl<K: Replicated> Controller<K> {
    fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            sets: context.informers.of(),
            recorder: context.recorder(K::COMPONENT),
            queue: WorkQueue::new(),
            in_flight: Arc::default(),
        }
    }

    fn watch(&self, context: &Context) {
        let (queue, in_flight) = (self.queue.clone(), self.in_flight.clone());
        self.sets.on_event(move |event| {
            if let Event::Deleted(set) = event {
                in_flight.forget(uid_of(set.as_ref()));
            }
            queue.add(key_of(event.object().as_ref()));
        });
        let (queue, in_flight, sets) = (self.queue.clone(), self.in_flight.clone(), self.sets.clone());
        context.informers.of::<Pod>().on_event(move |event| pod_event(event, &queue, &in_flight, &sets));
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(set) = self.sets.get_key(key) else { return Ok(Next::Wait) };
        let rs = set.as_replica_set();
        let uid = rs.metadata.uid.clone().unwrap_or_default();
        self.look_up_overdue(&rs, &uid).await?;
        let mut observed = self.observe(&set, &rs, &uid).await?;
        let mut failure = None;
        let mut again = false;
        if rs.metadata.deletion_timestamp.is_none() {
            let now = base::clock::now();
            match plan::plan(&rs, &observed, || self.related(&rs, &observed), now) {
                Action::Nothing => {}
                Action::Create(count) => {
                    failure = self.create(&set, &rs, &uid, count).await;
                    again = count == plan::BURST && failure.is_none();
                }
                Action::Delete(pods) => {
                    again = pods.len() == plan::BURST;
                    failure = self.delete(&set, &uid, pods).await;
                }
            }
            // What became visible during the writes is counted at once.
            observed.pods = self.visible(&uid, observed.pods);
        }
        self.write_status(&set, &rs, &observed, failure.as_ref()).await?;
        if let Some(failure) = failure {
            return Err(Error::NotYet(failure.message));
        }
        if again {
            self.queue.add(key.to_string());
        }
        let available = plan::next_available(&rs, &observed, base::clock::now());
        let soonest = available.into_iter().chain(self.in_flight.come_back(&uid)).min();
        Ok(soonest.map_or(Next::Wait, Next::After))
    }

    /// What the set has, taking in and letting go of pods by its selector. What is in flight is
    /// read before the pods: seen in this order, a pod may be counted twice but never missed.
    async fn observe(&self, set: &K, rs: &ReplicaSet, uid: &str) -> Result<Observed, Error> {
        let unseen = self.in_flight.unseen(uid);
        let deleting = self.in_flight.being_deleted(uid);
        let (namespace, candidates) = self.candidates(rs, uid);
        let Some(spec) = &rs.spec else { return Ok(Observed { pods: Vec::new(), unseen, deleting }) };
        let selector = Selector::from_label_selector(&spec.selector)?;
        let claims = owner::claim(&rs.metadata, &selector, candidates);
        let mut pods = claims.owned;
        for pod in claims.release {
            release(&self.context, namespace, uid, &pod).await?;
        }
        let adopt: Vec<Arc<Pod>> = claims.adopt.into_iter().filter(|p| pod::is_active(p)).collect();
        if !adopt.is_empty() {
            self.check_alive(rs, uid).await?;
            for pod in adopt {
                pods.extend(adopt_pod(&self.context, namespace, set, &pod).await?);
            }
        }
        Ok(Observed { pods, unseen, deleting })
    }

    fn candidates<'a>(&self, rs: &'a ReplicaSet, uid: &str) -> (&'a str, Vec<Arc<Pod>>) {
        let namespace = rs.metadata.namespace.as_deref().unwrap_or("");
        let mut candidates = self.context.pods.controlled_by(uid);
        candidates.extend(self.context.pods.orphans(namespace));
        (namespace, candidates)
    }

    /// The controlled pods as they are now, with those of `known` that were just adopted.
    fn visible(&self, uid: &str, known: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        let mut pods = self.context.pods.controlled_by(uid);
        let adopted: Vec<Arc<Pod>> = known
            .into_iter()
            .filter(|p| {
                !pods.iter().any(|q| q.metadata.uid == p.metadata.uid)
                    && self.context.informers.of::<Pod>().get_key(&key_of(p.as_ref())).is_some()
            })
            .collect();
        pods.extend(adopted);
        pods
    }

    /// Nothing is adopted by a set that is deleted or replaced, which only a live read can tell.
    async fn check_alive(&self, rs: &ReplicaSet, uid: &str) -> Result<(), Error> {
        let name = rs.metadata.name.as_deref().unwrap_or("");
        let api: Api<K> =
            Api::namespaced(self.context.client.clone(), rs.metadata.namespace.as_deref().unwrap_or(""));
        let live = api.get(name).await?;
        if uid_of(&live) != uid || live.meta().deletion_timestamp.is_some() {
            return Err(Error::Replaced { kind: K::KIND, name: key_of(rs) });
        }
        Ok(())
    }

    /// Created pods that the informer never showed may be gone already.
    async fn look_up_overdue(&self, rs: &ReplicaSet, uid: &str) -> Result<(), Error> {
        let namespace = rs.metadata.namespace.as_deref().unwrap_or("");
        for (pod_uid, name) in self.in_flight.overdue(uid) {
            let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
            let live = api.get_opt(&name).await?;
            if live.is_none_or(|live| live.metadata.uid.as_deref() != Some(&pod_uid)) {
                self.in_flight.observed(uid, &pod_uid, true);
            }
        }
        Ok(())
    }

    /// The pods of all ReplicaSets that have the same owner.
    fn related(&self, rs: &ReplicaSet, observed: &Observed) -> Vec<Arc<Pod>> {
        let Some(parent) = owner::controller(&rs.metadata) else { return observed.pods.clone() };
        let siblings = self.sets.in_namespace(rs.metadata.namespace.as_deref().unwrap_or(""));
        let siblings = siblings.iter().filter(|other| owner::is_controlled_by(other.metadata(), &parent.uid));
        siblings.flat_map(|other| self.context.pods.controlled_by(uid_of(other.as_ref()))).collect()
    }

    async fn create(&self, set: &K, rs: &ReplicaSet, uid: &str, count: usize) -> Option<Failure> {
        let namespace = rs.metadata.namespace.as_deref().unwrap_or("");
        let template = rs.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let wanted = template::pod(&template, namespace, owner::reference(set));
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let about = reference_to(set);
        self.in_flight.creating(uid, count);
        let (tried, result) = slow_start((0..count).collect(), |index| {
            let (api, wanted, about) = (&api, &wanted, &about);
            async move {
                let result = api.create(&PostParams::default(), wanted).await;
                let created = result.as_ref().ok().map(|pod| {
                    (pod.metadata.uid.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""))
                });
                self.in_flight.answered(uid, created);
                if let Some((_, name)) = created.filter(|_| index < EVENTS_PER_PASS) {
                    let text = format!("Created pod: {name}");
                    self.recorder.event(about, EventType::Normal, "SuccessfulCreate", text);
                }
                result.map(|_| ())
            }
        })
        .await;
        for _ in tried..count {
            self.in_flight.answered(uid, None);
        }
        let error = result.err().filter(|error| !is_namespace_terminating(error))?;
        let text = format!("Error creating: {}", message(&error));
        self.recorder.event(&about, EventType::Warning, "FailedCreate", text);
        Some(Failure { reason: "FailedCreate", message: message(&error) })
    }

    async fn delete(&self, set: &K, uid: &str, pods: Vec<Arc<Pod>>) -> Option<Failure> {
        let namespace = set.metadata().namespace.as_deref().unwrap_or("");
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let about = reference_to(set);
        let pods: Vec<(usize, Arc<Pod>)> = pods.into_iter().enumerate().collect();
        let (_, result) = slow_start(pods, |(index, pod)| {
            let (api, about) = (&api, &about);
            async move {
                let pod_uid = pod.metadata.uid.clone().unwrap_or_default();
                let name = pod.metadata.name.as_deref().unwrap_or("");
                self.in_flight.deleting(uid, &pod_uid);
                let result = delete_pod(api, &pod).await;
                if let Err(error) = &result {
                    self.in_flight.not_deleting(uid, &pod_uid);
                    if is_not_found(error) {
                        return Ok(());
                    }
                } else if index < EVENTS_PER_PASS {
                    let text = format!("Deleted pod: {name}");
                    self.recorder.event(about, EventType::Normal, "SuccessfulDelete", text);
                }
                result
            }
        })
        .await;
        let error = result.err()?;
        let text = format!("Error deleting: {}", message(&error));
        self.recorder.event(&about, EventType::Warning, "FailedDelete", text);
        Some(Failure { reason: "FailedDelete", message: message(&error) })
    }

    async fn write_status(
        &self,
        set: &K,
        rs: &ReplicaSet,
        observed: &Observed,
        failure: Option<&Failure>,
    ) -> Result<(), Error> {
        let updated = set.with_status(plan::status(rs, observed, failure, &pod::now()));
        if rs.status == updated.as_replica_set().status {
            return Ok(());
        }
        let name = rs.metadata.name.as_deref().unwrap_or("");
        let api: Api<K> =
            Api::namespaced(self.context.client.clone(), rs.metadata.namespace.as_deref().unwrap_or(""));
        gone_is_fine(api.replace_status(name, &PostParams::default(), &updated).await)?;
        Ok(())
    }
}

fn uid_of<K: Replicated>(set: &K) -> &str {
    set.metadata().uid.as_deref().unwrap_or("")
}

fn pod_event<K: Replicated>(
    event: &Event<'_, Pod>,
    queue: &WorkQueue<String>,
    in_flight: &InFlight,
    sets: &Informer<K>,
) {
    let (old, new) = match event {
        Event::Applied { old, new } => (*old, *new),
        Event::Deleted(last) => (None, *last),
    };
    let namespace = new.metadata.namespace.as_deref().unwrap_or("");
    let gone = matches!(event, Event::Deleted(_));
    let uid = new.metadata.uid.as_deref().unwrap_or("");
    let owner_of = |p: &Pod| owner::controller_of_kind::<K>(&p.metadata).cloned();
    if let Some(reference) = owner_of(new) {
        in_flight.observed(&reference.uid, uid, gone || pod::is_deleted(new));
        let key = object_key(namespace, &reference.name);
        let urgent = gone || old.is_some_and(|old| pod::is_active(old) != pod::is_active(new));
        if urgent { queue.add(key) } else { queue.add_after(key, GATHER) }
    } else if owner::controller(&new.metadata).is_none() && !gone && new.metadata.labels.is_some() {
        for set in sets.in_namespace(namespace) {
            let selects = set.as_replica_set().spec.as_ref().is_some_and(|spec| {
                Selector::from_label_selector(&spec.selector)
                    .is_ok_and(|selector| selector.matches_optional(new.metadata.labels.as_ref()))
            });
            if selects {
                queue.add(key_of(set.as_ref()));
            }
        }
    }
    if let Some(before) = old.and_then(|old| owner_of(old))
        && owner_of(new).is_none_or(|after| after.uid != before.uid)
    {
        in_flight.observed(&before.uid, uid, true);
        queue.add(object_key(namespace, &before.name));
    }
}

/// Deletes exactly this pod, not a later one of its name.
pub(crate) async fn delete_pod(api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    api.delete(pod.metadata.name.as_deref().unwrap_or(""), &params).await.map(|_| ())
}

/// Takes a pod in; `None` when it is gone or taken.
pub(crate) async fn adopt_pod<K>(
    context: &Context,
    namespace: &str,
    owner: &K,
    pod: &Pod,
) -> Result<Option<Arc<Pod>>, kube::Error>
where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
{
    let uid = pod.metadata.uid.as_deref().unwrap_or("");
    let patch = owner::adoption(&owner::reference(owner), uid);
    match patch_pod(context, namespace, pod, &patch).await {
        Ok(pod) => Ok(Some(Arc::new(pod))),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets go of a pod.
pub(crate) async fn release(
    context: &Context,
    namespace: &str,
    owner_uid: &str,
    pod: &Pod,
) -> Result<(), kube::Error> {
    let patch = owner::release(owner_uid, pod.metadata.uid.as_deref().unwrap_or(""));
    gone_is_fine(patch_pod(context, namespace, pod, &patch).await)
}

async fn patch_pod(
    context: &Context,
    namespace: &str,
    pod: &Pod,
    patch: &serde_json::Value,
) -> Result<Pod, kube::Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let name = pod.metadata.name.as_deref().unwrap_or("");
    api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await
}
