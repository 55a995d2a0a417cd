use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{World, template};

const CONTROLLERS: &[&str] = &["deployment", "replicaset"];

fn deployment(replicas: i32, strategy: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": strategy,
            "template": template("web", "one"),
        },
    })
}

/// What `kubectl rollout status` waits for.
fn is_rolled_out(d: &Deployment) -> bool {
    let status = d.status.clone().unwrap_or_default();
    let desired = d.spec.as_ref().unwrap().replicas.unwrap();
    status.observed_generation == d.metadata.generation
        && status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
}

fn reason(d: &Deployment, type_: &str) -> String {
    let conditions = d.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.type_ == type_)
        .map(|condition| format!("{} {}", condition.status, condition.reason.clone().unwrap_or_default()))
        .collect()
}

fn revision(d: &Deployment) -> &str {
    &d.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"]
}

async fn patch(world: &World, patch: Value) {
    let params = PatchParams::default();
    world.api::<Deployment>().patch("web", &params, &Patch::Strategic(&patch)).await.unwrap();
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})
}

async fn images(world: &World) -> Vec<String> {
    let pods: Vec<Pod> = world.pods().await;
    let mut images: Vec<String> =
        pods.iter().filter_map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone()).collect();
    images.sort();
    images.dedup();
    images
}

#[tokio::test(start_paused = true)]
async fn a_rollout_replaces_the_pods_and_undo_brings_them_back() {
    let world = World::start(CONTROLLERS).await;
    let _: Deployment = world.server.create(deployment(10, json!({"type": "RollingUpdate"}))).await;
    let d = world.until::<Deployment>("web", "the first rollout", is_rolled_out).await;
    assert_eq!(revision(&d), "1");
    world
        .until::<Deployment>("web", "conditions", |d| {
            reason(d, "Progressing") == "True NewReplicaSetAvailable"
                && reason(d, "Available") == "True MinimumReplicasAvailable"
        })
        .await;

    patch(&world, image("two")).await;
    let d = world.until::<Deployment>("web", "the second rollout", is_rolled_out).await;
    assert_eq!(revision(&d), "2");
    let gone = || async { (images(&world).await == ["two"]).then_some(()) };
    world.server.eventually("only new pods are left", gone).await;

    patch(&world, image("one")).await;
    let d = world.until::<Deployment>("web", "the rollback", is_rolled_out).await;
    assert_eq!(revision(&d), "3");
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2);
    let history: Vec<_> = sets
        .iter()
        .filter_map(|rs| rs.metadata.annotations.as_ref()?.get("deployment.kubernetes.io/revision-history"))
        .collect();
    assert_eq!(history, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn availability_holds_during_a_rollout() {
    let world = World::start(CONTROLLERS).await;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}});
    let _: Deployment = world.server.create(deployment(8, strategy)).await;
    world.until::<Deployment>("web", "the first rollout", is_rolled_out).await;
    patch(&world, image("two")).await;
    loop {
        let pods = world.pods().await;
        let active = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        assert!(active.count() <= 10, "more than the surge allows");
        let d = world.api::<Deployment>().get("web").await.unwrap();
        assert!(d.status.as_ref().unwrap().available_replicas.unwrap_or(0) >= 7, "too few are available");
        if is_rolled_out(&d) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn recreate_ends_all_old_pods_first() {
    let world = World::start(CONTROLLERS).await;
    let _: Deployment = world.server.create(deployment(4, json!({"type": "Recreate"}))).await;
    world.until::<Deployment>("web", "the first rollout", is_rolled_out).await;
    patch(&world, image("two")).await;
    loop {
        assert!(images(&world).await.len() <= 1, "old and new pods at the same time");
        let d = world.api::<Deployment>().get("web").await.unwrap();
        if is_rolled_out(&d) && images(&world).await == ["two"] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn scaling_and_pausing() {
    let world = World::start(CONTROLLERS).await;
    let _: Deployment = world.server.create(deployment(3, json!({"type": "RollingUpdate"}))).await;
    world.until::<Deployment>("web", "the first rollout", is_rolled_out).await;
    patch(&world, json!({"spec": {"paused": true}})).await;
    patch(&world, image("two")).await;
    patch(&world, json!({"spec": {"replicas": 6}})).await;
    world
        .until::<Deployment>("web", "it grows while it is paused", |d| {
            let status = d.status.clone().unwrap_or_default();
            status.available_replicas == Some(6) && reason(d, "Progressing") == "Unknown DeploymentPaused"
        })
        .await;
    assert_eq!(images(&world).await, ["one"]);
    patch(&world, json!({"spec": {"paused": false}})).await;
    world.until::<Deployment>("web", "it goes on", is_rolled_out).await;
    let done = || async { (images(&world).await == ["two"]).then_some(()) };
    world.server.eventually("only new pods are left", done).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_cannot_progress_is_said_to_be_stuck() {
    let world = World::start(CONTROLLERS).await;
    let mut stuck = deployment(2, json!({"type": "RollingUpdate"}));
    stuck["spec"]["progressDeadlineSeconds"] = 20.into();
    stuck["spec"]["template"]["metadata"]["annotations"] = json!({crate::NEVER_STARTS: "true"});
    let _: Deployment = world.server.create(stuck).await;
    let overdue = |d: &Deployment| reason(d, "Progressing") == "False ProgressDeadlineExceeded";
    world.until::<Deployment>("web", "the deadline passes", overdue).await;
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded() {
    let world = World::start(CONTROLLERS).await;
    let mut limited = deployment(1, json!({"type": "RollingUpdate"}));
    limited["spec"]["revisionHistoryLimit"] = 2.into();
    let _: Deployment = world.server.create(limited).await;
    for round in 0..5 {
        patch(&world, image(&format!("v{round}"))).await;
        world.until::<Deployment>("web", "a rollout", is_rolled_out).await;
    }
    let few = || async {
        let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
        (sets.len() == 3).then_some(())
    };
    world.server.eventually("old ReplicaSets are deleted", few).await;
}
