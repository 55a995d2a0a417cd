//! Taking on somebody else's identity: the `Impersonate-…` headers.
//!
//! After `k8s.io/apiserver/pkg/endpoints/filters/impersonation`. Rights to impersonate come in modes: first
//! the constrained ones (KEP-5284), which also ask for the right to do this request in another's name, then the
//! unconstrained `impersonate`. The mode that somebody had last is asked first, so that its error is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::user::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, UserInfo};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use schema::field::{Error, ErrorList, Path};
use schema::validation::format;

use super::service_account;
use crate::authz::{Attributes, forbidden};
use crate::query::percent_decode;
use crate::server::Inner;
use crate::status::ApiError;

const GROUP: &str = "authentication.k8s.io";
/// From so many groups or extra values on, one right to all of them is asked for first.
const MANY: usize = 4;

/// The identity that a request is made in.
pub(crate) struct Impersonated {
    pub user: Arc<UserInfo>,
    /// The verb that allowed it, for the audit log; empty for the unconstrained mode.
    pub constraint: &'static str,
}

/// Takes on the identity of the `Impersonate-…` headers, if the sender may; `None` without such headers.
pub(crate) fn impersonate(
    server: &Inner,
    sender: &UserInfo,
    parts: &mut Parts,
    request: &Attributes<'_>,
) -> Result<Option<Impersonated>, ApiError> {
    let Some(wanted) = Impersonation::parse(&parts.headers)? else { return Ok(None) };
    let names: Vec<_> =
        parts.headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in names {
        parts.headers.remove(name);
    }
    let mut first_error = None;
    let last = server.authn.impersonation_modes.last(&sender.name);
    let others = (0..MODES.len()).filter(|index| last != Some(*index));
    for index in last.into_iter().chain(others) {
        let mode = &MODES[index];
        if !mode.applies(&wanted, sender) {
            continue;
        }
        match (Check { server, sender, mode }).run(&wanted, request) {
            Ok(user) => {
                if last != Some(index) {
                    server.authn.impersonation_modes.succeeded(&sender.name, index);
                }
                return Ok(Some(Impersonated { user: Arc::new(user), constraint: mode.constraint() }));
            }
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

/// By which mode users were last allowed to impersonate somebody.
#[derive(Default)]
pub(crate) struct Modes(Mutex<BTreeMap<String, usize>>);

impl Modes {
    /// Users that are remembered, as many as upstream has.
    const USERS_MAX: usize = 10_000;

    fn last(&self, user: &str) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied()
    }

    fn succeeded(&self, user: &str, mode: usize) {
        let mut modes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if modes.len() >= Self::USERS_MAX {
            modes.clear();
        }
        modes.insert(user.to_owned(), mode);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Unconstrained,
}

struct Mode {
    kind: Kind,
    name: &'static str,
    verb: &'static str,
}

const MODES: [Mode; 5] = [
    Mode { kind: Kind::AssociatedNode, name: "associated-node", verb: "impersonate:associated-node" },
    Mode { kind: Kind::ArbitraryNode, name: "arbitrary-node", verb: "impersonate:arbitrary-node" },
    Mode { kind: Kind::ServiceAccount, name: "serviceaccount", verb: "impersonate:serviceaccount" },
    Mode { kind: Kind::UserInfo, name: "user-info", verb: "impersonate:user-info" },
    Mode { kind: Kind::Unconstrained, name: "", verb: "impersonate" },
];

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| format::dns1123_subdomain(name).is_empty())
}

impl Mode {
    fn constraint(&self) -> &'static str {
        if self.kind == Kind::Unconstrained { "" } else { self.verb }
    }

    fn applies(&self, wanted: &Impersonation, sender: &UserInfo) -> bool {
        let node = node_name(&wanted.user);
        let account = service_account::split_name(&wanted.user);
        match self.kind {
            Kind::AssociatedNode => {
                let own = sender.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice);
                let is_own = matches!((own, node), (Some([own]), Some(node)) if own == node);
                wanted.only_name() && is_own && service_account::split_name(&sender.name).is_some()
            }
            Kind::ArbitraryNode => wanted.only_name() && node.is_some(),
            Kind::ServiceAccount => wanted.only_name() && account.is_some(),
            Kind::UserInfo => node.is_none() && account.is_none(),
            Kind::Unconstrained => true,
        }
    }
}

struct Check<'a> {
    server: &'a Inner,
    sender: &'a UserInfo,
    mode: &'a Mode,
}

impl Check<'_> {
    fn run(&self, wanted: &Impersonation, request: &Attributes<'_>) -> Result<UserInfo, ApiError> {
        if self.is_constrained() {
            let verb = format!("impersonate-on:{}:{}", self.mode.name, request.verb);
            self.server.authorizer.check(self.sender, &Attributes { verb: &verb, ..*request })?;
        }
        let mut groups = wanted.groups.clone();
        self.user_name(wanted, &mut groups)?;
        if !wanted.uid.is_empty() {
            self.may(&self.attributes(GROUP, "uids", &wanted.uid))?;
        }
        self.groups(&wanted.groups)?;
        self.extra(&wanted.extra)?;
        let has = |groups: &[String], group: &str| groups.iter().any(|other| other == group);
        if wanted.user == ANONYMOUS {
            if !has(&groups, UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.to_owned());
            }
        } else if !has(&groups, UNAUTHENTICATED) && !has(&groups, AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let (name, uid, extra) = (wanted.user.clone(), wanted.uid.clone(), wanted.extra.clone());
        Ok(UserInfo { name, uid, groups, extra })
    }

    fn is_constrained(&self) -> bool {
        self.mode.kind != Kind::Unconstrained
    }

    fn attributes<'a>(&'a self, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let verb = self.mode.verb;
        Attributes { verb, is_resource: true, group, resource, name, ..Attributes::default() }
    }

    /// Users and groups are of the core group in the unconstrained mode.
    fn names_group(&self) -> &'static str {
        if self.is_constrained() { GROUP } else { "" }
    }

    fn may(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        self.server.authorizer.check(self.sender, attributes)
    }

    fn user_name(&self, wanted: &Impersonation, groups: &mut Vec<String>) -> Result<(), ApiError> {
        let mut attributes = self.attributes(self.names_group(), "users", &wanted.user);
        if let (true, Some(node)) = (self.is_constrained(), node_name(&wanted.user)) {
            (attributes.resource, attributes.name) = ("nodes", node);
            // The right must be one to all nodes: it is the same wherever the sender runs.
            if self.mode.kind == Kind::AssociatedNode {
                attributes.name = "*";
            }
            *groups = vec!["system:nodes".to_owned()];
        }
        if let Some((namespace, name)) = service_account::split_name(&wanted.user) {
            attributes.resource = "serviceaccounts";
            (attributes.namespace, attributes.name) = (namespace, name);
            if groups.is_empty() {
                *groups = service_account::groups(namespace);
            }
        }
        self.may(&attributes)
    }

    fn groups(&self, groups: &[String]) -> Result<(), ApiError> {
        let mut attributes = self.attributes(self.names_group(), "groups", "");
        if self.is_constrained() {
            let refuse = |name, why| Err(forbidden(self.sender, &Attributes { name, ..attributes }, why));
            if groups.iter().any(String::is_empty) {
                return refuse("", "impersonating the empty string group is not allowed");
            }
            if groups.iter().any(|group| group == MASTERS) {
                return refuse(MASTERS, "impersonating the system:masters group is not allowed");
            }
            let all = Attributes { name: "*", ..attributes };
            if groups.len() >= MANY && self.server.authorizer.allows(self.sender, &all) {
                return Ok(());
            }
        }
        for group in groups {
            attributes.name = group;
            self.may(&attributes)?;
        }
        Ok(())
    }

    fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> Result<(), ApiError> {
        let attributes = self.attributes(GROUP, "userextras", "");
        if self.is_constrained() {
            if let Err(why) = check_extra(extra) {
                return Err(forbidden(self.sender, &attributes, &why));
            }
            let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
            let all = Attributes { name: "*", subresource: "*", ..attributes };
            if many && self.server.authorizer.allows(self.sender, &all) {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.may(&Attributes { subresource: key, name: value, ..attributes })?;
            }
        }
        Ok(())
    }
}

fn check_extra(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let errors = domain_prefixed_path(&Path::new("extra").child("key"), key);
        if !errors.is_empty() {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: {}",
                errors.message()
            ));
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    Ok(())
}

/// After `IsDomainPrefixedPath`.
pub(super) fn domain_prefixed_path(path: &Path, key: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    match key.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            for why in format::dns1123_subdomain(host) {
                errors.push(Error::invalid(path, host, why));
            }
            let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !rest.chars().all(fits) {
                let why = "Invalid path (e.g. 'my/path', or 'my/path-', regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(Error::invalid(path, rest, why));
            }
        }
        _ => {
            errors.push(Error::invalid(path, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"))
        }
    }
    errors
}

/// Whom the sender wants to be taken for.
#[derive(Debug, Default)]
pub(crate) struct Impersonation {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// Reads the `Impersonate-…` headers; `None` where there are none.
    pub fn parse(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        // Of a header that comes twice, the first counts.
        let first = |name| headers.get(name).map(text).unwrap_or_default();
        let (user, uid) = (first("impersonate-user"), first("impersonate-uid"));
        let mut found = Self { user, uid, ..Self::default() };
        for (name, value) in headers {
            let Some(what) = name.as_str().strip_prefix("impersonate-") else { continue };
            let value = text(value);
            match what {
                "group" => found.groups.push(value),
                _ => {
                    if let Some(key) = what.strip_prefix("extra-") {
                        let key = percent_decode(key, false).unwrap_or_else(|| key.to_owned());
                        found.extra.entry(key).or_default().push(value);
                    }
                }
            }
        }
        if found.user.is_empty() {
            if found.uid.is_empty() && found.groups.is_empty() && found.extra.is_empty() {
                return Ok(None);
            }
            return Err(ApiError::bad_request(format!(
                "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{}, Extra:{}}} without impersonating a user name",
                schema::gotext::quote(&found.uid),
                go_strings(&found.groups),
                go_extra(&found.extra),
            )));
        }
        Ok(Some(found))
    }

    /// Whether nothing but the name is asked for.
    fn only_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }
}

/// `[]string{"a"}`, as Go's `%#v` prints it.
fn go_strings(texts: &[String]) -> String {
    if texts.is_empty() {
        return "[]string(nil)".to_owned();
    }
    let quoted: Vec<String> = texts.iter().map(|text| schema::gotext::quote(text)).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

fn go_extra(extra: &BTreeMap<String, Vec<String>>) -> String {
    if extra.is_empty() {
        return "map[string][]string(nil)".to_owned();
    }
    let pairs: Vec<String> = extra
        .iter()
        .map(|(key, values)| format!("{}:{}", schema::gotext::quote(key), go_strings(values)))
        .collect();
    format!("map[string][]string{{{}}}", pairs.join(", "))
}
