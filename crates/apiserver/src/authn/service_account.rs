//! Service-account tokens: bound ones, and those that secrets hold.
//!
//! After `k8s.io/kubernetes/pkg/serviceaccount`, texts included.

use std::sync::Arc;

use api::user::UserInfo;
use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use store::Compare;

use super::Verified;
use super::claims::{Claims, LEEWAY_SECONDS, Reference};
use crate::kind::Kind;
use crate::server::Inner;

/// Who issues bound tokens, and whom they are for unless they say otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// Who issues the tokens in secrets.
pub(crate) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const PREFIX: &str = "system:serviceaccount:";
const INVALIDATED: &str = "service account token has been invalidated";

/// `system:serviceaccount:<namespace>:<name>`.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}:{name}")
}

/// Namespace and name of a service account's user name.
pub(crate) fn split_name(user: &str) -> Option<(&str, &str)> {
    use schema::validation::format::{dns1123_label, dns1123_subdomain};
    let (namespace, name) = user.strip_prefix(PREFIX)?.split_once(':')?;
    (dns1123_label(namespace).is_empty() && dns1123_subdomain(name).is_empty()).then_some((namespace, name))
}

/// The groups of the service accounts of a namespace.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// Verifies a token for one of `audiences` and that everything it is bound to still exists. `None`: the
/// token is not one of ours.
pub(crate) fn authenticate(
    server: &Arc<Inner>,
    token: &str,
    audiences: &[String],
) -> Result<Option<Verified>, String> {
    let signer = &server.authn.signer;
    let issuer = unverified_issuer(token);
    let legacy = issuer.as_deref() == Some(LEGACY_ISSUER);
    if !legacy && issuer.as_deref() != Some(signer.issuer()) {
        return Ok(None);
    }
    let Some(claims) = signer.verify(token)? else { return Ok(None) };
    // The issuer above was read before the signature was checked.
    if claims.iss != issuer.unwrap_or_default() {
        return Err(format!("token issuer {:?} is invalid", claims.iss));
    }
    let own = &server.authn.audiences;
    let meant_for = if claims.aud.is_empty() { own } else { &claims.aud };
    let good: Vec<String> =
        audiences.iter().filter(|audience| meant_for.contains(audience)).cloned().collect();
    if good.is_empty() {
        return Err(format!(
            "token audiences {} is invalid for the target audiences {}",
            quoted(meant_for),
            quoted(audiences)
        ));
    }
    let mut verified = if legacy { by_secret(server, token, &claims)? } else { bound(server, &claims)? };
    if claims.aud.is_empty() {
        verified.annotate("authentication.k8s.io/legacy-token", claims.sub.clone());
    }
    verified.audiences = good;
    Ok(Some(verified))
}

/// Go's `%q` of a list.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| schema::gotext::quote(text)).collect();
    format!("[{}]", texts.join(" "))
}

/// Who a token says it is from. Not to be relied on.
pub(super) fn unverified_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Issuer {
        iss: String,
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    Some(serde_json::from_slice::<Issuer>(&payload).ok()?.iss)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Head {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    deletion_timestamp: Option<jiff::Timestamp>,
}

fn head(server: &Inner, resource: &str, namespace: &str, name: &str) -> Option<Metadata> {
    let registry = server.registry();
    let entry = server.cached(registry.resource("", "v1", resource)?, namespace, name)?;
    serde_json::from_slice::<Head>(entry.bytes()).ok().map(|head| head.metadata)
}

impl Metadata {
    /// Objects count as gone a moment after their deletion was asked for.
    fn is_deleted(&self) -> bool {
        let now = base::clock::now().as_second();
        self.deletion_timestamp.is_some_and(|time| time.as_second() < now - LEEWAY_SECONDS)
    }
}

/// Checks that what a token is bound to is there and the same as when the token was made.
fn check_bound(
    server: &Inner,
    (resource, kind, claim): (&str, &str, &str),
    namespace: &str,
    reference: &Reference,
) -> Result<(), String> {
    let found = head(server, resource, namespace, &reference.name).ok_or(INVALIDATED)?;
    if found.uid != reference.uid {
        return Err(format!(
            "{kind} UID ({}) does not match service account {claim} ref claim ({})",
            found.uid, reference.uid
        ));
    }
    if found.is_deleted() { Err(INVALIDATED.to_owned()) } else { Ok(()) }
}

fn bound(server: &Inner, claims: &Claims) -> Result<Verified, String> {
    let now = base::clock::now().as_second();
    claims.check_times(now)?;
    let to = &claims.kubernetes;
    let (namespace, account) = (to.namespace.as_str(), &to.serviceaccount);
    let found = head(server, "serviceaccounts", namespace, &account.name)
        .ok_or_else(|| format!("serviceaccounts {} not found", schema::gotext::quote(&account.name)))?;
    if found.uid != account.uid {
        return Err(format!("service account UID ({}) does not match claim ({})", found.uid, account.uid));
    }
    if found.is_deleted() {
        return Err(format!("service account {namespace}/{} has been deleted", account.name));
    }
    if let Some(secret) = &to.secret {
        check_bound(server, ("secrets", "secret", "secret"), namespace, secret)?;
    }
    if let Some(pod) = &to.pod {
        check_bound(server, ("pods", "pod", "pod"), namespace, pod)?;
    }
    // A pod's token names the node by the way; it is bound to the pod.
    if let (None, Some(node)) = (&to.pod, &to.node) {
        check_bound(server, ("nodes", "node", "node"), "", node)?;
    }
    let mut verified = Verified::of(user(namespace, account));
    if !claims.jti.is_empty() {
        verified.extra("credential-id", &format!("JTI={}", claims.jti));
    }
    for (what, reference) in [("pod", &to.pod), ("node", &to.node)] {
        let Some(reference) = reference else { continue };
        verified.extra(&format!("{what}-name"), &reference.name);
        if !reference.uid.is_empty() {
            verified.extra(&format!("{what}-uid"), &reference.uid);
        }
    }
    if let Some(late) = to.warnafter.filter(|after| *after != 0 && now > *after) {
        let text = format!("subject: {}, seconds after warning threshold: {}", claims.sub, now - late);
        verified.annotate("authentication.k8s.io/stale-token", text);
    }
    Ok(verified)
}

fn user(namespace: &str, account: &Reference) -> UserInfo {
    UserInfo {
        name: user_name(namespace, &account.name),
        uid: account.uid.clone(),
        groups: groups(namespace),
        ..UserInfo::default()
    }
}

/// A token that a secret of type `kubernetes.io/service-account-token` holds: good as long as it does.
fn by_secret(server: &Arc<Inner>, token: &str, claims: &Claims) -> Result<Verified, String> {
    let (namespace, name) = (&claims.legacy_namespace, &claims.legacy_name);
    let demanded = [
        (&claims.sub, "sub"),
        (namespace, "namespace"),
        (&claims.legacy_secret, "secretName"),
        (name, "serviceAccountName"),
        (&claims.legacy_uid, "serviceAccountUID"),
    ];
    if let Some((_, missing)) = demanded.into_iter().find(|(value, _)| value.is_empty()) {
        return Err(format!("{missing} claim is missing"));
    }
    if split_name(&claims.sub) != Some((namespace.as_str(), name.as_str())) {
        return Err("sub claim is invalid".to_owned());
    }
    let registry = server.registry();
    let object = |resource: &str, name: &str| {
        let kind = registry.resource("", "v1", resource)?;
        Some((kind, server.cached(kind, namespace, name)?))
    };
    let (kind, entry) = object("secrets", &claims.legacy_secret).ok_or("Token has been invalidated")?;
    let secret = entry.try_value().map_err(|error| error.message)?;
    if !secret["metadata"]["deletionTimestamp"].is_null() {
        return Err("Token has been invalidated".to_owned());
    }
    let stored = secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok());
    if constant_time::verify_slices_are_equal(&stored.unwrap_or_default(), token.as_bytes()).is_err() {
        return Err("Token does not match server's copy".to_owned());
    }
    let (_, account) = object("serviceaccounts", name)
        .ok_or_else(|| format!("serviceaccounts {} not found", schema::gotext::quote(name)))?;
    let account = account.try_value().map_err(|error| error.message)?;
    if !account["metadata"]["deletionTimestamp"].is_null() {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    let uid = crate::object::meta(&account, "uid");
    if uid != claims.legacy_uid {
        return Err(format!("ServiceAccount UID ({uid}) does not match claim ({})", claims.legacy_uid));
    }
    let secret_name = &claims.legacy_secret;
    mark_used(server, kind.clone(), &secret, entry.revision);
    if secret["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has been marked invalid. \
             Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' \
             label from the secret to temporarily allow use of this token"
        ));
    }
    let mut verified =
        Verified::of(user(namespace, &Reference { name: name.clone(), uid: claims.legacy_uid.clone() }));
    let listed = account["secrets"].as_array().into_iter().flatten();
    if listed.into_iter().any(|listed| listed["name"] == secret_name.as_str()) {
        verified.warnings.push(
            "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens."
                .to_owned(),
        );
        verified.annotate("authentication.k8s.io/legacy-token-autogenerated-secret", secret_name.clone());
    } else {
        verified.annotate("authentication.k8s.io/legacy-token-manual-secret", secret_name.clone());
    }
    Ok(verified)
}

/// Notes in the secret on which day its token was last used; at most once a day.
fn mark_used(server: &Arc<Inner>, kind: Arc<Kind>, secret: &Value, revision: store::Revision) {
    let today = base::clock::now().strftime("%Y-%m-%d").to_string();
    let last = secret["metadata"]["labels"][LAST_USED].as_str().unwrap_or_default();
    // Later than today: another server's clock, which is not worth a write.
    if last >= today.as_str() {
        return;
    }
    let mut secret = secret.clone();
    if !secret["metadata"]["labels"].is_object() {
        secret["metadata"]["labels"] = json!({});
    }
    secret["metadata"]["labels"][LAST_USED] = today.into();
    let server = Arc::downgrade(server);
    tokio::spawn(async move {
        let Some(server) = server.upgrade() else { return };
        let (namespace, name) =
            (crate::object::meta(&secret, "namespace"), crate::object::meta(&secret, "name"));
        let key = kind.key(namespace, name);
        // Somebody else's write is as good: the next use tries again.
        let _ = server.put(&kind, &key, Compare::ModRevision(revision), &secret).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_taken_apart_only_if_they_are_ones() {
        assert_eq!(split_name("system:serviceaccount:a:b"), Some(("a", "b")));
        for odd in
            ["system:serviceaccount:a", "system:serviceaccount:a:b:c", "system:serviceaccount::b", "a:b"]
        {
            assert_eq!(split_name(odd), None, "{odd}");
        }
    }
}
