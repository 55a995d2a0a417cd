//! What all controllers share.

use std::sync::Arc;
use std::time::Duration;

use client::{CancellationToken, Index, Informers, Next, Recorder, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;

use crate::certificates::Authority;
use crate::owner;

/// Events that come in crowds (pods becoming ready, endpoints moving) are gathered for this long,
/// so that a burst costs one status write and not one each.
pub const GATHER: Duration = Duration::from_millis(10);

/// Makes a signed token of claims, or says why not.
pub type SignToken = Arc<dyn Fn(&serde_json::Value) -> Result<String, String> + Send + Sync>;

/// The informers and indexes that several controllers read, and what ends them.
#[derive(Clone)]
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// One watch per kind for all controllers.
    pub informers: Informers,
    /// Pods by their controller.
    pub pods: Pods,
    /// PEM certificates of the authorities that clients in pods should trust.
    pub root_ca: String,
    /// Signs approved certificate requests.
    pub authority: Option<Arc<Authority>>,
    /// Signs the claims of tokens.
    pub sign_token: Option<SignToken>,
    /// Ends all controllers.
    pub stop: CancellationToken,
}

impl Context {
    /// Starts the informer of pods.
    pub fn new(client: Client, informers: Informers, root_ca: String, stop: CancellationToken) -> Self {
        let pods = Pods::new(&informers);
        Self { client, informers, pods, root_ca, authority: None, sign_token: None, stop }
    }

    /// A recorder of events in the name of a component.
    pub fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), component)
    }

    /// Lets a controller reconcile what its queue names, `workers` at a time, until all are ended.
    pub async fn work<C, F, R>(
        &self,
        queue: WorkQueue<String>,
        workers: usize,
        controller: Arc<C>,
        reconcile: F,
    ) where
        C: Send + Sync + 'static,
        F: Fn(Arc<C>, String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let reconcile = move |key| reconcile(controller.clone(), key);
        run_workers(queue, workers, reconcile, self.stop.clone()).await;
    }
}

/// Pods by the uid of their controller, and those without one by namespace.
#[derive(Clone)]
pub struct Pods {
    index: Index<Pod>,
}

impl Pods {
    fn new(informers: &Informers) -> Self {
        let index = informers.of::<Pod>().index(|pod| vec![pods_key(&pod.metadata)]);
        Self { index }
    }

    /// The pods controlled by the owner with this uid.
    pub fn controlled_by(&self, uid: &str) -> Vec<std::sync::Arc<Pod>> {
        self.index.get(uid)
    }

    /// The pods of a namespace that nothing controls.
    pub fn orphans(&self, namespace: &str) -> Vec<std::sync::Arc<Pod>> {
        self.index.get(&orphans_key(namespace))
    }
}

fn pods_key(metadata: &ObjectMeta) -> String {
    match owner::controller(metadata) {
        Some(reference) => reference.uid.clone(),
        None => orphans_key(metadata.namespace.as_deref().unwrap_or("")),
    }
}

/// Uids contain no slash, so the two kinds of key cannot meet.
fn orphans_key(namespace: &str) -> String {
    format!("{namespace}/")
}

/// Why a reconciliation failed. All of these are tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// A selector that makes no sense.
    #[error(transparent)]
    Selector(#[from] api::selector::ParseError),
    /// An object changed its identity between two reads.
    #[error("{kind} {name} was replaced by another one of that name")]
    Replaced {
        /// The object's kind.
        kind: &'static str,
        /// The object's key.
        name: String,
    },
    /// Something that must be there before the work can go on is not.
    #[error("{0}")]
    NotYet(String),
}

/// What the API server said, if it was that.
fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Whether the object does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.is_not_found())
}

/// Whether an object of that name exists already.
pub fn is_already_exists(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.is_already_exists())
}

/// Whether the object changed in the meantime, or is another one than meant.
pub fn is_conflict(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.is_conflict())
}

/// Whether nothing can be created because the namespace is going away.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    status(error)
        .and_then(|status| status.details.as_ref())
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// A result in which an object that is gone counts as success.
pub fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The words of an API error, without what wraps them.
pub fn message(error: &kube::Error) -> String {
    status(error).map_or_else(|| error.to_string(), |status| status.message.clone())
}

/// Splits a key of an informer or queue.
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}
