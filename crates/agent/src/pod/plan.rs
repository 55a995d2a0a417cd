//! What to do next about a pod's containers: a pure function of the specification, of what the engine
//! says and of what the agent remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};
use runtime::{Container, ContainerState, UnixNanos};

use super::backoff::CrashBackoff;
use super::observed::Observed;
use super::spec::{self, RestartPolicy, Role};
use crate::identity;

/// What probes and hooks say about a running container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Its start hook has returned and its startup probe has succeeded.
    pub started: bool,
    /// Its readiness probe succeeds.
    pub ready: bool,
    /// A probe wants it killed.
    pub unhealthy: bool,
}

/// Why a container is not running yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What a pod's worker remembers between looks. All of it can be lost: it is rebuilt or starts over.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By container name.
    pub waiting: BTreeMap<String, Waiting>,
    /// By container name.
    pub backoff: BTreeMap<String, CrashBackoff>,
    /// By container id.
    pub health: BTreeMap<String, Health>,
    /// Containers being stopped, by id.
    pub stopping: BTreeSet<String>,
}

impl Memory {
    pub(crate) fn health(&self, id: &str) -> Health {
        self.health.get(id).copied().unwrap_or_default()
    }

    pub(crate) fn set_waiting(&mut self, name: &str, reason: &str, message: impl Into<String>) {
        let waiting = Waiting { reason: reason.to_owned(), message: message.into() };
        self.waiting.insert(name.to_owned(), waiting);
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Start a container, after `finished` if it ran before.
    Start { name: String, finished: Option<UnixNanos> },
    /// Stop a container.
    Stop { id: String, name: String, why: Why },
    /// Remove a container that was created but never started.
    Discard { id: String },
    /// A container may not start yet.
    BackOff { name: String, remaining: Duration },
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Unhealthy,
    DefinitionChanged,
    PodEnded,
    Lost,
}

/// The next steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    /// Nothing will ever run again: the sandbox can go.
    pub finished: bool,
}

/// Decides the next steps of a pod that should run.
pub(crate) fn plan(pod: &Pod, observed: &Observed, memory: &Memory, now: UnixNanos) -> Plan {
    let Some(spec) = pod.spec.as_ref() else { return Plan::default() };
    let mut planner = Planner { spec, observed, memory, now, steps: Vec::new() };
    if planner.ended() {
        planner.stop_all();
        let finished = observed.running().next().is_none();
        return Plan { steps: planner.steps, finished };
    }
    let initialized = spec.containers.iter().any(|c| observed.current(&c.name).is_some());
    if planner.init(initialized) {
        planner.main();
    }
    planner.ephemeral();
    Plan { steps: planner.steps, finished: false }
}

/// The containers of a pod that must end which may be stopped now: sidecars outlive the main containers
/// and end in reverse order.
pub(crate) fn termination(pod: &Pod, observed: &Observed, memory: &Memory) -> Vec<Step> {
    let Some(spec) = pod.spec.as_ref() else { return Vec::new() };
    let mut planner = Planner { spec, observed, memory, now: 0, steps: Vec::new() };
    planner.stop_all();
    planner.steps
}

struct Planner<'a> {
    spec: &'a PodSpec,
    observed: &'a Observed,
    memory: &'a Memory,
    now: UnixNanos,
    steps: Vec<Step>,
}

impl Planner<'_> {
    /// Whether the pod has run its course: an init container failed for good, or no main container will
    /// run again.
    fn ended(&self) -> bool {
        let failed_init = self.spec.init_containers.iter().flatten().any(|c| {
            let role = spec::role_of_init(c);
            role == Role::Init
                && spec::restart_policy(self.spec, c, role) == RestartPolicy::Never
                && self.observed.latest(&c.name).is_some_and(ended_with_failure)
        });
        let main_ended = |c: &Spec| {
            let policy = spec::restart_policy(self.spec, c, Role::Main);
            let latest = self.observed.latest(&c.name);
            latest.is_some_and(|l| l.state == ContainerState::Exited && !policy.restarts(l.exit_code))
        };
        failed_init || self.spec.containers.iter().all(main_ended)
    }

    /// Returns whether the main containers may run.
    fn init(&mut self, initialized: bool) -> bool {
        for container in self.spec.init_containers.iter().flatten() {
            let role = spec::role_of_init(container);
            if initialized && role == Role::Init {
                continue;
            }
            let name = &container.name;
            let done = match self.observed.current(name) {
                None => {
                    // In a new sandbox everything runs again, without delay.
                    self.steps.push(Step::Start { name: name.clone(), finished: None });
                    false
                }
                Some(c) => self.existing(container, role, c),
            };
            if !done && !initialized {
                return false;
            }
        }
        true
    }

    /// Deals with an init container that exists; returns whether the next one may run.
    fn existing(&mut self, container: &Spec, role: Role, current: &Container) -> bool {
        match (current.state, role) {
            (ContainerState::Running, Role::Sidecar) => {
                self.check_running(container, current);
                self.memory.health(&current.id).started
            }
            (ContainerState::Exited, Role::Init) if current.exit_code == 0 => true,
            _ => {
                self.main_one(container, role, current);
                false
            }
        }
    }

    fn main(&mut self) {
        for container in &self.spec.containers {
            match self.observed.latest(&container.name) {
                None => self.steps.push(Step::Start { name: container.name.clone(), finished: None }),
                Some(latest) => self.main_one(container, Role::Main, latest),
            }
        }
    }

    /// Ephemeral containers run once, whatever becomes of the others.
    fn ephemeral(&mut self) {
        for container in self.spec.ephemeral_containers.iter().flatten() {
            match self.observed.latest(&container.name) {
                None => self.steps.push(Step::Start { name: container.name.clone(), finished: None }),
                Some(latest) if latest.state == ContainerState::Created => {
                    self.steps.push(Step::Discard { id: latest.id.clone() });
                }
                Some(_) => {}
            }
        }
    }

    fn main_one(&mut self, container: &Spec, role: Role, latest: &Container) {
        let name = &container.name;
        match latest.state {
            ContainerState::Running => self.check_running(container, latest),
            ContainerState::Created => self.steps.push(Step::Discard { id: latest.id.clone() }),
            ContainerState::Unknown => self.stop(latest, name, Why::Lost),
            ContainerState::Exited => {
                if !spec::restart_policy(self.spec, container, role).restarts(latest.exit_code) {
                    return;
                }
                let backoff = self.memory.backoff.get(name).cloned().unwrap_or_default();
                self.steps.push(match backoff.remaining(latest.finished_at, self.now) {
                    Some(remaining) => Step::BackOff { name: name.clone(), remaining },
                    None => Step::Start { name: name.clone(), finished: Some(latest.finished_at) },
                });
            }
        }
    }

    fn check_running(&mut self, container: &Spec, running: &Container) {
        let wanted = identity::container_hash(&container.name, spec::image(container));
        let hash = running.annotations.get(identity::HASH);
        if self.memory.health(&running.id).unhealthy {
            self.stop(running, &container.name, Why::Unhealthy);
        } else if hash.is_some_and(|h| *h != wanted) {
            self.stop(running, &container.name, Why::DefinitionChanged);
        }
    }

    fn stop_all(&mut self) {
        let observed = self.observed;
        let running_named = |name: &str| observed.attempts(name).find(|l| l.state == ContainerState::Running);
        for container in self.spec.ephemeral_containers.iter().flatten() {
            if let Some(running) = running_named(&container.name) {
                self.stop(running, &container.name, Why::PodEnded);
            }
        }
        let running = |c: &Spec| running_named(&c.name);
        let main: Vec<_> = self.spec.containers.iter().filter_map(|c| Some((c, running(c)?))).collect();
        let init: Vec<_> =
            self.spec.init_containers.iter().flatten().filter_map(|c| Some((c, running(c)?))).collect();
        if main.is_empty()
            && let Some((container, last)) = init.last()
        {
            self.stop(last, &container.name, Why::PodEnded);
        }
        for (container, running) in main {
            self.stop(running, &container.name, Why::PodEnded);
        }
    }

    fn stop(&mut self, container: &Container, name: &str, why: Why) {
        if !self.memory.stopping.contains(&container.id) {
            self.steps.push(Step::Stop { id: container.id.clone(), name: name.to_owned(), why });
        }
    }
}

fn ended_with_failure(container: &Container) -> bool {
    container.state == ContainerState::Exited && container.exit_code != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{CONTAINER_NAME, HASH, container_hash};
    use runtime::{Labels, Sandbox};

    /// `init*` containers are init containers, `side*` sidecars, `debug*` ephemeral, the others main ones.
    fn pod(policy: &str, names: &[&str]) -> Pod {
        let json = |n: &&&str| match n.starts_with("side") {
            true => serde_json::json!({"name": n, "image": "i", "restartPolicy": "Always"}),
            false => serde_json::json!({"name": n, "image": "i"}),
        };
        let early = |n: &&&str| n.starts_with("side") || n.starts_with("init");
        let late = |n: &&&str| n.starts_with("debug");
        serde_json::from_value(serde_json::json!({"spec": {
            "restartPolicy": policy,
            "initContainers": names.iter().filter(early).map(|n| json(&n)).collect::<Vec<_>>(),
            "containers": names.iter().filter(|n| !early(n) && !late(n)).map(|n| json(&n)).collect::<Vec<_>>(),
            "ephemeralContainers": names.iter().filter(late).map(|n| json(&n)).collect::<Vec<_>>(),
        }}))
        .unwrap()
    }

    /// `name` runs, `name=3` has ended with 3.
    fn world(states: &[&str]) -> Observed {
        let container = |text: &&str| {
            let (name, code) = match text.split_once('=') {
                Some((name, code)) => (name, Some(code.parse().unwrap())),
                None => (*text, None),
            };
            Container {
                id: name.to_owned(),
                sandbox_id: "s".to_owned(),
                state: if code.is_some() { ContainerState::Exited } else { ContainerState::Running },
                exit_code: code.unwrap_or(0),
                labels: Labels::from([(CONTAINER_NAME.to_owned(), name.to_owned())]),
                annotations: Labels::from([(HASH.to_owned(), container_hash(name, "i"))]),
                ..Container::default()
            }
        };
        let sandbox = Sandbox { id: "s".to_owned(), ready: true, ..Sandbox::default() };
        Observed { sandboxes: vec![sandbox], containers: states.iter().map(container).collect() }
    }

    fn summary(plan: &Plan) -> String {
        let step = |s: &Step| match s {
            Step::Start { name, .. } => format!("+{name}"),
            Step::Stop { name, .. } => format!("-{name}"),
            Step::Discard { id } => format!("~{id}"),
            Step::BackOff { name, .. } => format!("?{name}"),
        };
        let mut words: Vec<String> = plan.steps.iter().map(step).collect();
        words.extend(plan.finished.then(|| "finished".to_owned()));
        words.join(" ")
    }

    #[test]
    fn containers_run_in_their_order() {
        for (policy, names, states, expected) in [
            ("Always", &["a", "b"][..], &[][..], "+a +b"),
            ("Always", &["a", "b"], &["a"], "+b"),
            ("Always", &["init1", "init2", "a"], &[], "+init1"),
            ("Always", &["init1", "init2", "a"], &["init1"], ""),
            ("Always", &["init1", "init2", "a"], &["init1=0"], "+init2"),
            ("Always", &["init1", "a"], &["init1=0"], "+a"),
            ("Always", &["init1", "a"], &["init1=1"], "+init1"),
            ("Never", &["init1", "a"], &["init1=1"], "finished"),
            ("Always", &["side", "init1", "a"], &["side"], "+init1"),
            ("Always", &["side", "a"], &["side=1", "a"], "+side"),
            ("Always", &["a"], &["a=0"], "+a"),
            ("OnFailure", &["a"], &["a=0"], "finished"),
            ("OnFailure", &["a", "b"], &["a=0", "b=1"], "+b"),
            ("Never", &["a", "b"], &["a=0", "b=1"], "finished"),
            ("Never", &["side", "a"], &["side", "a=0"], "-side"),
            ("Always", &["a", "debug"], &["a"], "+debug"),
            ("Always", &["a", "debug"], &["a", "debug=1"], ""),
            ("Never", &["a", "debug"], &["a=0", "debug"], "-debug"),
        ] {
            let mut memory = Memory::default();
            memory.health.insert("side".into(), Health { started: true, ready: true, unhealthy: false });
            let plan = plan(&pod(policy, names), &world(states), &memory, 0);
            assert_eq!(summary(&plan), expected, "{policy} {names:?} {states:?}");
        }
    }

    #[test]
    fn a_sidecar_holds_up_the_rest_until_it_has_started() {
        let plan = plan(&pod("Always", &["side", "a"]), &world(&["side"]), &Memory::default(), 0);
        assert_eq!(summary(&plan), "");
    }

    #[test]
    fn unhealthy_containers_are_stopped_once() {
        let mut memory = Memory::default();
        memory.health.insert("a".into(), Health { started: true, ready: false, unhealthy: true });
        let (pod, world) = (pod("Always", &["a"]), world(&["a"]));
        assert_eq!(summary(&plan(&pod, &world, &memory, 0)), "-a");
        memory.stopping.insert("a".into());
        assert_eq!(summary(&plan(&pod, &world, &memory, 0)), "");
    }

    #[test]
    fn sidecars_end_last_and_in_reverse_order() {
        let pod = pod("Always", &["side1", "side2", "a"]);
        let stops = |states: &[&str]| {
            let steps = termination(&pod, &world(states), &Memory::default());
            summary(&Plan { steps, finished: false })
        };
        assert_eq!(stops(&["side1", "side2", "a"]), "-a");
        assert_eq!(stops(&["side1", "side2", "a=0"]), "-side2");
        assert_eq!(stops(&["side1", "side2=0", "a=0"]), "-side1");
    }
}
