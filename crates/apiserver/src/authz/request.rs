//! Authorization of requests and the virtual kinds that ask about it.

use std::sync::{Arc, Weak};

use api::user::UserInfo;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::escalation::Target;
use super::{Attributes, Authorizer, NodePods};
use crate::body::Body;
use crate::cache::{Observer, WatchCache};
use crate::call::Call;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::selector::FieldSelector;
use crate::server::Inner;
use crate::status::ApiError;
use crate::{authn, managed_fields};

/// Refuses with 403 what `user` may not do.
pub(crate) fn authorize(
    server: &Inner,
    user: &UserInfo,
    info: &RequestInfo,
    query: &Query,
) -> Result<(), ApiError> {
    let mut attributes = Attributes::of(info);
    let selector = match info.verb.as_str() {
        "list" | "watch" | "deletecollection" if info.is_resource => query.text("fieldSelector"),
        _ => "",
    };
    if selector.is_empty() {
        return server.authorizer.check(user, &attributes);
    }
    // A list that is narrowed to one object needs the right to that object only.
    let selector = FieldSelector::parse(selector).unwrap_or_default();
    if let (true, Some(name)) = (info.name.is_empty(), selector.exact("metadata.name")) {
        attributes.name = name;
    }
    attributes.selected_node = selector.exact("spec.nodeName").unwrap_or_default();
    server.authorizer.check(user, &attributes)
}

impl Observer for Authorizer {
    fn apply(&self, key: &str, value: Option<&[u8]>) {
        Authorizer::apply(self, key, value);
    }

    fn reset(&self) {
        self.clear();
    }
}

/// The pods of the watch cache, by node.
pub(crate) struct CachedPods(pub Weak<WatchCache>);

impl NodePods for CachedPods {
    fn pods_on(&self, node: &str) -> Vec<Value> {
        let pods =
            self.0.upgrade().and_then(|cache| cache.resource("pods").map(|pods| (pods.snapshot(0), pods)));
        let Some((snapshot, pods)) = pods else { return Vec::new() };
        let index = pods.kind.fields.labels.iter().position(|label| label == "spec.nodeName");
        let on_node =
            |fields: &[String]| index.and_then(|index| fields.get(index)).is_some_and(|name| name == node);
        let entries = snapshot.objects.values();
        entries
            .filter(|entry| on_node(&entry.selectable(&pods.kind).fields))
            .map(|entry| entry.to_value())
            .collect()
    }
}

/// POST of a review of `authorization.k8s.io` or `authentication.k8s.io`: answered and forgotten.
pub(crate) fn review(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut review = call.decode_body()?;
    crate::handlers::create::check_namespace(call, &mut review)?;
    if call.kind.kind == "SelfSubjectReview" {
        let now = base::clock::rfc3339(base::clock::now());
        review["metadata"] = json!({"creationTimestamp": now});
    } else if call.kind.kind != "SelfSubjectRulesReview" {
        let manager = call.manager();
        managed_fields::track_update(call, &json!({}), &mut review, &manager, "")?;
    }
    let authorizer = &call.server.authorizer;
    match call.kind.kind.as_ref() {
        "SelfSubjectRulesReview" => authorizer.review_rules(&call.user, &mut review)?,
        "SelfSubjectReview" => review["status"] = json!({"userInfo": user_info(&call.user)}),
        "TokenReview" => review["status"] = token_status(call, &review)?,
        _ => authorizer.review(&call.user, &call.info.namespace, &mut review)?,
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

fn token_status(call: &Call, review: &Value) -> Result<Value, ApiError> {
    let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = review.pointer("/spec/audiences").and_then(Value::as_array).into_iter().flatten();
    let asked: Vec<String> = asked.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match authn::authenticate_for(&call.server, token, &asked) {
        Some((user, audiences)) => {
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        None => json!({"user": {}, "error": "invalid bearer token"}),
    })
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

/// The authorizer of a server over its durable cache.
pub(crate) fn attach(authorizer: &Arc<Authorizer>, cache: &Arc<WatchCache>) {
    authorizer.set_node_pods(Arc::new(CachedPods(Arc::downgrade(cache))));
}
