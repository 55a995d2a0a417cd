//! Bootstrap tokens are removed when they have run out.

use std::time::Duration;

use client::{Informer, Next, Scope, WorkQueue, key_of, run_workers};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Preconditions};

use crate::context::{Context, Error, gone_is_fine, is_conflict, split_key};

/// The type of the Secrets that are bootstrap tokens.
pub(crate) const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they are.
pub(crate) const NAMESPACE: &str = "kube-system";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let of_type = Scope { fields: Some(format!("type={TYPE}")), ..Scope::default() };
    let secrets: Informer<Secret> = context.informers.scoped(of_type);
    let queue: WorkQueue<String> = WorkQueue::new();
    let add = queue.clone();
    secrets.on_event(move |event| add.add(key_of(event.object().as_ref())));
    secrets.synced().await;
    let client = context.client.clone();
    let reconcile = move |key: String| {
        let (secrets, client) = (secrets.clone(), client.clone());
        async move { reconcile(&secrets, client, &key).await }
    };
    run_workers(queue, 1, reconcile, context.stop.clone()).await;
}

async fn reconcile(secrets: &Informer<Secret>, client: kube::Client, key: &str) -> Result<Next, Error> {
    let (namespace, name) = split_key(key);
    let Some(secret) = secrets.get(namespace, name).filter(|_| namespace == NAMESPACE) else {
        return Ok(Next::Wait);
    };
    if secret.type_.as_deref() != Some(TYPE) {
        return Ok(Next::Wait);
    }
    match left(&secret, base::clock::now()) {
        None => Ok(Next::Wait),
        Some(left) if !left.is_zero() => Ok(Next::After(left)),
        Some(_) => {
            let only_this = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            let api: Api<Secret> = Api::namespaced(client, namespace);
            match gone_is_fine(api.delete(name, &params).await) {
                Err(error) if !is_conflict(&error) => Err(error.into()),
                _ => Ok(Next::Wait),
            }
        }
    }
}

/// How long a token is good yet, zero if it is over; `None`: for ever. What is no time is over.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let end = secret.data.as_ref()?.get("expiration").filter(|end| !end.0.is_empty())?;
    let end = std::str::from_utf8(&end.0).ok().and_then(|end| end.parse::<Timestamp>().ok());
    let left = end.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    Some(left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn tokens_run_out() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let with = |end: &str| {
            let data = [("expiration".to_owned(), ByteString(end.as_bytes().to_vec()))];
            left(&Secret { data: Some(data.into()), ..Secret::default() }, now)
        };
        assert_eq!(left(&Secret::default(), now), None);
        assert_eq!(with(""), None);
        assert_eq!(with("2026-11-20T12:00:30Z"), Some(Duration::from_secs(30)));
        assert_eq!(with("2026-11-20T13:00:00+02:00"), Some(Duration::ZERO));
        assert_eq!(with("soon"), Some(Duration::ZERO));
    }
}
