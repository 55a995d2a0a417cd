//! How many replicas a resource metric asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// While a pod is younger than this, its CPU counts only once it is ready and one whole window of
/// the metric lies after that (`--horizontal-pod-autoscaler-cpu-initialization-period`).
const CPU_INITIALIZATION: Duration = Duration::from_secs(300);
/// A pod that became unready within this time of its start has never been ready
/// (`--horizontal-pod-autoscaler-initial-readiness-delay`).
const INITIAL_READINESS: Duration = Duration::from_secs(30);

/// One pod of the scaled workload.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// Name, unique in the workload.
    pub name: String,
    /// Where it stands in its life.
    pub state: PodState,
    /// When its containers started, if they have.
    pub started: Option<Timestamp>,
    /// Its Ready condition and since when it is so.
    pub ready: Option<(bool, Timestamp)>,
    /// What it requests of the resource, in millicores or bytes; `None` if a container requests nothing.
    pub request: Option<i64>,
    /// What it uses of it; `None` if that is not known.
    pub usage: Option<Usage>,
}

/// Where a pod stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Being deleted, or failed: it does not count at all.
    Gone,
    /// Not started yet.
    Pending,
    /// Anything else.
    Active,
}

/// A measured use of the resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// In millicores or bytes.
    pub value: i64,
    /// End of the interval that was measured.
    pub at: Timestamp,
    /// Length of that interval.
    pub window: Duration,
}

/// What the metric should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Percent of what the pods request, over all pods.
    Utilization(i64),
    /// Millicores or bytes per pod, on average.
    AverageValue(i64),
}

/// How far the metric may be off its target without anything being done, as shares of the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Above the target.
    pub up: f64,
    /// Below the target.
    pub down: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { up: 0.1, down: 0.1 }
    }
}

impl Tolerance {
    fn allows(&self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What a metric says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// How many replicas it asks for.
    pub replicas: i32,
    /// Present percent of what is requested, for [`Target::Utilization`].
    pub utilization: Option<i64>,
    /// Present use per pod in millicores or bytes.
    pub average: i64,
}

/// Why a metric says nothing. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// The workload has no pods.
    NoPods,
    /// No pod that counts has a measurement.
    NoMetrics,
    /// A pod does not say what it requests.
    NoRequest {
        /// The pod.
        pod: String,
    },
    /// Requests add up to nothing.
    NoMatch,
}

impl std::fmt::Display for MetricError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MetricError::NoPods => {
                f.write_str("no pods returned by selector while calculating replica count")
            }
            MetricError::NoMetrics => {
                f.write_str("did not receive metrics for targeted pods (pods might be unready)")
            }
            MetricError::NoRequest { pod } => {
                write!(f, "missing request of the resource in a container of Pod {pod}")
            }
            MetricError::NoMatch => f.write_str("no metrics returned matched known pods"),
        }
    }
}

impl std::error::Error for MetricError {}

/// How many replicas the resource asks for, given the pods' use of it.
///
/// # Errors
/// When nothing can be said; the workload should then be left as it is.
pub fn propose(
    pods: &[PodView],
    target: Target,
    is_cpu: bool,
    current: i32,
    tolerance: Tolerance,
    now: Timestamp,
) -> Result<Proposal, MetricError> {
    if pods.is_empty() {
        return Err(MetricError::NoPods);
    }
    let groups = Groups::of(pods, is_cpu, now);
    let mut counted: BTreeMap<usize, i64> = groups.measured.clone();
    if counted.is_empty() {
        return Err(MetricError::NoMetrics);
    }
    if let Target::Utilization(_) = target {
        require_requests(pods)?;
    }
    let first = measure(pods, &counted, target)?;
    let proposal =
        |replicas: i32| Proposal { replicas, utilization: first.utilization, average: first.average };
    let count_unready = !groups.unready.is_empty() && first.ratio > 1.0;
    if !count_unready && groups.missing.is_empty() {
        let ready = groups.measured.len() as f64;
        let replicas = if tolerance.allows(first.ratio) { current } else { ceil(first.ratio * ready) };
        return Ok(proposal(replicas));
    }
    // What is not known is assumed to argue against the change.
    for &i in &groups.missing {
        if first.ratio < 1.0 {
            counted.insert(i, assumed_when_scaling_down(&pods[i], target));
        } else if first.ratio > 1.0 {
            counted.insert(i, 0);
        }
    }
    if count_unready {
        counted.extend(groups.unready.iter().map(|&i| (i, 0)));
    }
    let second = measure(pods, &counted, target)?;
    let turned = (first.ratio < 1.0 && second.ratio > 1.0) || (first.ratio > 1.0 && second.ratio < 1.0);
    if tolerance.allows(second.ratio) || turned {
        return Ok(proposal(current));
    }
    let replicas = ceil(second.ratio * counted.len() as f64);
    let contradicts =
        (second.ratio < 1.0 && replicas > current) || (second.ratio > 1.0 && replicas < current);
    Ok(proposal(if contradicts { current } else { replicas }))
}

/// The pods by how their measurement counts, as indices.
struct Groups {
    /// Counts as measured.
    measured: BTreeMap<usize, i64>,
    /// Not started, or its CPU use says nothing yet.
    unready: Vec<usize>,
    /// Should have a measurement and has none.
    missing: Vec<usize>,
}

impl Groups {
    fn of(pods: &[PodView], is_cpu: bool, now: Timestamp) -> Self {
        let mut groups = Self { measured: BTreeMap::new(), unready: Vec::new(), missing: Vec::new() };
        for (i, pod) in pods.iter().enumerate() {
            match (pod.state, pod.usage) {
                (PodState::Gone, _) => {}
                (PodState::Pending, _) => groups.unready.push(i),
                (PodState::Active, None) => groups.missing.push(i),
                (PodState::Active, Some(usage)) if is_cpu && is_unready(pod, usage, now) => {
                    groups.unready.push(i)
                }
                (PodState::Active, Some(usage)) => {
                    groups.measured.insert(i, usage.value);
                }
            }
        }
        groups
    }
}

fn is_unready(pod: &PodView, usage: Usage, now: Timestamp) -> bool {
    let (Some((ready, since)), Some(started)) = (pod.ready, pod.started) else { return true };
    if started + CPU_INITIALIZATION > now {
        !ready || usage.at < since + usage.window
    } else {
        !ready && started + INITIAL_READINESS > since
    }
}

fn require_requests(pods: &[PodView]) -> Result<(), MetricError> {
    match pods.iter().find(|pod| pod.request.is_none()) {
        Some(pod) => Err(MetricError::NoRequest { pod: pod.name.clone() }),
        None => Ok(()),
    }
}

fn assumed_when_scaling_down(pod: &PodView, target: Target) -> i64 {
    match target {
        Target::Utilization(percent) => pod.request.unwrap_or(0) * percent.max(100) / 100,
        Target::AverageValue(value) => value,
    }
}

struct Measure {
    /// Present value over target.
    ratio: f64,
    utilization: Option<i64>,
    average: i64,
}

fn measure(pods: &[PodView], counted: &BTreeMap<usize, i64>, target: Target) -> Result<Measure, MetricError> {
    let total: i64 = counted.values().sum();
    let average = total / counted.len() as i64;
    match target {
        Target::AverageValue(value) => {
            Ok(Measure { ratio: average as f64 / value as f64, utilization: None, average })
        }
        Target::Utilization(percent) => {
            let requested: i64 = counted.keys().filter_map(|&i| pods[i].request).sum();
            if requested == 0 {
                return Err(MetricError::NoMatch);
            }
            let utilization = total * 100 / requested;
            let ratio = utilization as f64 / percent as f64;
            Ok(Measure { ratio, utilization: Some(utilization), average })
        }
    }
}

fn ceil(replicas: f64) -> i32 {
    // Saturates, as `as` does for floats.
    replicas.ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn pod(usage: Option<i64>) -> PodView {
        let start = NOW - Duration::from_secs(3600);
        PodView {
            name: "p".to_owned(),
            state: PodState::Active,
            started: Some(start),
            ready: Some((true, start + Duration::from_secs(5))),
            request: Some(1000),
            usage: usage.map(|value| Usage { value, at: NOW, window: Duration::from_secs(1) }),
        }
    }

    fn in_state(state: PodState) -> PodView {
        PodView { state, usage: None, ..pod(None) }
    }

    fn replicas(pods: &[PodView], target: Target, current: i32) -> i32 {
        propose(pods, target, true, current, Tolerance::default(), NOW).expect("a proposal").replicas
    }

    /// The cases of upstream's replica_calculator_test in our own numbers: percent of request per
    /// pod (`None` is missing), target percent, current replicas, expected replicas.
    #[test]
    fn utilization_table() {
        let table: &[(&[Option<i64>], i64, i32, i32)] = &[
            // Plain scaling up and down, rounded up.
            (&[Some(300), Some(500), Some(700)], 30, 3, 5),
            (&[Some(100), Some(300), Some(500)], 50, 3, 2),
            (&[Some(900)], 50, 1, 2),
            // Within 10 % nothing happens.
            (&[Some(540), Some(550)], 50, 2, 2),
            (&[Some(560), Some(560)], 50, 2, 3),
            // Missing pods count as idle when scaling up …
            (&[Some(1000), None], 50, 2, 2),
            (&[Some(2000), None], 50, 2, 4),
            // … and as fully busy when scaling down.
            (&[Some(100), Some(100), None], 50, 3, 3),
            (&[Some(100), Some(100), Some(100), None], 80, 4, 2),
            // Far above the target it goes there in one step.
            (&[Some(5000), Some(5000)], 50, 2, 20),
        ];
        for (usages, target, current, expected) in table {
            let pods: Vec<_> = usages.iter().map(|usage| pod(*usage)).collect();
            assert_eq!(
                replicas(&pods, Target::Utilization(*target), *current),
                *expected,
                "{usages:?} → {target} %"
            );
        }
    }

    #[test]
    fn unready_pods_dampen_scaling_up_only() {
        let mut young = pod(Some(2000));
        young.started = Some(NOW - Duration::from_secs(10));
        young.ready = Some((true, NOW));
        // Its only window reaches back before it was ready: (1000 + 0) of 2000 is the target.
        assert_eq!(replicas(&[pod(Some(1000)), young.clone()], Target::Utilization(50), 2), 2);
        assert_eq!(replicas(&[pod(Some(100)), young], Target::Utilization(50), 2), 1);
        let pending = in_state(PodState::Pending);
        assert_eq!(replicas(&[pod(Some(3000)), pending], Target::Utilization(50), 2), 6);
    }

    #[test]
    fn pods_that_go_do_not_count() {
        let gone = in_state(PodState::Gone);
        assert_eq!(replicas(&[pod(Some(1000)), gone], Target::Utilization(50), 1), 2);
    }

    #[test]
    fn average_values_need_no_requests() {
        let mut without = pod(Some(600));
        without.request = None;
        let pods = [without.clone(), without];
        assert_eq!(replicas(&pods, Target::AverageValue(200), 2), 6);
        let error = propose(&pods, Target::Utilization(50), true, 2, Tolerance::default(), NOW);
        assert_eq!(error, Err(MetricError::NoRequest { pod: "p".to_owned() }));
    }

    #[test]
    fn nothing_known_is_an_error() {
        let target = Target::Utilization(50);
        let outcome = |pods: &[PodView]| propose(pods, target, true, 1, Tolerance::default(), NOW);
        assert_eq!(outcome(&[]), Err(MetricError::NoPods));
        assert_eq!(outcome(&[pod(None)]), Err(MetricError::NoMetrics));
    }
}
