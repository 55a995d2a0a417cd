//! Service-account tokens: signed here, verified here.

use api::user::{AUTHENTICATED, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::object::meta;
use crate::server::Inner;

/// Who issues the tokens, and whom they are for unless they say otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
const PREFIX: &str = "system:serviceaccount:";

/// Signs and verifies.
pub(crate) struct Signer {
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    jwks: Value,
}

/// The claims of a bound token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
    pub nbf: i64,
    pub sub: String,
}

/// What a token is bound to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// Name and uid of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A token that was good.
pub(crate) struct Verified {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

impl Signer {
    /// From an ECDSA P-256 key in PEM.
    pub fn new(key_pem: &str) -> Result<Self, String> {
        let key = rcgen::KeyPair::from_pem(key_pem).map_err(|error| error.to_string())?;
        let point = key.public_key_raw();
        // An uncompressed point: 4, then 32 bytes of x and 32 of y.
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err("the service-account key is not ECDSA P-256".to_owned());
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let kid = format!("{:08x}{:08x}", crc(point), crc(&point[1..]));
        let mut validation = Validation::new(Algorithm::ES256);
        // Times are compared with the cluster's clock below, audiences with what is asked for.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(Self {
            header: Header { kid: Some(kid.clone()), typ: None, ..Header::new(Algorithm::ES256) },
            encoding: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes())
                .map_err(|error| error.to_string())?,
            decoding: DecodingKey::from_ec_components(&x, &y).map_err(|error| error.to_string())?,
            validation,
            jwks: json!({"keys": [{"use": "sig", "kty": "EC", "kid": kid, "crv": "P-256", "alg": "ES256", "x": x, "y": y}]}),
        })
    }

    /// The public key, as a JSON Web Key Set.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// A signed token.
    pub fn sign(&self, claims: &Claims) -> Result<String, String> {
        jsonwebtoken::encode(&self.header, claims, &self.encoding).map_err(|error| error.to_string())
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let now = base::clock::now().as_second();
        (claims.iss == ISSUER && claims.exp > now && claims.nbf <= now + 60).then_some(claims)
    }
}

/// A key id only has to tell keys apart.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// `system:serviceaccount:<namespace>:<name>`.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}:{name}")
}

/// Namespace and name of a service account's user name.
pub(crate) fn split_name(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(PREFIX)?.split_once(':')
}

/// The groups of the service accounts of a namespace.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// Verifies a token for one of `audiences` (empty: the API server itself) and that everything it is
/// bound to still exists.
pub(crate) fn authenticate(server: &Inner, token: &str, audiences: &[String]) -> Option<Verified> {
    let claims = server.signer.verify(token)?;
    let own = [ISSUER.to_owned()];
    let wanted = if audiences.is_empty() { &own[..] } else { audiences };
    let audiences: Vec<String> =
        claims.aud.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
    if audiences.is_empty() {
        return None;
    }
    let bound = &claims.kubernetes;
    let namespace = bound.namespace.as_str();
    exists(server, "serviceaccounts", namespace, &bound.serviceaccount)?;
    let mut user = UserInfo {
        name: user_name(namespace, &bound.serviceaccount.name),
        uid: bound.serviceaccount.uid.clone(),
        groups: groups(namespace),
        ..UserInfo::default()
    };
    user.groups.push(AUTHENTICATED.to_owned());
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()])
    };
    extra("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = &bound.pod {
        exists(server, "pods", namespace, pod)?;
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(secret) = &bound.secret {
        exists(server, "secrets", namespace, secret)?;
    }
    if let Some(node) = &bound.node {
        // A pod's token names the node by the way; it is bound to the pod.
        if bound.pod.is_none() {
            exists(server, "nodes", "", node)?;
        }
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    Some(Verified { user, audiences })
}

fn exists(server: &Inner, resource: &str, namespace: &str, reference: &Reference) -> Option<()> {
    let registry = server.registry();
    let kind = registry.resource("", "v1", resource)?;
    let object = server.cached(kind, namespace, &reference.name)?.to_value();
    (meta(&object, "uid") == reference.uid).then_some(())
}
