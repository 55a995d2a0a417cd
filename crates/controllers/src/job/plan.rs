//! One pass over a Job: its status, and which pods to create, delete and let go.
//!
//! A pod that has ended is counted exactly once, over restarts and stale caches: its uid is written
//! to `status.uncountedTerminatedPods` first, then its tracking finalizer is removed, and only when
//! the informer shows it without the finalizer is the uid exchanged for an increment (KEP-2307).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::map::HashSet;
use client::EventType;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Record;
use super::per_index::{self, Delayed, Failures};
use super::policy::{self, Verdict};
use super::{conditions, indexes};
use crate::pod;
use crate::replica_set::choose_for_deletion;

/// The finalizer that keeps a pod until it is counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// At most this many pods are created or deleted in one pass.
const MAX_PODS: usize = 500;
/// At most this many uids are kept in the status.
const MAX_UNCOUNTED: usize = 500;

/// What the Job controls, as far as known.
#[derive(Debug, Default)]
pub struct Observed {
    /// The pods the informer shows.
    pub pods: Vec<Arc<Pod>>,
    /// How many pods were created that the informer does not show yet.
    pub unseen: usize,
    /// The uids of pods whose deletion is under way.
    pub deleting: HashSet<String>,
}

/// A pod to create: its completion index, and how often that has failed if there is a limit to it.
pub type Wanted = (Option<i32>, Option<Failures>);

/// The outcome of a pass, in the order in which it is carried out.
#[derive(Debug, Default)]
pub struct Plan {
    /// The status to write first.
    pub status: JobStatus,
    /// The back-off record to keep once the status is written.
    pub backoff: Record,
    /// Pods whose tracking finalizer is to be removed.
    pub release: Vec<Arc<Pod>>,
    /// Pods to delete; they will count as failed.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to let go and delete without counting them.
    pub discard: Vec<Arc<Pod>>,
    /// Pods to create.
    pub create: Vec<Wanted>,
    /// Events to record.
    pub events: Vec<(EventType, String, String)>,
    /// When to look again without an event.
    pub check_after: Option<Duration>,
}

/// Whether the pod still has its tracking finalizer.
pub fn is_tracked(p: &Pod) -> bool {
    p.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

/// Whether the Job numbers its pods.
pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Plans one pass over a Job that has not finished.
pub fn plan(job: &Job, observed: &Observed, backoff: &Record, now: &Time) -> Plan {
    let default = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&default);
    let mut pass = Pass::new(job, spec, observed, backoff, now);
    pass.count_released();
    pass.find_ended();
    let mut finished = pass.decide();
    if finished.is_some() {
        pass.plan.delete = pass.active.clone();
    } else if job.metadata.deletion_timestamp.is_none() && observed.unseen == 0 {
        pass.manage();
        let none_active = pass.active_after() == 0;
        if pass.has_enough() && none_active {
            let message = "Reached expected number of succeeded pods".to_string();
            finished = Some(pass.success("CompletionsReached", message));
        } else if pass.has_only_failed_left() && none_active {
            finished = Some(pass.failure("FailedIndexes", "Job has failed indexes".to_string()));
        } else {
            pass.sync_suspended();
        }
    }
    pass.track(finished.as_ref());
    pass.finish(finished);
    pass.plan
}

struct Pass<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    observed: &'a Observed,
    now: &'a Time,
    status: JobStatus,
    uncounted_succeeded: Vec<String>,
    uncounted_failed: Vec<String>,
    active: Vec<Arc<Pod>>,
    newly_succeeded: Vec<Arc<Pod>>,
    newly_failed: Vec<Arc<Pod>>,
    /// Indexed Jobs: recorded in the status before this pass.
    recorded_indexes: BTreeSet<i32>,
    /// Indexed Jobs: recorded, and those of pods that have succeeded.
    succeeded_indexes: BTreeSet<i32>,
    /// Jobs with a limit per index: recorded, and those that fail now.
    failed_indexes: BTreeSet<i32>,
    delayed: Delayed,
    succeeded: i32,
    failed: i32,
    plan: Plan,
}

impl<'a> Pass<'a> {
    fn new(job: &'a Job, spec: &'a JobSpec, observed: &'a Observed, backoff: &Record, now: &'a Time) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let leaving = |p: &Pod| p.metadata.uid.as_ref().is_some_and(|uid| observed.deleting.contains(uid));
        let active = observed.pods.iter().filter(|p| pod::is_active(p) && !leaving(p)).cloned().collect();
        Self {
            job,
            spec,
            observed,
            now,
            uncounted_succeeded: uncounted.succeeded.unwrap_or_default(),
            uncounted_failed: uncounted.failed.unwrap_or_default(),
            status,
            active,
            newly_succeeded: Vec::new(),
            newly_failed: Vec::new(),
            recorded_indexes: BTreeSet::new(),
            succeeded_indexes: BTreeSet::new(),
            failed_indexes: BTreeSet::new(),
            delayed: Delayed::default(),
            succeeded: 0,
            failed: 0,
            plan: Plan { backoff: backoff.clone(), ..Plan::default() },
        }
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(1)
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or(false)
    }

    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    /// Whether the pod counts as failed. A deleted pod does so at once unless it is replaced only
    /// when it has really failed.
    fn has_failed(&self, p: &Pod) -> bool {
        match pod::phase(p) {
            "Failed" => true,
            "Succeeded" => false,
            phase => pod::is_deleted(p) && (!self.replaces_only_failed() || phase == "Pending"),
        }
    }

    fn has_valid_index(&self, p: &Pod) -> bool {
        !is_indexed(self.spec) || indexes::of_pod(p).is_some_and(|index| index < self.completions())
    }

    /// Exchanges the uids of pods that have lost their finalizer for counts.
    fn count_released(&mut self) {
        let tracked: HashSet<&str> = self
            .observed
            .pods
            .iter()
            .filter(|p| is_tracked(p))
            .filter_map(|p| p.metadata.uid.as_deref())
            .collect();
        let exchange = |uids: &mut Vec<String>, count: &mut Option<i32>| {
            let before = uids.len();
            uids.retain(|uid| tracked.contains(uid.as_str()));
            let released = i32::try_from(before - uids.len()).unwrap_or(0);
            *count = Some(count.unwrap_or(0) + released);
        };
        exchange(&mut self.uncounted_succeeded, &mut self.status.succeeded);
        exchange(&mut self.uncounted_failed, &mut self.status.failed);
    }

    /// Finds ended pods that no status has counted yet.
    fn find_ended(&mut self) {
        let is_in = |uids: &[String], p: &Pod| uids.iter().any(|uid| Some(uid) == p.metadata.uid.as_ref());
        let tracked = || self.observed.pods.iter().filter(|p| is_tracked(p) && self.has_valid_index(p));
        let newly_succeeded: Vec<Arc<Pod>> = tracked()
            .filter(|p| pod::phase(p) == "Succeeded" && !is_in(&self.uncounted_succeeded, p))
            .cloned()
            .collect();
        let newly_failed: Vec<Arc<Pod>> =
            tracked().filter(|p| self.has_failed(p) && !is_in(&self.uncounted_failed, p)).cloned().collect();
        let counting = newly_failed.iter().filter(|p| self.counts(p)).count();
        let total = |now: Option<i32>, uncounted: usize, new: usize| {
            now.unwrap_or(0) + i32::try_from(uncounted + new).unwrap_or(0)
        };
        self.failed = total(self.status.failed, self.uncounted_failed.len(), counting);
        if is_indexed(self.spec) {
            let recorded = self.status.completed_indexes.as_deref().unwrap_or("");
            self.recorded_indexes = indexes::parse(recorded, self.completions());
            self.succeeded_indexes = self.recorded_indexes.clone();
            self.succeeded_indexes.extend(newly_succeeded.iter().filter_map(|p| indexes::of_pod(p)));
            self.succeeded = i32::try_from(self.succeeded_indexes.len()).unwrap_or(i32::MAX);
        } else {
            self.succeeded =
                total(self.status.succeeded, self.uncounted_succeeded.len(), newly_succeeded.len());
        }
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(self.now.clone());
        }
        // Indexed pods that repeat a recorded index are not news.
        let news: Vec<&Pod> = newly_succeeded
            .iter()
            .filter(|p| indexes::of_pod(p).is_none_or(|index| !self.recorded_indexes.contains(&index)))
            .map(Arc::as_ref)
            .collect();
        let failures: Vec<&Pod> = newly_failed.iter().map(Arc::as_ref).collect();
        if self.is_limited_per_index() {
            self.find_failed_indexes(&newly_failed);
        } else {
            self.plan.backoff = self.plan.backoff.after(&news, &failures);
        }
        self.newly_succeeded = newly_succeeded;
        self.newly_failed = newly_failed;
    }

    fn is_limited_per_index(&self) -> bool {
        is_indexed(self.spec) && self.spec.backoff_limit_per_index.is_some()
    }

    fn find_failed_indexes(&mut self, newly_failed: &[Arc<Pod>]) {
        let recorded = self.status.failed_indexes.as_deref().unwrap_or("");
        self.failed_indexes = indexes::parse(recorded, self.completions());
        let for_good = newly_failed.iter().filter(|p| per_index::fails_for_good(self.spec, p));
        self.failed_indexes.extend(for_good.filter_map(|p| indexes::of_pod(p)));
        self.failed_indexes.retain(|index| !self.succeeded_indexes.contains(index));
        let mut settled = self.succeeded_indexes.clone();
        settled.extend(&self.failed_indexes);
        settled.extend(self.active.iter().filter_map(|p| indexes::of_pod(p)));
        self.delayed = Delayed::of(newly_failed, &settled);
    }

    fn counts(&self, p: &Pod) -> bool {
        policy::judge(self.spec.pod_failure_policy.as_ref(), p) != Verdict::Ignore
    }

    /// Whether the Job is to end now, and how: earlier decisions stand, then failures, then success
    /// by policy.
    fn decide(&mut self) -> Option<JobCondition> {
        let conditions = self.status.conditions.as_deref().unwrap_or(&[]);
        if let Some(met) = conditions::find(conditions, "SuccessCriteriaMet") {
            return Some(met.clone());
        }
        if let Some(target) = conditions::find(conditions, "FailureTarget") {
            return Some(target.clone());
        }
        let fail = |reason: &str, message: String| {
            Some(conditions::new("FailureTarget", "True", reason, message, self.now))
        };
        for p in self.observed.pods.iter().filter(|p| self.has_failed(p)) {
            if let Verdict::FailJob(message) = policy::judge(self.spec.pod_failure_policy.as_ref(), p) {
                return fail("PodFailurePolicy", message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarts_exceed(limit) {
            return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_string());
        }
        if let Some(left) = self.active_time_left() {
            if left.is_zero() {
                let message = "Job was active longer than specified deadline".to_string();
                return fail("DeadlineExceeded", message);
            }
            self.check_after(left);
        }
        let failed_indexes = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
        if self.spec.max_failed_indexes.is_some_and(|max| failed_indexes > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes".to_string();
            return fail("MaxFailedIndexesExceeded", message);
        }
        let met =
            policy::success(self.spec.success_policy.as_ref(), self.completions(), &self.succeeded_indexes)
                .filter(|_| is_indexed(self.spec));
        met.map(|message| self.success("SuccessPolicy", message))
    }

    fn failure(&self, reason: &str, message: String) -> JobCondition {
        conditions::new("FailureTarget", "True", reason, message, self.now)
    }

    /// Whether every index has ended, and some have failed.
    fn has_only_failed_left(&self) -> bool {
        let failed = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
        failed > 0 && self.succeeded.saturating_add(failed) >= self.completions()
    }

    fn success(&self, reason: &str, message: String) -> JobCondition {
        conditions::new("SuccessCriteriaMet", "True", reason, message, self.now)
    }

    /// How much longer the Job may be active; `None` without a deadline or while it is suspended.
    fn active_time_left(&self) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        let deadline = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let start = self.status.start_time.as_ref()?.0;
        Some(Duration::try_from((start + deadline).duration_since(self.now.0)).unwrap_or_default())
    }

    /// Pods that restart in place do not fail; their restarts are counted instead.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let running = self.observed.pods.iter().filter(|p| matches!(pod::phase(p), "Running" | "Pending"));
        let restarts: i32 = running
            .filter_map(|p| p.status.as_ref())
            .flat_map(|status| {
                let inits = status.init_container_statuses.iter().flatten();
                inits.chain(status.container_statuses.iter().flatten())
            })
            .map(|container| container.restart_count)
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn check_after(&mut self, delay: Duration) {
        // Half a second more, as times are in whole seconds.
        let delay = delay + Duration::from_millis(500);
        self.plan.check_after = Some(self.plan.check_after.map_or(delay, |known| known.min(delay)));
    }

    fn active_after(&self) -> usize {
        let leaving = self.plan.delete.len() + self.plan.discard.len();
        self.active.len() + self.observed.unseen + self.plan.create.len() - leaving
    }

    fn has_enough(&self) -> bool {
        match self.spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        }
    }

    fn terminating(&self) -> usize {
        self.observed
            .pods
            .iter()
            .filter(|p| {
                pod::is_terminating(p)
                    || (pod::is_active(p)
                        && p.metadata.uid.as_ref().is_some_and(|uid| self.observed.deleting.contains(uid)))
            })
            .count()
    }

    /// Creates or removes pods so that as many are active as asked for.
    fn manage(&mut self) {
        if self.is_suspended() {
            self.plan.discard = self.active.clone();
            return;
        }
        let active = self.active.len();
        let count = |count: i32| usize::try_from(count).unwrap_or(0);
        let parallelism = count(self.spec.parallelism.unwrap_or(1));
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => {
                let ended = self.succeeded + i32::try_from(self.failed_indexes.len()).unwrap_or(0);
                count(completions - ended).min(parallelism)
            }
        };
        self.plan.discard = self.surplus(active.saturating_sub(wanted));
        if !self.plan.discard.is_empty() {
            return;
        }
        let terminating = if self.replaces_only_failed() { self.terminating() } else { 0 };
        let missing = wanted.saturating_sub(active + terminating).min(MAX_PODS);
        if missing == 0 {
            return;
        }
        let wait = self.plan.backoff.remaining(self.now.0);
        if !wait.is_zero() {
            self.check_after(wait);
            return;
        }
        self.plan.create = if self.is_limited_per_index() {
            self.due_indexes(missing)
        } else if is_indexed(self.spec) {
            self.free_indexes(missing).into_iter().map(|index| (Some(index), None)).collect()
        } else {
            vec![(None, None); missing]
        };
    }

    /// The active pods to remove: duplicates and strays of Indexed Jobs, and at least this many.
    fn surplus(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let (mut surplus, mut rest) = (Vec::new(), Vec::new());
        let mut taken = self.succeeded_indexes.clone();
        for p in &self.active {
            match indexes::of_pod(p).filter(|index| *index < self.completions()) {
                _ if !is_indexed(self.spec) => rest.push(p.clone()),
                Some(index) if taken.insert(index) => rest.push(p.clone()),
                _ => surplus.push(p.clone()),
            }
        }
        let more = at_least.saturating_sub(surplus.len());
        surplus.extend(choose_for_deletion(rest, &[], more, self.now.0).into_iter().take(more));
        surplus.truncate(MAX_PODS);
        surplus
    }

    /// Free indexes that need not wait after a failure.
    fn due_indexes(&mut self, count: usize) -> Vec<Wanted> {
        let (mut due, mut next) = (Vec::new(), None);
        for index in self.free_indexes(usize::MAX) {
            if due.len() == count {
                return due;
            }
            let wait = self.delayed.remaining(index, self.now.0);
            if wait.is_zero() {
                due.push((Some(index), Some(self.delayed.failures(self.spec, index))));
            } else {
                next = Some(next.map_or(wait, |known: Duration| known.min(wait)));
            }
        }
        if let Some(wait) = next.filter(|_| due.len() < count) {
            self.check_after(wait);
        }
        due
    }

    fn free_indexes(&self, count: usize) -> Vec<i32> {
        let mut taken = self.succeeded_indexes.clone();
        taken.extend(&self.failed_indexes);
        let present = self
            .observed
            .pods
            .iter()
            .filter(|p| pod::is_active(p) || (self.replaces_only_failed() && pod::is_terminating(p)));
        taken.extend(present.filter_map(|p| indexes::of_pod(p)));
        (0..self.completions()).filter(|index| !taken.contains(index)).take(count).collect()
    }

    fn sync_suspended(&mut self) {
        let conditions = self.status.conditions.get_or_insert_default();
        if self.spec.suspend.unwrap_or(false) {
            if conditions::ensure(conditions, "Suspended", "True", "JobSuspended", "Job suspended", self.now)
            {
                self.event(EventType::Normal, "Suspended", "Job suspended");
                self.status.start_time = None;
            }
        } else if conditions::ensure(conditions, "Suspended", "False", "JobResumed", "Job resumed", self.now)
        {
            self.event(EventType::Normal, "Resumed", "Job resumed");
            self.status.start_time = Some(self.now.clone());
        }
    }

    fn event(&mut self, type_: EventType, reason: &str, message: &str) {
        self.plan.events.push((type_, reason.to_string(), message.to_string()));
    }

    /// Marks ended pods as to be counted and lets go of them. When the Job ends, of all pods.
    fn track(&mut self, finished: Option<&JobCondition>) {
        let failing = finished.is_some_and(|condition| condition.type_ == "FailureTarget");
        let everything = finished.is_some() || self.job.metadata.deletion_timestamp.is_some();
        let mut new_indexes = 0;
        for p in self.observed.pods.iter().filter(|p| is_tracked(p)) {
            let uid = p.metadata.uid.clone().unwrap_or_default();
            let (succeeded, failed) = (pod::phase(p) == "Succeeded", self.has_failed(p));
            if !(succeeded || failed || everything) || self.plan.discard.contains(p) {
                continue;
            }
            if failed && !everything && self.delayed.keeps(p) {
                // Its successor is to learn from it how often the index has failed.
                continue;
            }
            if new_indexes + self.uncounted_succeeded.len() + self.uncounted_failed.len() >= MAX_UNCOUNTED {
                // The rest follows when these are counted.
                break;
            }
            self.plan.release.push(p.clone());
            if !self.has_valid_index(p) {
                continue;
            }
            if succeeded {
                if let Some(index) = indexes::of_pod(p).filter(|_| is_indexed(self.spec)) {
                    // The index itself says that it is counted.
                    new_indexes += usize::from(self.recorded_indexes.insert(index));
                } else if !self.uncounted_succeeded.contains(&uid) {
                    self.uncounted_succeeded.push(uid);
                }
            } else if (failed || failing) && !self.uncounted_failed.contains(&uid) && self.counts(p) {
                self.uncounted_failed.push(uid);
            }
        }
        if is_indexed(self.spec) {
            let text = indexes::format(&self.recorded_indexes);
            self.status.succeeded = i32::try_from(self.recorded_indexes.len()).ok();
            self.status.completed_indexes = (!text.is_empty()).then_some(text);
        }
        if self.is_limited_per_index() {
            self.status.failed_indexes = Some(indexes::format(&self.failed_indexes));
        }
    }

    /// Completes the status: counts, the interim condition, and the final one once every pod is
    /// counted and none is left terminating.
    fn finish(&mut self, finished: Option<JobCondition>) {
        let nonzero = |count: usize| i32::try_from(count).ok().filter(|count| *count != 0);
        let leaving = |p: &Arc<Pod>| self.plan.delete.contains(p) || self.plan.discard.contains(p);
        let ready = self.active.iter().filter(|p| pod::is_ready(p) && !leaving(p)).count();
        let leaving = self.plan.delete.len() + self.plan.discard.len();
        let terminating = self.terminating() + leaving;
        let active = self.active_after();
        let uncounted = self.uncounted_succeeded.len() + self.uncounted_failed.len();
        self.status.active = nonzero(active);
        self.status.ready = i32::try_from(ready).ok();
        self.status.terminating = i32::try_from(terminating).ok();
        self.status.succeeded = self.status.succeeded.filter(|count| *count != 0);
        self.status.failed = self.status.failed.filter(|count| *count != 0);
        let list = |uids: &mut Vec<String>| (!uids.is_empty()).then(|| std::mem::take(uids));
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&mut self.uncounted_succeeded),
            failed: list(&mut self.uncounted_failed),
        });
        let conditions = self.status.conditions.get_or_insert_default();
        if let Some(interim) = finished {
            let done = active == 0 && terminating == 0 && uncounted == 0 && self.plan.release.is_empty();
            if conditions::find(conditions, &interim.type_).is_none() {
                conditions.push(interim.clone());
            }
            if done {
                let type_ = if interim.type_ == "FailureTarget" { "Failed" } else { "Complete" };
                let (reason, message) =
                    (interim.reason.unwrap_or_default(), interim.message.unwrap_or_default());
                conditions.push(conditions::new(type_, "True", &reason, message.clone(), self.now));
                if type_ == "Complete" {
                    self.status.completion_time = Some(self.now.clone());
                    self.event(EventType::Normal, "Completed", "Job completed");
                } else {
                    self.event(EventType::Warning, &reason, &message);
                }
            }
        }
        if self.status.conditions.as_ref().is_some_and(Vec::is_empty) {
            self.status.conditions = None;
        }
        self.plan.status = std::mem::take(&mut self.status);
    }
}
