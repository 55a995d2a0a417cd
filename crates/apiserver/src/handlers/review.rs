//! Kinds that are created, answered and forgotten: reviews of tokens, identities and permissions.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::authn;
use crate::authn::service_account::{self, ISSUER};
use crate::body::Body;
use crate::call::Call;
use crate::status::ApiError;

/// Answers POST of any of them.
pub(crate) async fn review(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut review = call.decode_body()?;
    let manager = call.manager();
    crate::managed_fields::track_update(call, &json!({}), &mut review, &manager, "")?;
    match call.kind.kind.as_ref() {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = base::clock::rfc3339(base::clock::now()).into();
            review["status"] = json!({"userInfo": user_info(&call.user)});
        }
        "TokenReview" => review_token(call, &mut review)?,
        "SelfSubjectRulesReview" => call.server.authorizer.review_rules(&call.user, &mut review)?,
        "LocalSubjectAccessReview" | "SubjectAccessReview" | "SelfSubjectAccessReview" => {
            call.server.authorizer.review(&call.user, &call.info.namespace, &mut review)?;
        }
        _ => return Err(ApiError::method_not_allowed()),
    }
    Ok(call.respond_object(StatusCode::CREATED, &review))
}

/// `authentication.k8s.io` UserInfo.
pub(crate) fn user_info(user: &api::user::UserInfo) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn review_token(call: &Call, review: &mut Value) -> Result<(), ApiError> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let wanted = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
    let own: Vec<String> = wanted.iter().filter(|audience| *audience == ISSUER).cloned().collect();
    let found = if let Some(user) = call.server.tokens.get(token).filter(|_| !own.is_empty()) {
        Some((user.as_ref().clone(), own))
    } else {
        service_account::authenticate(&call.server, token, &wanted)
            .map(|verified| (verified.user, verified.audiences))
    };
    let _ = authn::anonymous;
    review["status"] = match found {
        Some((user, audiences)) => {
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        None => json!({"user": {}, "error": "[invalid bearer token, unknown]"}),
    };
    Ok(())
}
