use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::{World, template};

const CONTROLLERS: &[&str] = &["deployment", "replicaset", "garbagecollector"];

async fn start() -> World {
    let world = World::start(CONTROLLERS).await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 5,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("web", "one"),
        },
    });
    let _: Deployment = world.server.create(deployment).await;
    let ready = |d: &Deployment| d.status.as_ref().is_some_and(|status| status.ready_replicas == Some(5));
    world.until::<Deployment>("web", "the rollout", ready).await;
    world
}

async fn counts(world: &World) -> (usize, usize, usize) {
    let all = ListParams::default();
    let deployments = world.api::<Deployment>().list(&all).await.unwrap().items.len();
    let sets = world.api::<ReplicaSet>().list(&all).await.unwrap().items.len();
    (deployments, sets, world.pods().await.len())
}

async fn until_counts(world: &World, expected: (usize, usize, usize)) {
    let reached = || async { (counts(world).await == expected).then_some(()) };
    world.server.eventually(&format!("{expected:?} deployments, sets and pods"), reached).await;
}

#[tokio::test(start_paused = true)]
async fn background_deletion_takes_the_dependents() {
    let world = start().await;
    world.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    until_counts(&world, (0, 0, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_takes_the_dependents_first() {
    let world = start().await;
    world.api::<Deployment>().delete("web", &DeleteParams::foreground()).await.unwrap();
    loop {
        let (deployments, sets, pods) = counts(&world).await;
        assert!(deployments == 1 || sets + pods == 0, "the owner went before its dependents");
        if deployments == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn orphaning_deletion_leaves_the_dependents() {
    let world = start().await;
    world.api::<Deployment>().delete("web", &DeleteParams::orphan()).await.unwrap();
    until_counts(&world, (0, 1, 5)).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(counts(&world).await, (0, 1, 5));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_never_was_is_found_out() {
    let world = World::start(CONTROLLERS).await;
    let real: ConfigMap = world.server.create(json!({"metadata": {"name": "real"}})).await;
    let owned = |name: &str, uid: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "real", "uid": uid},
        ]}})
    };
    let uid = real.metadata.uid.unwrap();
    let _: ConfigMap = world.server.create(owned("kept", &uid)).await;
    let _: ConfigMap = world.server.create(owned("doomed", "2f1b6a0e-0000-4000-8000-000000000000")).await;
    let maps = world.api::<ConfigMap>();
    let gone = || async { maps.get_opt("doomed").await.unwrap().is_none().then_some(()) };
    world.server.eventually("the garbage is gone", gone).await;
    assert!(maps.get_opt("kept").await.unwrap().is_some());
    let pods: Vec<Pod> = world.pods().await;
    assert!(pods.is_empty());
}
