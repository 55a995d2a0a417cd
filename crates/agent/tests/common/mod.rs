//! A node against our API server in process.

#![allow(dead_code, clippy::unwrap_used, reason = "a test's tools; not every test uses all of them")]

use std::path::Path;
use std::sync::Arc;

use agent::{Config, Machine};
use client::CancellationToken;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, DeleteParams};
use runtime::Runtime;
use serde_json::{Value, json};
use testkit::TestServer;

pub const NODE: &str = "n1";

pub struct Node {
    pub server: TestServer,
    pub config: Config,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    pub async fn start(runtime: Arc<dyn Runtime>, dir: &Path) -> Self {
        Self::start_in(runtime, dir, "/kobune-agent-test").await
    }

    pub async fn start_in(runtime: Arc<dyn Runtime>, dir: &Path, cgroup_root: &str) -> Self {
        let server = TestServer::start().await;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        server.create::<k8s_openapi::api::core::v1::ServiceAccount>(account).await;
        let config = Config {
            client: server.client(),
            informers: server.informers(),
            runtime,
            node_name: NODE.into(),
            node_ip: "127.0.0.1".into(),
            root_dir: dir.join("agent"),
            log_dir: dir.join("logs"),
            cgroup_root: cgroup_root.into(),
            cluster_dns: None,
            cluster_domain: "cluster.local".into(),
            labels: [("zone".to_owned(), "z".to_owned())].into(),
            pods_max: 110,
            machine: Some(Machine { cpu_milli: 4000, memory: 8 << 30, storage: 1 << 30 }),
            server: None,
        };
        let mut node = Self { server, config, stop: CancellationToken::new(), task: None };
        node.run();
        node
    }

    pub fn run(&mut self) {
        self.stop = CancellationToken::new();
        self.config.informers = self.server.informers();
        let (config, stop) = (self.config.clone(), self.stop.clone());
        self.task = Some(tokio::spawn(async move { agent::run(config, stop).await.unwrap() }));
    }

    pub async fn stop(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.config.client.clone(), "default")
    }

    /// Creates a pod that is bound already. `spec` is merged over a minimal one.
    pub async fn pod(&self, name: &str, spec: Value) -> Pod {
        let mut whole =
            json!({"nodeName": NODE, "serviceAccountName": "default", "automountServiceAccountToken": false});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        self.server
            .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole}))
            .await
    }

    pub async fn delete(&self, name: &str, grace: u32) {
        self.pods().delete(name, &DeleteParams::default().grace_period(grace)).await.unwrap();
    }

    /// Waits until a pod satisfies a condition.
    pub async fn until(&self, what: &str, name: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let mut last = None;
        let search = async {
            loop {
                let pod = self.pods().get_opt(name).await.unwrap();
                if let Some(pod) = pod.as_ref().filter(|p| holds(p)) {
                    return pod.clone();
                }
                last = pod;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(900), search).await {
            Ok(pod) => pod,
            Err(_) => panic!(
                "waited in vain for {what}: {}",
                serde_json::to_string_pretty(&last.map(|p| p.status)).unwrap()
            ),
        }
    }

    pub async fn until_gone(&self, name: &str) {
        self.server
            .eventually("the pod is gone", || async {
                self.pods().get_opt(name).await.unwrap().is_none().then_some(())
            })
            .await;
    }
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("")
}

pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten()).find(|c| c.name == name)
}

pub fn waiting_reason<'a>(pod: &'a Pod, name: &str) -> &'a str {
    let state = container(pod, name).and_then(|c| c.state.as_ref());
    state.and_then(|s| s.waiting.as_ref()?.reason.as_deref()).unwrap_or("")
}

pub fn condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == kind && c.status == "True")
}
