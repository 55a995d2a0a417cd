//! EndpointSlices: the addresses behind each Service that has a selector.

pub(crate) mod endpoints;
pub(crate) mod membership;
pub(crate) mod plan;
pub(crate) mod writes;

use std::sync::Arc;
use std::time::Duration;

use api::names;
use client::{Event, Index, Informer, Next, WorkQueue, key_of};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;

use self::membership::Membership;
use self::plan::Plan;
use crate::context::{Context, Error, split_key};
use crate::owner;
use crate::written::Written;

const WORKERS: usize = 8;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let slices = context.informers.of::<EndpointSlice>();
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        nodes: context.informers.of(),
        slices_of: slices.index(|slice| service_of(slice).into_iter().collect()),
        slices,
        members: Arc::default(),
        written: Written::default(),
        queue: WorkQueue::new(),
        context: context.clone(),
    });
    controller.watch();
    controller.nodes.synced().await;
    controller.services.synced().await;
    controller.slices.synced().await;
    context.informers.of::<Pod>().synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    services: Informer<Service>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    /// Our slices by the key of their Service.
    slices_of: Index<EndpointSlice>,
    members: Arc<Membership>,
    written: Written,
    queue: WorkQueue<String>,
}

/// The key of the Service that we keep this slice for.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    plan::kept_for(slice, plan::MANAGER)
}

impl Controller {
    fn watch(&self) {
        let pods = self.context.informers.of::<Pod>();
        let (queue, members) = (self.queue.clone(), self.members.clone());
        let all_pods = pods.clone();
        self.services.on_event(move |event| {
            members.service_event(event, &all_pods);
            queue.add(key_of(event.object().as_ref()));
        });
        let (queue, members) = (self.queue.clone(), self.members.clone());
        pods.on_event(move |event| {
            for (service, gather) in members.pod_event(event) {
                queue.add_after(service, gather);
            }
        });
        let queue = self.queue.clone();
        self.slices.on_event(move |event| {
            let old = if let Event::Applied { old, .. } = event { *old } else { None };
            for slice in [Some(event.object()), old].into_iter().flatten() {
                if let Some(service) = service_of(slice) {
                    queue.add_after(service, Duration::from_millis(10));
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let (namespace, name) = split_key(key);
        let existing = self.slices_of.get(key);
        let service = self.services.get_key(key).filter(|service| self.members.knows(service));
        let Some((service, pods)) = service.zip(self.members.of(namespace, name)) else {
            // Slices of a Service that is gone go with it, by their owner reference. One that has
            // lost its selector keeps them, as upstream: somebody may maintain them by hand.
            self.written.forget(key);
            return Ok(Next::Wait);
        };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let version = |slice: &str| {
            self.slices.get_key(slice).and_then(|slice| slice.metadata.resource_version.clone())
        };
        if !self.written.is_visible(key, version) {
            return Ok(Next::After(Duration::from_millis(20)));
        }
        let zone = |node: &str| {
            let node = self.nodes.get("", node)?;
            node.metadata.labels.as_ref()?.get(names::ZONE).cloned()
        };
        let uid = service.metadata.uid.as_deref().unwrap_or("");
        let (mut current, strangers): (Vec<_>, Vec<_>) = existing.into_iter().partition(|slice| {
            // A Service that was deleted and made again under its name does not take over slices.
            owner::controller(&slice.metadata).is_none_or(|reference| reference.uid == uid)
        });
        for address_type in endpoints::address_types(&service) {
            let (own, rest) = current.into_iter().partition(|slice| slice.address_type == address_type);
            current = rest;
            let own: Vec<Arc<EndpointSlice>> = own;
            let desired = endpoints::desired(&service, pods.iter().map(Arc::as_ref), &address_type, zone);
            self.execute(key, namespace, plan::plan(&service, &address_type, &own, desired)).await?;
        }
        let obsolete = Plan { delete: current.into_iter().chain(strangers).collect(), ..Plan::default() };
        self.execute(key, namespace, obsolete).await?;
        Ok(Next::Wait)
    }

    async fn execute(&self, key: &str, namespace: &str, plan: Plan) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), namespace);
        writes::execute(&api, &self.written, key, plan).await
    }
}
