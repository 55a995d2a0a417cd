use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{ENDS, World};

fn cron_job(policy: &str, ends: Option<&str>) -> Value {
    let annotations = ends.map_or(json!({}), |end| json!({ENDS: end}));
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {
            "schedule": "* * * * *",
            "concurrencyPolicy": policy,
            "successfulJobsHistoryLimit": 2,
            "jobTemplate": {"spec": {"template": {
                "metadata": {"annotations": annotations},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "one"}]},
            }}},
        },
    })
}

async fn jobs(world: &World) -> Vec<Job> {
    world.api::<Job>().list(&ListParams::default()).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_job_starts_every_minute_and_old_ones_go() {
    let world = World::start(&["cronjob", "job", "garbagecollector"]).await;
    let _: CronJob = world.server.create(cron_job("Allow", Some("Succeeded"))).await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(jobs(&world).await.len(), 2);
    let status = world.api::<CronJob>().get("tick").await.unwrap().status.unwrap();
    let late = base::clock::now().duration_since(status.last_schedule_time.unwrap().0);
    assert!(late.as_secs() <= 60, "{late}");
    assert!(status.last_successful_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_overlap_does_not_happen() {
    let world = World::start(&["cronjob", "job"]).await;
    let _: CronJob = world.server.create(cron_job("Forbid", None)).await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(jobs(&world).await.len(), 1);
    let status = world.api::<CronJob>().get("tick").await.unwrap().status.unwrap();
    assert_eq!(status.active.map(|active| active.len()), Some(1));
}
