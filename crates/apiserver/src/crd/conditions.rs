//! Conditions in the status of CustomResourceDefinitions.

use serde_json::{Value, json};

use super::parsed::{Condition, Crd};

/// Annotation that definitions in Kubernetes' own groups need.
const APPROVAL: &str = "api-approved.kubernetes.io";

impl Condition {
    pub fn new(r#type: &str, status: &str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            r#type: r#type.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// Sets a condition; the time changes with the status.
pub(super) fn set(object: &mut Value, condition: &Condition) {
    let now = base::clock::rfc3339(base::clock::now());
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let list = conditions.as_array_mut();
    let Some(list) = list else { return };
    let known = list.iter_mut().find(|known| known["type"] == *condition.r#type);
    let Some(known) = known else {
        list.push(json!({"type": condition.r#type, "status": condition.status, "lastTransitionTime": now,
            "reason": condition.reason, "message": condition.message}));
        return;
    };
    if known["status"] != *condition.status || known["lastTransitionTime"].is_null() {
        known["lastTransitionTime"] = now.into();
    }
    known["status"] = condition.status.clone().into();
    known["reason"] = condition.reason.clone().into();
    known["message"] = condition.message.clone().into();
}

/// Whether a definition in one of Kubernetes' own groups says who approved it. `None` for other groups.
pub(super) fn approval(crd: &Crd) -> Option<Condition> {
    let group = crd.spec.group.as_str();
    let protected = ["k8s.io", "kubernetes.io"];
    if !protected.iter().any(|own| group == *own || group.ends_with(&format!(".{own}"))) {
        return None;
    }
    const WHERE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let annotation = crd.metadata.annotations.get(APPROVAL).map(String::as_str).unwrap_or_default();
    let (status, reason, message) = if annotation.is_empty() {
        let message = format!("protected groups must have approval annotation {APPROVAL:?}, {WHERE}");
        ("False", "MissingAnnotation", message)
    } else if annotation.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {annotation:?}"))
    } else if is_url(annotation) {
        ("True", "ApprovedAnnotation", format!("approved in {annotation}"))
    } else {
        let how = "with either a URL or a reason starting with \"unapproved\"";
        let message = format!("protected groups must have approval annotation {APPROVAL:?} {how}, {WHERE}");
        ("False", "InvalidAnnotation", message)
    };
    Some(Condition::new("KubernetesAPIApprovalPolicyConformant", status, reason, message))
}

fn is_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
}
