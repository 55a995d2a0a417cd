//! The API objects that pods refer to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Informer;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use crate::identity::PodId;

/// Keys and contents of a ConfigMap or Secret.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// Reads objects for pods. ConfigMaps and Secrets are fetched when needed: a node has no business keeping
/// everybody's secrets in memory.
pub(crate) struct Objects {
    client: kube::Client,
    services: Informer<Service>,
    /// Tokens in use, so that a remount does not ask for a new one.
    tokens: Mutex<BTreeMap<TokenKey, Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TokenKey {
    pod: PodId,
    account: String,
    audience: String,
    seconds: i64,
}

#[derive(Clone)]
struct Token {
    text: String,
    refresh_at: Instant,
}

impl Objects {
    pub(crate) fn new(client: kube::Client, services: Informer<Service>) -> Self {
        Self { client, services, tokens: Mutex::default() }
    }

    /// The services that a pod in `namespace` is told about.
    pub(crate) fn services_for(&self, namespace: &str, links: bool) -> Vec<Arc<Service>> {
        let mut found: Vec<_> = self.services.get("default", "kubernetes").into_iter().collect();
        if links {
            found.extend(self.services.in_namespace(namespace));
        }
        found
    }

    /// The content of a ConfigMap. `None` if it is absent but optional.
    pub(crate) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Data>, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let Some(map) = found(api.get_opt(name).await, "configmap", namespace, name, optional)? else {
            return Ok(None);
        };
        let text = map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0));
        Ok(Some(text.chain(binary).collect()))
    }

    /// The content of a Secret. `None` if it is absent but optional.
    pub(crate) async fn secret(
        &self,
        namespace: &str,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Data>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = found(api.get_opt(name).await, "secret", namespace, name, optional)?;
        Ok(secret.map(|s| s.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect()))
    }

    /// A token for the pod's service account, renewed when 80 % of its time has passed.
    pub(crate) async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<String, String> {
        let id = PodId::of(pod);
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".into());
        let key =
            TokenKey { pod: id.clone(), account: account.clone(), audience: audience.to_owned(), seconds };
        let known = self.tokens().get(&key).cloned();
        if let Some(token) = known.filter(|t| Instant::now() < t.refresh_at) {
            return Ok(token.text);
        }
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(id.name.clone()),
            uid: Some(id.uid.clone()),
        };
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] }),
                bound_object_ref: Some(bound),
                expiration_seconds: Some(seconds),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &id.namespace);
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(|e| format!("failed to fetch token: {e}"))?;
        let text = answer.status.and_then(|s| s.token).unwrap_or_default();
        let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or(3600));
        let refresh_at = Instant::now() + lifetime.mul_f64(0.8).min(Duration::from_secs(24 * 3600));
        self.tokens().insert(key, Token { text: text.clone(), refresh_at });
        Ok(text)
    }

    /// Forgets the tokens of a pod that is gone.
    pub(crate) fn forget(&self, pod: &PodId) {
        self.tokens().retain(|key, _| key.pod != *pod);
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeMap<TokenKey, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found<K>(
    result: Result<Option<K>, kube::Error>,
    kind: &str,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<K>, String> {
    match result {
        Ok(None) if optional != Some(true) => Err(format!("{kind} \"{name}\" not found")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("failed to get {kind} {namespace}/{name}: {error}")),
    }
}
