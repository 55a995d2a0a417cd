//! Readings of a pod's specification.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, ResourceRequirements};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use api::quantity::Quantity;

/// Which list of the specification a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container that keeps running next to the main ones.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// Added to a running pod to look into it; runs once.
    Ephemeral,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        Self::parse(spec.restart_policy.as_deref())
    }

    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code runs again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// The policy of one container: sidecars always restart, init containers never after success.
pub(crate) fn restart_policy(spec: &PodSpec, container: &Container, role: Role) -> RestartPolicy {
    match (role, container.restart_policy.as_deref()) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Init, _) => match RestartPolicy::of(spec) {
            RestartPolicy::Never => RestartPolicy::Never,
            _ => RestartPolicy::OnFailure,
        },
        (Role::Main, Some(own)) => RestartPolicy::parse(Some(own)),
        (Role::Main, None) => RestartPolicy::of(spec),
        (Role::Ephemeral, _) => RestartPolicy::Never,
    }
}

pub(crate) fn role_of_init(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// Init containers in their order, then the main ones.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|c| (role_of_init(c), c));
    init.chain(spec.containers.iter().map(|c| (Role::Main, c)))
}

pub(crate) fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<(Role, &'a Container)> {
    containers(spec).find(|(_, c)| c.name == name)
}

/// Ephemeral containers, in the form of the others.
pub(crate) fn ephemeral(spec: &PodSpec) -> impl Iterator<Item = Container> {
    let all = spec.ephemeral_containers.iter().flatten();
    // The two types have the same fields, but for the container that is looked into.
    all.filter_map(|container| serde_json::from_value(serde_json::to_value(container).ok()?).ok())
}

/// A container of any list.
pub(crate) fn find_any<'a>(spec: &'a PodSpec, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    let known = find(spec, name).map(|(role, container)| (role, Cow::Borrowed(container)));
    let named = |container: &Container| container.name == name;
    known.or_else(|| ephemeral(spec).find(named).map(|container| (Role::Ephemeral, Cow::Owned(container))))
}

/// Whether the pod uses the machine's network.
pub(crate) fn host_network(spec: &PodSpec) -> bool {
    spec.host_network.unwrap_or(false)
}

pub(crate) fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or("")
}

/// How long the pod may take to stop, once deletion was asked for.
pub(crate) fn grace_period(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or_else(|| pod.spec.as_ref()?.termination_grace_period_seconds)
        .unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The grace period of a container that a probe kills.
pub(crate) fn probe_grace_period(pod: &Pod, probe: Option<&Probe>) -> Duration {
    let own = probe.and_then(|p| p.termination_grace_period_seconds);
    own.and_then(|s| u64::try_from(s).ok()).map_or_else(|| grace_period(pod), Duration::from_secs)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

fn parsed(
    list: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
    name: &str,
) -> Option<Quantity> {
    list.as_ref()?.get(name).and_then(|q| Quantity::parse(&q.0).ok())
}

/// A container's request, which defaults to its limit.
pub(crate) fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    let resources = resources?;
    parsed(&resources.requests, name).or_else(|| parsed(&resources.limits, name))
}

pub(crate) fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    parsed(&resources?.limits, name)
}

/// Upstream's classes: Guaranteed when every container has equal requests and limits of both resources,
/// BestEffort when none has any.
pub(crate) fn qos(spec: &PodSpec) -> Qos {
    let (mut guaranteed, mut any) = (true, false);
    for (_, container) in containers(spec) {
        for name in ["cpu", "memory"] {
            let resources = container.resources.as_ref();
            let positive = |q: Option<Quantity>| q.filter(|q| !q.is_zero());
            let (request, limit) = (positive(request(resources, name)), positive(limit(resources, name)));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// The pod's cgroup below `root`, laid out as upstream does.
pub(crate) fn cgroup(root: &str, spec: &PodSpec, uid: &str) -> String {
    match qos(spec) {
        Qos::Guaranteed => format!("{root}/pod{uid}"),
        Qos::Burstable => format!("{root}/burstable/pod{uid}"),
        Qos::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}
