//! PodDisruptionBudgets: how many pods an eviction may take, kept up to date in their status.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::selector::Selector;
use client::{Event, Informer, Next, WorkQueue, key_of};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, PostParams};

use crate::context::{Context, Error, gone_is_fine};
use crate::{owner, pod};

const WORKERS: usize = 4;
/// Budgets are looked at by evictions, which are rare: gather changes for longer.
const GATHER: Duration = Duration::from_millis(50);

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        budgets: context.informers.of(),
        pods: context.informers.of(),
        sets: context.informers.of(),
        deployments: context.informers.of(),
        stateful_sets: context.informers.of(),
        queue: WorkQueue::new(),
        context: context.clone(),
    });
    controller.watch();
    controller.budgets.synced().await;
    controller.pods.synced().await;
    controller.sets.synced().await;
    controller.deployments.synced().await;
    controller.stateful_sets.synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful_sets: Informer<StatefulSet>,
    queue: WorkQueue<String>,
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.budgets.on_event(move |event| queue.add(key_of(event.object().as_ref())));
        let (queue, budgets) = (self.queue.clone(), self.budgets.clone());
        self.pods.on_event(move |event| {
            let pod = event.object();
            let counted = |p: &Pod| (pod::is_ready(p), pod::is_deleted(p));
            if let Event::Applied { old: Some(old), new } = event
                && counted(old) == counted(new)
                && old.metadata.labels == new.metadata.labels
            {
                return;
            }
            for budget in budgets.in_namespace(pod.metadata.namespace.as_deref().unwrap_or("")) {
                let selector = selector_of(&budget);
                let old = if let Event::Applied { old, .. } = event { *old } else { None };
                let mut sides = [Some(pod), old].into_iter().flatten();
                if selector.is_some_and(|s| sides.any(|p| s.matches_optional(p.metadata.labels.as_ref()))) {
                    queue.add_after(key_of(budget.as_ref()), GATHER);
                }
            }
        });
        // A scaled controller changes what is expected; which budgets that concerns is told by its pods.
        let (queue, budgets) = (self.queue.clone(), self.budgets.clone());
        self.deployments.on_event(move |event| {
            if let Event::Applied { old: Some(old), new } = event
                && old.spec.as_ref().map(|spec| spec.replicas) != new.spec.as_ref().map(|spec| spec.replicas)
            {
                for budget in budgets.in_namespace(new.metadata.namespace.as_deref().unwrap_or("")) {
                    queue.add_after(key_of(budget.as_ref()), GATHER);
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(budget) = self.budgets.get_key(key) else { return Ok(Next::Wait) };
        let namespace = budget.metadata.namespace.as_deref().unwrap_or("");
        let mut pods = Vec::new();
        if let Some(selector) = selector_of(&budget) {
            pods = self.pods.in_namespace(namespace);
            pods.retain(|p| selector.matches_optional(p.metadata.labels.as_ref()) && !pod::is_terminal(p));
        }
        let plan = plan::plan(&budget, &pods, || self.scale(namespace, &pods), &pod::now());
        if budget.status.as_ref() != Some(&plan.status) {
            let mut updated = PodDisruptionBudget::clone(&budget);
            updated.status = Some(plan.status);
            let api: Api<PodDisruptionBudget> = Api::namespaced(self.context.client.clone(), namespace);
            let name = budget.metadata.name.as_deref().unwrap_or("");
            gone_is_fine(api.replace_status(name, &PostParams::default(), &updated).await)?;
        }
        Ok(plan.check_after.map_or(Next::Wait, Next::After))
    }

    /// How many replicas the controllers of these pods want together. Pods without a controller do
    /// not count.
    fn scale(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for p in pods {
            let Some(reference) = owner::controller(&p.metadata) else { continue };
            if scales.contains_key(&reference.uid) {
                continue;
            }
            let (uid, replicas) = match reference.kind.as_str() {
                "ReplicaSet" => self.replica_set_scale(namespace, &reference.name),
                "StatefulSet" => self.stateful_sets.get(namespace, &reference.name).map(|set| {
                    (set.metadata.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
                }),
                kind => return Err(format!("{kind} does not implement the scale subresource")),
            }
            .ok_or_else(|| format!("{} {} was not found", reference.kind, reference.name))?;
            scales.insert(uid.unwrap_or_else(|| reference.uid.clone()), replicas);
        }
        Ok(scales.values().sum())
    }

    /// The scale of the Deployment above the ReplicaSet, or of the set itself.
    fn replica_set_scale(&self, namespace: &str, name: &str) -> Option<(Option<String>, i32)> {
        let set = self.sets.get(namespace, name)?;
        if let Some(parent) = owner::controller_of_kind::<Deployment>(&set.metadata) {
            let deployment = self.deployments.get(namespace, &parent.name)?;
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            return Some((deployment.metadata.uid.clone(), replicas));
        }
        Some((set.metadata.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)))
    }
}

fn selector_of(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::from_label_selector(budget.spec.as_ref()?.selector.as_ref()?).ok()
}
