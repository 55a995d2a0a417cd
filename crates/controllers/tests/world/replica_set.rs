use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{World, template};

fn replica_set(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, "one"),
        },
    })
}

fn is_settled(rs: &ReplicaSet, count: i32) -> bool {
    let status = rs.status.clone().unwrap_or_default();
    status.replicas == count
        && status.ready_replicas.unwrap_or(0) == count
        && status.available_replicas.unwrap_or(0) == count
        && status.observed_generation == rs.metadata.generation
}

#[tokio::test(start_paused = true)]
async fn pods_follow_the_replicas() {
    let world = World::start(&["replicaset"]).await;
    let _: ReplicaSet = world.server.create(replica_set("web", 30)).await;
    world.until::<ReplicaSet>("web", "30 replicas are ready", |rs| is_settled(rs, 30)).await;
    assert_eq!(world.pods().await.len(), 30);
    let patch = json!({"spec": {"replicas": 7}});
    world.api::<ReplicaSet>().patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    world.until::<ReplicaSet>("web", "7 replicas are left", |rs| is_settled(rs, 7)).await;
    world
        .server
        .eventually("the other pods are gone", || async { (world.pods().await.len() == 7).then_some(()) })
        .await;
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_and_strays_released() {
    let world = World::start(&["replicaset"]).await;
    let mut orphan = template("web", "one");
    orphan["metadata"]["name"] = "orphan".into();
    let _: Pod = world.server.create(orphan).await;
    let _: ReplicaSet = world.server.create(replica_set("web", 2)).await;
    world.until::<ReplicaSet>("web", "both replicas are ready", |rs| is_settled(rs, 2)).await;
    assert_eq!(world.pods().await.len(), 2);
    let owned =
        world.until::<Pod>("orphan", "the orphan is adopted", |pod| pod.metadata.owner_references.is_some());
    owned.await;

    let patch = json!({"metadata": {"labels": {"app": "stray"}}});
    world.api::<Pod>().patch("orphan", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let freed = world.until::<Pod>("orphan", "the stray is released", |pod| {
        pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
    });
    freed.await;
    world
        .server
        .eventually("a replacement", || async { (world.pods().await.len() == 3).then_some(()) })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_pod_is_replaced_once() {
    let world = World::start(&["replicaset"]).await;
    let _: ReplicaSet = world.server.create(replica_set("web", 3)).await;
    world.until::<ReplicaSet>("web", "3 replicas are ready", |rs| is_settled(rs, 3)).await;
    let first = world.pods().await[0].metadata.name.clone().unwrap();
    let patch = json!({"status": {"phase": "Failed"}});
    world.api::<Pod>().patch_status(&first, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    world.server.eventually("a fourth pod", || async { (world.pods().await.len() == 4).then_some(()) }).await;
    world.until::<ReplicaSet>("web", "3 replicas are ready again", |rs| is_settled(rs, 3)).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.pods().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_pods_are_created_exactly() {
    let world = World::start(&["replicaset"]).await;
    for name in ["a", "b", "c"] {
        let _: ReplicaSet = world.server.create(replica_set(name, 700)).await;
    }
    for name in ["a", "b", "c"] {
        world.until::<ReplicaSet>(name, "700 replicas are ready", |rs| is_settled(rs, 700)).await;
    }
    assert_eq!(world.pods().await.len(), 2100);
}
