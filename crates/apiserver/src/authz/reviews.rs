//! Access reviews: the authorizer's answers as API objects.

use std::collections::BTreeMap;

use api::user::UserInfo;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Authorizer};
use crate::status::{ApiError, Cause};

const GROUP: &str = "authorization.k8s.io";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    user: String,
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

impl Spec {
    fn attributes(&self) -> Attributes<'_> {
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

    /// What is wrong with the spec of `kind` in the namespace of the request.
    fn errors(&self, kind: &str, namespace: &str) -> Vec<Cause> {
        let mut errors = Vec::new();
        let mut invalid = |field: &str, value: &str, why: &str| {
            errors.push(Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {value}: {why}"),
                field: field.to_owned(),
            });
        };
        let path = self.non_resource_attributes.as_ref();
        let path = path.map(|of| json!({"Path": of.path, "Verb": of.verb}).to_string());
        match (&self.resource_attributes, &path) {
            (Some(_), Some(path)) => {
                invalid(
                    "spec.nonResourceAttributes",
                    path,
                    "cannot be specified in combination with resourceAttributes",
                );
            }
            (None, None) => {
                let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                invalid("spec.resourceAttributes", "null", why);
            }
            _ => {}
        }
        if kind != "SelfSubjectAccessReview"
            && self.user.is_empty()
            && self.groups.as_ref().is_none_or(Vec::is_empty)
        {
            invalid("spec.user", "\"\"", "at least one of user or group must be specified");
        }
        if kind == "LocalSubjectAccessReview" {
            if let Some(of) = &self.resource_attributes
                && of.namespace != namespace
            {
                invalid(
                    "spec.resourceAttributes.namespace",
                    &format!("{:?}", of.namespace),
                    "must match metadata.namespace",
                );
            }
            if let Some(path) = &path {
                invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request");
            }
        }
        errors
    }
}

impl Authorizer {
    /// Answers a SubjectAccessReview, SelfSubjectAccessReview or LocalSubjectAccessReview: fills its status.
    ///
    /// # Errors
    /// 422 for a spec that asks for nothing, or for too much.
    pub fn review(&self, requester: &UserInfo, namespace: &str, review: &mut Value) -> Result<(), ApiError> {
        let kind = review["kind"].as_str().unwrap_or_default().to_owned();
        let spec =
            Spec::deserialize(&review["spec"]).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let errors = spec.errors(&kind, namespace);
        if !errors.is_empty() {
            return Err(ApiError::invalid(GROUP, "", "", errors));
        }
        let of_spec;
        let user = if kind == "SelfSubjectAccessReview" {
            requester
        } else {
            of_spec = UserInfo {
                name: spec.user.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone().unwrap_or_default(),
                extra: spec.extra.clone().unwrap_or_default(),
            };
            &of_spec
        };
        let decision = self.decide(user, &spec.attributes());
        let mut status = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            status["reason"] = decision.reason.into();
        }
        review["status"] = status;
        Ok(())
    }

    /// Answers a SelfSubjectRulesReview: what the requester may do in the namespace of its spec.
    ///
    /// # Errors
    /// 400 without a namespace.
    pub fn review_rules(&self, requester: &UserInfo, review: &mut Value) -> Result<(), ApiError> {
        let namespace = review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or_default();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (rules, mut errors) = self.rules_for(requester, namespace);
        if requester.name.starts_with("system:node:") && requester.is_in("system:nodes") {
            errors.insert(0, "node authorizer does not support user rule resolution".to_owned());
        }
        let (mut resource_rules, mut url_rules) = (Vec::new(), Vec::new());
        for rule in rules {
            if !rule.resources.is_empty() {
                let mut shown =
                    json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
                if !rule.resource_names.is_empty() {
                    shown["resourceNames"] = json!(rule.resource_names);
                }
                resource_rules.push(shown);
            }
            if !rule.non_resource_urls.is_empty() {
                url_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
            }
        }
        review["spec"] = json!({});
        review["status"] = json!({
            "resourceRules": resource_rules,
            "nonResourceRules": url_rules,
            "incomplete": !errors.is_empty(),
        });
        if !errors.is_empty() {
            review["status"]["evaluationError"] = errors.join(", ").into();
        }
        Ok(())
    }
}
