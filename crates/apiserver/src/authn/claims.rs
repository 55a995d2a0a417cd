//! What tokens say.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// The claims of a service-account token, bound or legacy. Missing ones are empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    pub iss: String,
    pub sub: String,
    #[serde(deserialize_with = "audiences")]
    pub aud: Vec<String>,
    #[serde(deserialize_with = "numeric_date")]
    pub exp: Option<i64>,
    #[serde(deserialize_with = "numeric_date")]
    pub iat: Option<i64>,
    #[serde(deserialize_with = "numeric_date")]
    pub nbf: Option<i64>,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub legacy_namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub legacy_secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub legacy_name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub legacy_uid: String,
}

/// What a token is bound to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bound {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "numeric_date")]
    pub warnafter: Option<i64>,
}

/// Name and uid of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reference {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What a bound token is signed with.
#[derive(Debug, Serialize)]
pub(crate) struct BoundClaims {
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

/// One audience or several.
pub(crate) fn audiences<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<OneOrMany>::deserialize(from)? {
        None => Vec::new(),
        Some(OneOrMany::One(audience)) => vec![audience],
        Some(OneOrMany::Many(audiences)) => audiences,
    })
}

/// Seconds since 1970, whole or not.
pub(crate) fn numeric_date<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else { return Ok(None) };
    let whole = number.as_i64().or_else(|| {
        // Beyond 2^53 a float is no date.
        number.as_f64().filter(|seconds| seconds.abs() < 9e15).map(|seconds| seconds as i64)
    });
    whole.map(Some).ok_or_else(|| D::Error::custom("not a date"))
}

/// Clocks may differ by this much.
pub(crate) const LEEWAY_SECONDS: i64 = 60;

impl Claims {
    /// Whether the token is good at `now`.
    pub fn check_times(&self, now: i64) -> Result<(), String> {
        let after = |time: Option<i64>| time.is_some_and(|time| now + LEEWAY_SECONDS < time);
        if after(self.nbf) {
            return Err("service account token is not valid yet".to_owned());
        }
        if self.exp.is_some_and(|end| now - LEEWAY_SECONDS > end) {
            return Err("service account token has expired".to_owned());
        }
        if after(self.iat) {
            return Err("service account token is issued in the future".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dates_and_audiences_come_in_several_forms() {
        let claims: Claims = serde_json::from_value(json!({"aud": "a", "exp": 1000.5, "nbf": 10})).unwrap();
        assert_eq!((claims.aud.as_slice(), claims.exp), (&["a".to_owned()][..], Some(1000)));
        assert!(claims.check_times(1059).is_ok());
        assert_eq!(claims.check_times(1061).unwrap_err(), "service account token has expired");
        assert_eq!(claims.check_times(-60).unwrap_err(), "service account token is not valid yet");
        assert!(serde_json::from_value::<Claims>(json!({"exp": "soon"})).is_err());
    }
}
