//! Preemption: whom to remove so that a more important pod fits. Upstream's default preemption
//! (`framework/plugins/defaultpreemption`), without pod groups.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::class::{PodClass, PodRequirements};
use crate::cluster::{Cluster, PlacedPod, PodKey};
use crate::diagnosis;
use crate::filter::{self, Reason};
use crate::snapshot::NodeId;

/// Upstream's defaults of `DefaultPreemptionArgs`: dry runs stop after this share of the nodes …
const CANDIDATES_PERCENT: usize = 10;
/// … or this many, whichever is more.
const CANDIDATES_MIN: usize = 100;

/// What preemption comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Preemption {
    /// The pod must not preempt, for this reason.
    NotEligible(&'static str),
    /// Nothing that can be removed would help.
    Hopeless {
        /// The number of nodes.
        nodes: usize,
        /// How many nodes each answer is for.
        answers: BTreeMap<String, u32>,
    },
    /// Removing these pods makes room on the node.
    Nominated {
        /// The node.
        node: Arc<str>,
        /// The pods to remove, most important first.
        victims: Vec<PodKey>,
        /// How many of them are protected by a disruption budget.
        violations: usize,
    },
}

impl Preemption {
    /// What it adds to the message of an unschedulable pod; nothing when it succeeds.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::NotEligible(reason) => Some((*reason).to_owned()),
            Self::Hopeless { nodes, answers } => Some(diagnosis::summary(
                *nodes,
                answers.iter().map(|(answer, count)| (answer.clone(), *count)),
            )),
            Self::Nominated { .. } => None,
        }
    }
}

struct Candidate<'a> {
    node: &'a Arc<str>,
    victims: Vec<(&'a PodKey, &'a PlacedPod)>,
    violations: usize,
}

/// Finds the node where the least harm makes room for a pod of the class. `is_protected` says
/// whether evicting a pod would violate a disruption budget.
pub fn preempt(cluster: &Cluster, class: &PodClass, is_protected: &dyn Fn(&PodKey) -> bool) -> Preemption {
    if !class.may_preempt {
        return Preemption::NotEligible("not eligible due to preemptionPolicy=Never.");
    }
    let snapshot = cluster.engine().snapshot();
    let has_victims = cluster.lowest_priority().is_some_and(|lowest| lowest < class.priority);
    let wanted = (snapshot.len() * CANDIDATES_PERCENT / 100).max(CANDIDATES_MIN);
    let mut answers = BTreeMap::<String, u32>::new();
    let mut candidates = Vec::new();
    let mut harmless = false;
    let standing = cluster.engine().standing(class);
    for (id, node) in snapshot.nodes() {
        let reasons = cluster.engine().reasons_on(class, standing.as_ref(), id);
        if !reasons.iter().all(Reason::is_resolvable) {
            *answers.entry("Preemption is not helpful for scheduling".to_owned()).or_default() += 1;
            continue;
        }
        // Where rules between pods say no as well, room alone does not help. Upstream tries whether
        // the victims are who is in the way; here nobody is evicted for that.
        let related = standing.as_ref().and_then(|standing| standing.reason(node));
        if related.as_ref().is_some_and(|reason| !reason.is_resolvable()) {
            *answers.entry("Preemption is not helpful for scheduling".to_owned()).or_default() += 1;
            continue;
        }
        let victims = if has_victims && related.is_none() {
            victims_on(cluster, class, id, &node.name, is_protected)
        } else {
            Err(Vec::new())
        };
        match victims {
            Ok((victims, violations)) => {
                harmless |= violations == 0;
                candidates.push(Candidate { node: &node.name, victims, violations });
                if harmless && candidates.len() >= wanted {
                    break;
                }
            }
            Err(reasons) if reasons.is_empty() => {
                *answers.entry("No preemption victims found for incoming pod".to_owned()).or_default() += 1;
            }
            Err(reasons) => {
                for reason in reasons {
                    *answers.entry(reason.to_string()).or_default() += 1;
                }
            }
        }
    }
    let best = candidates.into_iter().min_by_key(|candidate| {
        let priorities = || candidate.victims.iter().map(|(_, pod)| i64::from(pod.class.priority));
        let highest = priorities().max().unwrap_or(i64::MIN);
        let earliest = candidate
            .victims
            .iter()
            .filter(|(_, pod)| i64::from(pod.class.priority) == highest)
            .map(|(_, pod)| pod.started)
            .min();
        // Shifted so that few pods of negative priority are less harm than many.
        let sum: i64 = priorities().map(|priority| priority + i64::from(i32::MAX) + 1).sum();
        (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    });
    match best {
        Some(best) => Preemption::Nominated {
            node: Arc::clone(best.node),
            victims: best.victims.into_iter().map(|(key, _)| Arc::clone(key)).collect(),
            violations: best.violations,
        },
        None => Preemption::Hopeless { nodes: snapshot.len(), answers },
    }
}

type Victims<'a> = (Vec<(&'a PodKey, &'a PlacedPod)>, usize);

/// The fewest and least important pods of the node that have to go. An error lists the reasons that
/// remain when all who may be removed are gone; it is empty when there is nobody to remove.
fn victims_on<'a>(
    cluster: &'a Cluster,
    class: &PodClass,
    id: NodeId,
    name: &str,
    is_protected: &dyn Fn(&PodKey) -> bool,
) -> Result<Victims<'a>, Vec<Reason>> {
    let mut potential: Vec<_> =
        cluster.pods_on(name).filter(|(_, pod)| pod.class.priority < class.priority).collect();
    if potential.is_empty() {
        return Err(Vec::new());
    }
    let snapshot = cluster.engine().snapshot();
    let reasons_without = |removed: &[(&PodKey, &PlacedPod)]| {
        let removed: Vec<&PodRequirements> = removed.iter().map(|(_, pod)| &*pod.class).collect();
        filter::reasons(snapshot, id, class, &removed)
    };
    let remaining = reasons_without(&potential);
    if !remaining.is_empty() {
        return Err(remaining);
    }
    let importance = |(key, pod): &(&'a PodKey, &'a PlacedPod)| {
        (Reverse(pod.class.priority), pod.started, Arc::clone(key))
    };
    potential.sort_by_cached_key(importance);
    let (protected, others): (Vec<_>, Vec<_>) =
        potential.iter().copied().partition(|(key, _)| is_protected(key));
    let protected_len = protected.len();
    // Reprieve whom we can: first the protected, then the rest, each from the most important down.
    let mut removed = potential;
    let mut violations = 0;
    for (turn, reprieved) in protected.into_iter().chain(others).enumerate() {
        let without: Vec<_> = removed.iter().copied().filter(|(key, _)| *key != reprieved.0).collect();
        if reasons_without(&without).is_empty() {
            removed = without;
        } else if turn < protected_len {
            violations += 1;
        }
    }
    if removed.is_empty() { Err(Vec::new()) } else { Ok((removed, violations)) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    use super::*;
    use crate::node::NodeInfo;

    fn pod(app: &str, priority: i32, cpu: &str, affinity: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"namespace": "default", "labels": {"app": app}},
            "spec": {"priority": priority, "affinity": affinity,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
        .unwrap()
    }

    #[test]
    fn nobody_is_evicted_where_rules_between_pods_forbid_the_node_anyway() {
        let mut cluster = Cluster::new(1);
        for name in ["n1", "n2"] {
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {"allocatable": {"cpu": "2", "memory": "8Gi", "pods": "20"}}}))
            .unwrap();
            cluster.set_node(NodeInfo::of(&node));
            let filler = cluster.engine_mut().class_of(&pod("filler", 0, "1500m", Value::Null));
            cluster.set_pod(&PodKey::from(format!("default/filler-{name}")), &filler, &Arc::from(name), 0);
        }
        let other = cluster.engine_mut().class_of(&pod("db", 100, "100m", Value::Null));
        cluster.set_pod(&PodKey::from("default/db"), &other, &Arc::from("n1"), 0);
        let term = json!({"labelSelector": {"matchLabels": {"app": "db"}},
            "topologyKey": "kubernetes.io/hostname"});
        let required = |kind: &str| json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        for (kind, expected) in [("podAntiAffinity", "n2"), ("podAffinity", "n1")] {
            let class = cluster.engine_mut().class_of(&pod("web", 100, "1", required(kind)));
            let Preemption::Nominated { node, .. } = preempt(&cluster, &class, &|_| false) else {
                panic!("{kind}: nobody is evicted")
            };
            assert_eq!(&*node, expected, "{kind}");
        }
        // With the only possible node taken by its like, there is no way.
        cluster.set_pod(&PodKey::from("default/db-2"), &other, &Arc::from("n2"), 0);
        let class = cluster.engine_mut().class_of(&pod("web", 100, "1", required("podAntiAffinity")));
        assert!(matches!(preempt(&cluster, &class, &|_| false), Preemption::Hopeless { .. }));
    }
}
