//! The ConfigMap `cluster-info` of kube-public is signed by every bootstrap token that says so: who joins with a
//! token can tell by it that what the ConfigMap says of the cluster is true.
//!
//! Source: `k8s.io/kubernetes/pkg/controller/bootstrap`.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::{Informer, Next, Scope, WorkQueue, run_workers};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PostParams};

use crate::bootstrap_token;
use crate::context::{Context, Error, is_conflict};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
/// What is signed.
const CONTENT: &str = "kubeconfig";
/// Where a token's signature is: this and the token's id.
const SIGNATURE: &str = "jws-kubeconfig-";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let of_type = Scope { fields: Some(format!("type={}", bootstrap_token::TYPE)), ..Scope::default() };
    let named = format!("metadata.namespace={NAMESPACE},metadata.name={NAME}");
    let secrets: Informer<Secret> = context.informers.scoped(of_type);
    let maps: Informer<ConfigMap> =
        context.informers.scoped(Scope { fields: Some(named), ..Scope::default() });
    let queue: WorkQueue<()> = WorkQueue::new();
    let (by_token, by_map) = (queue.clone(), queue.clone());
    secrets.on_event(move |_| by_token.add(()));
    maps.on_event(move |_| by_map.add(()));
    secrets.synced().await;
    maps.synced().await;
    let client = context.client.clone();
    let reconcile = move |()| {
        let (secrets, maps, client) = (secrets.clone(), maps.clone(), client.clone());
        async move { reconcile(&secrets, &maps, client).await }
    };
    run_workers(queue, 1, reconcile, context.stop.clone()).await;
}

async fn reconcile(
    secrets: &Informer<Secret>,
    maps: &Informer<ConfigMap>,
    client: kube::Client,
) -> Result<Next, Error> {
    let Some(map) = maps.get(NAMESPACE, NAME) else { return Ok(Next::Wait) };
    let mut tokens = BTreeMap::new();
    secrets.for_each(|secret: &Arc<Secret>| tokens.extend(token(secret, base::clock::now())));
    let Some(data) = map.data.as_ref().and_then(|data| signed(data, &tokens)) else { return Ok(Next::Wait) };
    let mut map = (*map).clone();
    map.data = Some(data);
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    match api.replace(NAME, &PostParams::default(), &map).await {
        // The newer version comes by itself.
        Err(error) if !is_conflict(&error) => Err(error.into()),
        _ => Ok(Next::Wait),
    }
}

/// Id and secret of a token that signs.
fn token(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let data = |key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        std::str::from_utf8(&value.0).ok().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let (id, key) = (data("token-id")?, data("token-secret")?);
    let name = secret.metadata.name.as_deref()?.strip_prefix("bootstrap-token-")?;
    let is_here = secret.metadata.namespace.as_deref() == Some(bootstrap_token::NAMESPACE);
    let is_good = secret.type_.as_deref() == Some(bootstrap_token::TYPE)
        && secret.metadata.deletion_timestamp.is_none();
    let signs = data("usage-bootstrap-signing").as_deref() == Some("true");
    let over = match data("expiration") {
        // What is no time is long over.
        Some(end) => !end.parse::<Timestamp>().is_ok_and(|end| end > now),
        None => false,
    };
    (is_here && is_good && signs && !over && name == id).then_some((id, key))
}

/// The ConfigMap's data with the signatures of these tokens and no others; `None` if that is how it is.
fn signed(
    data: &BTreeMap<String, String>,
    tokens: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    let content = data.get(CONTENT)?;
    let mut new: BTreeMap<String, String> = data.clone();
    new.retain(|key, _| !key.starts_with(SIGNATURE));
    for (id, secret) in tokens {
        new.insert(format!("{SIGNATURE}{id}"), signature(content, id, secret));
    }
    (new != *data).then_some(new)
}

/// RFC 7515's compact form without the content, which everybody has.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = format!(r#"{{"alg":"HS256","kid":"{id}"}}"#);
    let header = URL_SAFE_NO_PAD.encode(header);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn secret(change: (&str, &str)) -> Secret {
        let mut data = BTreeMap::from([
            ("token-id", "tokenID"),
            ("token-secret", "tokenSecret"),
            ("usage-bootstrap-signing", "true"),
            ("expiration", "2030-01-01T00:00:00Z"),
        ]);
        data.insert(change.0, change.1);
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into()))).collect();
        let metadata = ObjectMeta {
            name: Some("bootstrap-token-tokenID".to_owned()),
            namespace: Some(bootstrap_token::NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        };
        Secret {
            metadata,
            data: Some(data),
            type_: Some(bootstrap_token::TYPE.to_owned()),
            ..Secret::default()
        }
    }

    #[test]
    fn signatures_are_upstreams() {
        // The example of upstream's `cluster-bootstrap/token/jws`.
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            signature(content, "joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn only_good_tokens_sign() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        assert!(token(&secret(("x", "")), now).is_some());
        for wrong in [
            ("token-id", "other"),
            ("token-secret", ""),
            ("usage-bootstrap-signing", "false"),
            ("expiration", "2026-11-20T12:00:00Z"),
            ("expiration", "tomorrow"),
        ] {
            assert!(token(&secret(wrong), now).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn signatures_come_and_go_with_tokens() {
        let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let tokens = data(&[("abcdef", "s")]);
        let new = signed(&data(&[("kubeconfig", "c"), ("jws-kubeconfig-gone", "x")]), &tokens).unwrap();
        assert_eq!(new.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        assert!(signed(&new, &tokens).is_none());
        assert!(signed(&data(&[("other", "c")]), &tokens).is_none());
    }
}
