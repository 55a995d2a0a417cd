//! Which paths and methods of a custom kind are served: not quite those of built-in kinds.

use http::Response;

use crate::body::Body;
use crate::kind::Kind;
use crate::nonresource;
use crate::request_info::RequestInfo;
use crate::status::ApiError;

const VERBS: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// The answer to a request that cannot be served, in the words of upstream's handler of custom resources.
pub(crate) fn refusal(kind: &Kind, info: &RequestInfo) -> Option<Result<Response<Body>, ApiError>> {
    let verb = info.verb.as_str();
    let everywhere = matches!(verb, "list" | "watch");
    let scope_fits = match (kind.namespaced, info.namespace.is_empty()) {
        (true, true) => everywhere,
        (false, false) => false,
        _ => true,
    };
    if !scope_fits || matches!(info.name.as_str(), "." | "..") {
        return Some(Ok(nonresource::not_found()));
    }
    let unsupported = || {
        let verb = if VERBS.contains(&verb) { verb } else { "" };
        Some(Err(ApiError::method_not_supported(&kind.group, &kind.plural, verb)))
    };
    if !info.subresource.is_empty() {
        return match kind.subresource(&info.subresource) {
            None => Some(Err(ApiError::not_found(&kind.group, &kind.plural, &info.name))),
            Some(sub) if sub.verbs.contains(&verb) => None,
            Some(_) => unsupported(),
        };
    }
    match verb {
        "update" | "patch" if info.name.is_empty() => {
            Some(Err(ApiError::bad_request("name must be provided")))
        }
        verb if VERBS.contains(&verb) => None,
        _ => unsupported(),
    }
}
