//! The next steps of a StatefulSet (upstream's `stateful_set_control.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::pods;
use crate::pod;

/// A write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the pod with this ordinal from this revision.
    Create(i32, String),
    /// Delete the pod, because it is surplus, has ended or is out of date.
    Delete(Arc<Pod>),
}

/// What is known of the revisions: names of ControllerRevisions.
#[derive(Clone, Debug)]
pub struct Revisions {
    /// The revision that pods had before the update under way.
    pub current: String,
    /// The revision of the set's template.
    pub update: String,
}

/// The steps to take now and the status as it is before them.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps, in order.
    pub actions: Vec<Action>,
    /// The status to write.
    pub status: StatefulSetStatus,
}

/// Plans one pass.
pub fn plan(set: &StatefulSet, observed: &[Arc<Pod>], revisions: &Revisions, now: Timestamp) -> Plan {
    let default = StatefulSetSpec::default();
    let spec = set.spec.as_ref().unwrap_or(&default);
    let pass = Pass::new(set, spec, observed, revisions, now);
    Plan { actions: pass.actions(), status: pass.status() }
}

struct Pass<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    revisions: &'a Revisions,
    now: Timestamp,
    first: i32,
    end: i32,
    /// The pods by ordinal, also of ordinals that are not wanted.
    pods: BTreeMap<i32, &'a Arc<Pod>>,
}

impl<'a> Pass<'a> {
    fn new(
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        observed: &'a [Arc<Pod>],
        revisions: &'a Revisions,
        now: Timestamp,
    ) -> Self {
        let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        let end = first + spec.replicas.unwrap_or(1);
        let pods = observed.iter().filter_map(|p| Some((pods::ordinal(set, p)?, p))).collect();
        Self { set, spec, revisions, now, first, end, pods }
    }

    fn is_available(&self, p: &Pod) -> bool {
        pod::phase(p) == "Running" && pod::is_available(p, self.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    fn is_healthy(&self, p: &Pod) -> bool {
        pod::phase(p) == "Running" && pod::is_ready(p) && !pod::is_deleted(p)
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn partition(&self) -> Option<i32> {
        self.spec.update_strategy.as_ref()?.rolling_update.as_ref()?.partition
    }

    /// The revision of a pod to create: during an update, ordinals it has not reached get the old one.
    fn revision_for(&self, ordinal: i32) -> &str {
        let keeps_current = self.is_rolling()
            && match self.partition() {
                Some(partition) if partition > 0 => ordinal < self.first + partition,
                _ => {
                    let updating = self.revisions.current != self.revisions.update;
                    let current = self.set.status.as_ref().and_then(|status| status.current_replicas);
                    updating && ordinal < self.first + current.unwrap_or(0)
                }
            };
        if keeps_current { &self.revisions.current } else { &self.revisions.update }
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.set.metadata.deletion_timestamp.is_some() {
            return actions;
        }
        let one_by_one = self.spec.pod_management_policy.as_deref() != Some("Parallel");
        for ordinal in self.first..self.end {
            match self.pods.get(&ordinal) {
                None => actions.push(Action::Create(ordinal, self.revision_for(ordinal).to_string())),
                Some(p) if pod::is_terminal(p) && !pod::is_deleted(p) => {
                    actions.push(Action::Delete(Arc::clone(p)));
                }
                Some(p) => {
                    if one_by_one && (pod::is_deleted(p) || !self.is_available(p)) {
                        return actions;
                    }
                    continue;
                }
            }
            if one_by_one {
                return actions;
            }
        }
        if self.remove_surplus(one_by_one, &mut actions) {
            return actions;
        }
        if actions.is_empty() && self.is_rolling() {
            actions.extend(self.roll());
        }
        actions
    }

    /// Deletes pods of ordinals that are not wanted, the highest first. Returns whether to wait.
    fn remove_surplus(&self, one_by_one: bool, actions: &mut Vec<Action>) -> bool {
        let wanted = self.first..self.end;
        let unhealthy = self.pods.iter().find(|(_, p)| !self.is_healthy(p)).map(|(ordinal, _)| *ordinal);
        for (ordinal, p) in self.pods.iter().rev().filter(|(ordinal, _)| !wanted.contains(ordinal)) {
            if pod::is_deleted(p) {
                if one_by_one {
                    return true;
                }
                continue;
            }
            // While another pod is unhealthy, taking this one could cost the quorum.
            if one_by_one && unhealthy.is_some_and(|unhealthy| unhealthy != *ordinal) && self.is_healthy(p) {
                return true;
            }
            actions.push(Action::Delete(Arc::clone(p)));
            if one_by_one {
                return true;
            }
        }
        false
    }

    /// Replaces the highest ordinal that is out of date, once all above it are healthy.
    fn roll(&self) -> Option<Action> {
        let lowest = self.first + self.partition().unwrap_or(0);
        for ordinal in (lowest..self.end).rev() {
            let p = self.pods.get(&ordinal)?;
            if pods::revision(p) != self.revisions.update && !pod::is_deleted(p) {
                return Some(Action::Delete(Arc::clone(p)));
            }
            if !self.is_healthy(p) || !self.is_available(p) {
                return None;
            }
        }
        None
    }

    fn status(&self) -> StatefulSetStatus {
        let old = self.set.status.clone().unwrap_or_default();
        let alive = || self.pods.values().filter(|p| !pod::is_terminal(p));
        let count = |holds: &dyn Fn(&Pod) -> bool| {
            i32::try_from(alive().filter(|p| holds(p)).count()).unwrap_or(i32::MAX)
        };
        let of_revision =
            |revision: &'a str| count(&move |p: &Pod| pods::revision(p) == revision && !pod::is_deleted(p));
        let replicas = count(&|_| true);
        let ready = count(&|p| pod::phase(p) == "Running" && pod::is_ready(p));
        let available = count(&|p| self.is_available(p));
        let updated = of_revision(&self.revisions.update);
        let mut current_revision = self.revisions.current.clone();
        let mut current = of_revision(&self.revisions.current);
        let wanted = self.end - self.first;
        if self.is_rolling() && updated == replicas && ready == replicas && replicas == wanted {
            current_revision.clone_from(&self.revisions.update);
            current = updated;
        }
        let nonzero = |count: i32| (count != 0).then_some(count);
        StatefulSetStatus {
            replicas,
            ready_replicas: nonzero(ready),
            available_replicas: Some(available),
            current_replicas: nonzero(current),
            updated_replicas: nonzero(updated),
            current_revision: Some(current_revision),
            update_revision: Some(self.revisions.update.clone()),
            observed_generation: self.set.metadata.generation,
            collision_count: old.collision_count.or(Some(0)),
            conditions: old.conditions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::REVISION_HASH;
    use crate::pod::fixtures;
    use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSetUpdateStrategy};

    fn set(replicas: i32, policy: &str) -> StatefulSet {
        let mut set = StatefulSet::default();
        set.metadata.name = Some("db".into());
        set.spec = Some(StatefulSetSpec {
            replicas: Some(replicas),
            pod_management_policy: Some(policy.into()),
            ..Default::default()
        });
        set
    }

    fn db(ordinal: i32, revision: &str, ready: bool) -> Arc<Pod> {
        let mut pod = fixtures::pod(&format!("db-{ordinal}"), "Running", "n", ready.then_some(1));
        pod.metadata.labels = Some([(REVISION_HASH.to_string(), revision.to_string())].into());
        Arc::new(pod)
    }

    fn check(set: &StatefulSet, pods: &[Arc<Pod>], expected: &[&str]) {
        let revisions = Revisions { current: "old".into(), update: "new".into() };
        let plan = plan(set, pods, &revisions, Timestamp::from_second(100).unwrap());
        let texts: Vec<String> = plan
            .actions
            .iter()
            .map(|action| match action {
                Action::Create(ordinal, revision) => format!("create {ordinal} {revision}"),
                Action::Delete(p) => format!("delete {}", p.metadata.name.as_deref().unwrap()),
            })
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn pods_come_one_by_one_and_wait_for_each_other() {
        check(&set(3, "OrderedReady"), &[], &["create 0 new"]);
        check(&set(3, "OrderedReady"), &[db(0, "new", false)], &[]);
        check(&set(3, "OrderedReady"), &[db(0, "new", true)], &["create 1 new"]);
        check(&set(2, "Parallel"), &[], &["create 0 new", "create 1 new"]);
    }

    #[test]
    fn the_highest_ordinal_goes_first() {
        let pods: Vec<_> = (0..4).map(|ordinal| db(ordinal, "new", true)).collect();
        check(&set(2, "OrderedReady"), &pods, &["delete db-3"]);
        check(&set(2, "Parallel"), &pods, &["delete db-3", "delete db-2"]);
    }

    #[test]
    fn updates_go_down_to_the_partition() {
        let mut set = set(3, "OrderedReady");
        let pods = |revisions: [&str; 3]| -> Vec<Arc<Pod>> {
            (0..).zip(revisions).map(|(ordinal, revision)| db(ordinal, revision, true)).collect()
        };
        check(&set, &pods(["old", "old", "old"]), &["delete db-2"]);
        check(&set, &pods(["old", "old", "new"]), &["delete db-1"]);
        set.spec.as_mut().unwrap().update_strategy = Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateStatefulSetStrategy {
                partition: Some(2),
                ..Default::default()
            }),
        });
        check(&set, &pods(["old", "old", "old"]), &["delete db-2"]);
        check(&set, &pods(["old", "old", "new"]), &[]);
        // A pod below the partition that is lost comes back as it was.
        check(&set, &pods(["old", "old", "new"])[1..], &["create 0 old"]);
    }
}
