//! Quotas are counted, and what goes away is given back.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::World;

#[tokio::test(start_paused = true)]
async fn what_goes_away_is_given_back() {
    let world = World::start(&["resourcequota"]).await;
    let quotas = world.api::<ResourceQuota>();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "configmaps": "1"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    let used = |pods: &'static str, maps: &'static str| {
        let quotas = quotas.clone();
        async move {
            for _ in 0..1000 {
                let status = quotas.get("q").await.unwrap().status.unwrap_or_default();
                let used = status.used.unwrap_or_default();
                let is = |name: &str, value: &str| used.get(name).is_some_and(|quantity| quantity.0 == value);
                if is("pods", pods) && is("configmaps", maps) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            panic!("the quota never showed pods={pods},configmaps={maps}");
        }
    };
    used("0", "0").await;
    let pods = world.api::<Pod>();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let maps = world.api::<ConfigMap>();
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    used("1", "1").await;
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    used("1", "0").await;
    maps.create(&PostParams::default(), &map).await.unwrap();
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    used("0", "1").await;
}
