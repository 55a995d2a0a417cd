use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{World, template};

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_account_and_goes_with_all_its_content() {
    let world = World::start(&["namespace", "serviceaccount"]).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();

    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "shop");
    let ready = || async {
        let account = accounts.get_opt("default").await.unwrap();
        let map = maps.get_opt("kube-root-ca.crt").await.unwrap();
        account.zip(map).map(|(_, map)| map)
    };
    let map = world.server.eventually("account and CA are there", ready).await;
    assert_eq!(map.data.unwrap()["ca.crt"], "a CA");

    let mut pod = template("web", "one");
    pod["metadata"] = json!({"name": "web", "namespace": "shop"});
    let _: Pod = world.server.create(pod).await;
    let held = json!({"metadata": {"name": "held", "namespace": "shop", "finalizers": ["example.com/hold"]}});
    let _: ConfigMap = world.server.create(held).await;

    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    let stuck = || async {
        let status = namespaces.get("shop").await.unwrap().status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        conditions
            .into_iter()
            .find(|condition| condition.type_ == "NamespaceFinalizersRemaining" && condition.status == "True")
    };
    let condition = world.server.eventually("it says what holds it", stuck).await;
    assert!(condition.message.unwrap().contains("example.com/hold in 1 resource instances"));

    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    let gone = || async { namespaces.get_opt("shop").await.unwrap().is_none().then_some(()) };
    world.server.eventually("the namespace is gone", gone).await;
}
