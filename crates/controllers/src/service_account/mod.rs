//! What every namespace has: the `default` ServiceAccount, and the `kube-root-ca.crt` ConfigMap by
//! which pods recognise the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Informer, Next, Scope, WorkQueue, key_of};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use crate::context::{Context, Error, is_already_exists, is_namespace_terminating, is_not_found};

const WORKERS: usize = 4;
const DEFAULT_ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let named = |name: &str| Scope { fields: Some(format!("metadata.name={name}")), ..Scope::default() };
    let controller = Arc::new(Controller {
        namespaces: context.informers.of(),
        accounts: context.informers.scoped(named(DEFAULT_ACCOUNT)),
        config_maps: context.informers.scoped(named(ROOT_CA)),
        context: context.clone(),
    });
    let queue: WorkQueue<String> = WorkQueue::new();
    let add = queue.clone();
    controller.namespaces.on_event(move |event| add.add(key_of(event.object().as_ref())));
    let add = queue.clone();
    controller
        .accounts
        .on_event(move |event| add.add(event.object().metadata.namespace.clone().unwrap_or_default()));
    let add = queue.clone();
    controller
        .config_maps
        .on_event(move |event| add.add(event.object().metadata.namespace.clone().unwrap_or_default()));
    controller.namespaces.synced().await;
    controller.accounts.synced().await;
    controller.config_maps.synced().await;
    let reconcile = |controller: Arc<Controller>, namespace: String| async move {
        controller.reconcile(&namespace).await
    };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    config_maps: Informer<ConfigMap>,
}

impl Controller {
    async fn reconcile(&self, namespace: &str) -> Result<Next, Error> {
        let active =
            self.namespaces.get("", namespace).is_some_and(|ns| ns.metadata.deletion_timestamp.is_none());
        if !active {
            return Ok(Next::Wait);
        }
        if self.accounts.get(namespace, DEFAULT_ACCOUNT).is_none() {
            let api: Api<ServiceAccount> = Api::namespaced(self.context.client.clone(), namespace);
            let account =
                ServiceAccount { metadata: named(namespace, DEFAULT_ACCOUNT), ..Default::default() };
            created(api.create(&PostParams::default(), &account).await)?;
        }
        if !self.context.root_ca.is_empty() {
            self.publish_root_ca(namespace).await?;
        }
        Ok(Next::Wait)
    }

    async fn publish_root_ca(&self, namespace: &str) -> Result<(), Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), namespace);
        let data = BTreeMap::from([(ROOT_CA_KEY.to_string(), self.context.root_ca.clone())]);
        match self.config_maps.get(namespace, ROOT_CA) {
            None => {
                let mut metadata = named(namespace, ROOT_CA);
                metadata.annotations = Some(BTreeMap::from([(
                    DESCRIPTION.to_string(),
                    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                     guaranteed across distributions of Kubernetes clusters."
                        .to_string(),
                )]));
                let map = ConfigMap { metadata, data: Some(data), ..Default::default() };
                created(api.create(&PostParams::default(), &map).await)?;
            }
            Some(current) if current.data.as_ref() != Some(&data) => {
                let mut map = ConfigMap::clone(&current);
                map.data = Some(data);
                api.replace(ROOT_CA, &PostParams::default(), &map).await?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..Default::default() }
}

/// A create that somebody else was faster with, or whose namespace is going, needs no retry.
fn created<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error)
            if !is_already_exists(&error) && !is_namespace_terminating(&error) && !is_not_found(&error) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}
