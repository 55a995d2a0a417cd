//! Pods bound per second through the API: `cargo bench -p scheduler`.
//!
//! API server on the in-memory store and scheduler in one process on two worker threads; the pods
//! are there before the scheduler starts.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark measures real time"
)]

use std::time::{Duration, Instant};

use client::CancellationToken;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use scheduler::Config;
use serde_json::json;
use testkit::TestServer;

fn main() {
    let arguments: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let [nodes, pods] = arguments[..] else {
        for (nodes, pods) in [(1_000, 20_000), (5_000, 40_000)] {
            measure(nodes, pods);
        }
        return;
    };
    measure(nodes, pods);
}

fn measure(nodes: usize, pods: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = TestServer::start().await;
        // No controller runs here that would make the account that pods need.
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let _ = Api::namespaced(server.client(), "default").create(&PostParams::default(), &account).await;
        let node_api: Api<Node> = Api::all(server.client());
        let pod_api: Api<Pod> = Api::namespaced(server.client(), "default");
        let start = Instant::now();
        for number in 0..nodes {
            node_api.create(&PostParams::default(), &node(number)).await.unwrap();
            // New nodes are tainted as not ready; the node life cycle controller does not run here.
            let ready = Patch::Merge(json!({"spec": {"taints": null}}));
            node_api.patch(&format!("node-{number}"), &PatchParams::default(), &ready).await.unwrap();
        }
        let mut creating = tokio::task::JoinSet::new();
        for worker in 0..32 {
            let pod_api = pod_api.clone();
            creating.spawn(async move {
                for number in (worker..pods).step_by(32) {
                    pod_api.create(&PostParams::default(), &pod(number)).await.unwrap();
                }
            });
        }
        creating.join_all().await;
        println!("{nodes} nodes and {pods} pods created in {:.1} s", start.elapsed().as_secs_f64());

        let informers = server.informers();
        let informer = informers.of::<Pod>();
        informer.synced().await;
        informers.of::<Node>().synced().await;
        let stop = CancellationToken::new();
        let start = Instant::now();
        tokio::spawn(scheduler::run(Config::new(informers), stop.clone()));
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut bound = 0;
            informer.for_each(|pod| {
                bound += usize::from(pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            });
            if bound == pods {
                break;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("  all bound in {seconds:.2} s: {:.0} pods/s", pods as f64 / seconds);
        stop.cancel();
    });
}

fn node(number: usize) -> Node {
    let resources = json!({"cpu": "16", "memory": "64Gi", "pods": "110"});
    serde_json::from_value(json!({
        "metadata": {"name": format!("node-{number}"), "labels": {"topology.kubernetes.io/zone": format!("z{}", number % 3)}},
        "status": {"allocatable": resources, "capacity": resources}}))
    .unwrap()
}

fn pod(number: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "app", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]}}))
    .unwrap()
}
