//! DaemonSets: one pod on every node that fits.

mod placement;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::selector::Selector;
use client::{Event, EventType, Informer, Next, Recorder, WorkQueue, key_of, object_key, reference_to};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, PostParams};

use crate::batch::slow_start;
use crate::context::{Context, Error, GATHER, gone_is_fine, is_namespace_terminating, is_not_found, message};
use crate::history::{History, Keeper, REVISION_HASH, hash_of};
use crate::in_flight::InFlight;
use crate::replica_set::{adopt_pod, delete_pod, release};
use crate::{owner, pod, template};

const WORKERS: usize = 4;
/// At most this many pods are created in one pass.
const BURST: usize = 500;
/// Ended daemon pods are replaced after this long, so that one that always fails does not spin.
const REPLACE_AFTER: Duration = Duration::from_secs(1);

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.of(),
        nodes: context.informers.of(),
        history: History::new(&context.informers),
        recorder: context.recorder("daemonset-controller"),
        queue: WorkQueue::new(),
        in_flight: Arc::default(),
        context: context.clone(),
    });
    controller.watch();
    controller.sets.synced().await;
    controller.nodes.synced().await;
    context.informers.of::<Pod>().synced().await;
    context.informers.of::<k8s_openapi::api::apps::v1::ControllerRevision>().synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    history: History,
    recorder: Recorder,
    queue: WorkQueue<String>,
    in_flight: Arc<InFlight>,
}

impl Controller {
    fn watch(&self) {
        let (queue, in_flight) = (self.queue.clone(), self.in_flight.clone());
        self.sets.on_event(move |event| {
            if let Event::Deleted(set) = event {
                in_flight.forget(set.metadata.uid.as_deref().unwrap_or(""));
            }
            queue.add(key_of(event.object().as_ref()));
        });
        let (queue, sets) = (self.queue.clone(), self.sets.clone());
        self.nodes.on_event(move |event| {
            // Heartbeats in the status are of no interest.
            if let Event::Applied { old: Some(old), new } = event
                && old.metadata.labels == new.metadata.labels
                && old.spec == new.spec
            {
                return;
            }
            sets.for_each(|set| queue.add_after(key_of(set.as_ref()), GATHER));
        });
        let (queue, in_flight) = (self.queue.clone(), self.in_flight.clone());
        self.context.informers.of::<Pod>().on_event(move |event| {
            let old = if let Event::Applied { old, .. } = event { *old } else { None };
            let new = event.object();
            let gone = matches!(event, Event::Deleted(_)) || pod::is_deleted(new);
            for p in [Some(new), old].into_iter().flatten() {
                if let Some(reference) = owner::controller_of_kind::<DaemonSet>(&p.metadata) {
                    in_flight.observed(&reference.uid, new.metadata.uid.as_deref().unwrap_or(""), gone);
                    let namespace = new.metadata.namespace.as_deref().unwrap_or("");
                    queue.add_after(object_key(namespace, &reference.name), GATHER);
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(set) = self.sets.get_key(key) else { return Ok(Next::Wait) };
        let (Some(spec), Some(uid)) = (&set.spec, &set.metadata.uid) else { return Ok(Next::Wait) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let selector = Selector::from_label_selector(&spec.selector)?;
        if selector.is_empty() {
            return Ok(Next::Wait);
        }
        let keeper = Keeper {
            metadata: &set.metadata,
            reference: owner::reference(set.as_ref()),
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0),
            limit: spec.revision_history_limit.unwrap_or(10),
        };
        let revisions = self.history.sync(&self.context, &keeper).await?;
        let hash = revisions.last().map(|revision| hash_of(revision).to_string()).unwrap_or_default();
        // What is in flight is read before the pods, so that a pod may be counted twice but never missed.
        let unseen = self.in_flight.unseen(uid);
        let deleting = self.in_flight.being_deleted(uid);
        let pods = self.claim(&set, uid, &selector).await?;
        let is_deleting = |p: &Pod| p.metadata.uid.as_ref().is_some_and(|uid| deleting.contains(uid));
        let now = base::clock::now();
        let mut plan = plan::plan(&set, &hash, &self.nodes.list(), &pods, is_deleting, now);
        if unseen > 0 {
            plan.create.clear();
            plan.delete.clear();
        }
        let again = plan.create.len() > BURST;
        plan.create.truncate(BURST);
        let result = self.execute(&set, uid, &hash, &plan).await;
        self.write_status(&set, plan.status).await?;
        result?;
        let used = |hash: &str| {
            pods.iter().any(|p| {
                p.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).map(String::as_str)
                    == Some(hash)
            })
        };
        self.history.truncate(&self.context, &keeper, &revisions, used).await?;
        if again {
            self.queue.add(key.to_string());
        }
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let wait = pods.iter().filter_map(|p| pod::available_in(p, min_ready, now)).min();
        Ok(wait.map_or(Next::Wait, Next::After))
    }

    async fn claim(&self, set: &DaemonSet, uid: &str, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let mut candidates = self.context.pods.controlled_by(uid);
        candidates.extend(self.context.pods.orphans(namespace));
        let claims = owner::claim(&set.metadata, selector, candidates);
        for pod in claims.release {
            release(&self.context, namespace, uid, &pod).await?;
        }
        let mut pods = claims.owned;
        for pod in claims.adopt.into_iter().filter(|p| pod::is_active(p)) {
            pods.extend(adopt_pod(&self.context, namespace, set, &pod).await?);
        }
        Ok(pods)
    }

    fn new_pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
        let default = Default::default();
        let template = set.spec.as_ref().map_or(&default, |spec| &spec.template);
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let mut pod = template::pod(template, namespace, owner::reference(set));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION_HASH.to_string(), hash.to_string());
        if let Some(generation) = set
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get("deprecated.daemonset.template.generation"))
        {
            labels.insert("pod-template-generation".to_string(), generation.clone());
        }
        let spec = pod.spec.get_or_insert_default();
        spec.tolerations = Some(placement::all_tolerations(spec));
        placement::pin(spec, node);
        pod
    }

    async fn execute(&self, set: &DaemonSet, uid: &str, hash: &str, plan: &plan::Plan) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let about = reference_to(set);
        for pod in &plan.delete {
            let pod_uid = pod.metadata.uid.as_deref().unwrap_or("");
            if pod::is_terminal(pod) {
                let text = format!("Found failed daemon pod {}, will try to kill it", key_of(pod.as_ref()));
                self.recorder.event(&about, EventType::Warning, "FailedDaemonPod", text);
                tokio::time::sleep(REPLACE_AFTER).await;
            }
            self.in_flight.deleting(uid, pod_uid);
            match delete_pod(&api, pod).await {
                Ok(()) => {
                    let text = format!("Deleted pod: {}", pod.metadata.name.as_deref().unwrap_or(""));
                    self.recorder.event(&about, EventType::Normal, "SuccessfulDelete", text);
                }
                Err(error) => {
                    self.in_flight.not_deleting(uid, pod_uid);
                    if !is_not_found(&error) {
                        return Err(error.into());
                    }
                }
            }
        }
        self.in_flight.creating(uid, plan.create.len());
        let (tried, result) = slow_start(plan.create.iter().collect(), |node: &String| {
            let (api, about) = (&api, &about);
            async move {
                let result = api.create(&PostParams::default(), &Self::new_pod(set, hash, node)).await;
                let created = result.as_ref().ok().map(|pod| {
                    (pod.metadata.uid.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""))
                });
                self.in_flight.answered(uid, created);
                if let Some((_, name)) = created {
                    let text = format!("Created pod: {name}");
                    self.recorder.event(about, EventType::Normal, "SuccessfulCreate", text);
                }
                result.map(|_| ())
            }
        })
        .await;
        for _ in tried..plan.create.len() {
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

    async fn write_status(
        &self,
        set: &DaemonSet,
        status: k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<DaemonSet> = Api::namespaced(self.context.client.clone(), namespace);
        let name = set.metadata.name.as_deref().unwrap_or("");
        Ok(gone_is_fine(api.replace_status(name, &PostParams::default(), &updated).await)?)
    }
}
