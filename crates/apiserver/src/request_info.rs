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
    /// The path as it came.
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
}

/// The path is not even well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath;

impl RequestInfo {
    /// Reads method, path and query.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<Self, BadPath> {
        let mut info =
            Self { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        // A path is decoded as a whole before it is routed, so that an escaped slash separates.
        if percent_decode(path, false).is_none() {
            return Err(BadPath);
        }
        let trimmed = path.strip_prefix('/').unwrap_or(path);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let segments: Vec<&str> = trimmed.split('/').collect();
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
        // Go's router never cleans such paths up, it finds nothing at them.
        if rest.iter().any(|segment| matches!(*segment, "." | "..")) {
            info.resource = "..".to_owned();
            info.is_resource = true;
            return Ok(info);
        }
        info.is_resource = true;
        info.resource_part(method, rest, query)?;
        Ok(info)
    }

    fn resource_part(&mut self, method: &Method, mut parts: &[&str], query: &Query) -> Result<(), BadPath> {
        let decode = |part: &str| percent_decode(part, false).ok_or(BadPath);
        let mut watch_path = false;
        if let ["watch", rest @ ..] = parts
            && !rest.is_empty()
        {
            watch_path = true;
            parts = rest;
        }
        match parts {
            ["namespaces", namespace, resource, rest @ ..]
                if !(rest.is_empty() && matches!(*resource, "status" | "finalize")) =>
            {
                self.namespace = decode(namespace)?;
                parts = &parts[2..];
                debug_assert_eq!(parts.len(), rest.len() + 1);
            }
            ["namespaces", namespace, ..] => self.namespace = decode(namespace)?,
            _ => {}
        }
        self.resource = decode(parts[0])?;
        if let Some(name) = parts.get(1) {
            self.name = decode(name)?;
        }
        if let Some(subresource) = parts.get(2) {
            self.subresource = decode(subresource)?;
        }
        self.rest = parts.get(3..).map(|rest| rest.join("/")).unwrap_or_default();
        self.verb = match *method {
            Method::GET | Method::HEAD if watch_path => "watch",
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
    }
}
