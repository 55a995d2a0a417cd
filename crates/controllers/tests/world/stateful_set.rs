use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{World, template};

fn is_settled(set: &StatefulSet, count: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.replicas == count
        && status.ready_replicas.unwrap_or(0) == count
        && status.updated_replicas.unwrap_or(0) == count
        && status.current_revision == status.update_revision
        && status.observed_generation == set.metadata.generation
}

async fn images(world: &World) -> Vec<(String, String)> {
    let named = |pod: Pod| {
        (pod.metadata.name.unwrap(), pod.spec.unwrap().containers[0].image.clone().unwrap_or_default())
    };
    let mut images: Vec<_> = world.pods().await.into_iter().map(named).collect();
    images.sort();
    images
}

#[tokio::test(start_paused = true)]
async fn pods_keep_their_names_through_scaling_and_updates() {
    let world = World::start(&["statefulset"]).await;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 3,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template("db", "one"),
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    });
    let _: StatefulSet = world.server.create(set).await;
    world.until::<StatefulSet>("db", "three pods", |set| is_settled(set, 3)).await;
    let pod = world.api::<Pod>().get("db-2").await.unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-2"), Some("db")));

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}});
    let params = PatchParams::default();
    world.api::<StatefulSet>().patch("db", &params, &Patch::Strategic(&patch)).await.unwrap();
    world.until::<StatefulSet>("db", "the update", |set| is_settled(set, 3)).await;
    let two = |name: &str| (name.to_string(), "two".to_string());
    assert_eq!(images(&world).await, [two("db-0"), two("db-1"), two("db-2")]);

    let patch = json!({"spec": {"replicas": 1}});
    world.api::<StatefulSet>().patch("db", &params, &Patch::Merge(&patch)).await.unwrap();
    world.until::<StatefulSet>("db", "one pod is left", |set| is_settled(set, 1)).await;
    let left = || async { (images(&world).await == [two("db-0")]).then_some(()) };
    world.server.eventually("only the first pod is left", left).await;
    let claims = world.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = claims.iter().filter_map(|claim| claim.metadata.name.as_deref()).collect();
    assert_eq!(names, ["data-db-0", "data-db-1", "data-db-2"]);
}
