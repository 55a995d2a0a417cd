//! Users whom an OpenID Connect provider vouches for, by ID tokens.
//!
//! After `k8s.io/apiserver/plugin/pkg/authenticator/token/oidc`. Claims are mapped by name or by expressions.

mod expressions;
mod fetch;
mod keys;

use api::user::UserInfo;
use serde_json::{Map, Value};

use super::claims::LEEWAY_SECONDS;
use keys::KeySet;

pub use expressions::{Expressions, Rule};

/// Tokens that are not valid before a time may be shown a little earlier, as go-oidc has it.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 5 * LEEWAY_SECONDS;

/// A claim and what goes before its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixedClaim {
    /// Name of the claim; empty: none.
    pub claim: String,
    /// Put before each value.
    pub prefix: String,
}

/// What is known about a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The `iss` of its tokens, and where its discovery document is found.
    pub issuer_url: String,
    /// Another place of the discovery document.
    pub discovery_url: String,
    /// Authorities of its server in PEM; those of this machine if empty.
    pub ca_pem: String,
    /// One of these must be among a token's audiences.
    pub audiences: Vec<String>,
    /// The user name.
    pub username: PrefixedClaim,
    /// Groups, a text or a list of texts.
    pub groups: PrefixedClaim,
    /// The claim that holds the uid.
    pub uid_claim: String,
    /// Claims that must have these values.
    pub required_claims: Vec<(String, String)>,
    /// What CEL makes of the claims.
    pub expressions: Expressions,
    /// Algorithms by which tokens may be signed; RS256 if empty.
    pub signing_algorithms: Vec<String>,
}

impl Options {
    /// What is wrong with the options, as far as can be said without asking the provider.
    ///
    /// # Errors
    /// In one sentence.
    pub fn check(&self) -> Result<(), String> {
        let url: http::Uri =
            self.issuer_url.parse().map_err(|error| format!("issuer.url {:?}: {error}", self.issuer_url))?;
        if url.scheme_str() != Some("https") || url.query().is_some() || self.issuer_url.contains(['#', '@'])
        {
            return Err(format!(
                "issuer.url {:?}: must use https scheme, without query, fragment and user",
                self.issuer_url
            ));
        }
        if self.issuer_url == super::service_account::ISSUER {
            return Err(format!("issuer.url {:?}: is the issuer of service accounts", self.issuer_url));
        }
        if self.audiences.iter().all(String::is_empty) {
            return Err("issuer.audiences: at least one is needed".to_owned());
        }
        match (self.username.claim.is_empty(), self.expressions.username.is_empty()) {
            (true, true) => {
                return Err(
                    "claimMappings.username: Required value: claim or expression is required".to_owned()
                );
            }
            (false, false) => {
                return Err(
                    "claimMappings.username: Invalid value: \"\": claim and expression can't both be set"
                        .to_owned(),
                );
            }
            _ => {}
        }
        self.expressions.compile().map(|_| ())
    }
}

/// A provider, asked for its keys when the first of its tokens comes.
pub(crate) struct Provider {
    options: Options,
    compiled: expressions::Compiled,
    keys: KeySet,
}

impl Provider {
    /// Nothing is fetched yet.
    pub fn new(options: Options) -> Result<Self, String> {
        options.check()?;
        let keys = KeySet::new(&options)?;
        let compiled = options.expressions.compile()?;
        Ok(Self { options, compiled, keys })
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.options.issuer_url
    }

    /// Whom a token names, or why not.
    pub async fn authenticate(&self, token: &str) -> Result<UserInfo, String> {
        let claims = self.keys.verify(token).await.map_err(|error| format!("oidc: verify token: {error}"))?;
        self.user(&claims, base::clock::now().as_second())
    }

    fn user(&self, claims: &Map<String, Value>, now: i64) -> Result<UserInfo, String> {
        self.check_token(claims, now)?;
        let (shown, mut budget) = (expressions::shown(claims), expressions::budget());
        let name = match self.compiled.username(&shown, &mut budget) {
            Some(name) => name?,
            None => self.name(claims)?,
        };
        let options = &self.options;
        let mut user = UserInfo { name, ..UserInfo::default() };
        user.groups = match claims.get(&options.groups.claim).filter(|_| !options.groups.claim.is_empty()) {
            Some(groups) => {
                let groups = texts(groups).ok_or_else(|| {
                    format!("oidc: parse groups claim {:?}: not a list of strings", options.groups.claim)
                })?;
                groups.iter().map(|group| format!("{}{group}", options.groups.prefix)).collect()
            }
            None => self.compiled.groups(&shown, &mut budget)?,
        };
        user.uid = match options.uid_claim.as_str() {
            "" => self.compiled.uid(&shown, &mut budget)?,
            claim => {
                text(claims, claim).map_err(|error| format!("oidc: parse uid claim {claim:?}: {error}"))?
            }
        };
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            let key = "authentication.kubernetes.io/credential-id".to_owned();
            user.extra.insert(key, vec![format!("JTI={id}")]);
        }
        self.compiled.extra(&shown, &mut budget, &mut user)?;
        self.check_required(claims)?;
        self.compiled.check_claims(&shown, &mut budget)?;
        self.compiled.check_user(&user, &mut budget)?;
        Ok(user)
    }

    /// The user name by claim and prefix.
    fn name(&self, claims: &Map<String, Value>) -> Result<String, String> {
        let PrefixedClaim { claim, prefix } = &self.options.username;
        let name =
            text(claims, claim).map_err(|error| format!("oidc: parse username claims {claim:?}: {error}"))?;
        if claim == "email" {
            match claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                Some(_) => return Err("oidc: parse 'email_verified' claim: not a boolean".to_owned()),
            }
        }
        if name.is_empty() {
            return Err("oidc: the username claim is empty".to_owned());
        }
        Ok(format!("{prefix}{name}"))
    }

    fn check_token(&self, claims: &Map<String, Value>, now: i64) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("oidc: verify token: oidc: {why}"));
        if claims.get("iss").and_then(Value::as_str) != Some(self.options.issuer_url.as_str()) {
            return refuse("id token issued by a different provider");
        }
        let audiences = claims.get("aud").and_then(texts).unwrap_or_default();
        if !audiences.iter().any(|audience| self.options.audiences.iter().any(|wanted| wanted == audience)) {
            return refuse(&format!("expected audience in {:?} got {audiences:?}", self.options.audiences));
        }
        let time = |claim: &str| claims.get(claim).and_then(Value::as_f64);
        // A token without an end is none.
        match time("exp") {
            Some(end) if now as f64 <= end => {}
            _ => return refuse("token is expired"),
        }
        if time("nbf").is_some_and(|start| ((now + NOT_BEFORE_LEEWAY_SECONDS) as f64) < start) {
            return refuse("current time before the nbf (not before) time");
        }
        Ok(())
    }

    fn check_required(&self, claims: &Map<String, Value>) -> Result<(), String> {
        for (claim, wanted) in &self.options.required_claims {
            if !claims.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let got = text(claims, claim).map_err(|error| format!("oidc: parse claim {claim}: {error}"))?;
            if got != *wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}"
                ));
            }
        }
        Ok(())
    }
}

fn text(claims: &Map<String, Value>, claim: &str) -> Result<String, String> {
    match claims.get(claim) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("claim {claim:?} is not a string")),
        None => Err("claim not present".to_owned()),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options() -> Options {
        Options {
            issuer_url: "https://idp.example.com".to_owned(),
            audiences: vec!["kobune".to_owned()],
            username: PrefixedClaim { claim: "email".to_owned(), prefix: "oidc:".to_owned() },
            groups: PrefixedClaim { claim: "groups".to_owned(), prefix: "g:".to_owned() },
            required_claims: vec![("team".to_owned(), "blue".to_owned())],
            ..Options::default()
        }
    }

    fn claims(change: Value) -> Map<String, Value> {
        let mut claims = json!({"iss": "https://idp.example.com", "aud": ["kobune", "x"], "exp": 1000, "email": "a@b",
            "email_verified": true, "groups": ["dev"], "team": "blue"});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        claims.as_object().unwrap().clone()
    }

    #[test]
    fn claims_become_a_user() {
        let provider = Provider::new(options()).unwrap();
        let user = provider.user(&claims(json!({})), 500).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("oidc:a@b", &["g:dev".to_owned()][..]));
        for (change, why) in [
            (json!({"iss": "https://other"}), "different provider"),
            (json!({"aud": "other"}), "expected audience"),
            (json!({"exp": 499}), "expired"),
            (json!({"exp": null}), "expired"),
            (json!({"nbf": 2000}), "not before"),
            (json!({"email_verified": false}), "email not verified"),
            (json!({"email_verified": "yes"}), "parse 'email_verified'"),
            (json!({"email": ""}), "is empty"),
            (json!({"team": "red"}), "does not match. Got = red, want = blue"),
            (json!({"groups": [1]}), "not a list"),
        ] {
            let error = provider.user(&claims(change), 500).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn options_are_checked() {
        assert!(options().check().is_ok());
        for url in ["http://idp", "https://idp?x=1", "https://kubernetes.default.svc", "nonsense"] {
            assert!(Options { issuer_url: url.to_owned(), ..options() }.check().is_err(), "{url}");
        }
        assert!(Options { audiences: Vec::new(), ..options() }.check().is_err());
    }
}
