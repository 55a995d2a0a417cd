//! Access reviews: the authorizer's answers as API objects.

use api::user::UserInfo;
use serde::Deserialize;
use serde_json::{Value, json};

use super::review_spec::Spec;
use super::{Attributes, Authorizer};
use crate::call::invalid;
use crate::status::ApiError;

const GROUP: &str = "authorization.k8s.io";

fn read_spec(review: &Value) -> Result<Spec, ApiError> {
    Spec::deserialize(&review["spec"]).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Refuses reviews that ask for nothing, or for too much.
///
/// # Errors
/// 400 and 422.
pub fn check_review(review: &Value) -> Result<(), ApiError> {
    let text = |pointer: &str| review.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/kind") {
        "SelfSubjectReview" => Ok(()),
        "SelfSubjectRulesReview" if text("/spec/namespace").is_empty() => {
            Err(ApiError::bad_request("no namespace on request"))
        }
        "TokenReview" if text("/spec/token").is_empty() => {
            Err(ApiError::bad_request("token is required for TokenReview in authentication"))
        }
        "SelfSubjectRulesReview" | "TokenReview" => Ok(()),
        kind => {
            let errors = read_spec(review)?.errors(kind, &review["metadata"]);
            if errors.is_empty() { Ok(()) } else { Err(invalid(GROUP, "", "", &errors)) }
        }
    }
}

impl Authorizer {
    /// Answers a SubjectAccessReview, SelfSubjectAccessReview or LocalSubjectAccessReview that
    /// [`check_review`] has passed: fills its status.
    ///
    /// # Errors
    /// 400 for a spec that cannot be read.
    pub fn review(&self, requester: &UserInfo, review: &mut Value) -> Result<(), ApiError> {
        let spec = read_spec(review)?;
        let of_spec;
        let user = if review["kind"] == "SelfSubjectAccessReview" {
            requester
        } else {
            of_spec = UserInfo {
                name: spec.user.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone().unwrap_or_default(),
                extra: spec.extra.clone(),
            };
            &of_spec
        };
        let node = spec.selected_node();
        let decision = self.decide(user, &Attributes { selected_node: &node, ..spec.attributes() });
        let mut status = json!({"allowed": decision.allowed});
        let texts = [("reason", decision.reason), ("evaluationError", spec.evaluation_error())];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            status[field] = text.into();
        }
        review["status"] = status;
        Ok(())
    }

    /// Answers a SelfSubjectRulesReview: what the requester may do in the namespace of its spec.
    pub fn review_rules(&self, requester: &UserInfo, review: &mut Value) {
        let namespace = review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or_default();
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
    }
}
