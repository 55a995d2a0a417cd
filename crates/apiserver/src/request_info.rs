//! What a request is about, from its method and path: upstream's `RequestInfo`.

use http::Method;

use crate::query::{Query, percent_decode};

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// Whether the path names a resource (or at least a group version and something below it).
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case
    /// method for paths that are not resources.
    pub verb: String,
    /// The path, decoded.
    pub path: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for none or all.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, empty for none.
    pub subresource: String,
    /// Object name, empty for collections.
    pub name: String,
    /// What follows the subresource, for proxies: without the leading slash.
    pub rest: String,
    /// Whether the path begins with the verb, `watch` or `proxy`, whatever the method is.
    pub verb_in_path: bool,
    /// Whether the path begins with slashes that the router does not forgive, unlike authorization.
    pub odd_slashes: bool,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// It is not even well-formed.
    Malformed,
    /// Nothing follows a verb in it.
    NoKind,
}

impl RequestInfo {
    /// Reads method, path and query.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<Self, BadPath> {
        // Go's router never cleans such paths up, it finds nothing at them; unless they are escaped.
        let dots = path.split('/').skip(3).any(|segment| matches!(segment, "." | ".."));
        // A path is decoded as a whole before it is routed, so that an escaped slash separates.
        let path = percent_decode(path, false).ok_or(BadPath::Malformed)?;
        let mut info =
            Self { path: path.clone(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return Ok(info),
        };
        if dots {
            info.resource = "..".to_owned();
            info.is_resource = true;
            return Ok(info);
        }
        info.is_resource = true;
        info.odd_slashes = path.starts_with("//");
        info.resource_part(method, rest, query)?;
        Ok(info)
    }

    fn resource_part(&mut self, method: &Method, mut parts: &[&str], query: &Query) -> Result<(), BadPath> {
        if let [verb @ ("watch" | "proxy"), rest @ ..] = parts {
            if rest.is_empty() {
                return Err(BadPath::NoKind);
            }
            self.verb_in_path = true;
            (*verb).clone_into(&mut self.verb);
            parts = rest;
        }
        match parts {
            ["namespaces", namespace, resource, ..] if !matches!(*resource, "status" | "finalize") => {
                (*namespace).clone_into(&mut self.namespace);
                parts = &parts[2..];
            }
            ["namespaces", namespace, ..] => (*namespace).clone_into(&mut self.namespace),
            _ => {}
        }
        let part = |index: usize| parts.get(index).map(|part| (*part).to_owned()).unwrap_or_default();
        (self.resource, self.name) = (part(0), part(1));
        if self.verb != "proxy" {
            self.subresource = part(2);
            self.rest = parts.get(3..).map(|rest| rest.join("/")).unwrap_or_default();
        }
        if !self.verb_in_path {
            self.verb = match *method {
                Method::GET | Method::HEAD if !self.name.is_empty() => "get",
                Method::GET | Method::HEAD if query.flag("watch") => "watch",
                Method::GET | Method::HEAD => "list",
                Method::POST => "create",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE if self.name.is_empty() => "deletecollection",
                Method::DELETE => "delete",
                _ => "",
            }
            .to_owned();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, expected: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(&method, path, &Query::parse(Some(query))).unwrap();
        let shown = format!(
            "{} {}/{} ns={} {}/{}/{} +{}",
            info.verb,
            info.group,
            info.version,
            info.namespace,
            info.resource,
            info.name,
            info.subresource,
            info.rest
        );
        assert_eq!(shown, expected, "{method} {uri}");
    }

    #[test]
    fn all_path_forms() {
        check(Method::GET, "/api/v1/pods", "list /v1 ns= pods// +");
        check(Method::GET, "/api/v1/namespaces/a/pods/", "list /v1 ns=a pods// +");
        check(Method::GET, "/api/v1/namespaces/a/pods/p/log", "get /v1 ns=a pods/p/log +");
        check(Method::PUT, "/api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/a/finalize +");
        check(Method::GET, "/api/v1/namespaces/a/status", "get /v1 ns=a namespaces/a/status +");
        check(Method::GET, "/apis/apps/v1/deployments?watch=1", "watch apps/v1 ns= deployments// +");
        check(Method::GET, "/api/v1/watch/namespaces/a/pods/p", "watch /v1 ns=a pods/p/ +");
        check(Method::GET, "/api/v1/namespaces//configmaps", "list /v1 ns= configmaps// +");
        check(Method::POST, "/api/v1/namespaces/a/pods/p/proxy/x/y", "create /v1 ns=a pods/p/proxy +x/y");
        check(Method::DELETE, "/api/v1/nodes/n", "delete /v1 ns= nodes/n/ +");
        check(Method::DELETE, "/api/v1/nodes", "deletecollection /v1 ns= nodes// +");
        check(Method::PUT, "/api/v1/watch/pods", "watch /v1 ns= pods// +");
        check(Method::GET, "/api/v1/proxy/nodes/n/x", "proxy /v1 ns= nodes/n/ +");
        check(Method::GET, "/api/v1/namespaces/a%2Fb/pods", "get /v1 ns=a b/pods/ +");
        check(Method::GET, "//api/v1/pods", "list /v1 ns= pods// +");
    }
}
