//! Secrets of type `kubernetes.io/service-account-token`: filled with a token of the account they name, and
//! removed with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Informer, Next, Scope, WorkQueue, key_of};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use serde_json::json;

use crate::context::{Context, Error, gone_is_fine, is_conflict, is_not_found, split_key};

/// The type of the secrets.
const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const WORKERS: usize = 2;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let of_type = Scope { fields: Some(format!("type={TYPE}")), ..Scope::default() };
    let controller = Arc::new(Controller {
        secrets: context.informers.scoped(of_type),
        accounts: context.informers.of(),
        context: context.clone(),
    });
    let queue: WorkQueue<String> = WorkQueue::new();
    let add = queue.clone();
    controller.secrets.on_event(move |event| add.add(key_of(event.object().as_ref())));
    let (add, secrets) = (queue.clone(), controller.secrets.clone());
    controller.accounts.on_event(move |event| {
        let account = event.object();
        let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
        for secret in secrets.in_namespace(namespace) {
            if annotation(&secret, NAME) == account.metadata.name.as_deref() {
                add.add(key_of(secret.as_ref()));
            }
        }
    });
    controller.secrets.synced().await;
    controller.accounts.synced().await;
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

impl Controller {
    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let (namespace, name) = split_key(key);
        let Some(secret) = self.secrets.get(namespace, name) else { return Ok(Next::Wait) };
        if secret.type_.as_deref() != Some(TYPE) || secret.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let Some(account_name) = annotation(&secret, NAME) else { return Ok(Next::Wait) };
        let wanted = |account: &ServiceAccount| {
            annotation(&secret, UID).is_none_or(|uid| account.metadata.uid.as_deref() == Some(uid))
        };
        let account = match self.accounts.get(namespace, account_name).filter(|account| wanted(account)) {
            Some(account) => Some(ServiceAccount::clone(&account)),
            // The account may be newer than what is known here.
            None => {
                let api: Api<ServiceAccount> = Api::namespaced(self.context.client.clone(), namespace);
                api.get_opt(account_name).await?.filter(wanted)
            }
        };
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        let Some(account) = account else {
            let only_this = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            return match gone_is_fine(secrets.delete(name, &params).await) {
                Err(error) if !is_conflict(&error) => Err(error.into()),
                _ => Ok(Next::Wait),
            };
        };
        let Some(filled) = self.filled(&secret, &account)? else { return Ok(Next::Wait) };
        match secrets.replace(name, &PostParams::default(), &filled).await {
            // Somebody else's change comes by as an event.
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(Next::Wait),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Next::Wait),
        }
    }

    /// The secret with all it lacks; `None` if it lacks nothing.
    fn filled(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Secret>, Error> {
        let Some(sign) = &self.context.sign_token else { return Ok(None) };
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let (namespace, name) =
            (text(secret.metadata.namespace.as_ref()), text(secret.metadata.name.as_ref()));
        let (account_name, uid) = (text(account.metadata.name.as_ref()), text(account.metadata.uid.as_ref()));
        let data = secret.data.clone().unwrap_or_default();
        let mut new: BTreeMap<String, ByteString> = data.clone();
        let bytes = |text: String| ByteString(text.into_bytes());
        if !self.context.root_ca.is_empty() {
            new.insert("ca.crt".to_owned(), bytes(self.context.root_ca.clone()));
        }
        let lacks = |key: &str| data.get(key).is_none_or(|value| value.0.is_empty());
        if lacks("namespace") {
            new.insert("namespace".to_owned(), bytes(namespace.clone()));
        }
        if lacks("token") {
            let claims = json!({
                "iss": "kubernetes/serviceaccount",
                "kubernetes.io/serviceaccount/namespace": namespace,
                "kubernetes.io/serviceaccount/secret.name": name,
                "kubernetes.io/serviceaccount/service-account.name": account_name,
                "kubernetes.io/serviceaccount/service-account.uid": uid,
                "sub": format!("system:serviceaccount:{namespace}:{account_name}"),
            });
            new.insert("token".to_owned(), bytes(sign(&claims).map_err(Error::NotYet)?));
        }
        if new == data {
            return Ok(None);
        }
        let mut filled = secret.clone();
        filled.data = Some(new);
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(NAME.to_owned(), account_name);
        annotations.insert(UID.to_owned(), uid);
        Ok(Some(filled))
    }
}
