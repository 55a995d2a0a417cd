//! EndpointSlices for Endpoints objects that somebody made by hand, for Services without selector.

mod mirror;

use std::sync::Arc;
use std::time::Duration;

use client::{Index, Informer, Next, WorkQueue, key_of};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;

use self::mirror::MANAGER;
use crate::context::{Context, Error, split_key};
use crate::endpoint_slice::plan::{Plan, kept_for};
use crate::endpoint_slice::writes;
use crate::written::Written;

const WORKERS: usize = 4;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let slices = context.informers.of::<EndpointSlice>();
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        endpoints: context.informers.of(),
        slices_of: slices.index(|slice| mirrored_from(slice).into_iter().collect()),
        slices,
        written: Written::default(),
        queue: WorkQueue::new(),
        context: context.clone(),
    });
    controller.watch();
    controller.services.synced().await;
    controller.endpoints.synced().await;
    controller.slices.synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    /// Our slices by the key of their Endpoints object.
    slices_of: Index<EndpointSlice>,
    written: Written,
    queue: WorkQueue<String>,
}

/// The key of the Endpoints object that this slice mirrors.
fn mirrored_from(slice: &EndpointSlice) -> Option<String> {
    kept_for(slice, MANAGER)
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.services.on_event(move |event| queue.add(key_of(event.object().as_ref())));
        let queue = self.queue.clone();
        self.endpoints.on_event(move |event| queue.add(key_of(event.object().as_ref())));
        let queue = self.queue.clone();
        self.slices.on_event(move |event| {
            if let Some(key) = mirrored_from(event.object()) {
                queue.add_after(key, Duration::from_millis(10));
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let (namespace, _) = split_key(key);
        let version = |slice: &str| {
            self.slices.get_key(slice).and_then(|slice| slice.metadata.resource_version.clone())
        };
        if !self.written.is_visible(key, version) {
            return Ok(Next::After(Duration::from_millis(20)));
        }
        let existing = self.slices_of.get(key);
        let by_hand =
            |service: &Arc<Service>| service.spec.as_ref().is_some_and(|spec| spec.selector.is_none());
        let served = self.services.get_key(key).is_some_and(|service| by_hand(&service));
        let plan =
            match self.endpoints.get_key(key).filter(|endpoints| served && mirror::is_mirrored(endpoints)) {
                Some(endpoints) if endpoints.metadata.deletion_timestamp.is_some() => return Ok(Next::Wait),
                Some(endpoints) => mirror::plan(&endpoints, existing),
                None => Plan { delete: existing, ..Plan::default() },
            };
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), namespace);
        writes::execute(&api, &self.written, key, plan).await?;
        Ok(Next::Wait)
    }
}
