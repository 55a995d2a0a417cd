use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{World, template};

fn is_settled(set: &DaemonSet, count: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.desired_number_scheduled == count
        && status.number_ready == count
        && status.updated_number_scheduled.unwrap_or(0) == count
        && status.observed_generation == set.metadata.generation
}

#[tokio::test(start_paused = true)]
async fn every_node_has_one_pod() {
    let world = World::start(&["daemonset"]).await;
    for node in ["n1", "n2", "n3"] {
        world.add_node(node).await;
    }
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", "one")},
    });
    let _: DaemonSet = world.server.create(set).await;
    world.until::<DaemonSet>("agent", "a pod on every node", |set| is_settled(set, 3)).await;
    world.add_node("n4").await;
    world.until::<DaemonSet>("agent", "a pod on the new node", |set| is_settled(set, 4)).await;
    let mut nodes: Vec<String> =
        world.pods().await.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2", "n3", "n4"]);

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}});
    world
        .api::<DaemonSet>()
        .patch("agent", &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .unwrap();
    world.until::<DaemonSet>("agent", "the update", |set| is_settled(set, 4)).await;
    let images = || async {
        let pods = world.pods().await;
        let new = pods
            .iter()
            .filter(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two"));
        (new.count() == 4 && pods.len() == 4).then_some(())
    };
    world.server.eventually("only new pods", images).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.delete("n4", &DeleteParams::default()).await.unwrap();
    world
        .until::<DaemonSet>("agent", "one less is wanted", |set| {
            set.status.as_ref().unwrap().desired_number_scheduled == 3
        })
        .await;
}
