//! All pods of the node: one worker for each, and the removal of what belongs to none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Event, Informer, Scope};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ContainerState, Runtime, Sandbox};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::identity::{self, PodId};
use crate::pod::{Update, Worker};
use crate::{Config, Shared, cgroup, volume};

const ORPHANS_EVERY: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_secs(1);

/// The pods bound to this node.
pub(crate) fn informer(config: &Config) -> Informer<Pod> {
    let fields = Some(format!("spec.nodeName={}", config.node_name));
    config.informers.scoped(Scope { fields, ..Scope::default() })
}

/// News from the informer; only the latest of each pod matters.
#[derive(Default)]
struct Inbox {
    updates: Mutex<BTreeMap<PodId, Update>>,
    filled: Notify,
}

struct Handle {
    updates: watch::Sender<Update>,
}

/// Runs for ever; dropping the future leaves the pods alone.
pub(crate) async fn run(shared: Arc<Shared>, informer: Informer<Pod>) {
    let inbox = Arc::new(Inbox::default());
    let filling = inbox.clone();
    informer.on_event(move |event| {
        let pod = event.object().clone();
        let gone = matches!(event, Event::Deleted(_));
        let mut updates = filling.updates.lock().unwrap_or_else(PoisonError::into_inner);
        updates.insert(PodId::of(&pod), Update { pod, gone });
        filling.filled.notify_one();
    });
    informer.synced().await;
    let mut workers: BTreeMap<PodId, Handle> = BTreeMap::new();
    let mut tasks: JoinSet<PodId> = JoinSet::new();
    let mut orphans = interval(ORPHANS_EVERY);
    orphans.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listen = listen(&shared);
    tokio::pin!(listen);
    loop {
        tokio::select! {
            () = inbox.filled.notified() => {
                let updates = std::mem::take(&mut *inbox.updates.lock().unwrap_or_else(PoisonError::into_inner));
                for (id, update) in updates {
                    deliver(&shared, &mut workers, &mut tasks, id, update);
                }
            }
            Some(ended) = tasks.join_next() => {
                if let Ok(id) = ended {
                    workers.remove(&id);
                }
            }
            _ = orphans.tick() => {
                let mut known: BTreeSet<String> = workers.keys().map(|id| id.uid.clone()).collect();
                informer.for_each(|pod| known.extend(pod.metadata.uid.clone()));
                if let Err(error) = remove_orphans(&shared, &known).await {
                    tracing::warn!(%error, "cannot look for orphaned sandboxes");
                }
            }
            () = &mut listen => {}
        }
    }
}

fn deliver(
    shared: &Arc<Shared>,
    workers: &mut BTreeMap<PodId, Handle>,
    tasks: &mut JoinSet<PodId>,
    id: PodId,
    update: Update,
) {
    match workers.get(&id) {
        Some(handle) => {
            handle.updates.send_replace(update);
        }
        None if update.gone => {}
        None => {
            let (updates, receiver) = watch::channel(update);
            let worker = Worker::new(shared.clone(), receiver, Arc::new(Notify::new()));
            workers.insert(id.clone(), Handle { updates });
            tasks.spawn(async move {
                worker.run().await;
                id
            });
        }
    }
}

/// Wakes workers when the engine says that something changed. Never ends.
async fn listen(shared: &Shared) {
    loop {
        match shared.config.runtime.changes().await {
            Ok(mut changes) => {
                while let Some(change) = changes.next().await {
                    shared.owners.wake(&change.id);
                }
            }
            Err(error) => tracing::debug!(%error, "no events from the container runtime"),
        }
        // What happened meanwhile was missed.
        sleep(RECONNECT).await;
        shared.owners.wake_all();
    }
}

/// Removes sandboxes, directories, logs and cgroups of pods whose UIDs nobody knows any more.
async fn remove_orphans(shared: &Shared, known: &BTreeSet<String>) -> runtime::Result<()> {
    let runtime = shared.config.runtime.as_ref();
    for sandbox in runtime.sandboxes(&runtime::Labels::new()).await? {
        let Some(id) = PodId::from_labels(&sandbox.labels).filter(|id| !known.contains(&id.uid)) else {
            continue;
        };
        tracing::info!(pod = id.name, namespace = id.namespace, "removing a pod that is gone from the API");
        remove_sandbox(runtime, &sandbox, None).await?;
        for class in ["", "/burstable", "/besteffort"] {
            cgroup::remove(&format!("{}{class}/pod{}", shared.config.cgroup_root, id.uid));
        }
    }
    for (uid, directory) in directories(&shared.config.root_dir.join("pods")) {
        if !known.contains(&uid)
            && let Err(error) = volume::tear_down(&directory)
        {
            tracing::warn!(path = %directory.display(), %error, "cannot remove a pod's directory");
        }
    }
    for (uid, directory) in directories(&shared.config.log_dir) {
        if !known.contains(&uid)
            && let Err(error) = std::fs::remove_dir_all(&directory)
        {
            tracing::warn!(path = %directory.display(), %error, "cannot remove a pod's logs");
        }
    }
    Ok(())
}

/// The directories of pods below `root`, by UID: the last part of their names.
fn directories(root: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let uid = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name.rsplit('_').next()?.to_owned(), entry.path()))
    };
    entries.filter_map(uid).collect()
}

/// Stops and removes a sandbox. Containers get the pod's grace period, at most `limit`.
pub(crate) async fn remove_sandbox(
    runtime: &dyn Runtime,
    sandbox: &Sandbox,
    limit: Option<Duration>,
) -> runtime::Result<()> {
    let grace = sandbox.annotations.get(identity::GRACE_PERIOD).and_then(|s| s.parse().ok()).unwrap_or(30);
    let grace = Duration::from_secs(grace).min(limit.unwrap_or(Duration::MAX));
    let id = PodId::from_labels(&sandbox.labels).unwrap_or_default();
    let containers = runtime.containers(&id.selector()).await?;
    let running =
        containers.iter().filter(|c| c.state == ContainerState::Running && c.sandbox_id == sandbox.id);
    let stops = futures::future::join_all(running.map(|c| runtime.stop_container(&c.id, grace))).await;
    stops.into_iter().collect::<runtime::Result<Vec<()>>>()?;
    runtime.stop_sandbox(&sandbox.id).await?;
    runtime.remove_sandbox(&sandbox.id).await
}
