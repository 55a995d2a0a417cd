//! The status of a pod as the API shows it: a pure function of the specification, of what the engine says
//! and of what the agent remembers. Reasons, messages and the phase follow upstream's kubelet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use runtime::{Container, ContainerState, UnixNanos};

use super::observed::Observed;
use super::plan::Memory;
use super::spec::{self, RestartPolicy, Role};

/// What else the status depends on.
pub(crate) struct Context<'a> {
    pub pod: &'a core::Pod,
    pub observed: &'a Observed,
    pub memory: &'a Memory,
    /// The status that was last written, whose times are kept where nothing changed.
    pub previous: &'a core::PodStatus,
    pub host_ip: &'a str,
    /// Name of the engine, the scheme of container identifiers.
    pub engine: &'a str,
    /// Termination messages by container id.
    pub messages: &'a BTreeMap<String, String>,
    /// Why the agent ended the pod, if it did.
    pub failure: Option<&'a (String, String)>,
    /// Everything has been stopped for good.
    pub finished: bool,
    pub now: Timestamp,
}

pub(crate) fn time(nanos: UnixNanos) -> Time {
    // Upstream's times have whole seconds.
    Time(Timestamp::from_second(nanos.div_euclid(1_000_000_000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Builds the status.
pub(crate) fn pod_status(context: &Context<'_>) -> core::PodStatus {
    let empty = core::PodSpec::default();
    let spec = context.pod.spec.as_ref().unwrap_or(&empty);
    let statuses = |wanted: fn(Role) -> bool| -> Vec<core::ContainerStatus> {
        spec::containers(spec)
            .filter(|(role, _)| wanted(*role))
            .map(|(role, c)| container_status(context, spec, role, c))
            .collect()
    };
    let init = statuses(|role| role != Role::Main);
    let main = statuses(|role| role == Role::Main);
    let ephemeral: Vec<core::ContainerStatus> = spec::ephemeral(spec)
        .map(|container| core::ContainerStatus {
            // Nobody waits for these.
            ready: false,
            started: None,
            ..container_status(context, spec, Role::Ephemeral, &container)
        })
        .collect();
    let (mut phase, mut reason, mut message) = (phase(spec, &init, &main, context.finished), None, None);
    if let Some((why, text)) = context.failure {
        phase = "Failed";
        (reason, message) = (Some(why.clone()), Some(text.clone()));
    }
    // A phase that says the end is never taken back.
    if let Some(end @ ("Succeeded" | "Failed")) = context.previous.phase.as_deref() {
        phase = if end == "Failed" { "Failed" } else { "Succeeded" };
        reason = reason.or_else(|| context.previous.reason.clone());
        message = message.or_else(|| context.previous.message.clone());
    }
    let conditions = conditions(context, spec, phase, &init, &main);
    let ips = pod_ips(context, spec);
    core::PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: Some(context.host_ip.to_owned()),
        host_ips: Some(vec![core::HostIP { ip: context.host_ip.to_owned() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| core::PodIP { ip }).collect()),
        start_time: context.previous.start_time.clone().or_else(|| Some(seconds(context.now))),
        observed_generation: context.pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..core::PodStatus::default()
    }
}

fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn pod_ips(context: &Context<'_>, spec: &core::PodSpec) -> Vec<String> {
    let sandbox = context.observed.sandbox();
    if spec::host_network(spec) {
        return sandbox.map(|_| vec![context.host_ip.to_owned()]).unwrap_or_default();
    }
    match sandbox {
        Some(sandbox) => sandbox.ips.clone(),
        // An ended pod keeps showing the address it had.
        None => context.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    }
}

fn container_status(
    context: &Context<'_>,
    spec: &core::PodSpec,
    role: Role,
    container: &core::Container,
) -> core::ContainerStatus {
    let name = &container.name;
    let mut attempts = context.observed.attempts(name).filter(|c| c.state != ContainerState::Created);
    let (latest, earlier) = (attempts.next(), attempts.next());
    let before = previous_status(context.previous, name);
    let Some(latest) = latest else { return never_seen(context, spec, container, before) };
    let health = context.memory.health(&latest.id);
    let running = latest.state == ContainerState::Running;
    let waiting = context.memory.waiting.get(name).filter(|_| !running);
    let terminated = |c: &Container| terminated(context, c);
    let last = || earlier.filter(|c| c.state == ContainerState::Exited).map(terminated);
    let (state, last_state) = match (latest.state, waiting) {
        (ContainerState::Running, _) => (running_since(latest.started_at), last()),
        (_, Some(waiting)) => (waiting_for(&waiting.reason, &waiting.message), Some(terminated(latest))),
        (ContainerState::Exited, None) => (terminated(latest), last()),
        _ => (waiting_for("ContainerCreating", ""), last()),
    };
    let last_state = last_state.or_else(|| before.and_then(|b| b.last_state.clone()));
    core::ContainerStatus {
        name: name.clone(),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ready: match role {
            Role::Init => latest.state == ContainerState::Exited && latest.exit_code == 0,
            _ => running && health.started && health.ready,
        },
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        image: shown_image(container, latest),
        image_id: latest.image_ref.clone(),
        container_id: Some(format!("{}://{}", context.engine, latest.id)),
        started: Some(running && health.started),
        ..core::ContainerStatus::default()
    }
}

/// The engine may know an image only by its digest, which says nothing to people.
fn shown_image(container: &core::Container, latest: &Container) -> String {
    if latest.image.is_empty() || latest.image.starts_with("sha256:") {
        spec::image(container).to_owned()
    } else {
        latest.image.clone()
    }
}

fn previous_status<'a>(status: &'a core::PodStatus, name: &str) -> Option<&'a core::ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    init.chain(main).chain(status.ephemeral_container_statuses.iter().flatten()).find(|s| s.name == name)
}

/// The status of a container that the engine does not know.
fn never_seen(
    context: &Context<'_>,
    spec: &core::PodSpec,
    container: &core::Container,
    before: Option<&core::ContainerStatus>,
) -> core::ContainerStatus {
    let waiting = match context.memory.waiting.get(&container.name) {
        Some(waiting) => waiting_for(&waiting.reason, &waiting.message),
        None if spec.init_containers.iter().flatten().next().is_some() => waiting_for("PodInitializing", ""),
        None => waiting_for("ContainerCreating", ""),
    };
    let mut status = core::ContainerStatus {
        name: container.name.clone(),
        image: spec::image(container).to_owned(),
        state: Some(waiting),
        last_state: Some(core::ContainerState::default()),
        started: Some(false),
        ..core::ContainerStatus::default()
    };
    if let Some(before) = before.filter(|b| b.container_id.is_some()) {
        keep_what_was(&mut status, before, context.finished);
    }
    status
}

/// A container that once ran but that the engine has lost, by a reboot for example.
fn keep_what_was(status: &mut core::ContainerStatus, before: &core::ContainerStatus, finished: bool) {
    let was = before.state.clone().unwrap_or_default();
    let lost = core::ContainerState {
        terminated: Some(was.terminated.unwrap_or_else(|| core::ContainerStateTerminated {
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            exit_code: 137,
            ..core::ContainerStateTerminated::default()
        })),
        ..core::ContainerState::default()
    };
    status.restart_count = before.restart_count;
    status.container_id.clone_from(&before.container_id);
    status.image_id.clone_from(&before.image_id);
    if finished {
        status.state = Some(lost);
        status.last_state.clone_from(&before.last_state);
    } else {
        status.last_state = Some(lost);
    }
}

fn running_since(started: UnixNanos) -> core::ContainerState {
    let running = core::ContainerStateRunning { started_at: Some(time(started)) };
    core::ContainerState { running: Some(running), ..core::ContainerState::default() }
}

fn waiting_for(reason: &str, message: &str) -> core::ContainerState {
    let waiting = core::ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then(|| message.to_owned()),
    };
    core::ContainerState { waiting: Some(waiting), ..core::ContainerState::default() }
}

fn terminated(context: &Context<'_>, container: &Container) -> core::ContainerState {
    let reason = match (container.reason.as_str(), container.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let said = context.messages.get(&container.id).filter(|m| !m.is_empty());
    let message = said.or(Some(&container.message)).filter(|m| !m.is_empty());
    let terminated = core::ContainerStateTerminated {
        exit_code: container.exit_code,
        reason: Some(reason.to_owned()),
        message: message.cloned(),
        started_at: Some(time(container.started_at)),
        finished_at: Some(time(container.finished_at)),
        container_id: Some(format!("{}://{}", context.engine, container.id)),
        signal: None,
    };
    core::ContainerState { terminated: Some(terminated), ..core::ContainerState::default() }
}

fn state(status: &core::ContainerStatus) -> core::ContainerState {
    status.state.clone().unwrap_or_default()
}

/// Whether init container `status` no longer holds up the pod.
fn initialized(role: Role, status: &core::ContainerStatus) -> bool {
    match role {
        Role::Sidecar => status.started.unwrap_or(false),
        _ => state(status).terminated.is_some_and(|t| t.exit_code == 0),
    }
}

fn phase(
    spec: &core::PodSpec,
    init: &[core::ContainerStatus],
    main: &[core::ContainerStatus],
    finished: bool,
) -> &'static str {
    let policy = RestartPolicy::of(spec);
    let roles = || spec.init_containers.iter().flatten().map(spec::role_of_init);
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in main {
        let now = state(status);
        if now.running.is_some() {
            running += 1;
        } else if let Some(terminated) = now.terminated {
            stopped += 1;
            succeeded += usize::from(terminated.exit_code == 0);
        } else if status.last_state.as_ref().is_some_and(|l| l.terminated.is_some()) {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    let begun = running + stopped > 0;
    for (role, status) in roles().zip(init).filter(|_| !begun) {
        let failed = state(status).terminated.is_some_and(|t| t.exit_code != 0);
        if role == Role::Init && failed && policy == RestartPolicy::Never {
            return "Failed";
        }
        if !initialized(role, status) {
            return if finished { "Failed" } else { "Pending" };
        }
    }
    // Sidecars are asked to end only after the last main container has.
    let sidecar_running =
        roles().zip(init).any(|(role, s)| role == Role::Sidecar && state(s).running.is_some());
    if finished && waiting + stopped > 0 && running == 0 {
        return if succeeded == main.len() { "Succeeded" } else { "Failed" };
    }
    match () {
        () if waiting > 0 => "Pending",
        () if running > 0 || sidecar_running || policy == RestartPolicy::Always => "Running",
        () if stopped == succeeded => "Succeeded",
        () if policy == RestartPolicy::Never => "Failed",
        () => "Running",
    }
}

struct Condition {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn holds(kind: &'static str) -> Self {
        Self { kind, status: true, reason: "", message: String::new() }
    }

    fn fails(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: false, reason, message: message.into() }
    }
}

fn conditions(
    context: &Context<'_>,
    spec: &core::PodSpec,
    phase: &str,
    init: &[core::ContainerStatus],
    main: &[core::ContainerStatus],
) -> Vec<core::PodCondition> {
    let sandbox = match context.observed.sandbox() {
        Some(_) => Condition::holds("PodReadyToStartContainers"),
        None => Condition { reason: "", ..Condition::fails("PodReadyToStartContainers", "", "") },
    };
    let begun = main.iter().any(|s| state(s).running.is_some() || s.container_id.is_some());
    let roles = spec.init_containers.iter().flatten().map(spec::role_of_init);
    let pending: Vec<&str> = roles
        .zip(init)
        .filter(|(role, status)| !(initialized(*role, status) || begun && *role == Role::Sidecar))
        .map(|(_, status)| status.name.as_str())
        .collect();
    let initialized = match (phase, pending.is_empty()) {
        ("Succeeded", _) => Condition { reason: "PodCompleted", ..Condition::holds("Initialized") },
        (_, true) => Condition::holds("Initialized"),
        _ => {
            let message = format!("containers with incomplete status: [{}]", pending.join(" "));
            Condition::fails("Initialized", "ContainersNotInitialized", message)
        }
    };
    let containers = containers_ready(spec, phase, init, main);
    let ready = pod_ready(context, spec, &containers);
    [sandbox, initialized, containers, ready].into_iter().map(|c| dated(context, c)).collect()
}

fn containers_ready(
    spec: &core::PodSpec,
    phase: &str,
    init: &[core::ContainerStatus],
    main: &[core::ContainerStatus],
) -> Condition {
    let kind = "ContainersReady";
    if phase == "Succeeded" {
        return Condition::fails(kind, "PodCompleted", "");
    }
    if phase == "Failed" {
        return Condition::fails(kind, "PodFailed", "");
    }
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .zip(init)
        .filter(|(c, _)| spec::role_of_init(c) == Role::Sidecar)
        .map(|(_, s)| s);
    let unready: Vec<&str> = sidecars.chain(main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Condition::holds(kind);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Condition::fails(kind, "ContainersNotReady", message)
}

fn pod_ready(context: &Context<'_>, spec: &core::PodSpec, containers: &Condition) -> Condition {
    if !containers.status {
        return Condition { kind: "Ready", message: containers.message.clone(), ..*containers };
    }
    let present = context.pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let unmet = |gate: &core::PodReadinessGate| match present.iter().find(|c| c.type_ == gate.condition_type)
    {
        None => Some(format!(
            "corresponding condition of pod readiness gate {:?} does not exist.",
            gate.condition_type
        )),
        Some(c) if c.status != "True" => Some(format!(
            "the status of pod readiness gate {:?} is not \"True\", but {}",
            gate.condition_type, c.status
        )),
        Some(_) => None,
    };
    let unmet: Vec<String> = spec.readiness_gates.iter().flatten().filter_map(unmet).collect();
    if unmet.is_empty() {
        return Condition::holds("Ready");
    }
    Condition::fails("Ready", "ReadinessGatesNotReady", unmet.join(", "))
}

/// Gives a condition the time of its last transition.
fn dated(context: &Context<'_>, condition: Condition) -> core::PodCondition {
    let status = if condition.status { "True" } else { "False" };
    let before = context.previous.conditions.iter().flatten().find(|c| c.type_ == condition.kind);
    let unchanged = before.filter(|b| b.status == status).and_then(|b| b.last_transition_time.clone());
    core::PodCondition {
        type_: condition.kind.to_owned(),
        status: status.to_owned(),
        reason: (!condition.reason.is_empty()).then(|| condition.reason.to_owned()),
        message: (!condition.message.is_empty()).then_some(condition.message),
        last_transition_time: Some(unchanged.unwrap_or_else(|| seconds(context.now))),
        observed_generation: context.pod.metadata.generation,
        last_probe_time: None,
    }
}
