//! Authorization of requests and the virtual kinds that ask about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use api::user::UserInfo;
use http::{Response, StatusCode};
use serde::Deserialize;
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
        self.pods.apply(key, value);
    }

    fn reset(&self) {
        self.clear();
        *self.pods.0.write().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}

/// The keys of the pods on each node, so that no request of a node looks at all pods.
#[derive(Default)]
pub(crate) struct PodIndex(RwLock<Places>);

#[derive(Default)]
struct Places {
    by_node: BTreeMap<String, BTreeSet<String>>,
    node_of: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Placed {
    #[serde(default)]
    spec: PlacedSpec,
}

#[derive(Deserialize, Default)]
struct PlacedSpec {
    #[serde(default, rename = "nodeName")]
    node_name: String,
}

impl PodIndex {
    fn apply(&self, key: &str, value: Option<&[u8]>) {
        if !key.starts_with("/registry/pods/") {
            return;
        }
        let placed = value.and_then(|bytes| serde_json::from_slice::<Placed>(bytes).ok());
        let node = placed.unwrap_or_default().spec.node_name;
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if places.node_of.get(key).map_or("", String::as_str) == node {
            return;
        }
        if let Some(before) = places.node_of.remove(key)
            && let Some(keys) = places.by_node.get_mut(&before)
        {
            keys.remove(key);
            if keys.is_empty() {
                places.by_node.remove(&before);
            }
        }
        if !node.is_empty() {
            places.by_node.entry(node.clone()).or_default().insert(key.to_owned());
            places.node_of.insert(key.to_owned(), node);
        }
    }

    fn on(&self, node: &str) -> Vec<String> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.by_node.get(node).into_iter().flatten().cloned().collect()
    }
}

/// The pods of the watch cache, by node.
pub(crate) struct CachedPods {
    cache: Weak<WatchCache>,
    index: Arc<PodIndex>,
}

impl NodePods for CachedPods {
    fn pods_on(&self, node: &str) -> Vec<Value> {
        let Some(pods) = self.cache.upgrade().and_then(|cache| cache.resource("pods")) else {
            return Vec::new();
        };
        // The index sees a change before the cache does: what the cache says counts.
        let entries = self.index.on(node).into_iter().filter_map(|key| pods.get(&key));
        entries.map(|entry| entry.to_value()).filter(|pod| pod["spec"]["nodeName"] == node).collect()
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
    let (cache, index) = (Arc::downgrade(cache), authorizer.pods.clone());
    authorizer.set_node_pods(Arc::new(CachedPods { cache, index }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_by_their_node() {
        let index = PodIndex::default();
        let key = "/registry/pods/a/p";
        let pod = |node: &str| json!({"metadata": {}, "spec": {"nodeName": node}}).to_string();
        index.apply(key, Some(br#"{"metadata":{},"spec":{}}"#));
        index.apply(key, Some(pod("n1").as_bytes()));
        index.apply("/registry/secrets/a/p", Some(pod("n1").as_bytes()));
        assert_eq!(index.on("n1"), [key]);
        index.apply(key, Some(pod("n2").as_bytes()));
        assert_eq!((index.on("n1").len(), index.on("n2").len()), (0, 1));
        index.apply(key, None);
        let places = index.0.read().unwrap();
        assert!(places.by_node.is_empty() && places.node_of.is_empty());
    }
}
