//! Requirements on labels, as NodePools, NodeClaims and pods state them.
//!
//! Source of the semantics: Karpenter's `pkg/scheduling/requirement.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::karpenter::Requirement;

/// What several requirements together say about each label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    by_key: BTreeMap<String, Allowed>,
}

/// The values that a label may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Whether `values` are the forbidden ones rather than the allowed ones.
    complement: bool,
    values: BTreeSet<String>,
    /// Integers must be greater than this.
    greater_than: Option<i64>,
    /// Integers must be less than this.
    less_than: Option<i64>,
    /// Whether the label may be missing.
    may_be_absent: bool,
}

/// A requirement that says nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequirement(String);

impl fmt::Display for BadRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadRequirement {}

impl Allowed {
    /// Exactly these values.
    pub fn any_of<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Self {
        Self {
            complement: false,
            values: values.into_iter().map(Into::into).collect(),
            greater_than: None,
            less_than: None,
            may_be_absent: false,
        }
    }

    /// Reads one requirement.
    pub fn of(requirement: &Requirement) -> Result<Self, BadRequirement> {
        let Requirement { key, operator, values, .. } = requirement;
        let bound = || match values.as_slice() {
            [value] => {
                value.parse().map_err(|_| BadRequirement(format!("{key}: {value:?} is not an integer")))
            }
            _ => Err(BadRequirement(format!("{key}: {operator} takes exactly one value"))),
        };
        let everything = Self { complement: true, ..Self::any_of::<String>([]) };
        Ok(match operator.as_str() {
            "In" => Self::any_of(values.clone()),
            "NotIn" => Self { complement: true, may_be_absent: true, ..Self::any_of(values.clone()) },
            "Exists" => everything,
            "DoesNotExist" => Self { may_be_absent: true, ..Self::any_of::<String>([]) },
            "Gt" => Self { greater_than: Some(bound()?), ..everything },
            "Lt" => Self { less_than: Some(bound()?), ..everything },
            _ => return Err(BadRequirement(format!("{key}: unknown operator {operator:?}"))),
        })
    }

    /// Whether the label may have this value; `None` when it is missing.
    pub fn admits(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return self.may_be_absent };
        self.in_bounds(value) && self.values.contains(value) != self.complement
    }

    /// What both admit.
    pub fn intersect(&self, other: &Self) -> Self {
        let tighter = |a: Option<i64>, b: Option<i64>, pick: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(pick(a, b)),
            (one, other) => one.or(other),
        };
        let mut both = Self {
            complement: self.complement && other.complement,
            values: BTreeSet::new(),
            greater_than: tighter(self.greater_than, other.greater_than, i64::max),
            less_than: tighter(self.less_than, other.less_than, i64::min),
            may_be_absent: self.may_be_absent && other.may_be_absent,
        };
        both.values = match (self.complement, other.complement) {
            (true, true) => self.values.union(&other.values).cloned().collect(),
            (true, false) => other.values.difference(&self.values).cloned().collect(),
            (false, true) => self.values.difference(&other.values).cloned().collect(),
            (false, false) => self.values.intersection(&other.values).cloned().collect(),
        };
        if !both.complement {
            let bounded: BTreeSet<String> =
                both.values.iter().filter(|value| both.in_bounds(value)).cloned().collect();
            both.values = bounded;
        }
        both
    }

    /// Whether nothing at all satisfies it, not even a missing label.
    pub fn is_impossible(&self) -> bool {
        let no_integers = matches!((self.greater_than, self.less_than), (Some(low), Some(high))
            if high.saturating_sub(low) < 2);
        !self.may_be_absent && (!self.complement && self.values.is_empty() || no_integers)
    }

    /// The allowed values, where they are listed.
    pub fn listed(&self) -> Option<&BTreeSet<String>> {
        (!self.complement).then_some(&self.values)
    }

    fn in_bounds(&self, value: &str) -> bool {
        if self.greater_than.is_none() && self.less_than.is_none() {
            return true;
        }
        value.parse::<i64>().is_ok_and(|number| {
            self.greater_than.is_none_or(|bound| number > bound)
                && self.less_than.is_none_or(|bound| number < bound)
        })
    }
}

impl Requirements {
    /// What a list of requirements says.
    pub fn of(list: &[Requirement]) -> Result<Self, BadRequirement> {
        let mut requirements = Self::default();
        for requirement in list {
            requirements.add(&requirement.key, Allowed::of(requirement)?);
        }
        Ok(requirements)
    }

    /// Requires one more thing of a label.
    pub fn add(&mut self, key: &str, allowed: Allowed) {
        let both = match self.by_key.get(key) {
            Some(known) => known.intersect(&allowed),
            None => allowed,
        };
        self.by_key.insert(key.to_owned(), both);
    }

    /// What both require.
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (key, allowed) in &other.by_key {
            both.add(key, allowed.clone());
        }
        both
    }

    /// Whether the label may have this value.
    pub fn admits(&self, key: &str, value: Option<&str>) -> bool {
        self.by_key.get(key).is_none_or(|allowed| allowed.admits(value))
    }

    /// What is required of a label, if anything.
    pub fn get(&self, key: &str) -> Option<&Allowed> {
        self.by_key.get(key)
    }

    /// The labels with what is required of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Allowed)> {
        self.by_key.iter().map(|(key, allowed)| (key.as_str(), allowed))
    }

    /// The first label that nothing can satisfy.
    pub fn contradiction(&self) -> Option<&str> {
        self.iter().find(|(_, allowed)| allowed.is_impossible()).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requirement(operator: &str, values: &[&str]) -> Requirement {
        Requirement {
            key: "k".to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
            min_values: None,
        }
    }

    #[test]
    fn operators_admit_what_they_say() {
        for (operator, values, admitted, refused) in [
            ("In", &["a", "b"][..], vec![Some("a")], vec![Some("c"), None]),
            ("NotIn", &["a"], vec![Some("b"), None], vec![Some("a")]),
            ("Exists", &[], vec![Some("x")], vec![None]),
            ("DoesNotExist", &[], vec![None], vec![Some("x")]),
            ("Gt", &["3"], vec![Some("4")], vec![Some("3"), Some("x"), None]),
            ("Lt", &["3"], vec![Some("2")], vec![Some("3"), None]),
        ] {
            let allowed = Allowed::of(&requirement(operator, values)).unwrap();
            for value in admitted {
                assert!(allowed.admits(value), "{operator} {values:?} {value:?}");
            }
            for value in refused {
                assert!(!allowed.admits(value), "{operator} {values:?} {value:?}");
            }
        }
        for bad in [requirement("Gt", &[]), requirement("Gt", &["x"]), requirement("Like", &["x"])] {
            assert!(Allowed::of(&bad).is_err());
        }
    }

    #[test]
    fn contradictions_are_found() {
        let of = |list: &[Requirement]| Requirements::of(list).unwrap();
        let both = of(&[requirement("In", &["a"]), requirement("NotIn", &["a"])]);
        assert_eq!(both.contradiction(), Some("k"));
        assert_eq!(of(&[requirement("Gt", &["3"]), requirement("Lt", &["4"])]).contradiction(), Some("k"));
        assert_eq!(of(&[requirement("Gt", &["3"]), requirement("Lt", &["5"])]).contradiction(), None);
    }

    fn any_requirement() -> impl Strategy<Value = Requirement> {
        let value = prop::sample::select(vec!["1", "2", "3", "a", "b"]);
        prop_oneof![
            (prop::sample::select(vec!["In", "NotIn"]), prop::collection::vec(value, 1..4))
                .prop_map(|(operator, values)| requirement(operator, &values)),
            prop::sample::select(vec!["Exists", "DoesNotExist"])
                .prop_map(|operator| requirement(operator, &[])),
            (prop::sample::select(vec!["Gt", "Lt"]), prop::sample::select(vec!["1", "2", "3"]))
                .prop_map(|(operator, value)| requirement(operator, &[value])),
        ]
    }

    proptest! {
        #[test]
        fn an_intersection_admits_what_both_admit(one in any_requirement(), two in any_requirement()) {
            let (one, two) = (Allowed::of(&one).unwrap(), Allowed::of(&two).unwrap());
            let both = one.intersect(&two);
            for value in [None, Some("1"), Some("2"), Some("3"), Some("a"), Some("b"), Some("z")] {
                prop_assert_eq!(both.admits(value), one.admits(value) && two.admits(value), "{:?}", value);
            }
        }
    }
}
