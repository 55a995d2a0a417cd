use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{ENDS, World};

fn job(spec: Value, ends: Option<&str>) -> Value {
    let mut job =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": spec});
    let annotations = ends.map_or(json!({}), |end| json!({ENDS: end}));
    job["spec"]["template"] = json!({
        "metadata": {"annotations": annotations},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "one"}]},
    });
    job
}

fn has(job: &Job, type_: &str) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let condition =
        conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")?;
    Some(condition.reason.clone().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_after_its_completions() {
    let world = World::start(&["job"]).await;
    let _: Job =
        world.server.create(job(json!({"completions": 7, "parallelism": 3}), Some("Succeeded"))).await;
    let done = world.until::<Job>("work", "completion", |job| has(job, "Complete").is_some()).await;
    let status = done.status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(7), None, None));
    assert!(status.completion_time.is_some());
    let pods = world.pods().await;
    assert_eq!(pods.len(), 7);
    assert!(pods.iter().all(|pod| pod.metadata.finalizers.is_none()), "a pod still has its finalizer");
}

#[tokio::test(start_paused = true)]
async fn a_failing_job_backs_off_and_gives_up() {
    let world = World::start(&["job"]).await;
    let started = tokio::time::Instant::now();
    let _: Job = world.server.create(job(json!({"backoffLimit": 2}), Some("Failed"))).await;
    let done = world.until::<Job>("work", "failure", |job| has(job, "Failed").is_some()).await;
    assert_eq!(has(&done, "Failed").unwrap(), "BackoffLimitExceeded");
    assert_eq!(done.status.unwrap().failed, Some(3));
    assert_eq!(world.pods().await.len(), 3);
    // 10 s before the second pod and 20 s before the third.
    assert!((29..=33).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_runs_each_index_once() {
    let world = World::start(&["job"]).await;
    let spec = json!({"completions": 5, "parallelism": 2, "completionMode": "Indexed"});
    let _: Job = world.server.create(job(spec, Some("Succeeded"))).await;
    let done = world.until::<Job>("work", "completion", |job| has(job, "Complete").is_some()).await;
    let status = done.status.unwrap();
    assert_eq!((status.succeeded, status.completed_indexes.as_deref()), (Some(5), Some("0-4")));
    let mut names: Vec<String> =
        world.pods().await.iter().filter_map(|pod| pod.spec.as_ref()?.hostname.clone()).collect();
    names.sort();
    assert_eq!(names, ["work-0", "work-1", "work-2", "work-3", "work-4"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_past_its_deadline_fails_and_its_pods_go() {
    let world = World::start(&["job"]).await;
    let _: Job = world.server.create(job(json!({"activeDeadlineSeconds": 30, "parallelism": 2}), None)).await;
    let done = world.until::<Job>("work", "failure", |job| has(job, "Failed").is_some()).await;
    assert_eq!(has(&done, "Failed").unwrap(), "DeadlineExceeded");
    let gone = || async { world.pods().await.is_empty().then_some(()) };
    world.server.eventually("the pods are gone", gone).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let world = World::start(&["job"]).await;
    let _: Job = world.server.create(job(json!({"suspend": true}), Some("Succeeded"))).await;
    world.until::<Job>("work", "suspension", |job| has(job, "Suspended").is_some()).await;
    assert!(world.pods().await.is_empty());
    let resume = json!({"spec": {"suspend": false}});
    world.api::<Job>().patch("work", &PatchParams::default(), &Patch::Merge(&resume)).await.unwrap();
    world.until::<Job>("work", "completion", |job| has(job, "Complete").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_lives_for_its_time() {
    let world = World::start(&["job", "garbagecollector"]).await;
    let _: Job = world.server.create(job(json!({"ttlSecondsAfterFinished": 60}), Some("Succeeded"))).await;
    world.until::<Job>("work", "completion", |job| has(job, "Complete").is_some()).await;
    let jobs = world.api::<Job>();
    let gone = || async { jobs.get_opt("work").await.unwrap().is_none().then_some(()) };
    let finished = tokio::time::Instant::now();
    world.server.eventually("the Job is gone", gone).await;
    assert!(finished.elapsed().as_secs() >= 58);
    let gone = || async { world.pods().await.is_empty().then_some(()) };
    world.server.eventually("its pods are gone", gone).await;
}
