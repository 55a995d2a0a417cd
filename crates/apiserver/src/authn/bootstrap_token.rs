//! Bootstrap tokens: `<id>.<secret>`, kept in secrets `bootstrap-token-<id>` of kube-system, by which
//! nodes join.

use std::collections::BTreeSet;

use api::user::UserInfo;
use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::server::Inner;

const GROUP: &str = "system:bootstrappers";

/// Whom a bootstrap token belongs to.
pub(super) fn authenticate(server: &Inner, token: &str) -> Option<UserInfo> {
    let (id, _) = parse(token)?;
    let registry = server.registry();
    let kind = registry.resource("", "v1", "secrets")?;
    let secret = server.cached(kind, "kube-system", &format!("bootstrap-token-{id}"))?.try_value().ok()?;
    check(token, &secret, base::clock::now())
}

/// Six characters, a dot and sixteen.
fn parse(token: &str) -> Option<(&str, &str)> {
    let of = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    token.split_once('.').filter(|(id, secret)| of(id, 6) && of(secret, 16))
}

fn check(token: &str, secret: &Value, now: jiff::Timestamp) -> Option<UserInfo> {
    let (id, shown) = parse(token)?;
    let data = |key: &str| {
        let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let of_type = secret["type"] == "bootstrap.kubernetes.io/token";
    if !of_type || !secret["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    constant_time::verify_slices_are_equal(data("token-secret")?.as_bytes(), shown.as_bytes()).ok()?;
    if data("token-id")? != id || data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    // What cannot be read as a time counts as over.
    if let Some(end) = data("expiration").filter(|end| !end.is_empty())
        && end.parse::<jiff::Timestamp>().ok()? <= now
    {
        return None;
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    for group in data("auth-extra-groups").unwrap_or_default().split(',').filter(|all| !all.is_empty()) {
        groups.insert(extra_group(group)?);
    }
    Some(UserInfo {
        name: format!("system:bootstrap:{id}"),
        groups: groups.into_iter().collect(),
        ..UserInfo::default()
    })
}

/// `system:bootstrappers:…`: a secret makes nobody a member of other groups.
fn extra_group(group: &str) -> Option<String> {
    let rest = group.strip_prefix("system:bootstrappers:")?;
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':' || byte == b'-';
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = rest.bytes().next().is_some_and(outer) && rest.bytes().last().is_some_and(outer);
    (ends && rest.len() <= 256 && rest.bytes().all(inner)).then(|| group.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(change: &[(&str, &str)]) -> Value {
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2030-01-01T00:00:00Z"),
            ("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a"),
        ];
        let mut data = json!({});
        for (key, value) in usual.iter().chain(change) {
            data[*key] = STANDARD.encode(value).into();
        }
        json!({"metadata": {}, "type": "bootstrap.kubernetes.io/token", "data": data})
    }

    #[test]
    fn good_tokens_join_as_bootstrappers() {
        let now: jiff::Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
        let token = "abcdef.0123456789abcdef";
        let user = check(token, &secret(&[]), now).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, [GROUP, "system:bootstrappers:a", "system:bootstrappers:b"]);
        for bad in [
            ("token-secret", "0123456789abcdeg"),
            ("token-id", "abcdeg"),
            ("usage-bootstrap-authentication", "false"),
            ("expiration", "2026-11-19T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(check(token, &secret(&[bad]), now).is_none(), "{bad:?}");
        }
        assert!(parse("abcdef.0123456789ABCDEF").is_none());
    }
}
