//! The engine: one task, one timer queue, a bounded number of API calls in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::names;
use api::usage::{NodeUsage, PodUsage};
use client::{CancellationToken, Event, Informer, Informers};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::load::{LoadedService, spread, usage};
use crate::pod::{Stage, status_patch};
use crate::{Config, node};

/// API calls in flight at the same time.
const IN_FLIGHT: usize = 128;
/// Usage reports per evaluation, so that they do not hold up the pods; the longest unreported come first.
const REPORTS_MAX: usize = 500;
/// Usage that changed is reported this long on every occasion: who watches a pod that has just become
/// ready wants a window that lies wholly after that, even if nothing changes in it.
const REPEAT: Duration = Duration::from_secs(4);
/// After a failed API call the pod or node is looked at again this much later.
const RETRY: Duration = Duration::from_millis(500);

/// What happened outside since the engine last looked; each key is in here once.
pub(crate) struct Inbox {
    changes: Mutex<Changes>,
    arrived: Notify,
}

#[derive(Default)]
struct Changes {
    pods: BTreeSet<String>,
    nodes: BTreeSet<String>,
    killed: BTreeSet<String>,
    /// Whether something changed that the load model depends on.
    load: bool,
}

impl Inbox {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { changes: Mutex::default(), arrived: Notify::new() })
    }

    pub fn kill(&self, node: &str) {
        self.note(|changes| {
            changes.killed.insert(node.to_owned());
        });
    }

    fn note(&self, change: impl FnOnce(&mut Changes)) {
        change(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    fn take(&self) -> Changes {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Something to do at a certain time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// Bring the pod to its next stage.
    Pod(String),
    /// Renew the node's Lease.
    Lease(String),
    /// Evaluate the load model.
    Load,
}

/// A node that is played.
struct SimNode {
    /// The uid of the Node object; another uid is another machine of the same name.
    uid: String,
    /// The address of the machine.
    ip: String,
    /// What its pods use.
    usage: Vec<PodUsage>,
    /// When that last changed.
    changed: Instant,
    /// When it was last reported.
    reported: Option<Instant>,
    /// When its Lease is due; `None` until it was written once.
    next_lease: Option<Instant>,
}

impl SimNode {
    /// Whether its usage has to be reported: it changed, or was not reported for long, or is CPU use that
    /// somebody may wait to see in a fresh window.
    fn is_report_due(&self, now: Instant, refresh: Duration) -> bool {
        let Some(reported) = self.reported else { return true };
        let is_busy =
            || self.usage.iter().flat_map(|pod| &pod.containers).any(|container| container.cpu_milli > 0);
        self.changed >= reported
            || now.duration_since(reported) >= refresh
            || (now.duration_since(self.changed) < REPEAT && is_busy())
    }
}

/// Where a pod stands in its life, as far as the engine has brought it.
#[derive(Debug)]
struct SimPod {
    uid: String,
    ip: String,
    /// When it starts, ends or goes away; each at most once in the timers.
    due: BTreeMap<Transition, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Transition {
    Start,
    Complete,
    Remove,
}

struct Engine {
    client: kube::Client,
    config: Config,
    inbox: Arc<Inbox>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    services: Informer<Service>,
    played: BTreeMap<String, SimNode>,
    /// Nodes whose plug was pulled, until their Node objects are gone.
    killed: BTreeSet<String>,
    known: BTreeMap<String, SimPod>,
    timers: BTreeSet<(Instant, Task)>,
    calls: Arc<Semaphore>,
    /// Numbers the addresses handed out.
    addresses: u32,
    /// Whether the load model must be evaluated at its next turn.
    load_changed: bool,
}

/// Registers the handlers and starts the engine's task.
pub(crate) fn start(
    client: kube::Client,
    informers: &Informers,
    config: Config,
    inbox: Arc<Inbox>,
    stop: CancellationToken,
) {
    let engine = Engine {
        client,
        config,
        inbox: inbox.clone(),
        pods: informers.of(),
        nodes: informers.of(),
        services: informers.of(),
        played: BTreeMap::new(),
        killed: BTreeSet::new(),
        known: BTreeMap::new(),
        timers: BTreeSet::new(),
        calls: Arc::new(Semaphore::new(IN_FLIGHT)),
        addresses: 0,
        load_changed: true,
    };
    let noted = inbox.clone();
    engine.pods.on_event(move |event| {
        let pod = event.object();
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            noted.note(|changes| {
                changes.pods.insert(client::key_of(pod.as_ref()));
                changes.load = true;
            });
        }
    });
    let noted = inbox.clone();
    engine.nodes.on_event(move |event| {
        let is_gone = matches!(event, Event::Deleted(_));
        let is_new = matches!(event, Event::Applied { old: None, .. });
        let looks_dead = !is_ready(event.object());
        if (is_gone || is_new || looks_dead) && is_simulated(event.object()) {
            noted.note(|changes| {
                changes.nodes.insert(client::key_of(event.object().as_ref()));
            });
        }
    });
    let noted = inbox;
    engine.services.on_event(move |_| noted.note(|changes| changes.load = true));
    tokio::spawn(async move { stop.run_until_cancelled(engine.run()).await });
}

fn is_simulated(node: &Node) -> bool {
    node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(names::SIMULATED_NODE))
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Engine {
    async fn run(mut self) {
        self.nodes.synced().await;
        self.pods.synced().await;
        self.at(Instant::now() + self.config.usage_interval, Task::Load);
        loop {
            let next = self.timers.first().map(|(at, _)| *at);
            let inbox = self.inbox.clone();
            match next {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, inbox.arrived.notified()).await;
                }
                None => inbox.arrived.notified().await,
            }
            self.take_changes().await;
            self.run_due().await;
        }
    }

    async fn take_changes(&mut self) {
        let changes = self.inbox.take();
        self.load_changed |= changes.load;
        for name in changes.killed {
            self.played.remove(&name);
            self.killed.insert(name);
        }
        for name in changes.nodes {
            self.look_at_node(&name).await;
        }
        for key in changes.pods {
            self.look_at_pod(&key);
        }
    }

    fn at(&mut self, at: Instant, task: Task) {
        self.timers.insert((at, task));
    }

    async fn look_at_node(&mut self, name: &str) {
        let Some(node) = self.nodes.get("", name) else {
            self.played.remove(name);
            self.killed.remove(name);
            return;
        };
        if self.killed.contains(name) {
            return;
        }
        let uid = node.metadata.uid.clone().unwrap_or_default();
        if self.played.get(name).is_some_and(|played| played.uid == uid) {
            // It was given up while nobody played it, and shows now that it is alive.
            if !is_ready(&node) {
                self.revive(name).await;
            }
            return;
        }
        self.addresses += 1;
        let ip = address(172, 16, self.addresses);
        self.played.insert(
            name.to_owned(),
            SimNode { uid, ip, usage: Vec::new(), changed: Instant::now(), reported: None, next_lease: None },
        );
        if !is_ready(&node) {
            self.revive(name).await;
        }
        self.at(Instant::now(), Task::Lease(name.to_owned()));
        // Pods may have been bound before the node was known here.
        let mut waiting = Vec::new();
        self.pods.for_each(|pod| {
            if node_of(pod) == Some(name) {
                waiting.push(client::key_of(pod.as_ref()));
            }
        });
        for key in waiting {
            self.look_at_pod(&key);
        }
    }

    /// Writes the conditions of a healthy node.
    async fn revive(&self, name: &str) {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = serde_json::json!({"status": {"conditions": node::conditions()}});
        let name = name.to_owned();
        self.call(Task::Lease(name.clone()), async move {
            api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await.map(|_| ())
        })
        .await;
    }

    /// Notes what will happen to the pod next, and when.
    fn look_at_pod(&mut self, key: &str) {
        let Some(pod) = self.pods.get_key(key) else {
            self.known.remove(key);
            return;
        };
        if !node_of(&pod).is_some_and(|node| self.played.contains_key(node)) {
            return;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if self.known.get(key).is_none_or(|known| known.uid != uid) {
            self.addresses += 1;
            let recorded = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
            let ip = recorded.unwrap_or_else(|| address(10, 128, self.addresses));
            self.known.insert(key.to_owned(), SimPod { uid, ip, due: BTreeMap::new() });
        }
        if let Some((transition, delay)) = self.next_transition(&pod) {
            self.due_in(key, transition, delay);
        }
    }

    fn next_transition(&self, pod: &Pod) -> Option<(Transition, Duration)> {
        if pod.metadata.deletion_timestamp.is_some() {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
            return Some((Transition::Remove, self.config.pod_stop.min(grace)));
        }
        match phase_of(pod) {
            "Pending" | "" => Some((Transition::Start, self.config.pod_start)),
            // Declared unready with its node, which has come back since.
            "Running" if !is_pod_ready(pod) => Some((Transition::Start, RETRY)),
            "Running" if restart_policy(pod) != "Always" => Some((Transition::Complete, self.config.job_run)),
            _ => None,
        }
    }

    fn due_in(&mut self, key: &str, transition: Transition, delay: Duration) {
        let Some(known) = self.known.get_mut(key) else { return };
        if known.due.contains_key(&transition) {
            return;
        }
        let at = Instant::now() + delay;
        known.due.insert(transition, at);
        self.at(at, Task::Pod(key.to_owned()));
    }

    async fn run_due(&mut self) {
        let now = Instant::now();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, task)) = self.timers.pop_first()
        {
            match task {
                Task::Pod(key) => self.advance_pod(&key, now).await,
                Task::Lease(name) => self.renew(&name).await,
                Task::Load => {
                    self.report_usage().await;
                    self.at(now + self.config.usage_interval, Task::Load);
                }
            }
        }
    }

    async fn advance_pod(&mut self, key: &str, now: Instant) {
        let Some(known) = self.known.get_mut(key) else { return };
        let Some((&transition, _)) = known.due.iter().find(|(_, at)| **at <= now) else { return };
        known.due.remove(&transition);
        let ip = known.ip.clone();
        let Some(pod) = self.pods.get_key(key) else { return };
        let Some(host_ip) = node_of(&pod).and_then(|node| self.played.get(node)).map(|node| node.ip.clone())
        else {
            return;
        };
        let node_ready =
            node_of(&pod).and_then(|node| self.nodes.get("", node)).is_some_and(|node| is_ready(&node));
        if transition == Transition::Start && !node_ready {
            self.due_in(key, Transition::Start, RETRY);
            return;
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let name = pod.metadata.name.clone().unwrap_or_default();
        if transition == Transition::Remove {
            let uid = pod.metadata.uid.clone();
            let params = DeleteParams::default()
                .grace_period(0)
                .preconditions(Preconditions { uid, resource_version: None });
            self.call(Task::Pod(key.to_owned()), async move { api.delete(&name, &params).await.map(|_| ()) })
                .await;
            return;
        }
        let stage = match transition {
            Transition::Start if pod.metadata.deletion_timestamp.is_none() => Stage::Running,
            Transition::Complete => Stage::Succeeded,
            _ => return,
        };
        let now = base::clock::rfc3339(base::clock::now());
        let patch = status_patch(&pod, stage, &ip, &host_ip, &now);
        self.call(Task::Pod(key.to_owned()), async move {
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
        })
        .await;
    }

    /// Makes an API call in the background, within the bound on calls in flight. When it fails for
    /// another reason than that the object is gone, the pod is looked at again a little later.
    async fn call(&self, task: Task, call: impl Future<Output = Result<(), kube::Error>> + Send + 'static) {
        let Ok(permit) = self.calls.clone().acquire_owned().await else { return };
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let result = call.await;
            drop(permit);
            match result {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => {
                    tracing::debug!(?task, %error, "a simulated node's call failed; trying again");
                    tokio::time::sleep(RETRY).await;
                    inbox.note(|changes| match task {
                        Task::Pod(key) => {
                            changes.pods.insert(key);
                        }
                        Task::Lease(name) => {
                            changes.nodes.insert(name);
                        }
                        Task::Load => changes.load = true,
                    });
                }
            }
        });
    }

    async fn renew(&mut self, name: &str) {
        let Some(played) = self.played.get_mut(name) else { return };
        let Some(node) = self.nodes.get("", name) else { return };
        let (now, interval) = (Instant::now(), self.config.lease_interval);
        let next = match played.next_lease {
            Some(due) if due > now => return,
            Some(_) => now + interval,
            // Spread the renewals of nodes that appear together over the interval.
            None => now + interval.mul_f64(base::rng::below(1000) as f64 / 1000.0),
        };
        played.next_lease = Some(next);
        self.at(next, Task::Lease(name.to_owned()));
        let lease = node::lease(&node, self.config.lease_interval);
        let api: Api<Lease> = Api::namespaced(self.client.clone(), names::NODE_LEASE_NAMESPACE);
        let name = name.to_owned();
        self.call(Task::Lease(name.clone()), async move {
            let renewal = serde_json::json!({"spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds),
                "renewTime": base::clock::rfc3339_micro(base::clock::now()),
            }});
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&renewal)).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    api.create(&PostParams::default(), &lease).await.map(|_| ())
                }
                other => other.map(|_| ()),
            }
        })
        .await;
    }

    /// Evaluates the load model and reports the nodes whose usage changed or was not reported for long.
    async fn report_usage(&mut self) {
        let now = Instant::now();
        if std::mem::take(&mut self.load_changed) {
            let mut by_node = self.usage_by_node();
            for (name, node) in &mut self.played {
                let usage = by_node.remove(name).unwrap_or_default();
                if node.usage != usage {
                    node.usage = usage;
                    node.changed = now;
                }
            }
        }
        let refresh = self.config.usage_refresh;
        let mut due: Vec<(Option<Instant>, String)> = self
            .played
            .iter()
            .filter(|(_, node)| node.is_report_due(now, refresh))
            .map(|(name, node)| (node.reported, name.clone()))
            .collect();
        due.sort();
        for (_, name) in due.into_iter().take(REPORTS_MAX) {
            self.report_node(name, now).await;
        }
    }

    fn usage_by_node(&self) -> BTreeMap<String, Vec<PodUsage>> {
        let mut services = Vec::new();
        self.services.for_each(|service| services.extend(LoadedService::of(service)));
        let mut running = Vec::new();
        self.pods.for_each(|pod| {
            let played = node_of(pod).is_some_and(|node| self.played.contains_key(node));
            if played && phase_of(pod) == "Running" {
                running.push(pod.clone());
            }
        });
        let pods: Vec<&Pod> = running.iter().map(Arc::as_ref).collect();
        let serving: Vec<&Pod> =
            pods.iter().copied().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        let received = spread(&services, &serving);
        let mut rps: BTreeMap<String, f64> = BTreeMap::new();
        for (pod, received) in serving.iter().zip(received) {
            if received > 0.0 {
                rps.insert(client::key_of(*pod), received);
            }
        }
        let mut by_node: BTreeMap<String, Vec<PodUsage>> = BTreeMap::new();
        for pod in pods {
            let received = rps.get(&client::key_of(pod)).copied().unwrap_or(0.0);
            let node = node_of(pod).unwrap_or_default().to_owned();
            by_node.entry(node).or_default().push(usage(pod, received));
        }
        by_node
    }

    async fn report_node(&mut self, name: String, now: Instant) {
        let Some(node) = self.played.get_mut(&name) else { return };
        node.reported = Some(now);
        let containers = || node.usage.iter().flat_map(|pod| &pod.containers);
        let mut report = NodeUsage::named(name.clone());
        report.timestamp = Some(MicroTime(base::clock::now()));
        report.window_milliseconds =
            i64::try_from(self.config.usage_interval.as_millis()).unwrap_or(i64::MAX);
        report.cpu_milli = containers().map(|container| container.cpu_milli).sum();
        report.memory_bytes = containers().map(|container| container.memory_bytes).sum();
        report.pods.clone_from(&node.usage);
        let api: Api<NodeUsage> = Api::all(self.client.clone());
        self.call(Task::Load, async move {
            // A PUT without a version replaces what is there, or creates it.
            api.replace(&name, &PostParams::default(), &report).await.map(|_| ())
        })
        .await;
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn phase_of(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

fn is_pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// The `number`th address of the block that starts at `a.b.0.0`.
fn address(a: u8, b: u8, number: u32) -> String {
    let number = (u32::from(b) << 16).wrapping_add(number);
    format!("{a}.{}.{}.{}", (number >> 16) & 0xff, (number >> 8) & 0xff, number & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_run_through_their_block() {
        assert_eq!(address(10, 128, 1), "10.128.0.1");
        assert_eq!(address(10, 128, 0x0001_0203), "10.129.2.3");
    }
}
