//! A provider's public keys: fetched when they are first needed, again for key ids that are not known and
//! now and then, never more often than every few seconds.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Options;
use super::fetch::Fetcher;

/// However many tokens with unknown keys come, the provider is asked no more often.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// Keys that are older are fetched again, so that withdrawn ones end.
const REFRESH_AFTER: Duration = Duration::from_secs(3600);
const KEYS_MAX: usize = 100;
const TOKEN_BYTES_MAX: usize = 64 << 10;

pub(super) struct KeySet {
    issuer: String,
    discovery_url: String,
    fetcher: Fetcher,
    algorithms: Vec<Algorithm>,
    /// One fetch at a time; who comes meanwhile waits for it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Jwk>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    error: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl KeySet {
    pub fn new(options: &Options) -> Result<Self, String> {
        let names = match options.signing_algorithms.as_slice() {
            [] => &["RS256".to_owned()][..],
            names => names,
        };
        let algorithms = names.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()?;
        let discovery_url = match options.discovery_url.as_str() {
            "" => format!("{}/.well-known/openid-configuration", options.issuer_url.trim_end_matches('/')),
            url => url.to_owned(),
        };
        Ok(Self {
            issuer: options.issuer_url.clone(),
            discovery_url,
            fetcher: Fetcher::new(&options.ca_pem)?,
            algorithms,
            state: Mutex::default(),
        })
    }

    /// The claims of a token that a key of the provider has signed.
    pub async fn verify(&self, token: &str) -> Result<Map<String, Value>, String> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the token is too large".to_owned());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        if !self.algorithms.contains(&header.alg) {
            return Err(format!("id token signed with unsupported algorithm {:?}", header.alg));
        }
        let mut error = "failed to verify id token signature".to_owned();
        for key in self.candidates(header.kid.as_deref()).await? {
            match verify(token, &key, header.alg) {
                Ok(claims) => return Ok(claims),
                Err(why) => error = format!("failed to verify id token signature: {why}"),
            }
        }
        Err(error)
    }

    async fn candidates(&self, kid: Option<&str>) -> Result<Vec<Jwk>, String> {
        let mut state = self.state.lock().await;
        let find = |keys: &[Jwk]| -> Vec<Jwk> {
            let matches = |key: &&Jwk| kid.is_none() || key.common.key_id.as_deref() == kid;
            keys.iter().filter(matches).cloned().collect()
        };
        let found = find(&state.keys);
        let old = state.fetched.is_none_or(|at| at.elapsed() > REFRESH_AFTER);
        let may_ask = state.tried.is_none_or(|at| at.elapsed() > FETCH_EVERY);
        if (!found.is_empty() && !old) || !may_ask {
            return if state.fetched.is_none() { Err(state.error.clone()) } else { Ok(found) };
        }
        state.tried = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                state.keys = Arc::new(keys);
                state.fetched = Some(Instant::now());
                Ok(find(&state.keys))
            }
            Err(error) => {
                tracing::warn!(%error, issuer = self.issuer, "an OpenID provider's keys cannot be fetched");
                state.error = format!("fetching keys {error}");
                if state.fetched.is_none() { Err(state.error.clone()) } else { Ok(found) }
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, String> {
        let document = self.fetcher.get(&self.discovery_url).await?;
        let discovery: Discovery = serde_json::from_slice(&document).map_err(|error| error.to_string())?;
        if discovery.issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.issuer, discovery.issuer
            ));
        }
        let set = self.fetcher.get(&discovery.jwks_uri).await?;
        // One key of an unknown kind must not hide the others.
        let mut set: Value = serde_json::from_slice(&set).map_err(|error| error.to_string())?;
        let keys = set["keys"].as_array_mut().ok_or("there are no keys")?;
        keys.truncate(KEYS_MAX);
        let set: JwkSet =
            JwkSet { keys: keys.drain(..).filter_map(|key| serde_json::from_value(key).ok()).collect() };
        let signs = |key: &Jwk| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        Ok(set.keys.into_iter().filter(signs).collect())
    }
}

/// Shared secrets are no keys of a provider, so HMAC is not among them.
fn algorithm(name: &str) -> Result<Algorithm, String> {
    Ok(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        other => return Err(format!("the signing algorithm {other:?} is not supported")),
    })
}

fn verify(token: &str, key: &Jwk, algorithm: Algorithm) -> Result<Map<String, Value>, String> {
    use jsonwebtoken::jwk::AlgorithmParameters;
    // A key is used for its own kind of signature only.
    let fits = match &key.algorithm {
        AlgorithmParameters::RSA(_) => !matches!(algorithm, Algorithm::ES256 | Algorithm::ES384),
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, Algorithm::ES256 | Algorithm::ES384),
        _ => false,
    };
    if !fits {
        return Err("the key is of another kind".to_owned());
    }
    let decoding = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
    let mut validation = Validation::new(algorithm);
    // Claims are checked by the caller, against the cluster's clock.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let data = jsonwebtoken::decode(token, &decoding, &validation).map_err(|error| error.to_string())?;
    Ok(data.claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::keys::Signer;

    async fn set(keys: &Value) -> KeySet {
        let options = Options {
            issuer_url: "https://idp.invalid".to_owned(),
            signing_algorithms: vec!["ES256".to_owned()],
            ..Options::default()
        };
        let set = KeySet::new(&options).unwrap();
        let keys: JwkSet = serde_json::from_value(keys.clone()).unwrap();
        *set.state.lock().await = State {
            keys: Arc::new(keys.keys),
            fetched: Some(Instant::now()),
            tried: Some(Instant::now()),
            error: String::new(),
        };
        set
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_verified_with_the_key_they_name() {
        let signer = Signer::new("i", &rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let other = Signer::new("i", &rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let set = set(signer.jwks()).await;
        let token = signer.sign(&json!({"sub": "a"})).unwrap();
        assert_eq!(set.verify(&token).await.unwrap()["sub"], "a");
        let forged = other.sign(&json!({"sub": "a"})).unwrap();
        assert!(set.verify(&forged).await.unwrap_err().contains("failed to verify id token signature"));
        let header = jsonwebtoken::Header::new(Algorithm::HS256);
        let secret = jsonwebtoken::EncodingKey::from_secret(b"x");
        let hmac = jsonwebtoken::encode(&header, &json!({"sub": "a"}), &secret).unwrap();
        assert!(set.verify(&hmac).await.unwrap_err().contains("unsupported algorithm"));
    }
}
