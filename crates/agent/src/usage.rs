//! Publishes what the node and its containers use, every second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::usage::{ContainerUsage, NodeUsage, PodUsage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use runtime::{ContainerStats, UnixNanos};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::identity::{CONTAINER_NAME, PodId};
use crate::{Shared, machine};

const EVERY: Duration = Duration::from_secs(1);

/// Runs for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let api: Api<NodeUsage> = Api::all(shared.config.client.clone());
    let mut meter = Meter::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = match shared.config.runtime.stats().await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::debug!(%error, "no statistics from the container runtime");
                continue;
            }
        };
        let Some(usage) = meter.read(&shared.config.node_name, stats) else { continue };
        if let Err(error) = put(&api, &shared.config.node_name, usage).await {
            tracing::debug!(%error, "cannot publish usage");
        }
    }
}

async fn put(api: &Api<NodeUsage>, name: &str, usage: NodeUsage) -> kube::Result<()> {
    match api.replace(name, &PostParams::default(), &usage).await {
        Err(kube::Error::Api(e)) if e.code == 404 => {
            api.create(&PostParams::default(), &usage).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Turns running totals into rates.
#[derive(Default)]
struct Meter {
    containers: BTreeMap<String, (UnixNanos, Duration)>,
    node: Option<(Instant, u64)>,
}

impl Meter {
    /// `None` for the first reading, which has nothing to compare with.
    fn read(&mut self, node: &str, stats: Vec<ContainerStats>) -> Option<NodeUsage> {
        let mut pods: BTreeMap<PodId, PodUsage> = BTreeMap::new();
        let before = std::mem::take(&mut self.containers);
        for stat in stats {
            self.containers.insert(stat.id.clone(), (stat.timestamp, stat.cpu_usage));
            let (Some(id), Some(name)) = (PodId::from_labels(&stat.labels), stat.labels.get(CONTAINER_NAME))
            else {
                continue;
            };
            let Some(cpu_milli) = before.get(&stat.id).and_then(|earlier| rate(*earlier, &stat)) else {
                continue;
            };
            let memory_bytes = i64::try_from(stat.memory_working_set).unwrap_or(i64::MAX);
            let pod = pods.entry(id.clone()).or_insert_with(|| PodUsage {
                namespace: id.namespace,
                name: id.name,
                containers: Vec::new(),
            });
            pod.containers.push(ContainerUsage { name: name.clone(), cpu_milli, memory_bytes });
        }
        let now = Instant::now();
        let busy = machine::cpu_busy_milliseconds()?;
        let (earlier, busy_before) = self.node.replace((now, busy))?;
        let window = i64::try_from((now - earlier).as_millis()).ok().filter(|w| *w > 0)?;
        let mut usage = NodeUsage {
            timestamp: Some(MicroTime(base::clock::now())),
            window_milliseconds: window,
            cpu_milli: i64::try_from(busy.saturating_sub(busy_before)).unwrap_or(0) * 1000 / window,
            memory_bytes: machine::memory_in_use(),
            pods: pods.into_values().collect(),
            ..NodeUsage::named(node)
        };
        usage.metadata.name = Some(node.to_owned());
        Some(usage)
    }
}

/// Millicores between two readings of one container.
fn rate((earlier, used_before): (UnixNanos, Duration), now: &ContainerStats) -> Option<i64> {
    let elapsed = i128::from(now.timestamp) - i128::from(earlier);
    let used = now.cpu_usage.checked_sub(used_before)?.as_nanos();
    if elapsed <= 0 {
        return None;
    }
    i64::try_from(i128::try_from(used).ok()? * 1000 / elapsed).ok()
}
