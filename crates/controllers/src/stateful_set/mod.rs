//! StatefulSets: pods with stable names and claims, started and replaced in order.

mod plan;
mod pods;

use std::sync::Arc;

use api::selector::Selector;
use client::{Event, EventType, Informer, Next, Recorder, WorkQueue, key_of, object_key, reference_to};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, PostParams};

use self::plan::{Action, Revisions};
use crate::context::{
    Context, Error, GATHER, gone_is_fine, is_already_exists, is_namespace_terminating, is_not_found, message,
};
use crate::history::{History, Keeper, name_of, template_of};
use crate::replica_set::{adopt_pod, delete_pod, release};
use crate::written::Written;
use crate::{owner, pod};

const WORKERS: usize = 8;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.of(),
        history: History::new(&context.informers),
        recorder: context.recorder("statefulset-controller"),
        queue: WorkQueue::new(),
        written: Written::default(),
        context: context.clone(),
    });
    controller.watch();
    controller.sets.synced().await;
    context.informers.of::<Pod>().synced().await;
    context.informers.of::<ControllerRevision>().synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    sets: Informer<StatefulSet>,
    history: History,
    recorder: Recorder,
    queue: WorkQueue<String>,
    /// Own writes of pods, by the set's key.
    written: Written,
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.sets.on_event(move |event| queue.add(key_of(event.object().as_ref())));
        let queue = self.queue.clone();
        self.context.informers.of::<Pod>().on_event(move |event| {
            let old = if let Event::Applied { old, .. } = event { *old } else { None };
            let new = event.object();
            for p in [Some(new), old].into_iter().flatten() {
                if let Some(reference) = owner::controller_of_kind::<StatefulSet>(&p.metadata) {
                    let namespace = new.metadata.namespace.as_deref().unwrap_or("");
                    queue.add_after(object_key(namespace, &reference.name), GATHER);
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(set) = self.sets.get_key(key) else { return Ok(Next::Wait) };
        let Some(spec) = &set.spec else { return Ok(Next::Wait) };
        let selector = Selector::from_label_selector(&spec.selector)?;
        if selector.is_empty() {
            return Ok(Next::Wait);
        }
        let all_pods = self.context.informers.of::<Pod>();
        let version = |pod: &str| all_pods.get_key(pod).and_then(|pod| pod.metadata.resource_version.clone());
        if !self.written.is_visible(key, version) {
            return Ok(Next::After(std::time::Duration::from_millis(20)));
        }
        let pods = self.claim(&set, &selector).await?;
        let keeper = Keeper {
            metadata: &set.metadata,
            reference: owner::reference(set.as_ref()),
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0),
            limit: spec.revision_history_limit.unwrap_or(10),
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let known = self.history.sync(&self.context, &keeper).await?;
        let update = known.last().map(|revision| name_of(revision).to_string()).unwrap_or_default();
        let current = set.status.as_ref().and_then(|status| status.current_revision.clone());
        let current = current
            .filter(|current| known.iter().any(|revision| name_of(revision) == current))
            .unwrap_or_else(|| update.clone());
        let revisions = Revisions { current, update };
        let now = base::clock::now();
        let plan = plan::plan(&set, &pods, &revisions, now);
        let result = self.execute(key, &set, &known, &plan.actions).await;
        self.write_status(&set, plan.status).await?;
        result?;
        let used =
            |name: &str| name == revisions.current || pods.iter().any(|pod| pods::revision(pod) == name);
        let used = |hash: &str| known.iter().any(|r| crate::history::hash_of(r) == hash && used(name_of(r)));
        self.history.truncate(&self.context, &keeper, &known, used).await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let wait = pods.iter().filter_map(|p| pod::available_in(p, min_ready, now)).min();
        Ok(wait.map_or(Next::Wait, Next::After))
    }

    async fn claim(&self, set: &StatefulSet, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let uid = set.metadata.uid.as_deref().unwrap_or("");
        let mut candidates = self.context.pods.controlled_by(uid);
        let orphans = self.context.pods.orphans(namespace);
        candidates.extend(orphans.into_iter().filter(|p| pods::ordinal(set, p).is_some()));
        let claims = owner::claim(&set.metadata, selector, candidates);
        for pod in claims.release {
            release(&self.context, namespace, uid, &pod).await?;
        }
        let mut pods = claims.owned;
        for pod in claims.adopt {
            pods.extend(adopt_pod(&self.context, namespace, set, &pod).await?);
        }
        Ok(pods)
    }

    async fn execute(
        &self,
        key: &str,
        set: &StatefulSet,
        known: &[Arc<ControllerRevision>],
        actions: &[Action],
    ) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        for action in actions {
            match action {
                Action::Create(ordinal, revision) => {
                    self.create(key, set, known, &api, *ordinal, revision).await?;
                }
                Action::Delete(pod) => self.delete(key, set, &api, pod).await?,
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        key: &str,
        set: &StatefulSet,
        known: &[Arc<ControllerRevision>],
        api: &Api<Pod>,
        ordinal: i32,
        revision: &str,
    ) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), namespace);
        for claim in pods::claims(set, ordinal) {
            match claims.create(&PostParams::default(), &claim).await {
                Err(error) if !is_already_exists(&error) => return Err(error.into()),
                _ => {}
            }
        }
        let stored =
            known.iter().find(|known| name_of(known) == revision).and_then(|known| template_of(known));
        let template =
            stored.or_else(|| set.spec.as_ref().map(|spec| spec.template.clone())).unwrap_or_default();
        let about = reference_to(set);
        let wanted = pods::new_pod(set, &template, revision, ordinal);
        let name = set.metadata.name.as_deref().unwrap_or("");
        match api.create(&PostParams::default(), &wanted).await {
            Ok(pod) => {
                self.written.wrote(key, &key_of(&pod), pod.metadata.resource_version.as_deref());
                let text = format!(
                    "create Pod {} in StatefulSet {name} successful",
                    pod.metadata.name.as_deref().unwrap_or("")
                );
                self.recorder.event(&about, EventType::Normal, "SuccessfulCreate", text);
                Ok(())
            }
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => Err(error.into()),
            Err(error) => {
                let pod = pods::name(set, ordinal);
                let text =
                    format!("create Pod {pod} in StatefulSet {name} failed error: {}", message(&error));
                self.recorder.event(&about, EventType::Warning, "FailedCreate", text);
                Err(error.into())
            }
        }
    }

    async fn delete(&self, key: &str, set: &StatefulSet, api: &Api<Pod>, pod: &Pod) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        match delete_pod(api, pod).await {
            Ok(()) => {
                let pod = pod.metadata.name.as_deref().unwrap_or("");
                let set_name = set.metadata.name.as_deref().unwrap_or("");
                let text = format!("delete Pod {pod} in StatefulSet {set_name} successful");
                self.recorder.event(&reference_to(set), EventType::Normal, "SuccessfulDelete", text);
            }
            Err(error) if is_not_found(&error) => self.written.deleted(key, &key_of(pod)),
            Err(error) => return Err(error.into()),
        }
        let Some(ordinal) = pods::ordinal(set, pod) else { return Ok(()) };
        let spec = set.spec.as_ref();
        let first = spec.and_then(|spec| spec.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0);
        let wanted = first..first + spec.and_then(|spec| spec.replicas).unwrap_or(1);
        if pods::deletes_claims_on_scale_down(set) && !wanted.contains(&ordinal) {
            // Claims in use stay until the pod has ended, by their protection finalizer.
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), namespace);
            for claim in pods::claims(set, ordinal) {
                let name = claim.metadata.name.as_deref().unwrap_or("");
                gone_is_fine(claims.delete(name, &DeleteParams::background()).await)?;
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        set: &StatefulSet,
        status: k8s_openapi::api::apps::v1::StatefulSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<StatefulSet> = Api::namespaced(self.context.client.clone(), namespace);
        let name = set.metadata.name.as_deref().unwrap_or("");
        Ok(gone_is_fine(api.replace_status(name, &PostParams::default(), &updated).await)?)
    }
}
