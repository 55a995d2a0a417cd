//! The variables `authorizer` and `authorizer.requestResource`: expressions may ask what users may do.

use std::sync::Arc;

use cel::ext::{
    AccessCheck, AccessTarget, Authorizer, Decision, ResourceTarget, authorizer_value, request_resource_value,
};
use cel::{Error, Value};

use crate::admission::Attributes;
use crate::authz;
use crate::server::Inner;

const AUTHORIZER: &str = "authorizer";
const REQUEST_RESOURCE: &str = "authorizer.requestResource";

/// Their values in one request; none for other names.
pub(super) fn resolve<'a>(attributes: &Attributes<'_>, name: &str) -> Result<Option<Value<'a>>, Error> {
    let call = attributes.call;
    let user = || (*call.user).clone();
    let asked: Arc<dyn Authorizer> = Arc::new(Asked(call.server.clone()));
    Ok(match name {
        AUTHORIZER => Some(authorizer_value(user(), asked)),
        REQUEST_RESOURCE => {
            let target = ResourceTarget {
                group: call.kind.group.to_string(),
                resource: call.kind.plural.to_string(),
                subresource: attributes.subresource.to_owned(),
                namespace: attributes.namespace.to_owned(),
                name: attributes.name.to_owned(),
                ..ResourceTarget::default()
            };
            Some(request_resource_value(user(), asked, target))
        }
        _ => None,
    })
}

/// The server's own authorizer.
struct Asked(Arc<Inner>);

impl Authorizer for Asked {
    fn authorize(&self, check: &AccessCheck) -> Decision {
        let asked = match &check.target {
            AccessTarget::Path(path) => authz::Attributes { verb: &check.verb, path, ..Default::default() },
            AccessTarget::Resource(target) => authz::Attributes {
                verb: &check.verb,
                is_resource: true,
                namespace: &target.namespace,
                group: &target.group,
                resource: &target.resource,
                subresource: &target.subresource,
                name: &target.name,
                ..Default::default()
            },
        };
        let decision = self.0.authorizer.decide(&check.user, &asked);
        Decision { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}
