//! What access reviews ask: their specs, and what is wrong with them.
//!
//! After `k8s.io/kubernetes/pkg/apis/authorization/validation` and `pkg/registry/authorization/util`.

use std::collections::BTreeMap;

use schema::field::{Error, ErrorList, Path};
use schema::validation::format;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::Attributes;
use crate::selector::{FieldSelector, LabelSelector};

const NODE_FIELD: &str = "spec.nodeName";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub user: String,
    pub uid: String,
    pub groups: Option<Vec<String>>,
    #[serde(deserialize_with = "extra")]
    pub extra: BTreeMap<String, Vec<String>>,
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
}

/// A missing list of values is an empty one.
fn extra<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let extra = Option::<BTreeMap<String, Option<Vec<String>>>>::deserialize(from)?.unwrap_or_default();
    Ok(extra.into_iter().map(|(key, values)| (key, values.unwrap_or_default())).collect())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
    field_selector: Option<Selector>,
    label_selector: Option<Selector>,
}

/// FieldSelectorAttributes and LabelSelectorAttributes.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    raw_selector: String,
    requirements: Option<Vec<Requirement>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

/// How much of a selector was understood. What was not is left out, which asks for more than was meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Understood {
    All,
    Partly,
    Nothing,
}

impl Understood {
    fn of(known: usize, all: usize) -> Self {
        match known {
            known if known == all => Self::All,
            0 => Self::Nothing,
            _ => Self::Partly,
        }
    }

    fn complaint(self, field: &str) -> Option<String> {
        let ignored = match self {
            Self::All => return None,
            Self::Partly => "partially ignored",
            Self::Nothing => "ignored",
        };
        Some(format!("spec.resourceAttributes.{field} {ignored} due to parse error"))
    }
}

impl Spec {
    pub fn attributes(&self) -> Attributes<'_> {
        if let Some(of) = &self.resource_attributes {
            return Attributes {
                verb: &of.verb,
                is_resource: true,
                namespace: &of.namespace,
                group: &of.group,
                resource: &of.resource,
                subresource: &of.subresource,
                name: &of.name,
                ..Attributes::default()
            };
        }
        let (path, verb) = self.non_resource_attributes.as_ref().map_or(("", ""), |of| (&of.path, &of.verb));
        Attributes { verb, path, ..Attributes::default() }
    }

    /// The node that the field selector narrows the question to, if any.
    pub fn selected_node(&self) -> String {
        let selector = self.resource_attributes.as_ref().and_then(|of| of.field_selector.as_ref());
        let Some(selector) = selector else { return String::new() };
        if selector.raw_selector.is_empty() {
            let node = selector.known_fields().find(|term| term.operator == "In" && term.key == NODE_FIELD);
            return node.and_then(|term| term.values().first().cloned()).unwrap_or_default();
        }
        let parsed = FieldSelector::parse(&selector.raw_selector).unwrap_or_default();
        parsed.exact(NODE_FIELD).unwrap_or_default().to_owned()
    }

    /// What could not be taken into account: selectors that make no sense here.
    pub fn evaluation_error(&self) -> String {
        let Some(of) = &self.resource_attributes else { return String::new() };
        let fields = of.field_selector.as_ref().map_or(Understood::All, Selector::understood_as_fields);
        let labels = of.label_selector.as_ref().map_or(Understood::All, Selector::understood_as_labels);
        let complaints = [fields.complaint("fieldSelector"), labels.complaint("labelSelector")];
        complaints.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// What is wrong with the spec of a review of `kind` that has `metadata`.
    pub fn errors(&self, kind: &str, metadata: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = Path::new("spec");
        let (resource, other) = (spec.child("resourceAttributes"), spec.child("nonResourceAttributes"));
        // As upstream's internal type prints, which has no names for JSON.
        let shown = self.non_resource_attributes.as_ref();
        let shown = shown.map_or(Value::Null, |of| json!({"Path": of.path, "Verb": of.verb}));
        match (&self.resource_attributes, &self.non_resource_attributes) {
            (Some(_), Some(_)) => {
                let why = "cannot be specified in combination with resourceAttributes";
                errors.push(Error::invalid(&other, shown.clone(), why));
            }
            (None, None) => {
                let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                errors.push(Error::invalid(&resource, Value::Null, why));
            }
            _ => {}
        }
        let names_nobody = self.user.is_empty() && self.groups.as_ref().is_none_or(Vec::is_empty);
        if kind != "SelfSubjectAccessReview" && names_nobody {
            let why = "at least one of user or group must be specified";
            errors.push(Error::invalid(&spec.child("user"), "", why));
        }
        if let Some(of) = &self.resource_attributes {
            if let Some(selector) = &of.field_selector {
                selector.check(&resource.child("fieldSelector"), check_field, &mut errors);
            }
            if let Some(selector) = &of.label_selector {
                selector.check(&resource.child("labelSelector"), check_label, &mut errors);
            }
        }
        let local = kind == "LocalSubjectAccessReview";
        check_metadata(metadata, local, &mut errors);
        if !local {
            return errors;
        }
        if let Some(of) = &self.resource_attributes
            && of.namespace != metadata["namespace"].as_str().unwrap_or_default()
        {
            let path = resource.child("namespace");
            errors.push(Error::invalid(&path, of.namespace.as_str(), "must match metadata.namespace"));
        }
        if self.non_resource_attributes.is_some() {
            errors.push(Error::invalid(&other, shown, "disallowed on this kind of request"));
        }
        errors
    }
}

fn check_metadata(metadata: &Value, local: bool, errors: &mut ErrorList) {
    let Some(fields) = metadata.as_object() else { return };
    let allowed = |name: &str| name == "managedFields" || (local && name == "namespace");
    if fields.keys().all(|name| allowed(name)) {
        return;
    }
    let why = if local { "must be empty except for namespace" } else { "must be empty" };
    errors.push(Error::invalid(&Path::new("metadata"), Value::Object(fields.clone()), why));
}

impl Selector {
    fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    /// The requirements that field selectors can express so far.
    fn known_fields(&self) -> impl Iterator<Item = &Requirement> {
        let known = |term: &&Requirement| {
            matches!(term.operator.as_str(), "In" | "NotIn") && term.values().len() == 1
        };
        self.requirements().iter().filter(known)
    }

    fn understood_as_fields(&self) -> Understood {
        match self.requirements() {
            [] if FieldSelector::parse(&self.raw_selector).is_ok() => Understood::All,
            [] => Understood::Nothing,
            all => Understood::of(self.known_fields().count(), all.len()),
        }
    }

    fn understood_as_labels(&self) -> Understood {
        match self.requirements() {
            [] if LabelSelector::parse(&self.raw_selector).is_ok() => Understood::All,
            [] => Understood::Nothing,
            all => Understood::of(all.iter().filter(|term| term.is_known()).count(), all.len()),
        }
    }

    fn check(
        &self,
        path: &Path<'_>,
        check: fn(&Requirement, &Path<'_>, &mut ErrorList),
        errors: &mut ErrorList,
    ) {
        let list = path.child("requirements");
        match (self.raw_selector.as_str(), self.requirements()) {
            ("", []) => {
                let why = format!("when {path} is specified, requirements or rawSelector is required");
                errors.push(Error::required(&list, why));
            }
            (_, []) | ("", _) => {}
            (raw, _) => {
                let why = "may not specified at the same time as requirements";
                errors.push(Error::invalid(&path.child("rawSelector"), raw, why));
            }
        }
        for (index, requirement) in self.requirements().iter().enumerate() {
            check(requirement, &list.index(index), errors);
        }
    }
}

impl Requirement {
    fn values(&self) -> &[String] {
        self.values.as_deref().unwrap_or_default()
    }

    fn is_known(&self) -> bool {
        matches!(self.operator.as_str(), "In" | "NotIn" | "Exists" | "DoesNotExist")
    }

    /// Operators are not checked: newer clients know more of them.
    fn check_count(&self, path: &Path<'_>, errors: &mut ErrorList) {
        let values = path.child("values");
        match self.operator.as_str() {
            "In" | "NotIn" if self.values().is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Error::required(&values, why));
            }
            "Exists" | "DoesNotExist" if !self.values().is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Error::forbidden(&values, why));
            }
            _ => {}
        }
    }
}

fn check_field(requirement: &Requirement, path: &Path<'_>, errors: &mut ErrorList) {
    if requirement.key.is_empty() {
        errors.push(Error::required(&path.child("key"), "must be specified"));
    }
    requirement.check_count(path, errors);
}

fn check_label(requirement: &Requirement, path: &Path<'_>, errors: &mut ErrorList) {
    requirement.check_count(path, errors);
    let key = path.child("key");
    let wrong = |path: &Path<'_>, text: &str, why: Vec<String>, errors: &mut ErrorList| {
        errors.extend(why.into_iter().map(|why| Error::invalid(path, text, why)));
    };
    wrong(&key, &requirement.key, format::label_key(&requirement.key), errors);
    let values = path.child("values");
    for (index, value) in requirement.values().iter().enumerate() {
        wrong(&values.index(index), value, format::label_value(value), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, review: &Value, expected: &str) {
        let spec = Spec::deserialize(&review["spec"]).unwrap();
        let errors = spec.errors(kind, &review["metadata"]);
        assert_eq!(format!("{}|{}", errors.message(), spec.evaluation_error()), expected);
    }

    #[test]
    fn selectors_are_checked_and_read_as_far_as_possible() {
        let review = |fields: Value, labels: Value| {
            json!({"spec": {"user": "u", "resourceAttributes":
                {"verb": "list", "resource": "pods", "fieldSelector": fields, "labelSelector": labels}}})
        };
        let good = review(
            json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                {"key": "x", "operator": "Exists"}]}),
            json!({"rawSelector": "a in (b"}),
        );
        check(
            "SubjectAccessReview",
            &good,
            "|spec.resourceAttributes.fieldSelector partially ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error",
        );
        assert_eq!(Spec::deserialize(&good["spec"]).unwrap().selected_node(), "n1");
        let bad = review(json!({}), json!({"requirements": [{"key": "-", "operator": "In"}]}));
        check(
            "SubjectAccessReview",
            &bad,
            r#"[spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required, spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn', spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')]|"#,
        );
    }

    #[test]
    fn metadata_must_be_empty() {
        let review = json!({"metadata": {"name": "a"}, "spec":
            {"user": "u", "resourceAttributes": {"namespace": "n"}}});
        check(
            "LocalSubjectAccessReview",
            &review,
            r#"[metadata: Invalid value: {"name":"a"}: must be empty except for namespace, spec.resourceAttributes.namespace: Invalid value: "n": must match metadata.namespace]|"#,
        );
    }
}
