//! The agent on an engine in memory and our API server in process, on virtual time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Node, condition, container, phase, waiting_reason};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node as NodeObject, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use runtime::ExecOutput;
use runtime::fake::Fake;
use serde_json::json;

async fn node() -> (Fake, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let node = Node::start(Arc::new(fake.clone()), dir.path()).await;
    (fake, node, dir)
}

fn running(pod: &Pod) -> bool {
    phase(pod) == "Running" && condition(pod, "Ready")
}

#[tokio::test(start_paused = true)]
async fn the_node_registers_and_keeps_its_lease() {
    let (_fake, node, _dir) = node().await;
    let nodes: Api<NodeObject> = Api::all(node.config.client.clone());
    let found = node
        .server
        .eventually("a ready node", || async {
            let found = nodes.get_opt(common::NODE).await.unwrap()?;
            let conditions = found.status.as_ref()?.conditions.clone()?;
            conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True").then_some(found)
        })
        .await;
    assert_eq!(found.metadata.labels.unwrap()["kubernetes.io/hostname"], "n1");
    let status = found.status.unwrap();
    assert_eq!(status.allocatable.unwrap()["cpu"].0, "4");
    assert!(status.node_info.unwrap().container_runtime_version.starts_with("fake://"));
    let leases: Api<Lease> = Api::namespaced(node.config.client.clone(), "kube-node-lease");
    let renewed = || async { leases.get_opt("n1").await.unwrap()?.spec?.renew_time };
    let first = node.server.eventually("a lease", renewed).await;
    node.server.eventually("a renewal", || async { renewed().await.filter(|t| *t != first) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_is_deleted() {
    let (fake, node, _dir) = node().await;
    node.pod(
        "web",
        json!({"containers": [
            {"name": "c", "image": "busybox", "command": ["sleep", "$(N)"], "env": [
                {"name": "N", "value": "3600"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ]},
        ]}),
    )
    .await;
    let pod = node.until("Ready", "web", running).await;
    let status = pod.status.clone().unwrap();
    let ip = status.pod_ip.clone().unwrap();
    assert!(ip.starts_with("10.0."), "{ip}");
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    assert!(status.start_time.is_some());
    let made = fake.configs("c").pop().unwrap();
    assert_eq!(made.command, ["sleep", "3600"]);
    assert!(made.envs.contains(&("NAME".into(), "web".into())) && made.envs.contains(&("IP".into(), ip)));
    let running = container(&pod, "c").unwrap();
    assert!(running.ready && running.started == Some(true) && running.restart_count == 0);
    assert!(running.container_id.as_deref().unwrap().starts_with("fake://"));

    node.delete("web", 5).await;
    node.until_gone("web").await;
    assert!(runtime::Runtime::sandboxes(&fake, &runtime::Labels::new()).await.unwrap().is_empty());
    let events: Api<Event> = Api::namespaced(node.config.client.clone(), "default");
    let reasons = events.list(&ListParams::default()).await.unwrap();
    let reasons: Vec<String> = reasons.items.into_iter().filter_map(|e| e.reason).collect();
    for reason in ["Pulled", "Created", "Started", "Killing"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason} in {reasons:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn crashes_are_backed_off() {
    let (fake, node, _dir) = node().await;
    node.pod(
        "bad",
        json!({"containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", "exit 3"]}]}),
    )
    .await;
    let pod = node.until("a back-off", "bad", |p| waiting_reason(p, "c") == "CrashLoopBackOff").await;
    let status = container(&pod, "c").unwrap();
    let last = status.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert!(status.restart_count >= 1);
    assert_eq!(phase(&pod), "Running");
    let begin = tokio::time::Instant::now();
    node.until("five restarts", "bad", |p| container(p, "c").unwrap().restart_count >= 5).await;
    // 10 + 20 + 40 + 80 s between restarts 1 and 5.
    assert!((145..=155).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert!(fake.starts() <= 6);
}

#[tokio::test(start_paused = true)]
async fn jobs_end_with_their_phase() {
    let (_fake, node, _dir) = node().await;
    for (name, policy, command, expected) in [
        ("ok", "Never", json!(["true"]), "Succeeded"),
        ("failed", "Never", json!(["false"]), "Failed"),
        ("ok2", "OnFailure", json!(["sleep", "5"]), "Succeeded"),
    ] {
        let spec = json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "busybox", "command": command}]});
        node.pod(name, spec).await;
        let pod = node.until(expected, name, |p| phase(p) == expected).await;
        assert!(container(&pod, "c").unwrap().state.as_ref().unwrap().terminated.is_some());
        assert!(!condition(&pod, "Ready"));
    }
    let spec = json!({"restartPolicy": "Never", "activeDeadlineSeconds": 30,
        "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "600"]}]});
    node.pod("late", spec).await;
    let pod = node.until("Failed", "late", |p| phase(p) == "Failed").await;
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test(start_paused = true)]
async fn init_containers_and_sidecars_come_first() {
    let (fake, node, _dir) = node().await;
    node.pod("init", json!({
        "initContainers": [
            {"name": "first", "image": "busybox", "command": ["sleep", "10"]},
            {"name": "side", "image": "busybox", "restartPolicy": "Always", "command": ["sleep", "100000"]},
        ],
        "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "100000"]}],
    }))
    .await;
    let pod = node
        .until("the first init container", "init", |p| {
            container(p, "first").and_then(|c| c.state.as_ref()?.running.as_ref()).is_some()
        })
        .await;
    assert_eq!((phase(&pod), waiting_reason(&pod, "c")), ("Pending", "PodInitializing"));
    assert!(!condition(&pod, "Initialized") && fake.configs("side").is_empty());
    let pod = node.until("Ready", "init", running).await;
    assert!(condition(&pod, "Initialized") && container(&pod, "side").unwrap().ready);
    node.delete("init", 1).await;
    node.until_gone("init").await;
}

#[tokio::test(start_paused = true)]
async fn missing_images_and_objects_say_so() {
    let (fake, node, _dir) = node().await;
    node.pod(
        "img",
        json!({"containers": [{"name": "c", "image": "nowhere/none:1", "command": ["sleep", "99999"]}]}),
    )
    .await;
    node.until("ErrImagePull", "img", |p| waiting_reason(p, "c") == "ErrImagePull").await;
    let pod = node.until("ImagePullBackOff", "img", |p| waiting_reason(p, "c") == "ImagePullBackOff").await;
    assert_eq!(phase(&pod), "Pending");
    fake.add_image("nowhere/none:1");
    node.until("Ready", "img", running).await;

    let from = json!([{"configMapRef": {"name": "later"}}]);
    node.pod("cfg", json!({"containers": [{"name": "c", "image": "busybox", "envFrom": from, "command": ["sleep", "99999"]}]})).await;
    node.until("a config error", "cfg", |p| waiting_reason(p, "c") == "CreateContainerConfigError").await;
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"K": "v"}});
    node.server.create::<k8s_openapi::api::core::v1::ConfigMap>(map).await;
    node.until("Ready", "cfg", running).await;
    assert!(fake.configs("c").iter().any(|c| c.envs.contains(&("K".into(), "v".into()))));
}

#[tokio::test(start_paused = true)]
async fn probes_decide_on_readiness_and_restarts() {
    let (fake, node, _dir) = node().await;
    let failing = |names: &'static [&'static str]| {
        let exit = move |_: &runtime::Container, command: &[String]| ExecOutput {
            exit_code: i32::from(names.contains(&command[0].as_str())),
            stdout: Bytes::new(),
            stderr: Bytes::from_static(b"no"),
        };
        fake.set_exec(Arc::new(exit));
    };
    failing(&["startup", "ready"]);
    let probe = |what: &str| json!({"exec": {"command": [what]}, "periodSeconds": 1, "failureThreshold": 2});
    node.pod(
        "probed",
        json!({"containers": [{
        "name": "c", "image": "busybox", "command": ["sleep", "99999"],
        "startupProbe": probe("startup"), "readinessProbe": probe("ready"), "livenessProbe": probe("live"),
    }], "terminationGracePeriodSeconds": 1}),
    )
    .await;
    let pod = node.until("running", "probed", |p| phase(p) == "Running").await;
    assert!(!condition(&pod, "Ready") && container(&pod, "c").unwrap().started == Some(false));
    failing(&["ready"]);
    node.until("started", "probed", |p| container(p, "c").unwrap().started == Some(true)).await;
    failing(&[]);
    node.until("ready", "probed", |p| condition(p, "Ready")).await;
    failing(&["ready"]);
    node.until("unready", "probed", |p| !condition(p, "Ready")).await;
    failing(&["live"]);
    let pod = node.until("a restart", "probed", |p| container(p, "c").unwrap().restart_count == 1).await;
    let last = container(&pod, "c").unwrap().last_state.as_ref().unwrap().terminated.clone().unwrap();
    assert_eq!(last.exit_code, 137);
    failing(&[]);
    node.until("ready again", "probed", running).await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_adopts_what_runs() {
    let (fake, mut node, _dir) = node().await;
    let pod = json!({"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "99999"]}]});
    node.pod("kept", pod.clone()).await;
    node.pod("gone", pod).await;
    let before = node.until("Ready", "kept", running).await;
    node.until("Ready", "gone", running).await;
    node.stop().await;
    // Deleted behind the agent's back: its sandbox is an orphan.
    node.delete("gone", 0).await;
    node.run();
    let all = runtime::Labels::new();
    let sandboxes = || runtime::Runtime::sandboxes(&fake, &all);
    node.server
        .eventually("the orphan is removed", || async {
            (sandboxes().await.unwrap().len() == 1).then_some(())
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    let after = node.until("Ready", "kept", running).await;
    assert_eq!(fake.starts(), 2, "nothing was started again");
    assert_eq!(after.status.unwrap().container_statuses, before.status.unwrap().container_statuses);
    // And the adopted pod is under control.
    fake.exit(&fake_id(&fake, "kept").await, 1, "");
    node.until("a restart", "kept", |p| container(p, "c").unwrap().restart_count == 1).await;
}

async fn fake_id(fake: &Fake, pod: &str) -> String {
    let labels = runtime::Labels::from([("io.kubernetes.pod.name".to_owned(), pod.to_owned())]);
    runtime::Runtime::containers(fake, &labels).await.unwrap()[0].id.clone()
}

#[tokio::test(start_paused = true)]
async fn a_steady_pod_is_not_written_again() {
    let (_fake, node, _dir) = node().await;
    node.pod(
        "calm",
        json!({"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "99999"]}]}),
    )
    .await;
    let before = node.until("Ready", "calm", running).await;
    let patch = json!({"metadata": {"annotations": {"a": "b"}}});
    let patched = node.pods().patch("calm", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_ne!(before.metadata.resource_version, patched.metadata.resource_version);
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    let after = node.pods().get("calm").await.unwrap();
    assert_eq!(after.metadata.resource_version, patched.metadata.resource_version);
}
