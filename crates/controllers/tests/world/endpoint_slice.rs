use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{World, template};

async fn slices(world: &World) -> Vec<EndpointSlice> {
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    world.api::<EndpointSlice>().list(&of_web).await.unwrap().items
}

async fn endpoints(world: &World) -> Vec<(String, bool)> {
    let mut endpoints: Vec<(String, bool)> = slices(world)
        .await
        .into_iter()
        .flat_map(|slice| slice.endpoints.unwrap_or_default())
        .map(|endpoint| {
            let name = endpoint.target_ref.unwrap().name.unwrap();
            (name, endpoint.conditions.unwrap().ready.unwrap())
        })
        .collect();
    endpoints.sort();
    endpoints
}

#[tokio::test(start_paused = true)]
async fn slices_follow_the_ready_pods() {
    let world = World::start(&["replicaset", "endpointslice"]).await;
    world.add_node("n0").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let _: Service = world.server.create(service).await;
    let _: ReplicaSet = world
        .server
        .create(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"},
            "spec": {
                "replicas": 130,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template("web", "one"),
            },
        }))
        .await;
    let all = || async {
        let endpoints = endpoints(&world).await;
        (endpoints.len() == 130 && endpoints.iter().all(|(_, ready)| *ready)).then_some(endpoints)
    };
    let all = world.server.eventually("130 ready endpoints", all).await;
    let slices = slices(&world).await;
    assert!(slices.len() <= 3, "{} slices", slices.len());
    for slice in &slices {
        assert!(slice.endpoints.as_ref().unwrap().len() <= 100);
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].zone.as_deref(), Some("z1"));
    }

    let first = all[0].0.clone();
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let pods = world.api::<Pod>();
    pods.patch_status(&first, &PatchParams::default(), &Patch::Strategic(&unready)).await.unwrap();
    let seen = || async { (endpoints(&world).await[0] == (first.clone(), false)).then_some(()) };
    world.server.eventually("the unready pod is marked", seen).await;
}
