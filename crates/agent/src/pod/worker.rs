//! The loop around one pod: look, decide, act, report. It is level-triggered: every turn starts from what
//! the engine says, so a turn may come too often or follow a crash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use runtime::ContainerState;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::fields::Facts;
use super::image::Pull;
use super::observed::Observed;
use super::plan::{Memory, Plan, Step, plan, termination};
use super::probe::{Announce, Kind, Prober, Target};
use super::spec::{self, Role};
use super::start::Started;
use super::write_status::Written;
use crate::Shared;
use crate::identity::PodId;

/// Even without any news a pod is looked at this often.
const RESYNC: Duration = Duration::from_secs(60);
/// Volumes with content from the API are brought up to date this often.
const REFRESH: Duration = Duration::from_secs(10);
/// After an error of the engine or the API.
const RETRY: Duration = Duration::from_secs(1);
const REPORTS_MAX: usize = 64;

/// The newest state of a pod's API object.
#[derive(Clone)]
pub(crate) struct Update {
    pub pod: Arc<Pod>,
    /// The object is gone.
    pub gone: bool,
}

/// News from the tasks of a worker.
pub(crate) enum Report {
    /// A probe's outcome changed.
    Probe { container: String, kind: Kind, ok: bool },
    /// A pull ended.
    Pulled { container: String, reference: String, result: runtime::Result<()>, took: Duration },
    /// A container's stop ended.
    Stopped { container: String, result: runtime::Result<()> },
}

/// What ends a turn.
pub(super) enum Next {
    /// The pod is gone from this node.
    Done,
    /// Look again after this long at the latest.
    After(Duration),
}

/// One pod's worker.
pub(crate) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PodId,
    updates: watch::Receiver<Update>,
    wake: Arc<Notify>,
    pub(super) reports: mpsc::Sender<Report>,
    news: mpsc::Receiver<Report>,
    pub(super) pod: Arc<Pod>,
    pub(super) observed: Observed,
    pub(super) memory: Memory,
    dead: BTreeMap<String, runtime::Container>,
    probers: BTreeMap<(String, Kind), Prober>,
    pub(super) pulls: BTreeMap<String, Pull>,
    /// When each container that is being stopped will be dead at the latest, by id.
    pub(super) deadlines: BTreeMap<String, Instant>,
    pub(super) written: Written,
    pub(super) messages: BTreeMap<String, String>,
    /// Why the agent ended the pod, if it did.
    pub(super) failure: Option<(String, String)>,
    pub(super) volumes: BTreeMap<String, PathBuf>,
    refresh_at: Option<Instant>,
    /// Failed attempts in a row to prepare volumes or the sandbox.
    pub(super) failures: u32,
}

impl Worker {
    /// A worker that ends when the pod is gone or the sender of `updates` is dropped.
    pub(crate) fn new(shared: Arc<Shared>, updates: watch::Receiver<Update>, wake: Arc<Notify>) -> Self {
        let pod = updates.borrow().pod.clone();
        let (reports, news) = mpsc::channel(REPORTS_MAX);
        Self {
            id: PodId::of(&pod),
            written: Written::of(pod.status.clone().unwrap_or_default()),
            shared,
            updates,
            wake,
            reports,
            news,
            pod,
            observed: Observed::default(),
            memory: Memory::default(),
            dead: BTreeMap::new(),
            probers: BTreeMap::new(),
            pulls: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            messages: BTreeMap::new(),
            failure: None,
            volumes: BTreeMap::new(),
            refresh_at: None,
            failures: 0,
        }
    }

    /// Runs until the pod is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let wait = match self.turn().await {
                Ok(Next::Done) => return,
                Ok(Next::After(wait)) => wait.min(RESYNC),
                Err(error) => {
                    tracing::warn!(pod = self.id.name, namespace = self.id.namespace, %error, "pod turn failed");
                    RETRY
                }
            };
            tokio::select! {
                changed = self.updates.changed() => if changed.is_err() { return },
                Some(report) = self.news.recv() => self.take(report),
                () = self.wake.notified() => {}
                () = sleep(wait) => {}
            }
            while let Ok(report) = self.news.try_recv() {
                self.take(report);
            }
        }
    }

    /// Returns when the pod is to be deleted.
    pub(super) fn deletion(&self) -> impl Future<Output = ()> + use<> {
        let mut updates = self.updates.clone();
        async move {
            let ends = |u: &Update| u.gone || u.pod.metadata.deletion_timestamp.is_some();
            // Without a sender the agent is shutting down, which ends this future too.
            let _ = updates.wait_for(ends).await;
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Probe { container, kind, ok } => {
                let health = self.memory.health.entry(container).or_default();
                match kind {
                    Kind::Startup if ok => health.started = true,
                    Kind::Readiness => health.ready = ok,
                    Kind::Startup | Kind::Liveness => health.unhealthy = !ok,
                }
            }
            Report::Pulled { container, reference, result, took } => {
                self.pulled(&container, &reference, result, took);
            }
            Report::Stopped { container, result } => {
                self.memory.stopping.remove(&container);
                self.deadlines.remove(&container);
                if let Err(error) = result {
                    tracing::warn!(container, %error, "cannot stop a container");
                }
            }
        }
    }

    pub(super) async fn look(&mut self) -> runtime::Result<()> {
        let runtime = self.shared.config.runtime.clone();
        self.observed = Observed::look(runtime.as_ref(), &self.id, &mut self.dead).await?;
        let ids = self.observed.containers.iter().map(|c| &c.id);
        let ids = ids.chain(self.observed.sandboxes.iter().map(|s| &s.id));
        self.shared.owners.claim(&self.id, ids, &self.wake);
        self.read_termination_messages();
        Ok(())
    }

    async fn turn(&mut self) -> Result<Next, crate::Error> {
        let update = self.updates.borrow_and_update().clone();
        self.pod = update.pod;
        self.look().await?;
        self.tend_probes();
        if update.gone || self.pod.metadata.deletion_timestamp.is_some() {
            return self.terminate(update.gone).await;
        }
        let deadline = self.check_deadline();
        let ended = self.failure.is_some()
            || matches!(self.written.status().phase.as_deref(), Some("Succeeded" | "Failed"));
        let plan = if ended {
            let steps = termination(&self.pod, &self.observed, &self.memory);
            Plan { finished: self.observed.running().next().is_none(), steps }
        } else {
            plan(&self.pod, &self.observed, &self.memory, now())
        };
        if plan.finished {
            return self.finish().await;
        }
        let wait = if ended { self.act(plan).await? } else { self.advance(plan).await? };
        self.tend_probes();
        self.publish(false).await?;
        Ok(Next::After(wait.min(deadline)))
    }

    /// Brings a pod that should run closer to running.
    async fn advance(&mut self, plan: Plan) -> Result<Duration, crate::Error> {
        let starts = plan.steps.iter().any(|s| matches!(s, Step::Start { .. }));
        let volumes = self.refresh_volumes(starts).await;
        if let Err(error) = volumes {
            if starts {
                self.pod_event(EventType::Warning, "FailedMount", error);
                return Ok(self.next_failure());
            }
            tracing::warn!(pod = self.id.name, error, "cannot update a volume");
        }
        if !starts {
            return self.act(plan).await;
        }
        if self.observed.sandbox().is_none() {
            // Visible as Pending, with a start time, before the slow part.
            self.publish(false).await?;
            if let Err(error) = self.new_sandbox().await {
                self.pod_event(
                    EventType::Warning,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}"),
                );
                return Ok(self.next_failure());
            }
            self.look().await?;
            // A new sandbox changes what is next: init containers run again in it.
            self.failures = 0;
            let plan = super::plan::plan(&self.pod, &self.observed, &self.memory, now());
            return self.act(plan).await;
        }
        self.failures = 0;
        self.act(plan).await
    }

    /// Carries out the steps; returns when to look again.
    async fn act(&mut self, plan: Plan) -> Result<Duration, crate::Error> {
        let mut wait = if self.volumes.is_empty() { RESYNC } else { REFRESH };
        for step in plan.steps {
            let more = match step {
                Step::Start { name, finished } => match self.start(&name, finished).await? {
                    Started::Yes => Duration::ZERO,
                    Started::Later(wait) => wait,
                },
                Step::Stop { id, name, why } => {
                    self.stop(&id, &name, why);
                    RESYNC
                }
                Step::Discard { id } => {
                    self.shared.config.runtime.remove_container(&id).await?;
                    Duration::ZERO
                }
                Step::BackOff { name, remaining } => {
                    self.crash_loop(&name);
                    remaining
                }
            };
            wait = wait.min(more);
        }
        if wait.is_zero() {
            self.look().await?;
            // Whatever became possible by this is for the next turn, right away.
            wait = Duration::from_millis(1);
        }
        Ok(wait)
    }

    fn crash_loop(&mut self, name: &str) {
        let delay =
            self.memory.backoff.get(name).map(super::backoff::CrashBackoff::delay).unwrap_or_default();
        let PodId { namespace, name: pod, uid } = &self.id;
        let text = format!("restarting failed container={name} pod={pod}_{namespace}({uid})");
        let known = self.memory.waiting.get(name).is_some_and(|w| w.reason == "CrashLoopBackOff");
        self.memory.set_waiting(name, "CrashLoopBackOff", format!("back-off {} {text}", minutes(delay)));
        if !known {
            self.container_event(name, EventType::Warning, "BackOff", format!("Back-off {text}"));
        }
    }

    fn next_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(500).saturating_mul(1 << self.failures.min(8)).min(Duration::from_secs(120))
    }

    async fn refresh_volumes(&mut self, starts: bool) -> Result<(), String> {
        let due = self.refresh_at.is_none_or(|at| Instant::now() >= at);
        if !(due || starts && self.volumes.is_empty()) {
            return Ok(());
        }
        let facts = self.facts();
        let directory = self.directory().join("volumes");
        self.volumes = crate::volume::set_up(&self.shared.objects, &self.pod, &facts, &directory).await?;
        self.refresh_at = Some(Instant::now() + REFRESH);
        Ok(())
    }

    /// Fails a pod that has run longer than it may; returns how long it still may.
    fn check_deadline(&mut self) -> Duration {
        let seconds = self.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        let started = self.written.status().start_time.as_ref().map(|t| t.0);
        let (Some(seconds), Some(started)) = (seconds, started) else { return RESYNC };
        let elapsed = base::clock::now().duration_since(started).as_secs();
        if elapsed >= seconds && self.failure.is_none() {
            let text = "Pod was active on the node longer than the specified deadline".to_owned();
            self.pod_event(EventType::Normal, "DeadlineExceeded", text.clone());
            self.failure = Some(("DeadlineExceeded".to_owned(), text));
        }
        u64::try_from(seconds - elapsed).map_or(RESYNC, |s| Duration::from_secs(s.max(1)))
    }

    /// Starts the probes that running containers lack and ends those of dead ones.
    fn tend_probes(&mut self) {
        let Some(spec) = self.pod.spec.clone() else { return };
        let running: BTreeMap<String, runtime::Container> =
            self.observed.running().map(|c| (c.id.clone(), c.clone())).collect();
        self.memory.health.retain(|id, _| running.contains_key(id));
        let deleting = self.pod.metadata.deletion_timestamp.is_some();
        self.probers
            .retain(|(id, kind), _| running.contains_key(id) && (!deleting || *kind == Kind::Readiness));
        for (role, container) in spec::containers(&spec) {
            let Some(current) = self.observed.latest(&container.name) else { continue };
            if current.state != ContainerState::Running {
                continue;
            }
            let current = current.clone();
            self.adopt(container, &current);
            if role == Role::Init || deleting {
                continue;
            }
            let started = self.memory.health(&current.id).started;
            if started {
                self.probers.remove(&(current.id.clone(), Kind::Startup));
                self.probe(container, &current, Kind::Liveness);
                self.probe(container, &current, Kind::Readiness);
            } else {
                self.probe(container, &current, Kind::Startup);
            }
        }
    }

    /// A running container without a record was started by an earlier run of the agent: what the API says
    /// of it holds until its probes say otherwise.
    fn adopt(&mut self, container: &Container, current: &runtime::Container) {
        if self.memory.health.contains_key(&current.id) {
            return;
        }
        let status = self.written.status();
        let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        let known = all.filter(|s| s.name == container.name);
        let known =
            known.into_iter().find(|s| s.container_id.as_deref().is_some_and(|i| i.ends_with(&current.id)));
        let health = super::plan::Health {
            started: container.startup_probe.is_none() || known.and_then(|s| s.started) == Some(true),
            ready: container.readiness_probe.is_none() || known.is_some_and(|s| s.ready),
            unhealthy: false,
        };
        self.memory.health.insert(current.id.clone(), health);
    }

    fn probe(&mut self, container: &Container, current: &runtime::Container, kind: Kind) {
        let Some(probe) = kind.of(container) else { return };
        let key = (current.id.clone(), kind);
        if self.probers.contains_key(&key) {
            return;
        }
        let target = Target {
            runtime: self.shared.config.runtime.clone(),
            container: container.clone(),
            container_id: current.id.clone(),
            ip: self.facts().pod_ips.first().cloned().unwrap_or_default(),
        };
        let age = Duration::from_nanos(u64::try_from(now() - current.started_at).unwrap_or(0));
        let announce = self.announcer(&container.name);
        let prober = Prober::start(kind, probe.clone(), target, age, self.reports.clone(), announce);
        self.probers.insert(key, prober);
    }

    pub(super) fn facts(&self) -> Facts {
        let config = &self.shared.config;
        let host = self.pod.spec.as_ref().is_some_and(spec::host_network);
        let pod_ips = match self.observed.sandbox() {
            Some(_) if host => vec![config.node_ip.clone()],
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        Facts {
            pod_ips,
            host_ip: config.node_ip.clone(),
            node_name: config.node_name.clone(),
            node_cpu_milli: self.shared.machine.cpu_milli,
            node_memory: self.shared.machine.memory,
        }
    }

    /// The pod's directory on this machine.
    pub(super) fn directory(&self) -> PathBuf {
        self.shared.pod_directory(&self.id.uid)
    }

    pub(super) fn pod_event(&self, kind: EventType, reason: &str, message: String) {
        self.shared.recorder.event(&client::reference_to(self.pod.as_ref()), kind, reason, message);
    }

    pub(super) fn container_event(&self, name: &str, kind: EventType, reason: &str, message: String) {
        self.announcer(name)(kind, reason, message);
    }

    pub(super) fn announcer(&self, name: &str) -> Announce {
        let list = match self.pod.spec.as_ref().and_then(|s| spec::find_any(s, name)) {
            Some((Role::Main, _)) | None => "containers",
            Some((Role::Ephemeral, _)) => "ephemeralContainers",
            _ => "initContainers",
        };
        let mut about = client::reference_to(self.pod.as_ref());
        about.field_path = Some(format!("spec.{list}{{{name}}}"));
        let recorder = self.shared.recorder.clone();
        Arc::new(move |kind, reason, message| recorder.event(&about, kind, reason, message))
    }

    /// Shows why a container does not start, and says so once.
    pub(super) fn fail_to_start(&mut self, name: &str, reason: &str, message: String) {
        let known = self.memory.waiting.get(name).is_some_and(|w| w.reason == reason && w.message == message);
        if !known {
            self.container_event(name, EventType::Warning, "Failed", format!("Error: {message}"));
        }
        self.memory.set_waiting(name, reason, message);
    }

    pub(super) fn status_before(&self, name: &str) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
        let status: &PodStatus = self.written.status();
        let all = status.init_container_statuses.iter().chain(&status.container_statuses);
        all.chain(&status.ephemeral_container_statuses).flatten().find(|s| s.name == name)
    }
}

/// The wall clock in the engine's unit.
pub(super) fn now() -> runtime::UnixNanos {
    i64::try_from(base::clock::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Go's text of a duration of whole seconds.
fn minutes(delay: Duration) -> String {
    match delay.as_secs() {
        s if s < 60 => format!("{s}s"),
        s => format!("{}m{}s", s / 60, s % 60),
    }
}
