//! Settings of authentication, also from a file of upstream's `AuthenticationConfiguration`.

use serde::Deserialize;

use super::FrontProxy;
use super::oidc::{Options, PrefixedClaim};

/// What identities are found by, beside certificates, static tokens and service accounts.
#[derive(Debug, Default)]
pub struct AuthenticationConfig {
    /// Front proxies to be believed.
    pub front_proxy: Option<FrontProxy>,
    /// OpenID Connect providers.
    pub providers: Vec<Options>,
    /// The only paths where requests without credentials get as far as authorization; all, if empty.
    pub anonymous_paths: Vec<String>,
    /// Whether the constrained modes of impersonation (KEP-5284) are on.
    pub constrained_impersonation: bool,
}

/// What a file of `AuthenticationConfiguration` says.
#[derive(Debug, Default, PartialEq)]
pub struct FromFile {
    /// OpenID Connect providers.
    pub providers: Vec<Options>,
    /// Whether requests without credentials are allowed, where the file says.
    pub anonymous: Option<bool>,
    /// The only paths where they are.
    pub anonymous_paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<Anonymous>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Anonymous {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issuer {
    url: String,
    #[serde(default, rename = "discoveryURL")]
    discovery_url: String,
    #[serde(default)]
    certificate_authority: String,
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    #[serde(default)]
    groups: Mapping,
    #[serde(default)]
    uid: Mapping,
    #[serde(default)]
    extra: Vec<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

const EXPRESSIONS: &str = "CEL expressions are not supported here; use claims and prefixes";

/// Reads an `AuthenticationConfiguration` of `apiserver.config.k8s.io` in YAML.
///
/// # Errors
/// What is wrong with it, in one sentence: a file that is understood in part would let in the wrong people.
pub fn parse_config(yaml: &str) -> Result<FromFile, String> {
    let file: File = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    let version = file.api_version.strip_prefix("apiserver.config.k8s.io/").unwrap_or_default();
    if file.kind != "AuthenticationConfiguration" || !["v1", "v1beta1", "v1alpha1"].contains(&version) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    let providers = file.jwt.into_iter().enumerate();
    let providers = providers
        .map(|(index, jwt)| options(jwt).map_err(|error| format!("jwt[{index}]: {error}")))
        .collect::<Result<Vec<_>, _>>()?;
    let mut urls: Vec<&str> = providers.iter().map(|options| options.issuer_url.as_str()).collect();
    urls.sort_unstable();
    if let Some(twice) = urls.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("jwt: issuer.url {:?} comes twice", twice[0]));
    }
    let mut paths = Vec::new();
    if let Some(anonymous) = &file.anonymous {
        if !anonymous.enabled && !anonymous.conditions.is_empty() {
            return Err(
                "anonymous.conditions: enabled should be set to true when conditions are defined".to_owned()
            );
        }
        paths = anonymous.conditions.iter().map(|condition| condition.path.clone()).collect();
    }
    Ok(FromFile {
        providers,
        anonymous: file.anonymous.map(|anonymous| anonymous.enabled),
        anonymous_paths: paths,
    })
}

fn options(jwt: Jwt) -> Result<Options, String> {
    let (issuer, mappings) = (jwt.issuer, jwt.claim_mappings);
    let expressions = [&mappings.username, &mappings.groups, &mappings.uid];
    let has_expression = expressions.iter().any(|mapping| !mapping.expression.is_empty())
        || jwt
            .claim_validation_rules
            .iter()
            .any(|rule| !rule.expression.is_empty() || !rule.message.is_empty());
    if has_expression || !jwt.user_validation_rules.is_empty() || !mappings.extra.is_empty() {
        return Err(EXPRESSIONS.to_owned());
    }
    if issuer.audiences.len() > 1 && issuer.audience_match_policy != "MatchAny" {
        return Err("issuer.audienceMatchPolicy: must be MatchAny for multiple audiences".to_owned());
    }
    let prefixed = |mapping: Mapping, what: &str| match mapping.prefix {
        Some(prefix) => Ok(PrefixedClaim { claim: mapping.claim, prefix }),
        None if mapping.claim.is_empty() => Ok(PrefixedClaim::default()),
        None => Err(format!(
            "claimMappings.{what}.prefix: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
        )),
    };
    let options = Options {
        issuer_url: issuer.url,
        discovery_url: issuer.discovery_url,
        ca_pem: issuer.certificate_authority,
        audiences: issuer.audiences,
        username: prefixed(mappings.username, "username")?,
        groups: prefixed(mappings.groups, "groups")?,
        uid_claim: mappings.uid.claim,
        required_claims: jwt
            .claim_validation_rules
            .into_iter()
            .map(|rule| (rule.claim, rule.required_value))
            .collect(),
        // As upstream's default for files: whatever is signed with a key pair.
        signing_algorithms: ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512"]
            .map(str::to_owned)
            .to_vec(),
    };
    options.check()?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: https://idp.example.com, audiences: [kobune]}
  claimValidationRules: [{claim: hd, requiredValue: example.com}]
  claimMappings:
    username: {claim: sub, prefix: "oidc:"}
    groups: {claim: groups, prefix: ""}
anonymous:
  enabled: true
  conditions: [{path: /livez}]
"#;

    #[test]
    fn files_are_read_strictly() {
        let read = parse_config(FILE).unwrap();
        assert_eq!(
            (read.anonymous, read.anonymous_paths.as_slice()),
            (Some(true), &["/livez".to_owned()][..])
        );
        assert_eq!(read.providers[0].username.prefix, "oidc:");
        assert_eq!(read.providers[0].required_claims, [("hd".to_owned(), "example.com".to_owned())]);
        for (from, to) in [
            ("apiserver.config.k8s.io/v1", "v1"),
            ("requiredValue: example.com", "expression: 'true'"),
            ("prefix: \"oidc:\"", "suffix: x"),
            (", prefix: \"oidc:\"", ""),
            ("https://idp", "http://idp"),
            ("enabled: true", "enabled: false"),
        ] {
            assert!(parse_config(&FILE.replace(from, to)).is_err(), "{to}");
        }
    }
}
