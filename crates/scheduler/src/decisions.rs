//! Decision records of pods that do not find a place: what `kobune explain pod NAME` prints.
//!
//! Most pods are placed at once and leave none. A record is written once a pod has waited for a
//! moment, and completed when it is placed after all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::explain::{Alternative, Decision, DecisionRecord, Fact};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, PostParams};
use scheduling::{PodKey, Reason, Scores, Unschedulable};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::pod::Identity;
use crate::requests;

/// Pods that are placed within this time leave no record.
const DELAY: Duration = Duration::from_secs(1);
/// Records waiting to be written; when there are more, the pods that came last get none for now.
const WAITING_MAX: usize = 4096;
/// Records being written at the same time.
const CONCURRENCY: usize = 4;
/// How often a record is tried again when somebody else writes it too.
const CONFLICTS_MAX: usize = 5;

/// What there is to record about a pod.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It fits nowhere.
    Unschedulable { details: Arc<Unschedulable>, message: Arc<str> },
    /// It was told so before, and has a place now.
    Scheduled { node: Arc<str>, scores: Option<Scores> },
}

/// Hands verdicts to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Decisions {
    queue: mpsc::Sender<(Identity, Verdict)>,
}

impl Decisions {
    /// Starts the writer; it ends when all handles are dropped.
    pub(crate) fn new(client: kube::Client) -> Self {
        let (queue, verdicts) = mpsc::channel(WAITING_MAX);
        tokio::spawn(
            Writer { client, waiting: BTreeMap::new(), due: BTreeMap::new(), sequence: 0 }.run(verdicts),
        );
        Self { queue }
    }

    /// Records a verdict, soon. Never waits; when too many are waiting, this one is dropped.
    pub(crate) fn record(&self, pod: Identity, verdict: Verdict) {
        if self.queue.try_send((pod, verdict)).is_err() {
            tracing::debug!("too many decisions at once; one was not recorded");
        }
    }
}

struct Writer {
    client: kube::Client,
    /// The newest verdict on each pod that waits to be written, and its place in `due`.
    waiting: BTreeMap<PodKey, (Identity, Verdict)>,
    due: BTreeMap<(Instant, u64), PodKey>,
    sequence: u64,
}

impl Writer {
    async fn run(mut self, mut verdicts: mpsc::Receiver<(Identity, Verdict)>) {
        let mut writing = JoinSet::new();
        loop {
            let next = self.due.first_key_value().map(|((due, _), _)| *due);
            tokio::select! {
                biased;
                verdict = verdicts.recv() => match verdict {
                    Some((pod, verdict)) => self.take(pod, verdict),
                    None => break,
                },
                () = wait(next), if writing.len() < CONCURRENCY => {
                    if let Some((pod, verdict)) = self.pop() {
                        let client = self.client.clone();
                        writing.spawn(async move { write(client, pod, verdict).await });
                    }
                }
                Some(_) = writing.join_next(), if !writing.is_empty() => {}
            }
        }
    }

    fn take(&mut self, pod: Identity, verdict: Verdict) {
        let key = Arc::clone(&pod.key);
        if let Some((_, waiting)) = self.waiting.get_mut(&key) {
            // Placed before anything was written: there is nothing to explain. The verdict stays
            // until its time, so that `pop` finds it and drops it.
            *waiting = verdict;
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        self.sequence += 1;
        self.due.insert((Instant::now() + DELAY, self.sequence), Arc::clone(&key));
        self.waiting.insert(key, (pod, verdict));
    }

    fn pop(&mut self) -> Option<(Identity, Verdict)> {
        let (_, key) = self.due.pop_first()?;
        self.waiting.remove(&key)
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

async fn write(client: kube::Client, pod: Identity, verdict: Verdict) {
    let api: Api<Decision> = Api::namespaced(client, pod.namespace());
    for _ in 0..CONFLICTS_MAX {
        match try_write(&api, &pod, &verdict).await {
            Ok(()) => return,
            // Somebody else recorded about the same pod: take theirs in.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::debug!(pod = %pod.key, %error, "a decision could not be recorded");
                return;
            }
        }
    }
}

async fn try_write(api: &Api<Decision>, pod: &Identity, verdict: &Verdict) -> Result<(), kube::Error> {
    let name = format!("pod-{}", pod.name());
    let known = api.get_opt(&name).await?.filter(|known| known.subject.uid.as_deref() == Some(&*pod.uid));
    let exists = known.is_some();
    // A pod that was never found unschedulable for long has nothing to explain.
    if !exists && matches!(verdict, Verdict::Scheduled { .. }) {
        return Ok(());
    }
    let mut decision = known.unwrap_or_else(|| Decision::named(&name));
    decision.metadata.namespace = Some(pod.namespace().to_owned());
    decision.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid.to_string(),
        ..OwnerReference::default()
    }]);
    decision.subject = requests::reference(pod);
    let mut record = match verdict {
        Verdict::Unschedulable { details, message } => unschedulable(details, message),
        Verdict::Scheduled { node, scores } => scheduled(node, *scores),
    };
    record.time = Some(MicroTime(base::clock::now()));
    "scheduler".clone_into(&mut record.decider);
    decision.record(record);
    let params = PostParams::default();
    if exists {
        api.replace(&name, &params, &decision).await?;
    } else if let Err(error) = api.create(&params, &decision).await {
        let stale = matches!(&error, kube::Error::Api(status) if status.code == 409);
        if stale
            && api.get_opt(&name).await?.is_some_and(|known| known.subject.uid.as_deref() != Some(&*pod.uid))
        {
            // The record of a former pod of this name, not yet collected.
            api.delete(&name, &kube::api::DeleteParams::default()).await?;
        }
        return Err(error);
    }
    Ok(())
}

fn unschedulable(details: &Unschedulable, message: &str) -> DecisionRecord {
    let mut inputs = vec![Fact { name: "nodes considered".to_owned(), value: details.nodes.to_string() }];
    if let Some(nearest) = &details.nearest {
        let missing = [
            (nearest.cpu_milli, api::quantity::Quantity::from_milli(nearest.cpu_milli), "cpu"),
            (nearest.memory_bytes, api::quantity::Quantity::from_bytes(nearest.memory_bytes), "memory"),
            (nearest.pods, api::quantity::Quantity::from_units(nearest.pods), "pods"),
        ];
        let missing: Vec<String> = missing
            .into_iter()
            .filter(|(amount, _, _)| *amount > 0)
            .map(|(_, quantity, name)| format!("{quantity} {name}"))
            .collect();
        inputs.push(Fact {
            name: "nearest".to_owned(),
            value: format!("node {} lacks {}", nearest.node, missing.join(", ")),
        });
    }
    let mut rejected: Vec<_> =
        details.reasons.iter().map(|(reason, nodes)| alternative(details, reason, nodes)).collect();
    rejected.sort_by_key(|alternative| std::cmp::Reverse(alternative.count));
    DecisionRecord {
        action: "Unschedulable".to_owned(),
        summary: message.to_owned(),
        inputs,
        rejected,
        ..DecisionRecord::default()
    }
}

fn alternative(details: &Unschedulable, reason: &Reason, nodes: &scheduling::Nodes) -> Alternative {
    let example = nodes.example.as_deref().unwrap_or_default();
    let option = if nodes.count == 1 {
        format!("node {example}")
    } else {
        format!("{} nodes, such as {example}", nodes.count)
    };
    let reason = match reason {
        Reason::UntoleratedTaint => {
            let taints: Vec<String> =
                details.taints.iter().map(|(taint, count)| format!("{taint} on {count}")).collect();
            format!("{reason}: {}", taints.join(", "))
        }
        Reason::Insufficient { on_empty_node: true, .. } => format!("{reason}, even without other pods"),
        _ => reason.to_string(),
    };
    Alternative { option, reason, dollars_per_hour: None, count: i64::from(nodes.count) }
}

fn scheduled(node: &str, scores: Option<Scores>) -> DecisionRecord {
    let reason = scores.map_or_else(
        || "room was made or held for the pod there".to_owned(),
        |scores| {
            format!(
                "best score {} (taints {}, node affinity {}, least allocated {}, balanced {})",
                scores.total(),
                scores.taint_toleration,
                scores.node_affinity,
                scores.least_allocated,
                scores.balanced_allocation
            )
        },
    );
    DecisionRecord {
        action: "Scheduled".to_owned(),
        summary: format!("bound to node {node}"),
        chosen: vec![Alternative {
            option: format!("node {node}"),
            reason,
            dollars_per_hour: None,
            count: 1,
        }],
        ..DecisionRecord::default()
    }
}
