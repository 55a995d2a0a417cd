//! Node selectors and tolerations, compiled once per pod class.

use k8s_openapi::api::core::v1 as core;

use crate::node::{Effect, NodeInfo, Taint};

/// One alternative of a node affinity: all its expressions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
    /// A term that upstream cannot parse matches no node.
    invalid: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    op: Op,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Op {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FieldRequirement {
    key: String,
    equal: bool,
    value: String,
}

impl Term {
    /// Compiles a term; `None` for an empty one, which selects nothing.
    pub(crate) fn compile(term: &core::NodeSelectorTerm) -> Option<Self> {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        if expressions.is_empty() && fields.is_empty() {
            return None;
        }
        let mut compiled = Self { labels: Vec::new(), fields: Vec::new(), invalid: false };
        for expression in expressions {
            match Op::compile(expression) {
                Some(op) => compiled.labels.push(Requirement { key: expression.key.clone(), op }),
                None => compiled.invalid = true,
            }
        }
        for field in fields {
            let values = field.values.as_deref().unwrap_or_default();
            match (field.operator.as_str(), values) {
                ("In", [value]) => compiled.push_field(&field.key, true, value),
                ("NotIn", [value]) => compiled.push_field(&field.key, false, value),
                _ => compiled.invalid = true,
            }
        }
        Some(compiled)
    }

    fn push_field(&mut self, key: &str, equal: bool, value: &str) {
        self.fields.push(FieldRequirement { key: key.to_owned(), equal, value: value.to_owned() });
    }

    /// Whether the node satisfies every expression.
    pub fn matches(&self, node: &NodeInfo) -> bool {
        !self.invalid
            && self.labels.iter().all(|requirement| requirement.op.matches(node.label(&requirement.key)))
            && self.fields.iter().all(|field| {
                let actual = if field.key == "metadata.name" { node.name.as_ref() } else { "" };
                (actual == field.value) == field.equal
            })
    }

    /// The only node name that this term can match, if it pins one by `metadata.name`. The inner
    /// `None` means that it pins two different names and so matches nothing.
    pub(crate) fn pinned_name(&self) -> Option<Option<&str>> {
        let mut names = self
            .fields
            .iter()
            .filter(|field| field.equal && field.key == "metadata.name")
            .map(|field| field.value.as_str());
        let first = names.next()?;
        Some(names.all(|name| name == first).then_some(first))
    }
}

impl Op {
    fn compile(expression: &core::NodeSelectorRequirement) -> Option<Self> {
        let values = expression.values.clone().unwrap_or_default();
        let number = || match values.as_slice() {
            [value] => value.parse::<i64>().ok(),
            _ => None,
        };
        match expression.operator.as_str() {
            "In" if !values.is_empty() => Some(Self::In(values)),
            "NotIn" if !values.is_empty() => Some(Self::NotIn(values)),
            "Exists" if values.is_empty() => Some(Self::Exists),
            "DoesNotExist" if values.is_empty() => Some(Self::DoesNotExist),
            "Gt" => number().map(Self::GreaterThan),
            "Lt" => number().map(Self::LessThan),
            _ => None,
        }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|known| known == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|known| known != value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Self::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// A toleration of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toleration {
    key: String,
    /// `None` tolerates any value (`Exists`).
    value: Option<String>,
    /// The API's text; empty for every effect.
    effect: String,
}

impl Toleration {
    /// Compiles a toleration; `None` for operators that tolerate nothing. `Lt` and `Gt` belong to a
    /// feature that upstream 1.36 has off (`TaintTolerationComparisonOperators`).
    pub(crate) fn compile(toleration: &core::Toleration) -> Option<Self> {
        let value = match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => Some(toleration.value.clone().unwrap_or_default()),
            "Exists" => None,
            _ => return None,
        };
        Some(Self {
            key: toleration.key.clone().unwrap_or_default(),
            value,
            effect: toleration.effect.clone().unwrap_or_default(),
        })
    }

    /// Whether the pod may run in spite of the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || Effect::parse(&self.effect) == Some(taint.effect))
            && (self.key.is_empty() || self.key == *taint.key)
            && self.value.as_ref().is_none_or(|value| value.as_str() == taint.value.as_ref())
    }
}
