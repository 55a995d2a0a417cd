//! Deployments: rolling a set of pods from one template to the next through ReplicaSets.

mod plan;
mod revision;
mod scale;
mod status;

use std::sync::Arc;

use api::selector::Selector;
use client::{
    Event, EventType, Index, Informer, Next, Recorder, WorkQueue, key_of, object_key, reference_to,
};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use self::plan::{Action, Plan};
pub(crate) use self::revision::template_hash;
use crate::context::{
    Context, Error, GATHER, gone_is_fine, is_already_exists, is_conflict, is_namespace_terminating,
    is_not_found, message,
};
use crate::{owner, pod};

const WORKERS: usize = 16;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller::new(&context));
    controller.watch(&context);
    controller.deployments.synced().await;
    context.informers.of::<ReplicaSet>().synced().await;
    context.informers.of::<Pod>().synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    deployments: Informer<Deployment>,
    /// ReplicaSets by the uid of their controller; orphans by `namespace/`.
    sets: Index<ReplicaSet>,
    recorder: Recorder,
    queue: WorkQueue<String>,
}

impl Controller {
    fn new(context: &Context) -> Self {
        let sets = context.informers.of::<ReplicaSet>().index(|rs| {
            vec![match owner::controller(&rs.metadata) {
                Some(reference) => reference.uid.clone(),
                None => format!("{}/", rs.metadata.namespace.as_deref().unwrap_or("")),
            }]
        });
        Self {
            context: context.clone(),
            deployments: context.informers.of(),
            sets,
            recorder: context.recorder("deployment-controller"),
            queue: WorkQueue::new(),
        }
    }

    fn watch(&self, context: &Context) {
        let queue = self.queue.clone();
        self.deployments.on_event(move |event| queue.add(key_of(event.object().as_ref())));
        let (queue, deployments) = (self.queue.clone(), self.deployments.clone());
        context.informers.of::<ReplicaSet>().on_event(move |event| {
            let old = if let Event::Applied { old, .. } = event { *old } else { None };
            let new = event.object();
            let namespace = new.metadata.namespace.as_deref().unwrap_or("");
            for rs in [Some(new), old].into_iter().flatten() {
                if let Some(reference) = owner::controller_of_kind::<Deployment>(&rs.metadata) {
                    queue.add_after(object_key(namespace, &reference.name), GATHER);
                }
            }
            if owner::controller(&new.metadata).is_none() && matches!(event, Event::Applied { .. }) {
                for deployment in deployments.in_namespace(namespace) {
                    if selector_of(&deployment)
                        .is_some_and(|selector| selector.matches_optional(new.metadata.labels.as_ref()))
                    {
                        queue.add(key_of(deployment.as_ref()));
                    }
                }
            }
        });
        // A Recreate rollout waits for the last old pod to end, which no ReplicaSet shows.
        let (queue, sets) = (self.queue.clone(), context.informers.of::<ReplicaSet>());
        let deployments = self.deployments.clone();
        context.informers.of::<Pod>().on_event(move |event| {
            let pod = event.object();
            if !matches!(event, Event::Deleted(_)) && !pod::is_terminal(pod) {
                return;
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
            let Some(set) = owner::controller_of_kind::<ReplicaSet>(&pod.metadata)
                .and_then(|reference| sets.get(namespace, &reference.name))
            else {
                return;
            };
            if let Some(reference) = owner::controller_of_kind::<Deployment>(&set.metadata)
                && deployments.get(namespace, &reference.name).is_some_and(|d| !scale::is_rolling(&d))
            {
                queue.add_after(object_key(namespace, &reference.name), GATHER);
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(Next::Wait) };
        let Some(selector) = selector_of(&deployment) else { return Ok(Next::Wait) };
        if selector.is_empty() {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&reference_to(deployment.as_ref()), EventType::Warning, "SelectingAll", text);
            return Ok(Next::Wait);
        }
        let sets = self.claim(&deployment, &selector).await?;
        let old_pods_running = |new: Option<&ReplicaSet>| {
            let new_uid = new.and_then(|rs| rs.metadata.uid.as_deref());
            let old =
                sets.iter().filter_map(|rs| rs.metadata.uid.as_deref()).filter(|uid| Some(*uid) != new_uid);
            old.flat_map(|uid| self.context.pods.controlled_by(uid)).any(|p| !pod::is_terminal(&p))
        };
        let plan = plan::plan(&deployment, &sets, old_pods_running, &pod::now());
        for action in &plan.actions {
            self.execute(&deployment, &plan, action).await?;
        }
        self.write_status(&deployment, &plan.status, plan.revision.as_deref()).await?;
        Ok(plan.check_after.map_or(Next::Wait, Next::After))
    }

    /// The ReplicaSets of the Deployment, after taking in and letting go of some by its selector.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &Selector,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or("");
        let uid = deployment.metadata.uid.as_deref().unwrap_or("");
        let mut candidates = self.sets.get(uid);
        candidates.extend(self.sets.get(&format!("{namespace}/")));
        let claims = owner::claim(&deployment.metadata, selector, candidates);
        let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), namespace);
        let params = PatchParams::default();
        let mut sets = claims.owned;
        for rs in claims.release {
            let patch = owner::release(uid, rs.metadata.uid.as_deref().unwrap_or(""));
            let name = rs.metadata.name.as_deref().unwrap_or("");
            gone_is_fine(api.patch(name, &params, &Patch::Strategic(patch)).await)?;
        }
        if !claims.adopt.is_empty() {
            self.check_alive(deployment).await?;
        }
        for rs in claims.adopt {
            let reference = owner::reference(deployment);
            let patch = owner::adoption(&reference, rs.metadata.uid.as_deref().unwrap_or(""));
            let name = rs.metadata.name.as_deref().unwrap_or("");
            match api.patch(name, &params, &Patch::Strategic(patch)).await {
                Ok(adopted) => sets.push(Arc::new(adopted)),
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sets)
    }

    async fn check_alive(&self, deployment: &Deployment) -> Result<(), Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Deployment> = Api::namespaced(self.context.client.clone(), namespace);
        let live = api.get(deployment.metadata.name.as_deref().unwrap_or("")).await?;
        if live.metadata.uid != deployment.metadata.uid || live.metadata.deletion_timestamp.is_some() {
            return Err(Error::Replaced { kind: "Deployment", name: key_of(deployment) });
        }
        Ok(())
    }

    async fn execute(&self, deployment: &Deployment, plan: &Plan, action: &Action) -> Result<(), Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), namespace);
        let about = reference_to(deployment);
        let scaled = |rs: &ReplicaSet, from: i32, to: i32| {
            let direction = if from < to { "up" } else { "down" };
            let name = rs.metadata.name.as_deref().unwrap_or("");
            let text = format!("Scaled {direction} replica set {name} from {from} to {to}");
            self.recorder.event(&about, EventType::Normal, "ScalingReplicaSet", text);
        };
        match action {
            Action::Create(rs) => match api.create(&PostParams::default(), rs).await {
                Ok(_) => {
                    if scale::size(rs) > 0 {
                        scaled(rs, 0, scale::size(rs));
                    }
                }
                Err(error) if is_already_exists(&error) => self.resolve_collision(deployment, rs).await?,
                Err(error) if is_namespace_terminating(&error) => return Err(error.into()),
                Err(error) => return Err(self.creation_failed(deployment, plan, rs, error).await),
            },
            Action::Update { rs, scaled: size } => {
                let name = rs.metadata.name.as_deref().unwrap_or("");
                api.replace(name, &PostParams::default(), rs).await?;
                if let Some((from, to)) = size {
                    scaled(rs, *from, *to);
                }
            }
            Action::Delete(rs) => {
                let name = rs.metadata.name.as_deref().unwrap_or("");
                // This very set as it was judged: one that was scaled or replaced since is judged again.
                let preconditions = Preconditions {
                    uid: rs.metadata.uid.clone(),
                    resource_version: rs.metadata.resource_version.clone(),
                };
                let params = DeleteParams::background().preconditions(preconditions);
                match api.delete(name, &params).await {
                    Err(error) if is_conflict(&error) => {}
                    result => gone_is_fine(result)?,
                }
            }
        }
        Ok(())
    }

    /// A ReplicaSet of the name exists: ours that the informer has not shown yet, or one of another
    /// template with the same hash, in which case the next pass tries another hash.
    async fn resolve_collision(&self, deployment: &Deployment, wanted: &ReplicaSet) -> Result<(), Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), namespace);
        let name = wanted.metadata.name.as_deref().unwrap_or("");
        let existing = api.get(name).await?;
        let template =
            |rs: &ReplicaSet| rs.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let ours =
            owner::is_controlled_by(&existing.metadata, deployment.metadata.uid.as_deref().unwrap_or(""))
                && revision::same_template(&template(&existing), &template(wanted));
        if ours {
            return Err(Error::NotYet(format!("ReplicaSet {name} is not in the cache yet")));
        }
        let mut status = deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_status(deployment, &status, None).await?;
        Err(Error::NotYet(format!("the name {name} is taken by another template's ReplicaSet")))
    }

    async fn creation_failed(
        &self,
        deployment: &Deployment,
        plan: &Plan,
        rs: &ReplicaSet,
        error: kube::Error,
    ) -> Error {
        let name = rs.metadata.name.as_deref().unwrap_or("");
        let text = format!("Failed to create new replica set {name:?}: {}", message(&error));
        let about = reference_to(deployment);
        self.recorder.event(&about, EventType::Warning, status::reason::CREATE_FAILED, text.clone());
        if status::progress_deadline(deployment).is_some() {
            let mut failed = plan.status.clone();
            let reason = status::reason::CREATE_FAILED;
            status::set(&mut failed, status::PROGRESSING, "False", reason, text, &pod::now());
            if let Err(error) = self.write_status(deployment, &failed, None).await {
                tracing::debug!(%error, "could not record that a ReplicaSet was not created");
            }
        }
        error.into()
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        status: &DeploymentStatus,
        revision: Option<&str>,
    ) -> Result<(), Error> {
        let annotation = deployment
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(revision::REVISION));
        let revision = revision.filter(|revision| annotation.map(String::as_str) != Some(revision));
        if revision.is_none() && deployment.status.as_ref() == Some(status) {
            return Ok(());
        }
        let mut updated = deployment.clone();
        updated.status = Some(status.clone());
        if let Some(revision) = revision {
            let annotations = updated.metadata.annotations.get_or_insert_default();
            annotations.insert(revision::REVISION.to_string(), revision.to_string());
        }
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or("");
        let name = deployment.metadata.name.as_deref().unwrap_or("");
        let api: Api<Deployment> = Api::namespaced(self.context.client.clone(), namespace);
        gone_is_fine(api.replace_status(name, &PostParams::default(), &updated).await)?;
        Ok(())
    }
}

fn selector_of(deployment: &Deployment) -> Option<Selector> {
    Selector::from_label_selector(&deployment.spec.as_ref()?.selector).ok()
}
