//! Which nodes a daemon pod belongs on.

use std::collections::BTreeSet;

use api::selector::{Operator, Requirement, Selector};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Taint, Toleration,
};

use crate::pod;

const NAME_FIELD: &str = "metadata.name";

/// Whether a node should get a daemon pod, and whether one that runs there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// A pod should be created if there is none.
    pub should_run: bool,
    /// A pod that is there is kept.
    pub may_stay: bool,
}

/// Judges a node by node name, node selector, required node affinity and taints.
pub fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let name = node.metadata.name.as_deref().unwrap_or("");
    let wanted_elsewhere =
        spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    if wanted_elsewhere || !selects(spec, node) {
        return Fit { should_run: false, may_stay: false };
    }
    let tolerations = all_tolerations(spec);
    let taints: Vec<&Taint> = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).collect();
    let tolerated = |effects: &[&str]| {
        taints
            .iter()
            .filter(|taint| effects.contains(&taint.effect.as_str()))
            .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    };
    Fit { should_run: tolerated(&["NoSchedule", "NoExecute"]), may_stay: tolerated(&["NoExecute"]) }
}

fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    if !Selector::of_labels(spec.node_selector.iter().flatten()).matches_optional(labels) {
        return false;
    }
    let required = required_terms(spec);
    required.is_none_or(|terms| terms.iter().any(|term| term_matches(term, node)))
}

fn required_terms(spec: &PodSpec) -> Option<&Vec<NodeSelectorTerm>> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if term.match_expressions.is_none() && term.match_fields.is_none() {
        return false;
    }
    let holds = |requirement: &NodeSelectorRequirement, value: Option<&str>| {
        parse(requirement).is_some_and(|parsed| parsed.operator.holds(value))
    };
    expressions.into_iter().all(|requirement| {
        holds(requirement, labels.and_then(|labels| labels.get(&requirement.key)).map(String::as_str))
    }) && fields
        .into_iter()
        .all(|requirement| requirement.key == NAME_FIELD && holds(requirement, node.metadata.name.as_deref()))
}

fn parse(requirement: &NodeSelectorRequirement) -> Option<Requirement> {
    let values: BTreeSet<String> = requirement.values.iter().flatten().cloned().collect();
    let number = || values.first().and_then(|value| value.parse().ok());
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan(number()?),
        "Lt" => Operator::LessThan(number()?),
        _ => return None,
    };
    Some(Requirement { key: requirement.key.clone(), operator })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or("").is_empty();
    let effect = empty(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect);
    let key = empty(&toleration.key) || toleration.key.as_deref() == Some(&taint.key);
    let value = match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    };
    effect && key && value
}

/// The tolerations of a daemon pod: its own, and those every daemon pod gets, because daemons run
/// on nodes that are not fit for anything else.
pub fn all_tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    let mut add = |key: &str, effect: &str| {
        let toleration = Toleration {
            key: Some(key.to_string()),
            operator: Some("Exists".to_string()),
            effect: Some(effect.to_string()),
            ..Default::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    };
    add("node.kubernetes.io/not-ready", "NoExecute");
    add("node.kubernetes.io/unreachable", "NoExecute");
    add("node.kubernetes.io/disk-pressure", "NoSchedule");
    add("node.kubernetes.io/memory-pressure", "NoSchedule");
    add("node.kubernetes.io/pid-pressure", "NoSchedule");
    add("node.kubernetes.io/unschedulable", "NoSchedule");
    if spec.host_network == Some(true) {
        add("node.kubernetes.io/network-unavailable", "NoSchedule");
    }
    tolerations
}

/// Ties a pod to a node by its affinity; the scheduler does the rest.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let field = NodeSelectorRequirement {
        key: NAME_FIELD.to_string(),
        operator: "In".to_string(),
        values: Some(vec![node.to_string()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required: &mut NodeSelector =
        affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![field.clone()]);
    }
}

/// The node a daemon pod is on or tied to.
pub fn target(p: &Pod) -> Option<&str> {
    pod::node_name(p).or_else(|| {
        let terms = required_terms(p.spec.as_ref()?)?;
        let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        fields.find(|field| field.key == NAME_FIELD)?.values.as_ref()?.first().map(String::as_str)
    })
}
