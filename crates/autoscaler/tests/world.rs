//! The autoscaler against our API server and the simulated cloud, with a tiny fake of scheduler and
//! nodes. On paused time; assertions are on the state of the world.
#![allow(clippy::unwrap_used, reason = "fixtures are well formed, and a refusal should end the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::explain::Decision;
use api::instance::{CapacityType, OfferingKey};
use api::karpenter::{NodeClaim, NodePool};
use api::names;
use client::{CancellationToken, Informers};
use cloud::{Cloud, InstanceId, LaunchRequest};
use cloud_sim::{Config as SimConfig, Hooks, Machine, SimCloud};
use k8s_openapi::api::core::v1::{Binding, Node, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use scheduling::{Engine, NodeInfo};
use serde_json::{Value, json};
use testkit::TestServer;

/// Names that tasks share.
type Names = Arc<Mutex<BTreeSet<String>>>;

fn lock(names: &Names) -> MutexGuard<'_, BTreeSet<String>> {
    names.lock().unwrap()
}

struct World {
    /// Pods that nobody makes again.
    ended: Names,
    server: TestServer,
    client: kube::Client,
    cloud: SimCloud,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A Node object as simulated machines register it.
fn node_of(machine: &Machine) -> Node {
    let mut labels = machine.labels.clone();
    labels.insert(names::ARCH.to_owned(), machine.arch.clone());
    labels.insert(names::OS.to_owned(), "linux".to_owned());
    labels.insert(names::HOSTNAME.to_owned(), machine.node_name.clone());
    let keep = 1.0 - machine.reserved;
    let resources = json!({
        "cpu": format!("{}m", (machine.cpu_milli as f64 * keep) as i64),
        "memory": ((machine.memory_bytes as f64 * keep) as i64).to_string(),
        "pods": machine.pods.to_string(), "ephemeral-storage": "100Gi"});
    serde_json::from_value(json!({
        "metadata": {"name": machine.node_name, "labels": labels},
        "spec": {"providerID": machine.instance.id.as_str(), "taints": machine.taints},
        "status": {"capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]},
    }))
    .unwrap()
}

impl World {
    async fn start() -> Self {
        base::rng::seed(7);
        let server = TestServer::start().await;
        let _: ServiceAccount = server
            .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}))
            .await;
        let (client, stop) = (server.client(), CancellationToken::new());
        let registering = client.clone();
        let hooks = Hooks {
            on_running: Box::new(move |machine| {
                let client = registering.clone();
                tokio::spawn(async move {
                    let api: Api<Node> = Api::all(client);
                    api.create(&PostParams::default(), &node_of(&machine)).await.unwrap();
                });
            }),
            on_gone: Box::new(|_| {}),
        };
        let cloud = SimCloud::new(SimConfig::default(), hooks);
        let world = Self { ended: Names::default(), server, client, cloud, stop };
        world.start_autoscaler();
        tokio::spawn(fake_cluster(world.client.clone(), world.ended.clone(), world.stop.clone()));
        world
    }

    fn start_autoscaler(&self) {
        let informers = Informers::new(self.client.clone());
        let config = autoscaler::Config::new(informers, Arc::new(self.cloud.clone()));
        tokio::spawn(autoscaler::run(config, self.stop.clone()));
    }

    async fn pool(&self, name: &str, spec: Value) {
        let mut pool = json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool",
            "metadata": {"name": name}, "spec": {
                "disruption": {"consolidateAfter": "10s", "budgets": [{"nodes": "100%"}]},
                "template": {"spec": {"requirements": [
                    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}]}}}});
        merge(&mut pool["spec"], spec);
        let api: Api<NodePool> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
    }

    /// Pods that a ReplicaSet would own.
    async fn pods(&self, prefix: &str, count: usize, cpu: &str, more: Value) {
        for index in 0..count {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{prefix}-{index}"), "namespace": "default", "labels": {"app": prefix},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": prefix, "uid": prefix}]},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "c", "image": "x",
                    "resources": {"requests": {"cpu": cpu, "memory": "256Mi"}}}]}});
            merge(&mut pod, more.clone());
            let _: Pod = self.server.create(pod).await;
        }
    }

    async fn list<K>(&self) -> Vec<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        Api::<K>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    async fn delete_pod(&self, name: &str) {
        lock(&self.ended).insert(name.to_owned());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    async fn delete_pods(&self) {
        for pod in self.list::<Pod>().await {
            self.delete_pod(pod.metadata.name.as_deref().unwrap()).await;
        }
    }

    /// Waits for up to two virtual minutes, looking every 100 ms.
    async fn eventually<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut holds: impl FnMut() -> F,
    ) -> T {
        for _ in 0..1200 {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut state = String::new();
        for claim in self.list::<NodeClaim>().await {
            state.push_str(&format!("claim {:?} {:?}\n", claim.metadata.name, claim.status));
        }
        for node in self.list::<Node>().await {
            state.push_str(&format!("node {:?} {:?}\n", node.metadata.name, node.spec));
        }
        for pod in self.list::<Pod>().await {
            state.push_str(&format!("pod {:?} {:?}\n", pod.metadata.name, pod.spec.unwrap().node_name));
        }
        for event in self.list::<k8s_openapi::api::core::v1::Event>().await {
            state.push_str(&format!(
                "{:?} {:?} {:?}\n",
                event.involved_object.name, event.reason, event.message
            ));
        }
        panic!("waited in vain for: {what}\n{state}")
    }

    async fn all_bound(&self, count: usize) {
        self.eventually("all pods have a node", || async {
            let pods = self.list::<Pod>().await;
            let bound = pods.iter().filter(|pod| pod.spec.as_ref().unwrap().node_name.is_some()).count();
            (pods.len() == count && bound == count).then_some(())
        })
        .await;
    }

    async fn nothing_left(&self) {
        self.eventually("all nodes are gone", || async {
            let empty = self.list::<NodeClaim>().await.is_empty()
                && self.list::<Node>().await.is_empty()
                && self.cloud.list().await.unwrap().is_empty();
            empty.then_some(())
        })
        .await;
    }

    async fn decision(&self, namespace: &str, name: &str) -> Decision {
        let api: Api<Decision> = Api::namespaced(self.client.clone(), namespace);
        self.eventually("a decision record", || async { api.get_opt(name).await.unwrap() }).await
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Binds pods where the placement engine says, tells the others that they fit nowhere, and ends pods
/// that are deleted. A ReplicaSet of sorts makes evicted pods again.
async fn fake_cluster(client: kube::Client, ended: Names, stop: CancellationToken) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let nodes: Api<Node> = Api::all(client);
    while !stop.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut engine = Engine::new(1);
        for node in nodes.list(&ListParams::default()).await.unwrap() {
            // The node life-cycle controller's part: these nodes are always ready.
            let mut taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            if taints.iter().any(|taint| taint.key == names::NOT_READY_TAINT) {
                taints.retain(|taint| taint.key != names::NOT_READY_TAINT);
                let version = &node.metadata.resource_version;
                let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
                let name = node.metadata.name.as_deref().unwrap();
                let _ = nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            }
            engine.set_node(NodeInfo::of(&node));
        }
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        for pod in &all {
            let node = pod.spec.as_ref().unwrap().node_name.as_deref();
            if let Some(id) = node.and_then(|node| engine.snapshot().id(node)) {
                let class = engine.class_of(pod);
                engine.add_pod(id, &class);
            }
        }
        for pod in all {
            let name = pod.metadata.name.clone().unwrap();
            let node = pod.spec.as_ref().unwrap().node_name.clone();
            if pod.metadata.deletion_timestamp.is_some() {
                pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
                if !lock(&ended).contains(&name) {
                    let mut again = pod.clone();
                    again.status = None;
                    again.metadata.uid = None;
                    again.metadata.resource_version = None;
                    again.metadata.deletion_timestamp = None;
                    again.metadata.deletion_grace_period_seconds = None;
                    again.spec.as_mut().unwrap().node_name = None;
                    pods.create(&PostParams::default(), &again).await.unwrap();
                }
                continue;
            }
            if node.is_some() {
                continue;
            }
            let class = engine.class_of(&pod);
            if let Some(placement) = engine.place_and_add(&class) {
                let node = engine.snapshot().node(placement.node).unwrap().name.to_string();
                let binding: Binding = serde_json::from_value(
                    json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}),
                )
                .unwrap();
                let _: Value = pods
                    .create_subresource("binding", &name, &PostParams::default(), &binding)
                    .await
                    .unwrap();
                // A running pod is what disruption budgets protect.
                let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
            } else if pod
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref())
                .is_none_or(Vec::is_empty)
            {
                let status = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}});
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pods_get_nodes_and_empty_nodes_go() {
    let world = World::start().await;
    world.pool("default", json!({})).await;
    world.pods("web", 12, "500m", json!({})).await;
    world.all_bound(12).await;
    let claims = world.list::<NodeClaim>().await;
    for claim in &claims {
        let status = claim.status.as_ref().unwrap();
        assert!(status.provider_id.is_some() && status.node_name.is_some());
        assert_eq!(claim.metadata.labels.as_ref().unwrap()[names::CAPACITY_TYPE], "spot");
        assert_eq!(claim.metadata.labels.as_ref().unwrap()[names::ARCH], "arm64", "Graviton is cheaper");
    }
    let node = &world.list::<Node>().await[0];
    assert_eq!(node.metadata.labels.as_ref().unwrap()[names::REGISTERED], "true");
    assert!(
        node.spec
            .as_ref()
            .unwrap()
            .taints
            .iter()
            .flatten()
            .all(|taint| taint.key != names::UNREGISTERED_TAINT)
    );
    let decision = world.decision("default", "pod-web-0").await;
    assert_eq!(decision.latest.decider, "provisioner");
    assert!(decision.latest.chosen[0].dollars_per_hour.unwrap() > 0.0);
    assert!(!decision.latest.rejected.is_empty());
    let node_name = node.metadata.name.clone().unwrap();
    let about_node = world.decision(names::KOBUNE_NAMESPACE, &format!("node-{node_name}")).await;
    assert_eq!(about_node.latest.action, "LaunchNodes");
    world
        .eventually("the pool's status counts its nodes", || async {
            let pool = world.list::<NodePool>().await.remove(0);
            let resources = pool.status?.resources?;
            (resources["nodes"].0 == claims.len().to_string()).then_some(())
        })
        .await;
    world.delete_pods().await;
    world.nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_on_demand_is_bought_first() {
    let world = World::start().await;
    let only = |kind: &str| {
        json!({"template": {"spec": {"requirements": [
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [kind]}]}}})
    };
    let mut base = only("on-demand");
    merge(&mut base, json!({"weight": 100, "limits": {"cpu": "4"}}));
    world.pool("base", base).await;
    world.pool("burst", only("spot")).await;
    world.pods("web", 20, "500m", json!({})).await;
    world.all_bound(20).await;
    let types: BTreeSet<String> = world
        .list::<NodeClaim>()
        .await
        .iter()
        .map(|claim| claim.metadata.labels.as_ref().unwrap()[names::CAPACITY_TYPE].clone())
        .collect();
    assert_eq!(types, BTreeSet::from(["on-demand".to_owned(), "spot".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn missing_capacity_leads_to_something_else() {
    let world = World::start().await;
    for kind in world.cloud.catalogue().iter() {
        for offering in kind.offerings.iter().filter(|offering| offering.capacity_type == CapacityType::Spot)
        {
            world.cloud.set_capacity(&kind.key(offering), false);
        }
    }
    world.pool("default", json!({})).await;
    let start = tokio::time::Instant::now();
    world.pods("web", 3, "500m", json!({})).await;
    world.all_bound(3).await;
    // Claims that were given up are not waited for.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    for claim in world.list::<NodeClaim>().await {
        assert_eq!(claim.metadata.labels.unwrap()[names::CAPACITY_TYPE], "on-demand");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_machine_is_replaced_before_it_vanishes() {
    let world = World::start().await;
    world.pool("default", json!({})).await;
    world.pods("web", 4, "500m", json!({})).await;
    world.all_bound(4).await;
    let claim = world.list::<NodeClaim>().await.remove(0);
    let (name, id) = (claim.metadata.name.unwrap(), claim.status.unwrap().provider_id.unwrap());
    world.cloud.interrupt(&InstanceId::new(id));
    let start = tokio::time::Instant::now();
    world
        .eventually("the claim is gone", || async {
            let claims = world.list::<NodeClaim>().await;
            claims.iter().all(|claim| claim.metadata.name.as_ref() != Some(&name)).then_some(())
        })
        .await;
    assert!(start.elapsed() < Duration::from_secs(60), "long before the deadline: {:?}", start.elapsed());
    world.all_bound(4).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_pods_fit_elsewhere_goes() {
    let world = World::start().await;
    world.pool("default", json!({})).await;
    world.pods("big", 1, "3500m", json!({})).await;
    world.all_bound(1).await;
    world.pods("small", 1, "1500m", json!({})).await;
    world.all_bound(2).await;
    assert_eq!(world.list::<NodeClaim>().await.len(), 2);
    // The large pod ends; one of the nodes is enough for what is left, and a cheaper one still.
    world.delete_pod("big-0").await;
    world
        .eventually("one node is left", || async { (world.list::<Node>().await.len() == 1).then_some(()) })
        .await;
    world.all_bound(1).await;
}

/// A pool of machines with 1.9 cores for pods.
fn two_cores(capacity_type: &str) -> Value {
    json!({
        "disruption": {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "3s"},
        "template": {"spec": {"requirements": [
            {"key": names::INSTANCE_TYPE, "operator": "In", "values": ["m7g.large"]},
            {"key": names::CAPACITY_TYPE, "operator": "In", "values": [capacity_type]}]}}})
}

impl World {
    /// Pods by their nodes.
    async fn by_node(&self) -> BTreeMap<String, Vec<String>> {
        let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in self.list::<Pod>().await {
            if let Some(node) = pod.spec.unwrap().node_name {
                by_node.entry(node).or_default().push(pod.metadata.name.unwrap());
            }
        }
        by_node
    }
}

#[tokio::test(start_paused = true)]
async fn half_empty_nodes_are_merged_at_once() {
    let world = World::start().await;
    world.pool("default", two_cores("spot")).await;
    world.pods("web", 21, "500m", json!({})).await;
    world.all_bound(21).await;
    let by_node = world.by_node().await;
    assert_eq!(by_node.len(), 7);
    for pods in by_node.values() {
        world.delete_pod(&pods[0]).await;
        world.delete_pod(&pods[1]).await;
    }
    let start = tokio::time::Instant::now();
    world
        .eventually("three nodes are left", || async {
            (world.list::<Node>().await.len() <= 3).then_some(())
        })
        .await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    world.all_bound(7).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.list::<NodeClaim>().await.len(), 3, "and nothing was bought for those who moved");
}

#[tokio::test(start_paused = true)]
async fn a_base_on_demand_is_not_replaced_by_spot() {
    let world = World::start().await;
    let mut base = two_cores("on-demand");
    merge(&mut base, json!({"weight": 100, "limits": {"cpu": "2"}}));
    world.pool("base", base).await;
    world.pool("burst", two_cores("spot")).await;
    world.pods("web", 6, "500m", json!({})).await;
    world.all_bound(6).await;
    for pods in world.by_node().await.into_values() {
        world.delete_pod(&pods[0]).await;
        world.delete_pod(&pods[1]).await;
    }
    world
        .eventually("one node is left", || async { (world.list::<Node>().await.len() == 1).then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let claims = world.list::<NodeClaim>().await;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].metadata.labels.as_ref().unwrap()[names::CAPACITY_TYPE], "on-demand");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_opens_lets_consolidation_go_on() {
    let world = World::start().await;
    world.pool("default", two_cores("spot")).await;
    let _: PodDisruptionBudget = world
        .server
        .create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}}}))
        .await;
    world.pods("web", 6, "500m", json!({})).await;
    world.all_bound(6).await;
    for pods in world.by_node().await.into_values() {
        world.delete_pod(&pods[0]).await;
        world.delete_pod(&pods[1]).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.list::<Node>().await.len(), 2);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(world.client.clone(), "default");
    budgets.delete("web", &DeleteParams::default()).await.unwrap();
    let start = tokio::time::Instant::now();
    world
        .eventually("one node is left", || async { (world.list::<Node>().await.len() == 1).then_some(()) })
        .await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_holds_consolidation_up_for_a_while_only() {
    let world = World::start().await;
    world.pool("default", two_cores("spot")).await;
    world.pods("web", 6, "500m", json!({})).await;
    world.all_bound(6).await;
    world.pods("huge", 1, "500", json!({})).await;
    for pods in world.by_node().await.into_values() {
        world.delete_pod(&pods[0]).await;
        world.delete_pod(&pods[1]).await;
    }
    tokio::time::sleep(Duration::from_secs(240)).await;
    assert_eq!(world.list::<Node>().await.len(), 2);
    world
        .eventually("one node is left", || async { (world.list::<Node>().await.len() == 1).then_some(()) })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_the_user_holds_a_drain_up() {
    let world = World::start().await;
    world.pool("default", json!({})).await;
    let budget: PodDisruptionBudget = world
        .server
        .create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}))
        .await;
    world.pods("web", 1, "500m", json!({})).await;
    world.all_bound(1).await;
    let claim = world.list::<NodeClaim>().await.remove(0).metadata.name.unwrap();
    let claims: Api<NodeClaim> = Api::all(world.client.clone());
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(claims.get_opt(&claim).await.unwrap().is_some(), "the budget allows no eviction");
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(world.client.clone(), "default");
    budgets.delete(budget.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    world
        .eventually("the claim is gone", || async {
            claims.get_opt(&claim).await.unwrap().is_none().then_some(())
        })
        .await;
    world.all_bound(1).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_nothing_helps_are_told_why() {
    let world = World::start().await;
    world.pool("default", json!({})).await;
    world.pods("huge", 1, "500", json!({})).await;
    let decision = world.decision("default", "pod-huge-0").await;
    assert_eq!(decision.latest.action, "NoNodePossible");
    assert!(decision.latest.summary.contains("too large"), "{}", decision.latest.summary);
    assert!(world.list::<NodeClaim>().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_autoscaler_goes_on_and_collects_garbage() {
    let world = World::start().await;
    world.pool("default", json!({})).await;
    let stray = OfferingKey {
        instance_type: "c5.large".into(),
        zone: "us-east-1a".into(),
        capacity_type: CapacityType::OnDemand,
    };
    let nobody = LaunchRequest { claim: "nobody".to_owned(), ..LaunchRequest::default() };
    world.cloud.adopt(&nobody, InstanceId::new("sim:///us-east-1a/i-stray"), stray, true);
    world.pods("web", 2, "500m", json!({})).await;
    world.all_bound(2).await;
    world.start_autoscaler();
    world.delete_pods().await;
    world.nothing_left().await;
}
