//! AdmissionReviews: what is asked, and what the answers must look like.

use std::sync::OnceLock;

use base64::Engine as _;
use schema::types::Type;
use serde_json::{Map, Value, json};

use super::config::ReviewVersion;
use super::rules::Matched;
use crate::admission::Attributes;
use crate::status::{ApiError, Cause, Details};
use crate::webhook_client::answer::{self, Expected};

/// An answer that has the right form.
pub(super) struct Verdict {
    pub allowed: bool,
    /// Operations of a JSON patch, or the text that cannot be read as such.
    pub patch: Option<Vec<u8>>,
    pub patch_type: String,
    /// The Status that goes with a refusal.
    pub status: Value,
    pub warnings: Vec<String>,
    pub audit_annotations: Vec<(String, String)>,
}

/// The review of one request, in the version that a rule asked for.
pub(super) fn request(
    attributes: &Attributes<'_>,
    matched: &Matched,
    version: ReviewVersion,
    uid: &str,
    object: &Value,
    old: &Value,
) -> Value {
    let requested = &attributes.call.kind;
    let kind = &matched.kind;
    let resource = &matched.resource;
    let mut request = json!({
        "uid": uid,
        "kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "requestKind": {
            "group": attributes.kind.group, "version": attributes.kind.version, "kind": attributes.kind.kind,
        },
        "requestResource": {
            "group": requested.group, "version": requested.version, "resource": requested.plural,
        },
        "operation": attributes.operation.name(),
        "userInfo": user_info(attributes),
        "object": object,
        "oldObject": old,
        "dryRun": attributes.dry_run,
        "options": attributes.options(),
    });
    let texts = [
        ("subResource", attributes.subresource),
        ("requestSubResource", attributes.subresource),
        ("name", attributes.name),
        ("namespace", attributes.namespace),
    ];
    for (field, text) in texts {
        if !text.is_empty() {
            request[field] = text.into();
        }
    }
    let api_version = format!("admission.k8s.io/{}", version.name());
    json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": request})
}

/// Who asks, as `authentication.k8s.io` shows it.
pub(crate) fn user_info(attributes: &Attributes<'_>) -> Value {
    let user = &attributes.call.user;
    let mut info = Map::new();
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            info.insert(field.to_owned(), text.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}

/// Reads the answer to the review `uid`.
///
/// # Errors
/// Says what is wrong with it; `true` where it could not even be decoded.
pub(super) fn verify(
    answer: &[u8],
    version: ReviewVersion,
    uid: &str,
    mutating: bool,
) -> Result<Verdict, (String, bool)> {
    let undecodable = |why: String| (why, true);
    let invalid = |why: String| (why, false);
    let expected = Expected {
        group: "admission.k8s.io",
        version: version.name(),
        kind: "AdmissionReview",
        ty: review_type(),
    };
    let review = answer::read(answer, &expected).map_err(undecodable)?;
    let response = &review["response"];
    if !response.is_object() {
        return Err(invalid("webhook response was absent".to_owned()));
    }
    let patch = match &response["patch"] {
        Value::Null => Vec::new(),
        Value::String(text) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| undecodable("illegal base64 data".to_owned()))?,
        _ => Vec::new(),
    };
    let allowed = response["allowed"].as_bool().unwrap_or(false);
    let mut patch_type = response["patchType"].as_str().unwrap_or_default().to_owned();
    match version {
        ReviewVersion::V1 => {
            check_v1(&review, uid, mutating, &patch).map_err(invalid)?;
        }
        // Neither the uid nor the kind of patch counts in the old form.
        ReviewVersion::V1Beta1 => {
            patch_type = if mutating && !patch.is_empty() { "JSONPatch" } else { "" }.to_owned();
        }
    }
    let texts = |value: &Value| value.as_str().map(str::to_owned);
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Verdict {
        allowed,
        patch: (mutating && !patch.is_empty()).then_some(patch),
        patch_type,
        status: response["status"].clone(),
        warnings: response["warnings"].as_array().into_iter().flatten().filter_map(texts).collect(),
        audit_annotations: annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

fn review_type() -> &'static Type {
    static TYPE: OnceLock<Type> = OnceLock::new();
    TYPE.get_or_init(|| {
        let fields = vec![
            ("uid", answer::text()),
            ("allowed", answer::boolean()),
            ("status", answer::status()),
            ("patch", answer::bytes()),
            ("patchType", answer::text()),
            ("auditAnnotations", answer::texts()),
            ("warnings", answer::list("[]string", answer::text())),
        ];
        answer::review_type("AdmissionReview", "AdmissionResponse", fields)
    })
}

fn check_v1(review: &Value, uid: &str, mutating: bool, patch: &[u8]) -> Result<(), String> {
    let response = &review["response"];
    let answered = response["uid"].as_str().unwrap_or_default();
    if answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let (kind, api_version) =
        (review["kind"].as_str().unwrap_or_default(), review["apiVersion"].as_str().unwrap_or_default());
    if kind != "AdmissionReview" || api_version.is_empty() {
        let api_version = if api_version.is_empty() { "/" } else { api_version };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
        ));
    }
    let patch_type = response["patchType"].as_str();
    if !mutating {
        if !patch.is_empty() {
            return Err("validating webhook may not return response.patch".to_owned());
        }
        if patch_type.is_some() {
            return Err("validating webhook may not return response.patchType".to_owned());
        }
        return Ok(());
    }
    match patch_type {
        None if !patch.is_empty() => {
            Err("webhook returned response.patch but not response.patchType".to_owned())
        }
        Some(_) if patch.is_empty() => {
            Err("webhook returned response.patchType but not response.patch".to_owned())
        }
        Some("") => Err("webhook returned invalid response.patchType of \"\"".to_owned()),
        _ => Ok(()),
    }
}

/// A refusal as the client sees it: the webhook's Status, made sure to be an error.
pub(super) fn refusal(webhook: &str, status: &Value) -> ApiError {
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    // Codes that HTTP does not have would break the answer.
    let code = if (400..600).contains(&code) { code } else { 400 };
    let mut error = ApiError::new(code, text("reason").to_owned(), message);
    if let Some(details) = details(&status["details"]) {
        error.details = Some(Box::new(details));
    }
    error
}

fn details(details: &Value) -> Option<Details> {
    details.as_object()?;
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let causes = details["causes"].as_array().into_iter().flatten();
    Some(Details {
        name: text(details, "name"),
        group: text(details, "group"),
        kind: text(details, "kind"),
        uid: text(details, "uid"),
        causes: causes
            .map(|cause| Cause {
                reason: text(cause, "reason").into(),
                message: text(cause, "message"),
                field: text(cause, "field"),
            })
            .collect(),
        retry_after_seconds: details["retryAfterSeconds"]
            .as_u64()
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(0),
        ..Details::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(review: Value, mutating: bool) -> String {
        let bytes = serde_json::to_vec(&review).unwrap();
        match verify(&bytes, ReviewVersion::V1, "u", mutating) {
            Ok(verdict) => format!("allowed={} patch={}", verdict.allowed, verdict.patch.is_some()),
            Err((why, _)) => why,
        }
    }

    fn review(response: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn answers_are_checked() {
        assert_eq!(check(review(json!({"uid": "u", "allowed": true})), false), "allowed=true patch=false");
        assert_eq!(check(review(json!({"uid": "v"})), false), "expected response.uid=\"u\", got \"v\"");
        assert_eq!(check(review(Value::Null), false), "webhook response was absent");
        assert_eq!(
            check(json!({"response": {"uid": "u"}}), false),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        );
        let patched = json!({"uid": "u", "allowed": true, "patch": "W10="});
        assert_eq!(
            check(review(patched.clone()), true),
            "webhook returned response.patch but not response.patchType"
        );
        assert_eq!(check(review(patched), false), "validating webhook may not return response.patch");
        let mut old = review(json!({"uid": "u"}));
        old["apiVersion"] = "admission.k8s.io/v1beta1".into();
        assert_eq!(
            check(old, false),
            "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion"
        );
    }

    #[test]
    fn refusals_are_errors_whatever_the_webhook_says() {
        let silent = refusal("h", &Value::Null);
        assert_eq!(
            (silent.code, silent.message.as_str()),
            (400, "admission webhook \"h\" denied the request without explanation")
        );
        let status =
            json!({"code": 418, "message": "no", "reason": "Tea", "details": {"causes": [{"message": "m"}]}});
        let spoken = refusal("h", &status);
        assert_eq!(
            (spoken.code, spoken.message.as_str(), spoken.reason.as_ref()),
            (418, "admission webhook \"h\" denied the request: no", "Tea")
        );
        assert_eq!(spoken.details.unwrap().causes[0].message, "m");
    }
}
