//! Who sends a request: in-process identity, client certificate, bearer token or nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::authz::Attributes;
use crate::query::percent_decode;
use crate::serve::ClientCertificate;
use crate::server::Inner;
use crate::status::ApiError;

pub(crate) mod service_account;

/// One line of a token file.
#[derive(Clone, Debug)]
pub struct Token {
    /// The secret itself.
    pub token: String,
    /// Whose it is.
    pub user: UserInfo,
}

/// Reads upstream's `--token-auth-file`: `token,user,uid,"group1,group2"`.
///
/// # Errors
/// Names the first line that has too few fields.
pub fn parse_token_file(text: &str) -> Result<Vec<Token>, String> {
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            let mut fields = csv_fields(line).into_iter();
            let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(format!("line {}: expected token,user,uid[,\"group,…\"]", index + 1));
            };
            let groups = fields.next().unwrap_or_default();
            let groups: Vec<&str> =
                groups.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
            Ok(Token { token, user: UserInfo { uid, ..UserInfo::new(name, &groups) } })
        })
        .collect()
}

fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields
}

/// The static tokens, by secret.
pub(crate) type Tokens = BTreeMap<String, Arc<UserInfo>>;

/// Finds the sender's identity, impersonation not yet considered.
pub(crate) fn authenticate(server: &Inner, parts: &Parts) -> Result<Arc<UserInfo>, ApiError> {
    if let Some(user) = parts.extensions.get::<Arc<UserInfo>>() {
        return Ok(user.clone());
    }
    if let Some(user) = parts.extensions.get::<UserInfo>() {
        return Ok(Arc::new(user.clone()));
    }
    if let Some(ClientCertificate(user)) = parts.extensions.get::<ClientCertificate>() {
        return Ok(user.clone());
    }
    if let Some(token) = bearer(&parts.headers) {
        return authenticate_token(server, token).ok_or_else(ApiError::unauthorized);
    }
    if server.anonymous_allowed { Ok(server.anonymous.clone()) } else { Err(ApiError::unauthorized()) }
}

/// Whom a bearer token belongs to.
pub(crate) fn authenticate_token(server: &Inner, token: &str) -> Option<Arc<UserInfo>> {
    if let Some(user) = server.tokens.get(token) {
        return Some(user.clone());
    }
    service_account::authenticate(server, token, &[]).map(|verified| Arc::new(verified.user))
}

/// Like [`authenticate_token`], for a token that is meant for one of `audiences` (empty: the API server).
/// Also says for which of them it is good.
pub(crate) fn authenticate_for(
    server: &Inner,
    token: &str,
    audiences: &[String],
) -> Option<(UserInfo, Vec<String>)> {
    let own = [service_account::ISSUER.to_owned()];
    let wanted = if audiences.is_empty() { &own[..] } else { audiences };
    if let Some(user) = server.tokens.get(token) {
        let good: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
        return (!good.is_empty()).then(|| (user.as_ref().clone(), good));
    }
    service_account::authenticate(server, token, wanted).map(|verified| (verified.user, verified.audiences))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Nobody in particular.
pub(crate) fn anonymous() -> UserInfo {
    UserInfo { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..UserInfo::default() }
}

/// Takes on the identity of the `Impersonate-…` headers, if the sender may.
pub(crate) fn impersonate(
    server: &Inner,
    user: Arc<UserInfo>,
    parts: &Parts,
) -> Result<Arc<UserInfo>, ApiError> {
    let Some(wanted) = Impersonation::parse(&parts.headers)? else { return Ok(user) };
    let check = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            verb: "impersonate",
            is_resource: true,
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        };
        server.authorizer.check(&user, &attributes)
    };
    match service_account::split_name(&wanted.user) {
        Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
        None => check("", "users", "", "", &wanted.user)?,
    }
    for group in &wanted.groups {
        check("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        check("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    Ok(Arc::new(wanted.into_user()))
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
        let mut found = Self::default();
        for (name, value) in headers {
            let Some(what) = name.as_str().strip_prefix("impersonate-") else { continue };
            let value = value.to_str().unwrap_or_default().to_owned();
            match what {
                "user" => found.user = value,
                "uid" => found.uid = value,
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

    /// The identity taken on.
    pub fn into_user(self) -> UserInfo {
        let mut groups = self.groups;
        if let Some((namespace, _)) = service_account::split_name(&self.user)
            && groups.is_empty()
        {
            groups = service_account::groups(namespace);
        }
        let special = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if !groups.iter().any(special) {
            groups.push(if self.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED }.to_owned());
        }
        UserInfo { name: self.user, uid: self.uid, groups, extra: self.extra }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_are_upstreams_csv() {
        let tokens = parse_token_file("a,alice,1\nb,bob,2,\"g1,g2\"\n").unwrap();
        assert_eq!(tokens[0].user.groups, [AUTHENTICATED]);
        assert_eq!((tokens[1].token.as_str(), tokens[1].user.name.as_str()), ("b", "bob"));
        assert_eq!(tokens[1].user.groups, ["g1", "g2", AUTHENTICATED]);
        assert!(parse_token_file("x,y").is_err());
    }
}
