//! From the spec of an autoscaler and what its pods use to what each metric asks for.

use std::sync::Arc;
use std::time::Duration;

use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HPAScalingRules, HorizontalPodAutoscaler as Hpa, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use scaling::hpa::{
    PodState, PodView, Policy, PolicyType, Proposal, Rules, Select, Target, Tolerance, propose,
};

use super::usage::Usages;

/// Why a metric says nothing: a reason in CamelCase and a message.
pub(super) type Silence = (&'static str, String);

/// What the metrics of an autoscaler say.
pub(super) struct Evaluation {
    /// For each metric: its name and what it asks for, or why it says nothing.
    pub proposals: Vec<Result<(String, Proposal), Silence>>,
    /// What the status shows of each metric that says something.
    pub statuses: Vec<MetricStatus>,
}

impl Evaluation {
    /// The replicas asked for and the name of the metric that asks for most, or why nothing may be
    /// done: all metrics are silent, or some are and the others would scale down.
    pub fn outcome(&self, current: i32) -> Result<(i32, String), Silence> {
        let spoken = self.proposals.iter().filter_map(|proposal| proposal.as_ref().ok());
        // Of equal proposals the first one counts, as upstream.
        let most = spoken.rev().max_by_key(|(_, proposal)| proposal.replicas);
        let silent: Vec<_> = self.proposals.iter().filter_map(|proposal| proposal.as_ref().err()).collect();
        match (most, silent.first()) {
            (Some((name, proposal)), None) => Ok((proposal.replicas, name.clone())),
            (Some((name, proposal)), Some(_)) if proposal.replicas >= current => {
                Ok((proposal.replicas, name.clone()))
            }
            (_, Some((reason, message))) => {
                let (count, all) = (silent.len(), self.proposals.len());
                Err((
                    reason,
                    format!("invalid metrics ({count} invalid out of {all}), first error is: {message}"),
                ))
            }
            (None, None) => Err(("InvalidMetricSourceType", "the autoscaler has no metrics".to_owned())),
        }
    }
}

/// Evaluates every metric of the autoscaler over the pods of its target.
pub(super) fn evaluate(
    hpa: &Hpa,
    pods: &[Arc<Pod>],
    usages: &Usages,
    current: i32,
    now: Timestamp,
) -> Evaluation {
    let mut evaluation = Evaluation { proposals: Vec::new(), statuses: Vec::new() };
    for spec in hpa.spec.metrics.iter().flatten() {
        match evaluate_one(hpa, spec, pods, usages, current, now) {
            Ok((name, proposal, status)) => {
                evaluation.proposals.push(Ok((name, proposal)));
                evaluation.statuses.push(status);
            }
            Err(silent) => evaluation.proposals.push(Err(silent)),
        }
    }
    evaluation
}

fn evaluate_one(
    hpa: &Hpa,
    spec: &MetricSpec,
    pods: &[Arc<Pod>],
    usages: &Usages,
    current: i32,
    now: Timestamp,
) -> Result<(String, Proposal, MetricStatus), Silence> {
    let (resource, container, metric_target) = match (&spec.resource, &spec.container_resource) {
        (Some(source), _) => (source.name.as_str(), None, &source.target),
        (_, Some(source)) => (source.name.as_str(), Some(source.container.as_str()), &source.target),
        _ => {
            let message =
                format!("metrics of type {} need a metrics adapter, which is not there", spec.type_);
            return Err(("InvalidMetricSourceType", message));
        }
    };
    let failed =
        if container.is_some() { "FailedGetContainerResourceMetric" } else { "FailedGetResourceMetric" };
    let target = target_of(resource, metric_target)
        .ok_or((failed, "invalid resource metric source: neither an average utilization target nor an average value (or value) target was set".to_owned()))?;
    let views: Vec<PodView> = pods.iter().map(|pod| view(pod, resource, container, usages)).collect();
    let proposal = propose(&views, target, resource == "cpu", current, tolerance_of(hpa), now)
        .map_err(|error| (failed, format!("failed to get {resource} utilization: {error}")))?;
    let kind = match target {
        Target::Utilization(_) => "utilization (percentage of request)",
        Target::AverageValue(_) => "average value",
    };
    let name = match container {
        None => format!("{resource} resource {kind}"),
        Some(container) => format!("{resource} container resource {kind} of {container}"),
    };
    Ok((name, proposal, status_of(resource, container, proposal)))
}

fn target_of(resource: &str, target: &MetricTarget) -> Option<Target> {
    match (target.average_utilization, &target.average_value) {
        (Some(percent), _) => Some(Target::Utilization(i64::from(percent))),
        (None, Some(value)) => Some(Target::AverageValue(amount(resource, &Quantity::try_from(value).ok()?))),
        (None, None) => None,
    }
}

/// A quantity in the unit in which the resource is counted here: millicores or bytes.
fn amount(resource: &str, quantity: &Quantity) -> i64 {
    if resource == "cpu" { quantity.milli() } else { quantity.units() }
}

fn view(pod: &Pod, resource: &str, container: Option<&str>, usages: &Usages) -> PodView {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("");
    let state = match phase {
        _ if pod.metadata.deletion_timestamp.is_some() => PodState::Gone,
        "Failed" => PodState::Gone,
        "Pending" => PodState::Pending,
        _ => PodState::Active,
    };
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| {
        let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        (condition.status == "True", since)
    });
    PodView {
        name: pod.metadata.name.clone().unwrap_or_default(),
        state,
        started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
        ready,
        request: request_of(pod, resource, container),
        usage: usages.of(pod, resource, container),
    }
}

/// What the pod's containers request together; `None` if one of them requests nothing.
fn request_of(pod: &Pod, resource: &str, container: Option<&str>) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let counted =
        spec.containers.iter().chain(sidecars).filter(|c| container.is_none_or(|name| c.name == name));
    let requests: Vec<_> = counted.map(|container| container_request(container, resource)).collect();
    if requests.is_empty() { None } else { requests.into_iter().sum() }
}

fn container_request(container: &Container, resource: &str) -> Option<i64> {
    let quantity = container.resources.as_ref()?.requests.as_ref()?.get(resource)?;
    Some(amount(resource, &Quantity::try_from(quantity).ok()?))
}

fn status_of(resource: &str, container: Option<&str>, proposal: Proposal) -> MetricStatus {
    let average = match resource {
        "cpu" => Quantity::from_milli(proposal.average),
        _ => Quantity::from_bytes(proposal.average),
    };
    let current = MetricValueStatus {
        average_utilization: proposal.utilization.map(|percent| i32::try_from(percent).unwrap_or(i32::MAX)),
        average_value: Some(average.into()),
        value: None,
    };
    let name = resource.to_owned();
    match container {
        None => MetricStatus {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricStatus { current, name }),
            ..MetricStatus::default()
        },
        Some(container) => MetricStatus {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricStatus {
                container: container.to_owned(),
                current,
                name,
            }),
            ..MetricStatus::default()
        },
    }
}

/// The tolerances of the spec, 10 % where it says nothing.
fn tolerance_of(hpa: &Hpa) -> Tolerance {
    let share = |rules: Option<&HPAScalingRules>| {
        let tolerance = rules?.tolerance.as_ref()?;
        Some(Quantity::try_from(tolerance).ok()?.as_f64())
    };
    let (behavior, default) = (hpa.spec.behavior.as_ref(), Tolerance::default());
    Tolerance {
        up: share(behavior.and_then(|b| b.scale_up.as_ref())).unwrap_or(default.up),
        down: share(behavior.and_then(|b| b.scale_down.as_ref())).unwrap_or(default.down),
    }
}

/// Which way rules apply.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// The rules of a spec with upstream's defaults for what it leaves out.
/// Source: `pkg/apis/autoscaling/v2/defaults.go`.
pub(super) fn rules(spec: Option<&HPAScalingRules>, direction: Direction) -> Rules {
    let (window, policies): (u64, &[(PolicyType, i32)]) = match direction {
        Direction::Up => (0, &[(PolicyType::Pods, 4), (PolicyType::Percent, 100)]),
        Direction::Down => (300, &[(PolicyType::Percent, 100)]),
    };
    let default_period = Duration::from_secs(15);
    let defaults =
        || policies.iter().map(|&(kind, value)| Policy { kind, value, period: default_period }).collect();
    let seconds = |seconds: i32| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Rules {
        stabilization: spec
            .and_then(|spec| spec.stabilization_window_seconds)
            .map_or(Duration::from_secs(window), seconds),
        select: match spec.and_then(|spec| spec.select_policy.as_deref()) {
            Some("Min") => Select::Min,
            Some("Disabled") => Select::Disabled,
            _ => Select::Max,
        },
        policies: spec.and_then(|spec| spec.policies.as_ref()).map_or_else(defaults, |policies| {
            let policy = |policy: &k8s_openapi::api::autoscaling::v2::HPAScalingPolicy| Policy {
                kind: if policy.type_ == "Pods" { PolicyType::Pods } else { PolicyType::Percent },
                value: policy.value,
                period: seconds(policy.period_seconds),
            };
            policies.iter().map(policy).collect()
        }),
    }
}
