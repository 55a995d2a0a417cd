//! Rules between pods: topology spread, pod affinity and anti-affinity.
//!
//! Source: upstream's plugins `podtopologyspread` and `interpodaffinity`. One pod can change the
//! answer for every node of a zone, so classes with such rules have no standing order: the state of
//! all domains is taken anew for each placement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::selector::Selector;
use base::map::HashMap;
use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};

use crate::class::{PodClass, PodRequirements};
use crate::filter::Reason;
use crate::node::NodeInfo;
use crate::score::MAX_NODE_SCORE;
use crate::snapshot::{NodeId, Snapshot};

/// What the rules of other pods see of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodGroup {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
}

impl PodGroup {
    /// The group of a pod.
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
        }
    }
}

/// The rules of a pod about other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Relations {
    spread: Vec<Spread>,
    affinity: Vec<PodTerm>,
    anti_affinity: Vec<PodTerm>,
    /// Preferred terms with their weights, negative for anti-affinity.
    preferred: Vec<(i64, PodTerm)>,
}

/// A label selector that can be a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Labels(Selector);

impl std::hash::Hash for Labels {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_string().hash(state);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Spread {
    key: String,
    max_skew: i64,
    /// `DoNotSchedule`; otherwise only a preference.
    is_required: bool,
    term: PodTerm,
    min_domains: usize,
    honors_affinity: bool,
    honors_taints: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PodTerm {
    key: String,
    /// The namespaces that count; `None` for all.
    namespaces: Option<BTreeSet<String>>,
    /// `None` selects nothing.
    selector: Option<Labels>,
}

impl PodTerm {
    fn compile(term: &core::PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        // Selecting namespaces by label would need the Namespace objects: only "all" is understood.
        let all = term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
                && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
        });
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            key: term.topology_key.clone(),
            namespaces: (!all).then_some(namespaces),
            selector: term
                .label_selector
                .as_ref()
                .and_then(|selector| Selector::from_label_selector(selector).ok())
                .map(Labels),
        }
    }

    fn matches(&self, group: &PodGroup) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&group.namespace))
            && self.selector.as_ref().is_some_and(|selector| selector.0.matches(&group.labels))
    }
}

impl Spread {
    fn compile(constraint: &core::TopologySpreadConstraint, group: &PodGroup) -> Self {
        let mut labels = constraint.label_selector.clone().unwrap_or_default();
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = group.labels.get(key) {
                labels.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
            }
        }
        // An absent or empty selector counts no pods at all.
        let selector = Selector::from_label_selector(&labels).ok().filter(|selector| !selector.is_empty());
        Self {
            key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            is_required: constraint.when_unsatisfiable == "DoNotSchedule",
            term: PodTerm {
                key: constraint.topology_key.clone(),
                namespaces: Some(BTreeSet::from([group.namespace.clone()])),
                selector: selector.map(Labels),
            },
            min_domains: constraint
                .min_domains
                .and_then(|domains| usize::try_from(domains).ok())
                .unwrap_or(1),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// Whether pods on the node count for this constraint.
    fn includes(&self, pod: &PodRequirements, node: &NodeInfo) -> bool {
        (!self.honors_affinity || pod.selects(node))
            && (!self.honors_taints || pod.untolerated(node).is_none())
    }
}

impl Relations {
    /// The rules of a pod; `None` when it has none.
    pub(crate) fn compile(spec: &PodSpec, group: &PodGroup) -> Option<Self> {
        let affinity = spec.affinity.as_ref();
        let together = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let compile = |term: &core::PodAffinityTerm| PodTerm::compile(term, &group.namespace);
        let weighted = |term: &core::WeightedPodAffinityTerm, sign: i64| {
            (sign * i64::from(term.weight), compile(&term.pod_affinity_term))
        };
        let required =
            |terms: Option<&Vec<core::PodAffinityTerm>>| terms.into_iter().flatten().map(compile).collect();
        let preferred_together =
            together.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.as_ref());
        let preferred_apart =
            apart.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.as_ref());
        let relations = Self {
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|constraint| Spread::compile(constraint, group))
                .collect(),
            affinity: required(
                together.and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            anti_affinity: required(
                apart.and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred: preferred_together
                .into_iter()
                .flatten()
                .map(|term| weighted(term, 1))
                .chain(preferred_apart.into_iter().flatten().map(|term| weighted(term, -1)))
                .collect(),
        };
        (relations != Self::default()).then_some(relations)
    }

    /// Whether the pod keeps others away.
    pub(crate) fn repels(&self) -> bool {
        !self.anti_affinity.is_empty()
    }

    /// Whether the pod keeps this group away.
    pub(crate) fn repels_group(&self, group: &PodGroup) -> bool {
        self.anti_affinity.iter().any(|term| term.matches(group))
    }
}

/// Counts of pods per value of a topology key.
type Domains<'a> = BTreeMap<&'a str, i64>;

/// How the pods of a cluster stand to one class that is to be placed.
pub(crate) struct Standing<'a> {
    relations: Option<&'a Relations>,
    group: &'a PodGroup,
    /// Per constraint of [`Relations::spread`].
    spread: Vec<Domains<'a>>,
    /// Values of topology keys that have a pod matching all affinity terms, per term.
    affinity: Vec<BTreeSet<&'a str>>,
    anti_affinity: Vec<BTreeSet<&'a str>>,
    /// Key and value of domains from which other pods keep this class away.
    repelled: BTreeSet<(&'a str, &'a str)>,
    /// Sum of the weights of preferred terms per key and value.
    preferred: BTreeMap<(&'a str, &'a str), i64>,
}

static NO_GROUP: PodGroup = PodGroup { namespace: String::new(), labels: BTreeMap::new() };

impl<'a> Standing<'a> {
    /// Looks at every pod.
    pub(crate) fn take(snapshot: &'a Snapshot, class: &'a PodClass) -> Self {
        let relations = class.relations.as_ref();
        let mut standing = Self {
            relations,
            group: class.group().map_or(&NO_GROUP, |group| group),
            spread: vec![Domains::new(); relations.map_or(0, |relations| relations.spread.len())],
            affinity: vec![BTreeSet::new(); relations.map_or(0, |relations| relations.affinity.len())],
            anti_affinity: vec![
                BTreeSet::new();
                relations.map_or(0, |relations| relations.anti_affinity.len())
            ],
            repelled: BTreeSet::new(),
            preferred: BTreeMap::new(),
        };
        let mut known = HashMap::default();
        for (id, node) in snapshot.nodes() {
            if let Some(relations) = relations {
                standing.count(snapshot, class, relations, id, node, &mut known);
            }
            for (other, _) in snapshot.members(id) {
                for term in other.relations.iter().flat_map(|relations| &relations.anti_affinity) {
                    if let Some(value) = node.label(&term.key)
                        && term.matches(standing.group)
                    {
                        standing.repelled.insert((&term.key, value));
                    }
                }
            }
        }
        standing
    }

    fn count(
        &mut self,
        snapshot: &'a Snapshot,
        class: &PodClass,
        relations: &'a Relations,
        id: NodeId,
        node: &'a NodeInfo,
        known: &mut HashMap<usize, Matches>,
    ) {
        let mut totals = vec![0; relations.spread.len()];
        for (other, count) in snapshot.members(id) {
            let Some(group) = other.group() else { continue };
            let matches =
                known.entry(Arc::as_ptr(group).addr()).or_insert_with(|| Matches::of(relations, group));
            for index in &matches.spread {
                totals[*index] += i64::from(*count);
            }
            if matches.affinity {
                for (values, term) in self.affinity.iter_mut().zip(&relations.affinity) {
                    values.extend(node.label(&term.key));
                }
            }
            for index in &matches.anti_affinity {
                self.anti_affinity[*index].extend(node.label(&relations.anti_affinity[*index].key));
            }
            for index in &matches.preferred {
                let (weight, term) = &relations.preferred[*index];
                if let Some(value) = node.label(&term.key) {
                    *self.preferred.entry((&term.key, value)).or_default() += weight * i64::from(*count);
                }
            }
        }
        for is_required in [true, false] {
            // A node counts for the constraints of one kind if it has the keys of all of them.
            let of_kind = || {
                relations.spread.iter().enumerate().filter(|(_, spread)| spread.is_required == is_required)
            };
            if !of_kind().all(|(_, spread)| node.label(&spread.key).is_some()) {
                continue;
            }
            for (index, spread) in of_kind().filter(|(_, spread)| spread.includes(class, node)) {
                if let Some(value) = node.label(&spread.key) {
                    *self.spread[index].entry(value).or_default() += totals[index];
                }
            }
        }
    }

    /// Why the rules keep the class off the node.
    pub(crate) fn reason(&self, node: &NodeInfo) -> Option<Reason> {
        if let Some(relations) = self.relations {
            for (domains, spread) in
                self.spread.iter().zip(&relations.spread).filter(|(_, spread)| spread.is_required)
            {
                let Some(value) = node.label(&spread.key) else { return Some(Reason::SpreadLabelMissing) };
                let least = if domains.len() < spread.min_domains {
                    0
                } else {
                    domains.values().copied().min().unwrap_or(0)
                };
                let own = i64::from(spread.term.matches(self.group));
                if domains.get(value).copied().unwrap_or(0) + own - least > spread.max_skew {
                    return Some(Reason::Spread);
                }
            }
            if !self.has_company(relations, node) {
                return Some(Reason::PodAffinity);
            }
            for (values, term) in self.anti_affinity.iter().zip(&relations.anti_affinity) {
                if node.label(&term.key).is_some_and(|value| values.contains(value)) {
                    return Some(Reason::PodAntiAffinity);
                }
            }
        }
        let is_repelled = self.repelled.iter().any(|(key, value)| node.label(key) == Some(*value));
        is_repelled.then_some(Reason::ExistingAntiAffinity)
    }

    /// Whether the pods that the affinity asks for are near. The first of a series that wants to be
    /// together with its own kind may go anywhere.
    fn has_company(&self, relations: &Relations, node: &NodeInfo) -> bool {
        let mut near = true;
        for (values, term) in self.affinity.iter().zip(&relations.affinity) {
            let Some(value) = node.label(&term.key) else { return false };
            near &= values.contains(value);
        }
        near || (self.affinity.iter().all(BTreeSet::is_empty)
            && relations.affinity.iter().all(|term| term.matches(self.group)))
    }

    /// Scores of `PodTopologySpread` and `InterPodAffinity` for the possible nodes.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "upstream computes in float64"
    )]
    pub(crate) fn scores(&self, possible: &[&NodeInfo]) -> Vec<(i64, i64)> {
        let spread = self.spread_scores(possible);
        let raw: Vec<i64> = possible
            .iter()
            .map(|node| {
                self.preferred
                    .iter()
                    .filter(|((key, value), _)| node.label(key) == Some(*value))
                    .map(|(_, weight)| weight)
                    .sum()
            })
            .collect();
        let (least, greatest) =
            (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
        let affinity = raw.iter().map(|raw| {
            if greatest == least {
                0
            } else {
                (MAX_NODE_SCORE as f64 * ((raw - least) as f64 / (greatest - least) as f64)) as i64
            }
        });
        spread.into_iter().zip(affinity).collect()
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "upstream computes in float64"
    )]
    fn spread_scores(&self, possible: &[&NodeInfo]) -> Vec<i64> {
        let relations = self.relations.iter().flat_map(|relations| &relations.spread);
        let soft: Vec<_> =
            self.spread.iter().zip(relations).filter(|(_, spread)| !spread.is_required).collect();
        if soft.is_empty() {
            return vec![0; possible.len()];
        }
        let has_all = |node: &NodeInfo| soft.iter().all(|(_, spread)| node.label(&spread.key).is_some());
        let weights: Vec<f64> = soft
            .iter()
            .map(|(_, spread)| {
                let counted = possible.iter().filter(|node| has_all(node));
                let size = if spread.key == api::names::HOSTNAME {
                    counted.count()
                } else {
                    counted.filter_map(|node| node.label(&spread.key)).collect::<BTreeSet<_>>().len()
                };
                ((size + 2) as f64).ln()
            })
            .collect();
        let raw: Vec<Option<i64>> = possible
            .iter()
            .map(|node| {
                let each = soft.iter().zip(&weights).map(|((domains, spread), weight)| {
                    let count =
                        node.label(&spread.key).and_then(|value| domains.get(value)).copied().unwrap_or(0);
                    count as f64 * weight + (spread.max_skew - 1) as f64
                });
                has_all(node).then(|| each.sum::<f64>().round() as i64)
            })
            .collect();
        let greatest = raw.iter().flatten().copied().max().unwrap_or(0);
        let least = raw.iter().flatten().copied().min().unwrap_or(0);
        raw.into_iter()
            .map(|raw| match raw {
                None => 0,
                Some(_) if greatest == 0 => MAX_NODE_SCORE,
                Some(raw) => MAX_NODE_SCORE * (greatest + least - raw) / greatest,
            })
            .collect()
    }
}

/// Which rules a group of pods matters to, as indices.
struct Matches {
    spread: Vec<usize>,
    /// Whether it matches all affinity terms, as upstream demands.
    affinity: bool,
    anti_affinity: Vec<usize>,
    preferred: Vec<usize>,
}

impl Matches {
    fn of(relations: &Relations, group: &PodGroup) -> Self {
        let indices = |matching: &mut dyn Iterator<Item = bool>| {
            matching.enumerate().filter(|(_, matches)| *matches).map(|(index, _)| index).collect()
        };
        Self {
            spread: indices(&mut relations.spread.iter().map(|spread| spread.term.matches(group))),
            affinity: !relations.affinity.is_empty()
                && relations.affinity.iter().all(|term| term.matches(group)),
            anti_affinity: indices(&mut relations.anti_affinity.iter().map(|term| term.matches(group))),
            preferred: indices(&mut relations.preferred.iter().map(|(_, term)| term.matches(group))),
        }
    }
}
