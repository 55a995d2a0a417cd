//! One pass over a Deployment: what to do with its ReplicaSets and which status to write.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{revision, scale, status};

/// A write to a ReplicaSet, in the order in which they are to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the ReplicaSet of a template that has none yet.
    Create(Box<ReplicaSet>),
    /// Replace the ReplicaSet; `scaled` holds its size before and after when that changes.
    Update {
        /// The ReplicaSet as it should be, with the resourceVersion it was read at.
        rs: Box<ReplicaSet>,
        /// The old and the new size.
        scaled: Option<(i32, i32)>,
    },
    /// Delete a ReplicaSet that history no longer needs.
    Delete(Box<ReplicaSet>),
}

/// The outcome of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The writes to ReplicaSets.
    pub actions: Vec<Action>,
    /// The status that the Deployment should have after them.
    pub status: DeploymentStatus,
    /// The revision annotation that the Deployment should have, if it has a ReplicaSet.
    pub revision: Option<String>,
    /// When to look again without an event: the progress deadline.
    pub check_after: Option<Duration>,
}

/// Plans one pass. `sets` are the ReplicaSets the Deployment controls; `old_pods_running` tells
/// whether a pod of any of them but the new one has not ended yet (only asked for Recreate).
pub fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    old_pods_running: impl Fn(Option<&ReplicaSet>) -> bool,
    now: &Time,
) -> Plan {
    let mut pass = Pass::new(deployment, sets, now);
    let spec = deployment.spec.as_ref();
    let paused = spec.and_then(|spec| spec.paused).unwrap_or(false);
    if deployment.metadata.deletion_timestamp.is_some() {
        pass.sync_new_set();
        return pass.finish_counted();
    }
    pass.sync_pause_condition(paused);
    pass.sync_new_set();
    if paused || pass.is_scaling() {
        pass.scale();
        if paused {
            pass.clean_up();
        }
        return pass.finish_counted();
    }
    if scale::is_rolling(deployment) {
        pass.roll();
    } else {
        pass.recreate(old_pods_running);
    }
    pass.finish_rollout()
}

/// The state of the world as it will be after the actions planned so far.
struct Pass<'a> {
    deployment: &'a Deployment,
    now: &'a Time,
    /// The observed status with the conditions this pass has set.
    base: DeploymentStatus,
    new: Option<ReplicaSet>,
    /// Oldest first.
    old: Vec<ReplicaSet>,
    create: Option<ReplicaSet>,
    /// Names and original sizes of changed ReplicaSets, in the order of their first change.
    changed: Vec<(String, i32)>,
    delete: Vec<ReplicaSet>,
    revision: Option<String>,
}

impl<'a> Pass<'a> {
    fn new(deployment: &'a Deployment, sets: &[Arc<ReplicaSet>], now: &'a Time) -> Self {
        let mut old: Vec<ReplicaSet> = sets.iter().map(|rs| ReplicaSet::clone(rs)).collect();
        old.sort_by(|a, b| {
            scale::created(a).cmp(&scale::created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        let new = revision::find_new(deployment, &old).map(|index| old.remove(index));
        let base = deployment.status.clone().unwrap_or_default();
        let revision = deployment
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(revision::REVISION).cloned());
        Self {
            deployment,
            now,
            base,
            new,
            old,
            create: None,
            changed: Vec::new(),
            delete: Vec::new(),
            revision,
        }
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(revision::revision).max().unwrap_or(0) + 1
    }

    fn set_progressing(&mut self, value: &str, reason: &str, message: String) {
        status::set(&mut self.base, status::PROGRESSING, value, reason, message, self.now);
    }

    /// Marks pause and resume in the Progressing condition, so that a paused rollout is not later
    /// said to be stuck.
    fn sync_pause_condition(&mut self, paused: bool) {
        use status::reason::{PAUSED, RESUMED, TIMED_OUT};
        if status::progress_deadline(self.deployment).is_none() {
            return;
        }
        let current = status::condition(&self.base, status::PROGRESSING).and_then(|c| c.reason.clone());
        match current.as_deref() {
            Some(TIMED_OUT) => {}
            Some(PAUSED) if !paused => {
                self.set_progressing("Unknown", RESUMED, "Deployment is resumed".to_string());
            }
            Some(PAUSED) => {}
            _ if paused => self.set_progressing("Unknown", PAUSED, "Deployment is paused".to_string()),
            _ => {}
        }
    }

    /// Brings the annotations of an existing new ReplicaSet up to date.
    fn sync_new_set(&mut self) {
        let revision = self.next_revision();
        let Some(mut rs) = self.new.take() else { return };
        let mut changed = revision::set_annotations(&mut rs, self.deployment, revision);
        let wanted = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        if let Some(spec) = &mut rs.spec
            && spec.min_ready_seconds.unwrap_or(0) != wanted.unwrap_or(0)
        {
            spec.min_ready_seconds = wanted;
            changed = true;
        }
        let name = rs.metadata.name.clone().unwrap_or_default();
        self.revision = rs
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(revision::REVISION).cloned());
        if changed {
            self.changed.push((name.clone(), scale::size(&rs)));
        }
        self.new = Some(rs);
        if status::progress_deadline(self.deployment).is_some()
            && status::condition(&self.base, status::PROGRESSING).is_none()
        {
            let message = format!("Found new replica set {name:?}");
            self.set_progressing("True", status::reason::FOUND_REPLICA_SET, message);
        }
    }

    fn ensure_new_set(&mut self) {
        if self.new.is_some() {
            return;
        }
        let revision = self.next_revision();
        let Some(mut rs) = revision::new_replica_set(self.deployment, revision) else { return };
        let size = scale::new_set_size(self.deployment, 0, self.total());
        if let Some(spec) = &mut rs.spec {
            spec.replicas = Some(size);
        }
        self.revision = Some(revision.to_string());
        if status::progress_deadline(self.deployment).is_some() {
            let message = format!("Created new replica set {:?}", rs.metadata.name.as_deref().unwrap_or(""));
            self.set_progressing("True", status::reason::NEW_REPLICA_SET, message);
        }
        self.create = Some(rs.clone());
        self.new = Some(rs);
    }

    /// The replicas asked of all ReplicaSets together.
    fn total(&self) -> i32 {
        self.old.iter().chain(&self.new).map(scale::size).sum()
    }

    fn active(&self) -> Vec<&ReplicaSet> {
        self.old.iter().chain(&self.new).filter(|rs| scale::size(rs) > 0).collect()
    }

    /// Whether the Deployment was scaled since its active ReplicaSets were.
    fn is_scaling(&self) -> bool {
        let desired = scale::desired(self.deployment);
        self.active().iter().any(|rs| {
            scale::annotated_count(rs, scale::DESIRED_REPLICAS).is_some_and(|count| count != desired)
        })
    }

    /// Sets the size of one ReplicaSet. With `force` its annotations are brought up to date even
    /// when the size stays. Returns whether the size changed.
    fn resize(&mut self, name: &str, size: i32, force: bool) -> bool {
        let deployment = self.deployment;
        let Some(rs) =
            self.old.iter_mut().chain(self.new.as_mut()).find(|rs| rs.metadata.name.as_deref() == Some(name))
        else {
            return false;
        };
        let before = scale::size(rs);
        if before == size && !force {
            return false;
        }
        let annotated = scale::annotate(rs, deployment);
        if let Some(spec) = &mut rs.spec {
            spec.replicas = Some(size);
        }
        if (annotated || before != size) && !self.changed.iter().any(|(changed, _)| changed == name) {
            self.changed.push((name.to_string(), before));
        }
        before != size
    }

    /// Follows a change of the Deployment's replicas: a single active ReplicaSet takes it whole,
    /// several take it in proportion, so that scaling does not hasten a rollout.
    fn scale(&mut self) {
        let desired = scale::desired(self.deployment);
        let name_of = |rs: &ReplicaSet| rs.metadata.name.clone().unwrap_or_default();
        let active: Vec<String> = self.active().into_iter().map(name_of).collect();
        if active.len() <= 1 {
            let newest = || self.new.as_ref().or(self.old.last()).map(name_of);
            if let Some(name) = active.into_iter().next().or_else(newest) {
                self.resize(&name, desired, false);
            }
        } else if self.new.as_ref().is_some_and(|rs| scale::is_saturated(self.deployment, rs)) {
            for name in self.active_old() {
                self.resize(&name, 0, false);
            }
        } else if scale::is_rolling(self.deployment) {
            for (name, size) in scale::proportional(self.deployment, &self.active()) {
                self.resize(&name, size, true);
            }
        }
    }

    fn active_old(&self) -> Vec<String> {
        let active = self.old.iter().filter(|rs| scale::size(rs) > 0);
        active.map(|rs| rs.metadata.name.clone().unwrap_or_default()).collect()
    }

    /// One step of a rolling update: scale up if the surge allows it, else scale down.
    fn roll(&mut self) {
        self.ensure_new_set();
        if self.create.is_some() {
            self.scale_down_old();
            return;
        }
        if self.scale_up_new() || self.scale_down_old() {
            return;
        }
        if status::is_complete(self.deployment, &self.base) {
            self.clean_up();
        }
    }

    fn scale_up_new(&mut self) -> bool {
        let desired = scale::desired(self.deployment);
        let Some(new) = &self.new else { return false };
        let (name, size) = (new.metadata.name.clone().unwrap_or_default(), scale::size(new));
        if size == desired {
            return false;
        }
        let target =
            if size > desired { desired } else { scale::new_set_size(self.deployment, size, self.total()) };
        self.resize(&name, target, false)
    }

    /// Scales old ReplicaSets down as far as availability allows: unhealthy replicas first, which
    /// costs no availability.
    fn scale_down_old(&mut self) -> bool {
        let Some(new) = &self.new else { return false };
        if self.active_old().is_empty() {
            return false;
        }
        let min_available = scale::desired(self.deployment) - scale::max_unavailable(self.deployment);
        let new_unavailable = scale::size(new) - scale::available(new);
        let mut cleanable = self.total() - min_available - new_unavailable;
        if cleanable <= 0 {
            return false;
        }
        let mut scaled = false;
        for name in self.active_old() {
            let Some(rs) = self.old.iter().find(|rs| rs.metadata.name.as_deref() == Some(&name)) else {
                continue;
            };
            let unhealthy = (scale::size(rs) - scale::available(rs)).clamp(0, cleanable);
            cleanable -= unhealthy;
            let target = scale::size(rs) - unhealthy;
            scaled |= self.resize(&name, target, false);
        }
        let available: i32 = self.old.iter().chain(&self.new).map(scale::available).sum();
        let mut removable = available - min_available;
        for name in self.active_old() {
            if removable <= 0 {
                break;
            }
            let Some(rs) = self.old.iter().find(|rs| rs.metadata.name.as_deref() == Some(&name)) else {
                continue;
            };
            let count = scale::size(rs).min(removable);
            removable -= count;
            let target = scale::size(rs) - count;
            scaled |= self.resize(&name, target, false);
        }
        scaled
    }

    fn recreate(&mut self, old_pods_running: impl Fn(Option<&ReplicaSet>) -> bool) {
        let active = self.active_old();
        for name in &active {
            self.resize(name, 0, false);
        }
        let replicas = |rs: &ReplicaSet| rs.status.as_ref().map_or(0, |status| status.replicas);
        if !active.is_empty()
            || self.old.iter().any(|rs| replicas(rs) > 0)
            || old_pods_running(self.new.as_ref())
        {
            return;
        }
        self.ensure_new_set();
        if self.create.is_none()
            && let Some(name) = self.new.as_ref().and_then(|rs| rs.metadata.name.clone())
        {
            self.resize(&name, scale::desired(self.deployment), false);
        }
        if status::is_complete(self.deployment, &self.base) {
            self.clean_up();
        }
    }

    /// Deletes the oldest revisions beyond the history limit.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut alive: Vec<&ReplicaSet> =
            self.old.iter().filter(|rs| rs.metadata.deletion_timestamp.is_none()).collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        alive.sort_by_key(|rs| revision::revision(rs));
        let idle = |rs: &&ReplicaSet| {
            let status = rs.status.as_ref();
            status.map_or(0, |status| status.replicas) == 0
                && scale::size(rs) == 0
                && status.and_then(|status| status.observed_generation) >= rs.metadata.generation
        };
        self.delete = alive.into_iter().take(surplus).filter(idle).cloned().collect();
    }

    fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        actions.extend(self.create.take().map(|rs| Action::Create(Box::new(rs))));
        for (name, before) in std::mem::take(&mut self.changed) {
            let mut sets = self.old.iter().chain(&self.new);
            if let Some(rs) = sets.find(|rs| rs.metadata.name.as_deref() == Some(&name)) {
                let after = scale::size(rs);
                let scaled = (before != after).then_some((before, after));
                actions.push(Action::Update { rs: Box::new(rs.clone()), scaled });
            }
        }
        actions.extend(self.delete.drain(..).map(|rs| Action::Delete(Box::new(rs))));
        actions
    }

    fn finish_counted(mut self) -> Plan {
        let status = status::counted(self.deployment, &self.base, self.new.as_ref(), &self.old, self.now);
        Plan { actions: self.actions(), status, revision: self.revision, check_after: None }
    }

    fn finish_rollout(mut self) -> Plan {
        let status = status::rollout(self.deployment, &self.base, self.new.as_ref(), &self.old, self.now);
        let check_after = status::next_progress_check(self.deployment, &status, self.now.0);
        Plan { actions: self.actions(), status, revision: self.revision, check_after }
    }
}
