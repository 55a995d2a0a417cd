//! The scheduler against our API server in process: what it does to the world.

#![allow(clippy::unwrap_used, reason = "tests")]

use api::explain::Decision;
use client::CancellationToken;
use k8s_openapi::api::core::v1::{Event, Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use scheduler::Config;
use serde_json::{Value, json};
use testkit::TestServer;

struct World {
    server: TestServer,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn start() -> Self {
        let server = TestServer::start().await;
        // No controller runs here that would make the account that pods need.
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let _ = Api::namespaced(server.client(), "default").create(&PostParams::default(), &account).await;
        let stop = CancellationToken::new();
        tokio::spawn(scheduler::run(Config::new(server.informers()), stop.clone()));
        Self { server, stop }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.server.client(), "default")
    }

    async fn node(&self, name: &str, cpu: &str) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}, "capacity": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
        }))
        .unwrap();
        let nodes = Api::<Node>::all(self.server.client());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        // New nodes are tainted as not ready; the node life cycle controller does not run here.
        let ready = Patch::Merge(json!({"spec": {"taints": null}}));
        nodes.patch(name, &PatchParams::default(), &ready).await.unwrap();
        // Watches of different kinds say nothing about each other's order: the node comes first.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    async fn pod(&self, name: &str, cpu: &str, extra: Value) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "app", "resources": {"requests": {"cpu": cpu}}}]}});
        for (field, value) in extra.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        self.server.create::<Pod>(pod).await;
    }

    async fn bound(&self, name: &str) -> String {
        let pods = self.pods();
        self.server
            .eventually(&format!("{name} is bound"), || {
                let pods = pods.clone();
                async move { pods.get(name).await.unwrap().spec?.node_name }
            })
            .await
    }

    async fn message(&self, name: &str) -> String {
        let pods = self.pods();
        self.server
            .eventually(&format!("{name} is told why it waits"), || {
                let pods = pods.clone();
                async move {
                    let conditions = pods.get(name).await.unwrap().status?.conditions?;
                    let told = conditions
                        .into_iter()
                        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
                    assert_eq!(told.reason.as_deref(), Some("Unschedulable"));
                    told.message
                }
            })
            .await
    }

    async fn event(&self, name: &str, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.server.client(), "default");
        self.server
            .eventually(&format!("{name} has an event {reason}"), || {
                let events = events.clone();
                async move {
                    let list = events.list(&ListParams::default()).await.unwrap();
                    let matches = |event: &Event| {
                        event.involved_object.name.as_deref() == Some(name)
                            && event.reason.as_deref() == Some(reason)
                    };
                    list.items.into_iter().find(matches)?.message
                }
            })
            .await
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_and_say_so() {
    let world = World::start().await;
    world.node("n1", "4").await;
    world.pod("a", "1", json!({})).await;
    assert_eq!(world.bound("a").await, "n1");
    assert_eq!(world.event("a", "Scheduled").await, "Successfully assigned default/a to n1");
    let pod = world.pods().get("a").await.unwrap();
    let scheduled = pod
        .status
        .unwrap()
        .conditions
        .unwrap()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled")
        .unwrap();
    assert_eq!(scheduled.status, "True");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_is_explained_and_placed_when_a_node_comes() {
    let world = World::start().await;
    world.node("n1", "1").await;
    world.pod("big", "3", json!({})).await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(world.message("big").await, message);
    assert_eq!(world.event("big", "FailedScheduling").await, message);
    let decisions: Api<Decision> = Api::namespaced(world.server.client(), "default");
    let action = |expected: &'static str| {
        let decisions = decisions.clone();
        async move {
            let decision = decisions.get_opt("pod-big").await.unwrap()?;
            (decision.latest.action == expected).then_some(decision)
        }
    };
    let decision = world.server.eventually("the decision is recorded", || action("Unschedulable")).await;
    assert_eq!(decision.latest.rejected[0].reason, "Insufficient cpu, even without other pods");
    assert_eq!(decision.latest.inputs[1].value, "node n1 lacks 2 cpu");
    let before = world.pods().get("big").await.unwrap().metadata.resource_version;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(
        world.pods().get("big").await.unwrap().metadata.resource_version,
        before,
        "nothing changed, nothing is written"
    );

    world.node("n2", "4").await;
    assert_eq!(world.bound("big").await, "n2");
    let decision = world.server.eventually("the decision is completed", || action("Scheduled")).await;
    assert_eq!(decision.history.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_freed_goes_to_those_who_wait() {
    let world = World::start().await;
    world.node("n1", "2").await;
    world.pod("first", "2", json!({})).await;
    world.bound("first").await;
    world.pod("second", "2", json!({})).await;
    world.message("second").await;
    world.pods().delete("first", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(world.bound("second").await, "n1");
}

#[tokio::test(start_paused = true)]
async fn gates_hold_a_pod_back() {
    let world = World::start().await;
    world.node("n1", "2").await;
    world.pod("gated", "1", json!({"schedulingGates": [{"name": "example.com/wait"}]})).await;
    world.pod("other", "1", json!({})).await;
    world.bound("other").await;
    let mut pod = world.pods().get("gated").await.unwrap();
    assert_eq!(pod.spec.as_ref().unwrap().node_name, None);
    pod.spec.as_mut().unwrap().scheduling_gates = None;
    world.pods().replace("gated", &PostParams::default(), &pod).await.unwrap();
    assert_eq!(world.bound("gated").await, "n1");
}

#[tokio::test(start_paused = true)]
async fn many_pods_fill_the_nodes_evenly() {
    let world = World::start().await;
    for node in 0..10 {
        world.node(&format!("n{node}"), "8").await;
    }
    for pod in 0..200 {
        world.pod(&format!("p{pod}"), "250m", json!({})).await;
    }
    let mut per_node = std::collections::BTreeMap::<String, usize>::new();
    for pod in 0..200 {
        *per_node.entry(world.bound(&format!("p{pod}")).await).or_default() += 1;
    }
    assert!(per_node.len() == 10 && per_node.values().all(|pods| *pods == 20), "{per_node:?}");
}
