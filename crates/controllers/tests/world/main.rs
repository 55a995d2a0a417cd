//! The controllers against the real API server, in process and on a paused clock, with a kubelet
//! that only pretends. The tests assert on the state of the world.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs)]

mod cron_job;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod garbage;
mod job;
mod namespace;
mod replica_set;
mod resource_quota;
mod stateful_set;

use std::sync::Arc;

use client::{CancellationToken, Event, Informer, Informers, WorkQueue, key_of};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testkit::TestServer;

/// Annotation of pods that end by themselves: the phase in which they do.
pub const ENDS: &str = "test/ends";

/// Annotation of pods that are bound and then stay pending.
pub const NEVER_STARTS: &str = "test/never-starts";

/// A cluster: API server, controllers and pretended nodes.
pub struct World {
    pub server: TestServer,
    pub client: kube::Client,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// Starts the controllers named, and a kubelet.
    pub async fn start(controllers: &'static [&'static str]) -> Self {
        let server = TestServer::start().await;
        let client = server.client();
        let stop = CancellationToken::new();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if namespaces.get_opt("default").await.expect("namespaces can be read").is_none() {
            let default = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
            namespaces.create(&PostParams::default(), &default).await.expect("the namespace is created");
        }
        let informers = server.informers();
        tokio::spawn(kubelet(client.clone(), informers.clone(), stop.clone()));
        // Admission wants the account that pods run under to exist.
        let account = json!({"metadata": {"name": "default"}});
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        if accounts.get_opt("default").await.expect("accounts can be read").is_none() {
            let account = serde_json::from_value(account).unwrap();
            accounts.create(&PostParams::default(), &account).await.expect("the account is created");
        }
        let config = controllers::Config {
            client: client.clone(),
            informers,
            root_ca: "a CA".to_string(),
            authority: None,
            sign_token: None,
        };
        tokio::spawn(controllers::run(config, |name| controllers.contains(&name), stop.clone()));
        Self { server, client, stop }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn add_node(&self, name: &str) {
        let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1"}}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        // New nodes are tainted as not ready until the node lifecycle controller, absent here, has
        // seen them ready.
        let ready = json!({"spec": {"taints": null}});
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    }

    pub async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().items
    }

    /// Waits until what `look` makes of a fresh read of the object is true.
    pub async fn until<K>(&self, name: &str, what: &str, look: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let (api, look) = (self.api::<K>(), &look);
        let last = std::cell::RefCell::new(None);
        let found = self.server.eventually(what, || async {
            let object = api.get_opt(name).await.unwrap();
            let good = object.as_ref().is_some_and(look);
            last.replace(object.clone());
            object.filter(|_| good)
        });
        match tokio::time::timeout(std::time::Duration::from_secs(550), found).await {
            Ok(found) => found,
            Err(_) => panic!(
                "waited in vain for: {what}\nlast seen: {}",
                serde_json::to_string(&last.take()).unwrap()
            ),
        }
    }
}

/// Binds, runs and ends pods.
async fn kubelet(client: kube::Client, informers: Informers, stop: CancellationToken) {
    let pods: Informer<Pod> = informers.of();
    let queue: WorkQueue<String> = WorkQueue::new();
    let add = queue.clone();
    pods.on_event(move |event| {
        if let Event::Applied { new, .. } = event {
            add.add(key_of(new.as_ref()));
        }
    });
    let reconcile = move |key: String| {
        let (client, pod) = (client.clone(), pods.get_key(&key));
        async move {
            if let Some(pod) = pod {
                match run_pod(client, pod).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                    Err(error) => {
                        println!("kubelet: {key}: {error}");
                        return Err(error);
                    }
                    Ok(()) => {}
                }
            }
            Ok::<_, kube::Error>(client::Next::Wait)
        }
    };
    client::run_workers(queue, 64, reconcile, stop).await;
}

async fn run_pod(client: kube::Client, pod: Arc<Pod>) -> Result<(), kube::Error> {
    let name = pod.metadata.name.as_deref().unwrap();
    let api: Api<Pod> = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap());
    if pod.metadata.deletion_timestamp.is_some() {
        let params = DeleteParams::default().grace_period(0);
        return api.delete(name, &params).await.map(|_| ());
    }
    let spec = pod.spec.as_ref().unwrap();
    if spec.node_name.is_none() {
        let node = pinned(&pod).unwrap_or("n0");
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let _: Value = api.create_subresource("binding", name, &PostParams::default(), &binding).await?;
        return Ok(());
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let ends = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ENDS));
    if pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(NEVER_STARTS)) {
        return Ok(());
    }
    let next = match (phase, ends) {
        ("Pending", _) => "Running",
        ("Running", Some(end)) => end,
        _ => return Ok(()),
    };
    let ready = if next == "Running" { "True" } else { "False" };
    let number = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let ip = format!("10.{}.{}.{}", number % 250, number / 250 % 250, number / 62_500 % 250);
    let now = base::clock::rfc3339(base::clock::now());
    let status = json!({"status": {
        "phase": next,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
    }});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&status)).await.map(|_| ())
}

fn pinned(pod: &Pod) -> Option<&str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let field = terms.iter().flat_map(|term| term.match_fields.iter().flatten()).next()?;
    field.values.as_ref()?.first().map(String::as_str)
}

/// A pod template with these labels and annotations.
pub fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}
