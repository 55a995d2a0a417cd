//! Endpoints: the older form of EndpointSlices, one object per Service, which some clients still read.

pub(crate) mod subsets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, Next, WorkQueue, key_of};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};

use crate::context::{Context, Error, gone_is_fine, is_namespace_terminating, split_key};
use crate::endpoint_slice::membership::Membership;
use crate::written::Written;

const WORKERS: usize = 4;
/// The whole object is written for every change, so changes are gathered longer than those of slices.
const GATHER: Duration = Duration::from_millis(40);

const HEADLESS: &str = "service.kubernetes.io/headless";
/// Label that says who writes an object.
pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        endpoints: context.informers.of(),
        members: Arc::default(),
        written: Written::default(),
        queue: WorkQueue::new(),
        context: context.clone(),
    });
    controller.watch();
    controller.services.synced().await;
    controller.endpoints.synced().await;
    context.informers.of::<Pod>().synced().await;
    controller.find_left_over();
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    members: Arc<Membership>,
    written: Written,
    queue: WorkQueue<String>,
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
                queue.add_after(service, GATHER + gather);
            }
        });
        // As upstream, what somebody else changes stays so until the Service or a pod changes.
        let queue = self.queue.clone();
        self.endpoints.on_event(move |event| {
            if let Event::Deleted(gone) = event {
                queue.add(key_of(gone.as_ref()));
            }
        });
    }

    /// Our objects of Services that went while nobody was looking.
    fn find_left_over(&self) {
        for endpoints in self.endpoints.list() {
            let key = key_of(endpoints.as_ref());
            if is_ours(&endpoints) && self.services.get_key(&key).is_none() {
                self.queue.add(key);
            }
        }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let (namespace, name) = split_key(key);
        let api: Api<Endpoints> = Api::namespaced(self.context.client.clone(), namespace);
        let current = self.endpoints.get_key(key);
        let Some(service) = self.services.get_key(key) else {
            if current.is_some() {
                gone_is_fine(api.delete(name, &DeleteParams::default()).await)?;
                self.written.deleted(key, key);
            } else {
                self.written.forget(key);
            }
            return Ok(Next::Wait);
        };
        let Some(pods) = self.members.of(namespace, name) else { return Ok(Next::Wait) };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let version = |_: &str| current.as_ref().and_then(|known| known.metadata.resource_version.clone());
        if !self.written.is_visible(key, version) {
            return Ok(Next::After(Duration::from_millis(20)));
        }
        let wanted = wanted(&service, &pods, current.as_deref());
        let written = match &current {
            Some(current) if is_current(current, &wanted) => return Ok(Next::Wait),
            Some(_) => api.replace(name, &PostParams::default(), &wanted).await?,
            None => match api.create(&PostParams::default(), &wanted).await {
                Err(error) if is_namespace_terminating(&error) => return Ok(Next::Wait),
                created => created?,
            },
        };
        self.written.wrote(key, key, written.metadata.resource_version.as_deref());
        Ok(Next::Wait)
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
}

fn wanted(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Endpoints {
    let mut subsets = subsets::desired(service, pods.iter().map(Arc::as_ref));
    let is_cut = subsets::truncate(&mut subsets);
    let mut metadata = match current {
        Some(current) => current.metadata.clone(),
        None => ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
    };
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("");
    if matches!(address, "" | "None") {
        labels.insert(HEADLESS.to_string(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    metadata.labels = Some(labels);
    let mut annotations: BTreeMap<String, String> = metadata.annotations.take().unwrap_or_default();
    if is_cut {
        annotations.insert(OVER_CAPACITY.to_string(), "truncated".to_string());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) }
}

/// Whether nothing needs to be written. The API server may hold the subsets in another order.
fn is_current(current: &Endpoints, wanted: &Endpoints) -> bool {
    let packed = |endpoints: &Endpoints| subsets::repack(endpoints.subsets.as_deref().unwrap_or_default());
    current.metadata.labels == wanted.metadata.labels
        && current.metadata.annotations == wanted.metadata.annotations
        && packed(current) == packed(wanted)
}
