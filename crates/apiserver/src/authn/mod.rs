//! Who sends a request: in-process identity, front proxy, client certificate, bearer token or nobody.
//!
//! Fail closed: credentials that are shown and do not hold make the request 401, never anonymous.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::server::{Config, Inner};
use crate::status::ApiError;

mod bootstrap_token;
pub(crate) mod certificate;
pub(crate) mod claims;
mod config;
mod front_proxy;
pub(crate) mod impersonation;
pub(crate) mod keys;
pub mod oidc;
pub(crate) mod service_account;

pub use certificate::CertificateAuthorities;
pub use config::{AuthenticationConfig, parse_config};
pub use front_proxy::FrontProxy;
pub(crate) use impersonation::impersonate;

use keys::Signer;

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

/// Everything that identities are found by.
pub(crate) struct Authenticator {
    /// The static tokens, by hash.
    tokens: BTreeMap<[u8; 32], UserInfo>,
    pub signer: Signer,
    /// Whom tokens are for that are good for the API server.
    pub audiences: Vec<String>,
    front_proxy: Option<FrontProxy>,
    providers: Vec<oidc::Provider>,
    anonymous: Option<Arc<UserInfo>>,
    /// Where nobody in particular is welcome; everywhere if empty.
    anonymous_paths: Vec<String>,
    pub impersonation_modes: impersonation::Modes,
}

impl Authenticator {
    /// What tells client certificates and those of front proxies apart, if both are trusted.
    pub fn authorities(&self) -> Option<&CertificateAuthorities> {
        self.front_proxy.as_ref().map(|proxy| &proxy.authorities)
    }

    /// From the server's settings.
    pub fn new(config: &mut Config) -> Result<Self, String> {
        if config.service_account_key_pem.is_empty() {
            let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
            config.service_account_key_pem = key.serialize_pem();
        }
        let tokens = config.tokens.drain(..).map(|token| (keys::hash(&token.token), token.user)).collect();
        let settings = std::mem::take(&mut config.authentication);
        let providers = settings.providers.into_iter().map(oidc::Provider::new).collect::<Result<_, _>>()?;
        let anonymous = UserInfo {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..UserInfo::default()
        };
        Ok(Self {
            tokens,
            signer: Signer::new(service_account::ISSUER, &config.service_account_key_pem)?,
            audiences: vec![service_account::ISSUER.to_owned()],
            front_proxy: settings.front_proxy,
            providers,
            anonymous: config.anonymous.then(|| Arc::new(anonymous)),
            anonymous_paths: settings.anonymous_paths,
            impersonation_modes: impersonation::Modes::default(),
        })
    }
}

/// Somebody whose credentials hold, and what is worth noting about these.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub user: UserInfo,
    /// Those of the wanted audiences that the credentials are good for.
    pub audiences: Vec<String>,
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: Vec<(&'static str, String)>,
}

impl Verified {
    fn of(user: UserInfo) -> Self {
        Self { user, audiences: Vec::new(), warnings: Vec::new(), annotations: Vec::new() }
    }

    fn annotate(&mut self, key: &'static str, value: String) {
        self.annotations.push((key, value));
    }

    fn extra(&mut self, key: &str, value: &str) {
        self.user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    }

    fn authenticated(mut self) -> Self {
        if !self.user.is_in(AUTHENTICATED) && !self.user.is_in(UNAUTHENTICATED) {
            self.user.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// Who sent a request, impersonation not yet considered.
pub(crate) struct Sender {
    pub user: Arc<UserInfo>,
    pub warnings: Vec<String>,
    pub annotations: Vec<(&'static str, String)>,
}

impl From<Arc<UserInfo>> for Sender {
    fn from(user: Arc<UserInfo>) -> Self {
        Self { user, warnings: Vec::new(), annotations: Vec::new() }
    }
}

/// Finds the sender's identity. Credentials are taken out of the headers, so that nothing behind this passes
/// them on.
pub(crate) async fn authenticate(server: &Arc<Inner>, parts: &mut Parts) -> Result<Sender, ApiError> {
    let sender = find(server, parts).await?;
    parts.headers.remove(AUTHORIZATION);
    front_proxy::clear(&mut parts.headers, server.authn.front_proxy.as_ref());
    Ok(sender)
}

async fn find(server: &Arc<Inner>, parts: &mut Parts) -> Result<Sender, ApiError> {
    if let Some(user) = parts.extensions.get::<Arc<UserInfo>>() {
        return Ok(user.clone().into());
    }
    if let Some(user) = parts.extensions.get::<UserInfo>() {
        return Ok(Arc::new(user.clone()).into());
    }
    let mut refused = false;
    if let Some(certificate) = parts.extensions.get::<Arc<certificate::Shown>>() {
        if let (Some(proxy), Some(name)) = (&server.authn.front_proxy, &certificate.proxy)
            && proxy.trusts(name)
            && let Some(user) = proxy.user(&parts.headers)
        {
            return Ok(Arc::new(Verified::of(user).authenticated().user).into());
        }
        if let Some(user) = &certificate.client {
            return Ok(user.clone().into());
        }
        refused = certificate.refused;
    }
    let mut space = None;
    match bearer(&parts.headers) {
        Bearer::Token(token) => match authenticate_token(server, token, &server.authn.audiences).await {
            Ok(verified) => {
                return Ok(Sender {
                    user: Arc::new(verified.user),
                    warnings: verified.warnings,
                    annotations: verified.annotations,
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a bearer token was refused");
                return Err(ApiError::unauthorized());
            }
        },
        Bearer::Space => space = Some(TOKEN_AFTER_SPACE.to_owned()),
        Bearer::None => {}
    }
    match websocket_token(&parts.headers) {
        Some(Ok((token, others))) => {
            let verified = authenticate_token(server, &token, &server.authn.audiences).await;
            let Ok(verified) = verified else { return Err(ApiError::unauthorized()) };
            if let Ok(others) = HeaderValue::try_from(others) {
                parts.headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
            }
            return Ok(Sender {
                user: Arc::new(verified.user),
                warnings: verified.warnings,
                annotations: verified.annotations,
            });
        }
        Some(Err(why)) => {
            tracing::debug!(why, "a token among WebSocket protocols was refused");
            return Err(ApiError::unauthorized());
        }
        None => {}
    }
    let welcome = server.authn.anonymous_paths.is_empty()
        || server.authn.anonymous_paths.iter().any(|path| path == parts.uri.path());
    match &server.authn.anonymous {
        Some(nobody) if welcome && !refused => {
            Ok(Sender { warnings: space.into_iter().collect(), ..nobody.clone().into() })
        }
        _ => Err(ApiError::unauthorized()),
    }
}

/// Whom a TokenReview's token belongs to. It is read as a header with it would be; what is none is from nobody
/// in particular.
pub(crate) async fn review_token(
    server: &Arc<Inner>,
    token: &str,
    audiences: &[String],
) -> Result<Option<Verified>, String> {
    match bearer_of(&format!("Bearer {token}")) {
        Bearer::Token(token) => authenticate_token(server, token, audiences).await.map(Some),
        _ => Ok(server
            .authn
            .anonymous
            .as_deref()
            .map(|nobody| Verified { audiences: audiences.to_vec(), ..Verified::of(nobody.clone()) })),
    }
}

/// The token that a WebSocket client sends as a protocol, as browsers have no other way, and the protocols
/// without it. `None` if there is none.
fn websocket_token(headers: &HeaderMap) -> Option<Result<(String, String), &'static str>> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let upgrades = headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrades {
        return None;
    }
    let (mut token, mut others) = (None, Vec::new());
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for protocol in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            let Some(encoded) = protocol.strip_prefix(PREFIX) else {
                others.push(protocol);
                continue;
            };
            if token.is_some() {
                return Some(Err("multiple base64.bearer.authorization tokens specified"));
            }
            let decoded =
                URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            match decoded {
                Some(decoded) => token = Some(decoded),
                None => return Some(Err("invalid base64.bearer.authorization token encoding")),
            }
        }
    }
    let token = token?;
    if others.is_empty() {
        return Some(Err("missing additional subprotocol"));
    }
    Some(Ok((token, others.join(","))))
}

/// Whom a bearer token belongs to, if it is good for one of `audiences`; else why it is refused.
pub(crate) async fn authenticate_token(
    server: &Arc<Inner>,
    token: &str,
    audiences: &[String],
) -> Result<Verified, String> {
    let own = &server.authn.audiences;
    // Static tokens, bootstrap tokens and those of providers are for the API server.
    let agnostic: Vec<String> = audiences.iter().filter(|audience| own.contains(audience)).cloned().collect();
    let for_us = |user: UserInfo| {
        let verified = Verified { audiences: agnostic.clone(), ..Verified::of(user) };
        (!agnostic.is_empty()).then(|| verified.authenticated())
    };
    if let Some(verified) = server.authn.tokens.get(&keys::hash(token)).cloned().and_then(for_us) {
        return Ok(verified);
    }
    // Upstream asks who knows the token of the server itself first, who says so.
    let mut errors = vec![UNKNOWN_TOKEN.to_owned()];
    match service_account::authenticate(server, token, audiences) {
        Ok(Some(verified)) => return Ok(verified.authenticated()),
        Ok(None) => {}
        Err(error) => errors.push(error),
    }
    if let Some(verified) = bootstrap_token::authenticate(server, token).and_then(for_us) {
        return Ok(verified);
    }
    if let Some(issuer) = service_account::unverified_issuer(token) {
        for provider in server.authn.providers.iter().filter(|provider| provider.issuer() == issuer) {
            match provider.authenticate(token).await {
                Ok(user) => match for_us(user) {
                    Some(verified) => return Ok(verified),
                    None => continue,
                },
                Err(error) => errors.push(error),
            }
        }
    }
    Err(match errors.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    })
}

const UNKNOWN_TOKEN: &str = "invalid bearer token";
const TOKEN_AFTER_SPACE: &str =
    "the provided Authorization header contains extra space before the bearer token, and is ignored";

enum Bearer<'a> {
    None,
    /// A second space where the token should be.
    Space,
    Token(&'a str),
}

fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    bearer_of(headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default())
}

fn bearer_of(value: &str) -> Bearer<'_> {
    let mut words = value.trim().splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(scheme), _, _) if !scheme.eq_ignore_ascii_case("bearer") => Bearer::None,
        (_, Some(""), Some(_)) => Bearer::Space,
        (_, Some(token), _) if !token.is_empty() => Bearer::Token(token),
        _ => Bearer::None,
    }
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
