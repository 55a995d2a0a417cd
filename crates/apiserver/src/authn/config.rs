//! Settings of authentication, also from a file of upstream's `AuthenticationConfiguration`.

use schema::field::Path;
use serde::Deserialize;

use super::FrontProxy;
use super::oidc::{Expressions, Options, PrefixedClaim, Rule};

/// What identities are found by, beside certificates, static tokens and service accounts.
#[derive(Debug, Default)]
pub struct AuthenticationConfig {
    /// Front proxies to be believed.
    pub front_proxy: Option<FrontProxy>,
    /// OpenID Connect providers.
    pub providers: Vec<Options>,
    /// The only paths where requests without credentials get as far as authorization; all, if empty.
    pub anonymous_paths: Vec<String>,
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
    user_validation_rules: Vec<UserRule>,
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Extra {
    key: String,
    value_expression: String,
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
    extra: Vec<Extra>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

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
    let prefixes = [(&mappings.username, "username"), (&mappings.groups, "groups"), (&mappings.uid, "uid")];
    for (mapping, what) in prefixes {
        check_mapping(mapping, what)?;
    }
    let rules = claim_rules(&jwt.claim_validation_rules)?;
    let expressions = Expressions {
        username: mappings.username.expression.clone(),
        groups: mappings.groups.expression.clone(),
        uid: mappings.uid.expression.clone(),
        extra: extra(mappings.extra)?,
        claim_rules: rules,
        user_rules: user_rules(jwt.user_validation_rules)?,
    };
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
        expressions,
        required_claims: jwt
            .claim_validation_rules
            .into_iter()
            .filter(|rule| !rule.claim.is_empty())
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

fn check_mapping(mapping: &Mapping, what: &str) -> Result<(), String> {
    let path = format!("claimMappings.{what}");
    if mapping.expression.is_empty() {
        return Ok(());
    }
    if !mapping.claim.is_empty() {
        return Err(format!("{path}: Invalid value: \"\": claim and expression can't both be set"));
    }
    match &mapping.prefix {
        Some(prefix) => Err(format!(
            "{path}.prefix: Invalid value: {prefix:?}: may not be specified when expression is set"
        )),
        None => Ok(()),
    }
}

fn claim_rules(rules: &[ClaimRule]) -> Result<Vec<Rule>, String> {
    let mut expressions: Vec<Rule> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("claimValidationRules[{index}]");
        let twice = |field: &str, value: &str| Err(format!("{path}.{field}: Duplicate value: {value:?}"));
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => return Err(format!("{path}: Required value: claim or expression is required")),
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    return Err(format!(
                        "{path}.requiredValue: Invalid value: {:?}: may not be specified when expression is set",
                        rule.required_value
                    ));
                }
                if expressions.iter().any(|other| other.expression == expression) {
                    return twice("expression", expression);
                }
                expressions.push(Rule { expression: expression.to_owned(), message: rule.message.clone() });
            }
            (claim, "") => {
                if !rule.message.is_empty() {
                    return Err(format!(
                        "{path}.message: Invalid value: {:?}: may not be specified when claim is set",
                        rule.message
                    ));
                }
                if rules[..index].iter().any(|other| other.claim == claim) {
                    return twice("claim", claim);
                }
            }
            (claim, _) => {
                return Err(format!(
                    "{path}: Invalid value: {claim:?}: claim and expression can't both be set"
                ));
            }
        }
    }
    Ok(expressions)
}

fn user_rules(rules: Vec<UserRule>) -> Result<Vec<Rule>, String> {
    let mut found: Vec<Rule> = Vec::new();
    for (index, UserRule { expression, message }) in rules.into_iter().enumerate() {
        let path = format!("userValidationRules[{index}].expression");
        if expression.is_empty() {
            return Err(format!("{path}: Required value"));
        }
        if found.iter().any(|other| other.expression == expression) {
            return Err(format!("{path}: Duplicate value: {expression:?}"));
        }
        found.push(Rule { expression, message });
    }
    Ok(found)
}

fn extra(mappings: Vec<Extra>) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (index, Extra { key, value_expression }) in mappings.into_iter().enumerate() {
        let path = format!("claimMappings.extra[{index}]");
        let wrong = |why: &str| Err(format!("{path}.key: Invalid value: {key:?}: {why}"));
        let key_path = format!("{path}.key");
        let errors = super::impersonation::domain_prefixed_path(&Path::new(&key_path), &key);
        if !errors.is_empty() {
            return Err(errors.message());
        }
        if key.chars().any(char::is_uppercase) {
            return wrong("must be lowercase");
        }
        let domain = key.split('/').next().unwrap_or_default();
        if ["kubernetes.io", "k8s.io"].iter().any(|reserved| {
            domain.strip_suffix(reserved).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }) {
            return wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
        }
        if found.iter().any(|(other, _)| *other == key) {
            return Err(format!("{path}.key: Duplicate value: {key:?}"));
        }
        if value_expression.is_empty() {
            return Err(format!("{path}.valueExpression: Required value"));
        }
        found.push((key, value_expression));
    }
    Ok(found)
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
    fn expressions_take_the_place_of_claims() {
        let file = FILE
            .replace(
                "{claim: sub, prefix: \"oidc:\"}",
                "{expression: claims.sub}\n    extra: [{key: a.io/b, valueExpression: claims.b}]",
            )
            .replace("[{claim: hd", "[{expression: \"claims.hd == 'x'\", message: no}, {claim: hd");
        let read = parse_config(&file).unwrap();
        let expressions = &read.providers[0].expressions;
        assert_eq!(expressions.username, "claims.sub");
        assert_eq!(expressions.extra, [("a.io/b".to_owned(), "claims.b".to_owned())]);
        assert_eq!(expressions.claim_rules[0].message, "no");
        assert!(parse_config(&file.replace("a.io/b", "x.k8s.io/b")).is_err());
    }

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
            ("requiredValue: example.com", "requiredValue: x}, {expression: '1'"),
            ("username: {claim: sub", "username: {expression: claims.sub"),
            ("prefix: \"oidc:\"", "suffix: x"),
            (", prefix: \"oidc:\"", ""),
            ("https://idp", "http://idp"),
            ("enabled: true", "enabled: false"),
        ] {
            assert!(parse_config(&FILE.replace(from, to)).is_err(), "{to}");
        }
    }
}
