//! The keys that sign and verify service-account tokens.
//!
//! The first key of the file signs; all of them verify. To rotate, put a new key in front and leave the old
//! one (its public half is enough) until the last token it signed has run out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, Engine};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::PublicKeyData;
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Serialize;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::claims::Claims;

/// Tokens whose signature was checked a moment ago need not be checked again: verifying RSA costs thirty
/// times what hashing does. What a token is bound to is looked at every time.
const REMEMBERED_MAX: usize = 8192;
/// Nobody's token is larger.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Signs with one key, verifies with any of several.
pub(crate) struct Signer {
    issuer: String,
    header: Header,
    encoding: EncodingKey,
    keys: Vec<Key>,
    jwks: Value,
    algorithms: Vec<String>,
    remembered: Mutex<BTreeMap<[u8; 32], Arc<Claims>>>,
}

struct Key {
    id: String,
    decoding: DecodingKey,
    validation: Validation,
    name: &'static str,
    jwk: Value,
}

/// A hash by which secrets are looked up, so that the time of a comparison tells nothing about them.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

impl Signer {
    /// From private keys (RSA or ECDSA) in PEM, the first of which signs; public keys may follow.
    pub fn new(issuer: &str, keys_pem: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        let mut signing = None;
        for section in pem_sections(keys_pem)? {
            let (spki, private) = match section {
                Section::Public(der) => (der, None),
                Section::Private(pem) => {
                    let pair = rcgen::KeyPair::from_pem(&pem).map_err(|error| error.to_string())?;
                    (pair.subject_public_key_info(), Some(pair))
                }
            };
            let key = Key::new(&spki)?;
            if let (None, Some(pair)) = (&signing, private) {
                signing = Some((key.id.clone(), key.algorithm(), pair.serialize_pem()));
            }
            keys.push(key);
        }
        let (kid, algorithm, pem) = signing.ok_or("there is no private key to sign tokens with")?;
        let encoding = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        let mut algorithms: Vec<String> = keys.iter().map(|key| key.name.to_owned()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        Ok(Self {
            issuer: issuer.to_owned(),
            header: Header { kid: Some(kid), typ: None, ..Header::new(algorithm) },
            encoding: encoding.map_err(|error| error.to_string())?,
            jwks: json!({"keys": keys.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>()}),
            keys,
            algorithms,
            remembered: Mutex::default(),
        })
    }

    /// Who issues the tokens, and whom they are for unless they say otherwise.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public keys, as a JSON Web Key Set.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The algorithms of the keys.
    pub fn algorithms(&self) -> &[String] {
        &self.algorithms
    }

    /// A signed token.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        jsonwebtoken::encode(&self.header, claims, &self.encoding).map_err(|error| error.to_string())
    }

    /// The claims of a token that one of the keys has signed; `None` for what is no signed token at all.
    /// Nothing but the signature is checked.
    pub fn verify(&self, token: &str) -> Result<Option<Arc<Claims>>, String> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the token is too large".to_owned());
        }
        let hash = hash(token);
        if let Some(claims) = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return Ok(Some(claims.clone()));
        }
        let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(None) };
        let signature = token.rsplit_once('.').map_or("", |(_, signature)| signature);
        if LENIENT.decode(signature).is_err() {
            return Ok(None);
        }
        let kid = header.kid.filter(|kid| !kid.is_empty());
        let keys = self.keys.iter().filter(|key| kid.as_ref().is_none_or(|kid| *kid == key.id));
        let mut error = "invalid signature, no keys found".to_owned();
        for key in keys {
            match jsonwebtoken::decode::<Claims>(token, &key.decoding, &key.validation) {
                Ok(data) => {
                    let claims = Arc::new(data.claims);
                    let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                    if remembered.len() >= REMEMBERED_MAX {
                        remembered.clear();
                    }
                    remembered.insert(hash, claims.clone());
                    return Ok(Some(claims));
                }
                Err(why) => {
                    tracing::debug!(%why, "a service-account token was refused");
                    "go-jose/go-jose: error in cryptographic primitive".clone_into(&mut error);
                }
            }
        }
        Err(error)
    }
}

/// As Go's decoder, which does not look at the bits that are left over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

impl Key {
    fn new(spki: &[u8]) -> Result<Self, String> {
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, spki));
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (algorithm, name, decoding, mut jwk) = match info.parsed().map_err(|error| error.to_string())? {
            PublicKey::RSA(key) => {
                let strip = |bytes: &[u8]| {
                    text(&bytes[bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len())..])
                };
                let (n, e) = (strip(key.modulus), strip(key.exponent));
                let decoding = DecodingKey::from_rsa_components(&n, &e);
                (Algorithm::RS256, "RS256", decoding, json!({"kty": "RSA", "n": n, "e": e}))
            }
            PublicKey::EC(point) => {
                // An uncompressed point: 4, then x and y.
                let data = point.data();
                let half = data.len() / 2;
                let (algorithm, name, curve) = match data.len() {
                    65 => (Algorithm::ES256, "ES256", "P-256"),
                    97 => (Algorithm::ES384, "ES384", "P-384"),
                    _ => return Err("unknown private key curve, must be 256 or 384".to_owned()),
                };
                let (x, y) = (text(&data[1..=half]), text(&data[half + 1..]));
                let decoding = DecodingKey::from_ec_components(&x, &y);
                (algorithm, name, decoding, json!({"kty": "EC", "crv": curve, "x": x, "y": y}))
            }
            _ => return Err("service-account keys are RSA or ECDSA".to_owned()),
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = id.as_str().into();
        jwk["alg"] = name.into();
        let mut validation = Validation::new(algorithm);
        // Times are compared with the cluster's clock, audiences with what is asked for: by the caller.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(Self { id, decoding: decoding.map_err(|error| error.to_string())?, validation, name, jwk })
    }

    fn algorithm(&self) -> Algorithm {
        self.validation.algorithms.first().copied().unwrap_or(Algorithm::RS256)
    }
}

enum Section {
    /// DER of a SubjectPublicKeyInfo.
    Public(Vec<u8>),
    /// PEM of one private key.
    Private(String),
}

fn pem_sections(text: &str) -> Result<Vec<Section>, String> {
    let mut sections = Vec::new();
    for item in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = item.map_err(|error| error.to_string())?;
        let label = match kind {
            SectionKind::PublicKey => {
                sections.push(Section::Public(der));
                continue;
            }
            SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
            SectionKind::EcPrivateKey => "EC PRIVATE KEY",
            SectionKind::PrivateKey => "PRIVATE KEY",
            _ => continue,
        };
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        sections.push(Section::Private(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")));
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(token: &Signer, with: &str) -> Result<Arc<Claims>, String> {
        token.verify(with).map(|claims| claims.unwrap())
    }

    #[test]
    fn keys_rotate() {
        let pem = || rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (old_pem, new_pem) = (pem(), pem());
        let old = Signer::new("i", &old_pem).unwrap();
        let token = old.sign(&json!({"iss": "i", "sub": "s"})).unwrap();
        let both = Signer::new("i", &format!("{new_pem}{old_pem}")).unwrap();
        assert_eq!(claims(&both, &token).unwrap().sub, "s");
        assert_eq!(claims(&both, &token).unwrap().sub, "s", "from memory");
        assert_eq!(both.jwks()["keys"].as_array().unwrap().len(), 2);
        let new = Signer::new("i", &new_pem).unwrap();
        assert_eq!(claims(&new, &token).unwrap_err(), "invalid signature, no keys found");
        let mut forged = token.clone();
        forged.replace_range(token.len() - 4.., "AAAA");
        assert!(claims(&both, &forged).is_err());
    }

    #[test]
    fn a_public_key_verifies_but_does_not_sign() {
        let pair = rcgen::KeyPair::generate().unwrap();
        assert!(Signer::new("i", &pair.public_key_pem()).is_err());
        let token = Signer::new("i", &pair.serialize_pem()).unwrap().sign(&json!({"iss": "i"})).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let signer = Signer::new("i", &format!("{other}{}", pair.public_key_pem())).unwrap();
        assert!(signer.verify(&token).unwrap().is_some());
        assert!(signer.verify(&format!("x{token}")).unwrap().is_none());
    }
}
