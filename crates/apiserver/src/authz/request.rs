//! Authorization of requests and the virtual kinds that ask about it.

use std::sync::Arc;

use api::user::UserInfo;
use http::request::Parts;
use http::{Response, StatusCode};
use schema::field::ErrorList;
use serde_json::{Value, json};

use super::escalation::Target;
use super::{Attributes, Authorizer, reviews};
use crate::admission::{self, ObjectKind};
use crate::audit::Record;
use crate::authn::{self, Sender};
use crate::body::Body;
use crate::cache::Observer;
use crate::call::Call;
use crate::handlers::create::{check_namespace, wipe_system_fields};
use crate::handlers::options::check_write;
use crate::managed_fields;
use crate::object::meta;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::selector::FieldSelector;
use crate::server::Inner;
use crate::status::ApiError;

/// In whose name a request goes on: the sender's or that of somebody else whom the sender may
/// impersonate. Refuses with 403 what that user may not do.
pub(crate) fn act_as(
    server: &Inner,
    sender: &Sender,
    parts: &mut Parts,
    info: &RequestInfo,
    query: &Query,
    record: Option<&Record>,
) -> Result<Arc<UserInfo>, ApiError> {
    let selector = match info.verb.as_str() {
        "list" | "watch" | "deletecollection" if info.is_resource => query.text("fieldSelector"),
        _ => "",
    };
    let selector = FieldSelector::parse(selector).unwrap_or_default();
    let mut attributes = Attributes::of(info);
    // A list that is narrowed to one object needs the right to that object only.
    if !info.verb_in_path
        && matches!(info.verb.as_str(), "list" | "watch")
        && info.name.is_empty()
        && let Some(name) = selector.exact("metadata.name")
        && schema::validation::format::path_segment(name).is_empty()
    {
        attributes.name = name;
    }
    // Paths that begin with the verb know no selectors.
    if !info.verb_in_path {
        attributes.selected_node = selector.exact("spec.nodeName").unwrap_or_default();
    }
    let user = match authn::impersonate(server, &sender.user, parts, &attributes)? {
        Some(impersonated) => {
            if let Some(record) = record {
                record.impersonated(&impersonated.user, impersonated.constraint);
            }
            impersonated.user
        }
        None => sender.user.clone(),
    };
    let Some(record) = record else {
        server.authorizer.check(&user, &attributes)?;
        return Ok(user);
    };
    for (key, value) in &sender.annotations {
        record.annotate(key, value.as_str());
    }
    let decision = server.authorizer.decide(&user, &attributes);
    record.annotate("authorization.k8s.io/decision", if decision.allowed { "allow" } else { "forbid" });
    record.annotate("authorization.k8s.io/reason", decision.reason.as_str());
    if decision.allowed { Ok(user) } else { Err(super::forbidden(&user, &attributes, &decision.reason)) }
}

impl Observer for Authorizer {
    fn apply(&self, key: &str, value: Option<&[u8]>) {
        Authorizer::apply(self, key, value);
    }

    fn reset(&self) {
        self.clear();
    }
}

/// POST of a review of `authorization.k8s.io` or `authentication.k8s.io`: answered and forgotten.
pub(crate) async fn review(call: &Call) -> Result<Response<Body>, ApiError> {
    let dry_run = check_write(call, "CreateOptions", ErrorList::new())?;
    let mut review = call.decode_body()?;
    wipe_system_fields(&mut review);
    check_namespace(call, &mut review)?;
    let manager = call.manager();
    managed_fields::track_update(call, &json!({}), &mut review, &manager, "")?;
    let name = meta(&review, "name").to_owned();
    let attributes = admission::Attributes::create(call, ObjectKind::of(&call.kind), &name, dry_run);
    admission::admit(&attributes, &mut review).await?;
    reviews::check_review(&review)?;
    admission::validate(&attributes, &review).await?.finish();
    let authorizer = &call.server.authorizer;
    match call.kind.kind.as_ref() {
        "SelfSubjectRulesReview" => {
            review["metadata"] = json!({});
            authorizer.review_rules(&call.user, &mut review);
        }
        "SelfSubjectReview" => {
            let now = base::clock::rfc3339(base::clock::now());
            review["metadata"] = json!({"creationTimestamp": now});
            review["status"] = json!({"userInfo": user_info(&call.user)});
        }
        "TokenReview" => token_status(call, &mut review).await,
        _ => authorizer.review(&call.user, &mut review)?,
    }
    Ok(call.respond_object(StatusCode::CREATED, &review))
}

fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({});
    if !user.name.is_empty() {
        info["username"] = json!(user.name);
    }
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// Answers a TokenReview. What a client has put into the status and is not known better stays, as upstream's does.
async fn token_status(call: &Call, review: &mut Value) {
    let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default().to_owned();
    let asked = review.pointer("/spec/audiences").and_then(Value::as_array).into_iter().flatten();
    let mut asked: Vec<String> = asked.filter_map(Value::as_str).map(str::to_owned).collect();
    if asked.is_empty() {
        asked.clone_from(&call.server.authn.audiences);
    }
    let status = &mut review["status"];
    if !status.is_object() {
        *status = json!({});
    }
    if status["user"].is_null() {
        status["user"] = json!({});
    }
    if let Some(status) = status.as_object_mut() {
        status.remove("authenticated");
    }
    match authn::review_token(&call.server, &token, &asked).await {
        Ok(Some(verified)) => {
            status["authenticated"] = true.into();
            (status["user"], status["audiences"]) = (user_info(&verified.user), json!(verified.audiences));
        }
        Ok(None) => {}
        Err(error) => status["error"] = error.into(),
    }
}

/// Refuses writes of roles and bindings that would grant more than the user holds.
pub(crate) fn check_escalation(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if call.kind.group != "rbac.authorization.k8s.io" {
        return Ok(());
    }
    let target = Target {
        resource: &call.kind.plural,
        namespace: &call.info.namespace,
        request_name: &call.info.name,
        name: crate::object::meta(new, "name"),
    };
    call.server.authorizer.check_escalation(&call.user, target, new, old)
}
