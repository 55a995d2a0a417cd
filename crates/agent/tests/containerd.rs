//! The agent with real containers on a private containerd, across a restart, leaving nothing behind.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::usage::NodeUsage;
use common::{Node, condition, container, phase, waiting_reason};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, Patch, PatchParams};
use runtime::Runtime;
use runtime_cri::private::{self, Config};
use serde_json::json;

fn ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && condition(pod, "Ready")
}

#[tokio::test(flavor = "multi_thread")]
async fn real_pods_survive_the_agent_and_leave_nothing() {
    if let Some(reason) = private::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    if !runtime_cri::image::has_busybox() {
        println!("skipped: busybox is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::of(dir.path(), "10.199.18.0/24");
    config.volumes = Some(dir.path().join("agent"));
    let outcome = tokio::spawn(life(config.clone(), dir.path().to_owned())).await;
    private::down(&config).await.unwrap();
    outcome.unwrap();
    assert_eq!(private::leftovers(&config).to_string(), "");
}

async fn life(config: Config, dir: std::path::PathBuf) {
    let containerd = private::up(config.clone()).await.unwrap();
    containerd.import_busybox().await.unwrap();
    let engine = Arc::new(containerd.engine());
    let mut node = Node::start_in(engine.clone(), &dir, &config.cgroup_root).await;
    web(&node).await;
    words(&node, &dir).await;
    limits(&node, engine.as_ref()).await;

    // Restart of the agent: nothing is restarted, and the pod is still looked after.
    let before = node.pods().get("web").await.unwrap();
    node.stop().await;
    node.run();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = node.until("ready", "web", ready).await;
    assert_eq!(container(&after, "c"), container(&before, "c"));

    for name in ["web", "words", "burn"] {
        node.delete(name, 1).await;
    }
    for name in ["web", "words", "burn"] {
        node.until_gone(name).await;
    }
    assert!(engine.sandboxes(&runtime::Labels::new()).await.unwrap().is_empty());
    assert!(!dir.join("agent/pods").read_dir().is_ok_and(|mut d| d.next().is_some()));
    node.stop().await;
}

/// A server with probes and every kind of volume; its content follows the ConfigMap.
async fn web(node: &Node) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "page"}, "data": {"index.html": "one"}});
    node.server.create::<ConfigMap>(map).await;
    node.pod("web", json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "c", "image": "busybox", "command": ["httpd", "-f", "-p", "8080", "-h", "/www"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "http", "path": "/index.html"}, "periodSeconds": 1},
            "livenessProbe": {"tcpSocket": {"port": 8080}},
            "startupProbe": {"exec": {"command": ["test", "-e", "/memory"]}, "periodSeconds": 1},
            "volumeMounts": [
                {"name": "page", "mountPath": "/www"}, {"name": "scratch", "mountPath": "/scratch"},
                {"name": "memory", "mountPath": "/memory"}, {"name": "info", "mountPath": "/info"},
            ],
        }],
        "volumes": [
            {"name": "page", "configMap": {"name": "page"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ],
    }))
    .await;
    let pod = node.until("ready", "web", ready).await;
    let status = container(&pod, "c").unwrap();
    assert!(status.container_id.as_deref().unwrap().starts_with("containerd://"));
    assert!(pod.status.as_ref().unwrap().pod_ip.as_deref().unwrap().starts_with("10.199.18."));

    let id = status.container_id.clone().unwrap().replace("containerd://", "");
    let run = async |command: &str| {
        let command = ["sh", "-c", command].map(str::to_owned);
        let output = node.config.runtime.exec_sync(&id, &command, Duration::from_secs(5)).await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(run("cat /info/labels").await, "app=\"web\"");
    assert_eq!(run("grep -c ' /memory tmpfs' /proc/mounts; hostname").await, "1\nweb");
    assert!(run("cat /etc/hosts").await.contains("\tweb"));
    let maps: Api<ConfigMap> = Api::namespaced(node.config.client.clone(), "default");
    let patch = json!({"data": {"index.html": "two"}});
    maps.patch("page", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    node.server
        .eventually("the new page", || async {
            (run("wget -q -O - http://127.0.0.1:8080/").await == "two").then_some(())
        })
        .await;
}

/// Termination messages, restarts, logs of both attempts.
async fn words(node: &Node, dir: &Path) {
    node.pod(
        "words",
        json!({"containers": [{
            "name": "c", "image": "busybox",
            "command": ["sh", "-c", "echo said $WHO; echo last > /dev/termination-log; exit 4"],
            "env": [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }]}),
    )
    .await;
    let pod = node.until("a back-off", "words", |p| waiting_reason(p, "c") == "CrashLoopBackOff").await;
    let status = container(&pod, "c").unwrap();
    let last = status.last_state.as_ref().unwrap().terminated.clone().unwrap();
    assert_eq!(
        (last.exit_code, last.message.as_deref(), last.reason.as_deref()),
        (4, Some("last\n"), Some("Error"))
    );
    assert_eq!(status.restart_count, 1);
    let uid = pod.metadata.uid.unwrap();
    for attempt in 0..2 {
        let log = dir.join(format!("logs/default_words_{uid}/c/{attempt}.log"));
        assert!(std::fs::read_to_string(log).unwrap().contains("stdout F said words"));
    }
}

/// Limits are enforced and use is published.
async fn limits(node: &Node, engine: &dyn Runtime) {
    node.pod(
        "burn",
        json!({"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "c", "image": "busybox", "command": ["sh", "-c", "while :; do :; done"],
            "resources": {"limits": {"cpu": "200m", "memory": "32Mi"}},
        }]}),
    )
    .await;
    node.until("ready", "burn", ready).await;
    let api: Api<NodeUsage> = Api::all(node.config.client.clone());
    let used = node
        .server
        .eventually("usage", || async {
            let usage = api.get_opt(common::NODE).await.unwrap()?;
            let pod = usage.pods.into_iter().find(|p| p.name == "burn")?;
            pod.containers.first().map(|c| c.cpu_milli).filter(|m| *m > 100)
        })
        .await;
    assert!(used < 300, "limited to 200m but used {used}m");
    assert!(engine.stats().await.unwrap().len() >= 2);
}
