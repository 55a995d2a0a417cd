//! Writes decision records: what `kobune explain` prints.

use api::explain::{Alternative, Decision, DecisionRecord, Fact};
use api::names;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Records waiting to be written; further ones are dropped.
const WAITING_MAX: usize = 16_384;
/// Records being written at the same time.
const CONCURRENCY: usize = 8;
/// How often a record is tried again when somebody else writes it too.
const CONFLICTS_MAX: usize = 5;

/// Hands records to the writer; clones share it.
#[derive(Clone)]
pub(crate) struct Decisions {
    queue: mpsc::Sender<(ObjectReference, Arc<DecisionRecord>)>,
}

impl Decisions {
    /// Starts the writer; it ends when all handles are dropped.
    pub(crate) fn new(client: kube::Client) -> Self {
        let (queue, records) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(client, records));
        Self { queue }
    }

    /// Records a decision about the subject. Never waits.
    pub(crate) fn record(&self, subject: ObjectReference, record: Arc<DecisionRecord>) {
        if self.queue.try_send((subject, record)).is_err() {
            tracing::debug!("too many decisions at once; one was not recorded");
        }
    }
}

/// A record that lacks nothing but its details.
pub(crate) fn record(decider: &str, action: &str, summary: String) -> DecisionRecord {
    DecisionRecord {
        time: Some(MicroTime(base::clock::now())),
        decider: decider.to_owned(),
        action: action.to_owned(),
        summary,
        ..DecisionRecord::default()
    }
}

/// An input of a decision.
pub(crate) fn fact(name: &str, value: impl ToString) -> Fact {
    Fact { name: name.to_owned(), value: value.to_string() }
}

/// Something that could be done.
pub(crate) fn option(
    option: impl Into<String>,
    reason: impl Into<String>,
    price: Option<f64>,
) -> Alternative {
    Alternative { option: option.into(), reason: reason.into(), dollars_per_hour: price, count: 1 }
}

/// Name and namespace of the record about a subject.
pub(crate) fn home(subject: &ObjectReference) -> (String, &str) {
    let kind = subject.kind.as_deref().unwrap_or_default().to_lowercase();
    let name = format!("{kind}-{}", subject.name.as_deref().unwrap_or_default());
    (name, subject.namespace.as_deref().unwrap_or(names::KOBUNE_NAMESPACE))
}

async fn run(client: kube::Client, mut records: mpsc::Receiver<(ObjectReference, Arc<DecisionRecord>)>) {
    create_namespace(&client).await;
    let mut writing = JoinSet::new();
    while let Some((subject, record)) = records.recv().await {
        while writing.len() >= CONCURRENCY {
            writing.join_next().await;
        }
        while writing.try_join_next().is_some() {}
        let client = client.clone();
        writing.spawn(async move { write(client, subject, record).await });
    }
    while writing.join_next().await.is_some() {}
}

/// The home of records about cluster-scoped things.
async fn create_namespace(client: &kube::Client) {
    let namespace: Namespace =
        match serde_json::from_value(json!({"metadata": {"name": names::KOBUNE_NAMESPACE}})) {
            Ok(namespace) => namespace,
            Err(_) => return,
        };
    match Api::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => tracing::warn!(%error, "namespace {} could not be created", names::KOBUNE_NAMESPACE),
        Ok(_) => {}
    }
}

async fn write(client: kube::Client, subject: ObjectReference, record: Arc<DecisionRecord>) {
    let (name, namespace) = home(&subject);
    let api: Api<Decision> = Api::namespaced(client, namespace);
    for _ in 0..CONFLICTS_MAX {
        match try_write(&api, &name, &subject, &record).await {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::debug!(%name, %error, "a decision could not be recorded");
                return;
            }
        }
    }
}

async fn try_write(
    api: &Api<Decision>,
    name: &str,
    subject: &ObjectReference,
    record: &DecisionRecord,
) -> Result<(), kube::Error> {
    let known = api.get_opt(name).await?;
    if known.as_ref().is_some_and(|known| known.subject.uid != subject.uid) {
        // About a former object of this name, not yet collected.
        api.delete(name, &DeleteParams::default()).await?;
    }
    let known = known.filter(|known| known.subject.uid == subject.uid);
    let exists = known.is_some();
    let mut decision = known.unwrap_or_else(|| Decision::named(name));
    decision.metadata.namespace =
        Some(subject.namespace.clone().unwrap_or_else(|| names::KOBUNE_NAMESPACE.to_owned()));
    decision.metadata.owner_references = Some(vec![OwnerReference {
        api_version: subject.api_version.clone().unwrap_or_default(),
        kind: subject.kind.clone().unwrap_or_default(),
        name: subject.name.clone().unwrap_or_default(),
        uid: subject.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    decision.subject = subject.clone();
    decision.record(record.clone());
    if exists {
        api.replace(name, &PostParams::default(), &decision).await?;
    } else {
        api.create(&PostParams::default(), &decision).await?;
    }
    Ok(())
}
