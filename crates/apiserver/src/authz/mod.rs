//! Who may do what: system:masters may do everything, nodes what their pods need, everybody else what
//! RBAC objects grant.
//!
//! [`Authorizer`] keeps an index of roles and bindings, fed by [`Authorizer::apply`] with the stored
//! bytes as they change. A decision reads the index only: no JSON is parsed per request.

use std::sync::{PoisonError, RwLock};

use api::user::{MASTERS, UserInfo};
use schema::gotext::quote;

use crate::request_info::RequestInfo;
use crate::status::ApiError;

pub mod bootstrap;
pub mod escalation;
pub mod graph;
mod node;
mod rbac;
pub mod reconcile;
pub(crate) mod request;
mod review_spec;
pub mod reviews;

pub use rbac::{Rbac, Rule};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// `get`, `list`, …; the lower-case method for paths that are not resources.
    pub verb: &'a str,
    /// Whether the resource fields count, or `path`.
    pub is_resource: bool,
    /// Namespace, empty for none or all.
    pub namespace: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Object name, or empty.
    pub name: &'a str,
    /// The path of a request that is not for a resource.
    pub path: &'a str,
    /// The node that a field selector `spec.nodeName=…` narrows a list to.
    pub selected_node: &'a str,
}

impl<'a> Attributes<'a> {
    /// The attributes of a request.
    pub fn of(info: &'a RequestInfo) -> Attributes<'a> {
        Attributes {
            verb: &info.verb,
            is_resource: info.is_resource,
            namespace: &info.namespace,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            path: &info.path,
            selected_node: "",
        }
    }

    /// What is refused to `user`, in upstream's words.
    fn refusal(&self, user: &UserInfo) -> String {
        let (user, verb) = (quote(&user.name), self.verb);
        let text = if self.is_resource {
            let resource = match self.subresource {
                "" => quote(self.resource),
                subresource => quote(&format!("{}/{subresource}", self.resource)),
            };
            let scope = match self.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", quote(namespace)),
            };
            format!(
                "User {user} cannot {verb} resource {resource} in API group {} {scope}",
                quote(self.group)
            )
        } else {
            format!("User {user} cannot {verb} path {}", quote(self.path))
        };
        // Nothing that a client has sent may come back as HTML.
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    }
}

/// The answer of an authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why, as reviews show it; may be empty.
    pub reason: String,
}

/// Decides what users may do.
#[derive(Default)]
pub struct Authorizer {
    rbac: RwLock<Rbac>,
    graph: graph::Graph,
}

impl Authorizer {
    /// Forgets everything.
    pub fn clear(&self) {
        self.graph.clear();
        *self.rbac.write().unwrap_or_else(PoisonError::into_inner) = Rbac::default();
    }

    /// Takes over the change of one object: its storage key and its stored bytes, `None` when it is
    /// deleted. Keys of other kinds are ignored, so that every event may be passed.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        if rbac::is_relevant(key) {
            self.rbac.write().unwrap_or_else(PoisonError::into_inner).apply(key, value);
        } else {
            self.graph.apply(key, value);
        }
    }

    /// Whether `user` may do what `attributes` say. Cheap: the reason is not made.
    pub fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        user.is_in(MASTERS)
            || node::authorize(user, attributes, &self.graph).is_some_and(|verdict| verdict.is_ok())
            || self.read().allows(user, attributes)
    }

    /// Whether `user` may do what `attributes` say, and why.
    pub fn decide(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let allowed = |reason: String| Decision { allowed: true, reason };
        if user.is_in(MASTERS) {
            return allowed(String::new());
        }
        let node = match node::authorize(user, attributes, &self.graph) {
            Some(Ok(())) => return allowed(String::new()),
            Some(Err(why)) => why,
            None => String::new(),
        };
        match self.read().explain(user, attributes) {
            Ok(by) => allowed(by),
            Err(why) => {
                let reasons: Vec<&str> =
                    [node.as_str(), why.as_str()].into_iter().filter(|why| !why.is_empty()).collect();
                Decision { allowed: false, reason: reasons.join("\n") }
            }
        }
    }

    /// Refuses with upstream's message unless `user` may do what `attributes` say.
    ///
    /// # Errors
    /// 403.
    pub fn check(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        if self.allows(user, attributes) {
            return Ok(());
        }
        Err(forbidden(user, attributes, &self.decide(user, attributes).reason))
    }

    /// All rules that apply to `user` in `namespace` (none: cluster-wide ones only), and what could
    /// not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.read().rules_for(user, namespace)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Rbac> {
        self.rbac.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 403 for `attributes`, with upstream's body.
pub fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let refusal = attributes.refusal(user);
    let why = if reason.is_empty() { refusal } else { format!("{refusal}: {reason}") };
    if attributes.is_resource {
        ApiError::forbidden(attributes.group, attributes.resource, attributes.name, why)
    } else {
        ApiError::forbidden("", "", "", why)
    }
}

#[cfg(test)]
mod tests;
