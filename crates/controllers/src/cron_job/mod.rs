//! CronJobs: Jobs on a schedule.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Index, Informer, Next, Recorder, WorkQueue, key_of, object_key, reference_to};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, DeleteParams, PostParams};

use self::schedule::Schedule;
use crate::context::{Context, Error, gone_is_fine, is_already_exists, is_namespace_terminating, message};
use crate::{job, owner};

const WORKERS: usize = 4;
/// With more missed times than this the clock must have jumped; a warning says so.
const MISSED_MAX: usize = 100;
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let jobs = context.informers.of::<Job>();
    let controller = Arc::new(Controller {
        cron_jobs: context.informers.of(),
        jobs: jobs.index(|job| {
            owner::controller(&job.metadata).map(|reference| reference.uid.clone()).into_iter().collect()
        }),
        recorder: context.recorder("cronjob-controller"),
        queue: WorkQueue::new(),
        context: context.clone(),
    });
    let queue = controller.queue.clone();
    controller.cron_jobs.on_event(move |event| queue.add(key_of(event.object().as_ref())));
    let queue = controller.queue.clone();
    jobs.on_event(move |event| {
        let job = event.object();
        if let Some(reference) = owner::controller_of_kind::<CronJob>(&job.metadata) {
            queue.add(object_key(job.metadata.namespace.as_deref().unwrap_or(""), &reference.name));
        }
    });
    controller.cron_jobs.synced().await;
    jobs.synced().await;
    let queue = controller.queue.clone();
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    cron_jobs: Informer<CronJob>,
    jobs: Index<Job>,
    recorder: Recorder,
    queue: WorkQueue<String>,
}

fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
    job::is_finished(conditions.unwrap_or(&[]))
}

fn has_succeeded(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
    job::condition(conditions.unwrap_or(&[]), "Complete").is_some()
}

/// The latest time at or before `now` at which a Job was due and not yet made, and how many such
/// times there were.
fn missed(cron_job: &CronJob, schedule: &Schedule, now: Timestamp) -> Option<(Timestamp, usize)> {
    let spec = &cron_job.spec;
    let last = cron_job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let created = cron_job.metadata.creation_timestamp.as_ref();
    let mut earliest = last.or(created)?.0;
    if let Some(deadline) = spec.starting_deadline_seconds {
        let since = now - Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
        earliest = earliest.max(since);
    }
    let first = schedule.next(earliest).filter(|first| *first <= now)?;
    // Long pauses would make walking from time to time slow: jump close to now first.
    let second = schedule.next(first);
    let (mut latest, mut count) = (first, 1);
    if let Some(second) = second {
        let interval = second.duration_since(first);
        let elapsed = now.duration_since(first);
        let estimate = elapsed.as_secs() / interval.as_secs().max(1);
        if estimate > 1000 {
            count = usize::try_from(estimate).unwrap_or(usize::MAX);
            let back = Duration::try_from(interval).unwrap_or_default() * 2;
            latest = schedule.next(now - back).filter(|time| *time <= now).unwrap_or(first);
        }
    }
    while let Some(next) = schedule.next(latest).filter(|next| *next <= now) {
        latest = next;
        count += 1;
    }
    Some((latest, count))
}

impl Controller {
    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(cron_job) = self.cron_jobs.get_key(key) else { return Ok(Next::Wait) };
        let spec = &cron_job.spec;
        let jobs = self.jobs.get(cron_job.metadata.uid.as_deref().unwrap_or(""));
        self.clean_up(&cron_job, &jobs).await?;
        let mut status = self.observe(&cron_job, &jobs);
        let about = reference_to(cron_job.as_ref());
        let Some(schedule) = Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) else {
            let text = format!("unparseable schedule: {}", spec.schedule);
            self.recorder.event(&about, EventType::Warning, "UnparseableSchedule", text);
            self.write_status(&cron_job, status).await?;
            return Ok(Next::Wait);
        };
        if cron_job.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
            self.write_status(&cron_job, status).await?;
            return Ok(Next::Wait);
        }
        let now = base::clock::now();
        let result = match missed(&cron_job, &schedule, now) {
            Some((due, count)) => {
                if count > MISSED_MAX {
                    let text = format!(
                        "too many missed start times: {count}. Set or decrease \
                        .spec.startingDeadlineSeconds or check clock skew"
                    );
                    self.recorder.event(&about, EventType::Warning, "TooManyMissedTimes", text);
                }
                self.start(&cron_job, due, &jobs, &mut status).await
            }
            None => Ok(()),
        };
        self.write_status(&cron_job, status).await?;
        result?;
        let wait = schedule.next(now).map(|next| {
            // A little late rather than a little early.
            Duration::try_from(next.duration_since(now)).unwrap_or_default() + Duration::from_millis(100)
        });
        Ok(wait.map_or(Next::Wait, Next::After))
    }

    /// The status with the Jobs that run, and the latest success.
    fn observe(&self, cron_job: &CronJob, jobs: &[Arc<Job>]) -> CronJobStatus {
        let mut status = cron_job.status.clone().unwrap_or_default();
        let known = status.active.take().unwrap_or_default();
        let active: Vec<_> = jobs
            .iter()
            .filter(|job| !is_finished(job))
            .map(|job| {
                let fresh = reference_to(job.as_ref());
                known.iter().find(|old| old.uid == fresh.uid).cloned().unwrap_or(fresh)
            })
            .collect();
        for finished in known.iter().filter(|old| !active.iter().any(|job| job.uid == old.uid)) {
            let name = finished.name.as_deref().unwrap_or("");
            let ended = jobs.iter().find(|job| job.metadata.uid == finished.uid);
            let (reason, text) = match ended {
                Some(job) => {
                    let condition = if has_succeeded(job) { "Complete" } else { "Failed" };
                    ("SawCompletedJob", format!("Saw completed job: {name}, condition: {condition}"))
                }
                None => ("MissingJob", format!("Active job went missing: {name}")),
            };
            self.recorder.event(&reference_to(cron_job), EventType::Normal, reason, text);
        }
        let successes = jobs.iter().filter(|job| has_succeeded(job));
        let latest = successes
            .filter_map(|job| job.status.as_ref().and_then(|status| status.completion_time.clone()))
            .max();
        status.last_successful_time = status.last_successful_time.max(latest);
        status.active = (!active.is_empty()).then_some(active);
        status
    }

    async fn start(
        &self,
        cron_job: &CronJob,
        due: Timestamp,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        let about = reference_to(cron_job);
        let name = job_name(cron_job, due);
        if jobs.iter().any(|job| job.metadata.name.as_deref() == Some(&name)) {
            // Made in an earlier pass whose status write was lost.
            status.last_schedule_time = Some(Time(due));
            return Ok(());
        }
        let namespace = cron_job.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), namespace);
        let policy = cron_job.spec.concurrency_policy.as_deref();
        let running = jobs.iter().filter(|job| !is_finished(job));
        match policy {
            Some("Forbid") if running.clone().next().is_some() => {
                let text =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.event(&about, EventType::Normal, "JobAlreadyActive", text);
                return Ok(());
            }
            Some("Replace") => {
                for job in running {
                    let old = job.metadata.name.as_deref().unwrap_or("");
                    gone_is_fine(api.delete(old, &DeleteParams::background()).await)?;
                    let text = format!("Deleted job {old}");
                    self.recorder.event(&about, EventType::Normal, "SuccessfulDelete", text);
                }
                status.active = None;
            }
            _ => {}
        }
        match api.create(&PostParams::default(), &new_job(cron_job, name, due)).await {
            Ok(job) => {
                let text = format!("Created job {}", job.metadata.name.as_deref().unwrap_or(""));
                self.recorder.event(&about, EventType::Normal, "SuccessfulCreate", text);
                status.active.get_or_insert_default().push(reference_to(&job));
            }
            Err(error) if is_already_exists(&error) => {}
            Err(error) if is_namespace_terminating(&error) => return Ok(()),
            Err(error) => {
                let text = format!("Error creating job: {}", message(&error));
                self.recorder.event(&about, EventType::Warning, "FailedCreate", text);
                return Err(error.into());
            }
        }
        status.last_schedule_time = Some(Time(due));
        Ok(())
    }

    /// Deletes the oldest finished Jobs beyond the history limits.
    async fn clean_up(&self, cron_job: &CronJob, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let spec = &cron_job.spec;
        let namespace = cron_job.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), namespace);
        let limits = [
            (true, spec.successful_jobs_history_limit.unwrap_or(3)),
            (false, spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (succeeded, limit) in limits {
            let mut finished: Vec<&Arc<Job>> = jobs
                .iter()
                .filter(|job| is_finished(job) && has_succeeded(job) == succeeded)
                .filter(|job| job.metadata.deletion_timestamp.is_none())
                .collect();
            let started = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
            finished.sort_by_key(|job| (started(job), job.metadata.name.clone()));
            let surplus = finished.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in &finished[..surplus] {
                let name = job.metadata.name.as_deref().unwrap_or("");
                gone_is_fine(api.delete(name, &DeleteParams::background()).await)?;
            }
        }
        Ok(())
    }

    async fn write_status(&self, cron_job: &CronJob, status: CronJobStatus) -> Result<(), Error> {
        if cron_job.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let mut updated = cron_job.clone();
        updated.status = Some(status);
        let namespace = cron_job.metadata.namespace.as_deref().unwrap_or("");
        let api: Api<CronJob> = Api::namespaced(self.context.client.clone(), namespace);
        let name = cron_job.metadata.name.as_deref().unwrap_or("");
        Ok(gone_is_fine(api.replace_status(name, &PostParams::default(), &updated).await)?)
    }
}

/// A name that a repeated attempt gives again: the minute it was due, since the epoch.
fn job_name(cron_job: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", cron_job.metadata.name.as_deref().unwrap_or(""), due.as_second() / 60)
}

fn new_job(cron_job: &CronJob, name: String, due: Timestamp) -> Job {
    let template = cron_job.spec.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.to_string(), base::clock::rfc3339(due));
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron_job.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::reference(cron_job)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}
