//! Bends a proposal to bounds, stabilisation windows and rate policies.

use std::time::Duration;

use jiff::Timestamp;

/// Without a `behavior`, scaling down waits this long for a higher recommendation to expire
/// (`--horizontal-pod-autoscaler-downscale-stabilization`).
const DOWNSCALE_STABILIZATION: Duration = Duration::from_secs(300);
/// Without a `behavior`, one step multiplies by at most this …
const SCALE_UP_FACTOR: i32 = 2;
/// … or goes to at least this many.
const SCALE_UP_MIN: i32 = 4;

/// The bounds of an autoscaler and, if the user gave a `behavior`, its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Fewest replicas.
    pub min: i32,
    /// Most replicas.
    pub max: i32,
    /// Rules for scaling up and down; `None` where the user gave no `behavior`.
    pub behavior: Option<(Rules, Rules)>,
}

/// How fast one direction may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The most careful recommendation of this long counts.
    pub stabilization: Duration,
    /// Which of the policies counts.
    pub select: Select,
    /// The policies.
    pub policies: Vec<Policy>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: this direction is disabled.
    Disabled,
}

/// A bound on the change within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What `value` counts.
    pub kind: PolicyType,
    /// The bound.
    pub value: i32,
    /// The period.
    pub period: Duration,
}

/// What a policy's value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyType {
    /// Pods.
    Pods,
    /// Percent of the replicas at the start of the period.
    Percent,
}

/// What an autoscaler remembers between its decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Unbent recommendations and when they were made.
    recommendations: Vec<(Timestamp, i32)>,
    /// Replicas added by each step up.
    ups: Vec<(Timestamp, i32)>,
    /// Replicas removed by each step down.
    downs: Vec<(Timestamp, i32)>,
}

impl History {
    /// Makes the present size the first recommendation, so that a restart does not scale down at once.
    pub fn start_with(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    /// Remembers that the workload was scaled.
    pub fn scaled(&mut self, from: i32, to: i32, now: Timestamp) {
        if to > from {
            self.ups.push((now, to - from));
        } else {
            self.downs.push((now, from - to));
        }
    }

    /// Forgets what no rule looks at any more.
    fn prune(&mut self, limits: &Limits, now: Timestamp) {
        let longest =
            |rules: &Rules| rules.policies.iter().map(|policy| policy.period).max().unwrap_or_default();
        let (window, up, down) = match &limits.behavior {
            None => (DOWNSCALE_STABILIZATION, Duration::ZERO, Duration::ZERO),
            Some((up, down)) => {
                // Each direction looks at the steps in both.
                let steps = longest(up).max(longest(down));
                (up.stabilization.max(down.stabilization), steps, steps)
            }
        };
        self.recommendations.retain(|(at, _)| *at >= now - window);
        self.ups.retain(|(at, _)| *at > now - up);
        self.downs.retain(|(at, _)| *at > now - down);
    }
}

/// The replicas to set, and why they are not what was asked for. The texts are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// Replicas to set.
    pub replicas: i32,
    /// Reason and message of the AbleToScale condition, which is true.
    pub able: (&'static str, &'static str),
    /// Whether a bound or rate held it, reason and message: the ScalingLimited condition.
    pub limited: (bool, &'static str, &'static str),
}

const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

/// The replicas to set when `desired` are asked for and there are `current`; remembers the request.
pub fn normalize(
    history: &mut History,
    limits: &Limits,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> Normalized {
    history.prune(limits, now);
    let (stabilized, reason) = match &limits.behavior {
        None => {
            let since = now - DOWNSCALE_STABILIZATION;
            let recent = history.recommendations.iter().filter(|(at, _)| *at >= since).map(|(_, r)| *r);
            (recent.max().map_or(desired, |recent| recent.max(desired)), DOWN_STABILIZED)
        }
        Some((up, down)) => stabilize(history, up, down, current, desired, now),
    };
    history.recommendations.push((now, desired));
    let (replicas, held) = match &limits.behavior {
        None => bound(limits, current, stabilized),
        Some((up, down)) => limit_rate(history, limits, (up, down), current, stabilized, now),
    };
    Normalized {
        replicas,
        able: if stabilized == desired { READY } else { reason },
        limited: (replicas != stabilized, held.0, held.1),
    }
}

fn stabilize(
    history: &History,
    up: &Rules,
    down: &Rules,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    let since = |window: Duration| {
        let from = now - window;
        history.recommendations.iter().filter(move |(at, _)| *at > from).map(|(_, replicas)| *replicas)
    };
    let lowest = since(up.stabilization).min().map_or(desired, |recent| recent.min(desired));
    let highest = since(down.stabilization).max().map_or(desired, |recent| recent.max(desired));
    let reason = if desired >= current { UP_STABILIZED } else { DOWN_STABILIZED };
    (current.max(lowest).min(highest), reason)
}

fn bound(limits: &Limits, current: i32, desired: i32) -> (i32, (&'static str, &'static str)) {
    let reachable = current.saturating_mul(SCALE_UP_FACTOR).max(SCALE_UP_MIN);
    let (most, reason) =
        if limits.max > reachable { (reachable, TOO_FAST_UP) } else { (limits.max, TOO_MANY) };
    if desired < limits.min {
        (limits.min, TOO_FEW)
    } else if desired > most {
        (most, reason)
    } else {
        (desired, WITHIN)
    }
}

fn limit_rate(
    history: &History,
    limits: &Limits,
    (up, down): (&Rules, &Rules),
    current: i32,
    desired: i32,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    if desired > current {
        let reachable = farthest(history, up, current, now, true).max(current);
        let (most, reason) =
            if limits.max > reachable { (reachable, TOO_FAST_UP) } else { (limits.max, TOO_MANY) };
        if desired > most {
            return (most, reason);
        }
    } else if desired < current {
        let reachable = farthest(history, down, current, now, false).min(current);
        let (least, reason) =
            if limits.min < reachable { (reachable, TOO_FAST_DOWN) } else { (limits.min, TOO_FEW) };
        if desired < least {
            return (least, reason);
        }
    }
    (desired, WITHIN)
}

/// The farthest that the policies allow to go from `current`, up or down.
fn farthest(history: &History, rules: &Rules, current: i32, now: Timestamp, upwards: bool) -> i32 {
    let changed = |steps: &[(Timestamp, i32)], period: Duration| -> i32 {
        steps.iter().filter(|(at, _)| *at > now - period).map(|(_, change)| *change).sum()
    };
    let reach = rules.policies.iter().map(|policy| {
        let start = current - changed(&history.ups, policy.period) + changed(&history.downs, policy.period);
        let share = f64::from(policy.value) / 100.0;
        match (policy.kind, upwards) {
            (PolicyType::Pods, true) => start.saturating_add(policy.value),
            (PolicyType::Pods, false) => start.saturating_sub(policy.value),
            // Rounded up in both directions, so that a small percentage of a small number can move.
            (PolicyType::Percent, true) => (f64::from(start) * (1.0 + share)).ceil() as i32,
            (PolicyType::Percent, false) => (f64::from(start) * (1.0 - share)) as i32,
        }
    });
    let (largest_up, largest_down) = (reach.clone().max(), reach.min());
    let allowed = match (rules.select, upwards) {
        (Select::Disabled, _) => None,
        (Select::Max, true) | (Select::Min, false) => largest_up,
        (Select::Max, false) | (Select::Min, true) => largest_down,
    };
    allowed.unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn after(seconds: u64) -> Timestamp {
        NOW + Duration::from_secs(seconds)
    }

    fn rules(stabilization: u64, select: Select, policies: &[(PolicyType, i32, u64)]) -> Rules {
        let policies = policies
            .iter()
            .map(|&(kind, value, period)| Policy { kind, value, period: Duration::from_secs(period) })
            .collect();
        Rules { stabilization: Duration::from_secs(stabilization), select, policies }
    }

    fn limits(behavior: Option<(Rules, Rules)>) -> Limits {
        Limits { min: 1, max: 100, behavior }
    }

    #[test]
    fn without_behavior_it_doubles_and_waits_before_shrinking() {
        let (mut history, limits) = (History::default(), limits(None));
        let up = normalize(&mut history, &limits, 5, 40, NOW);
        assert_eq!((up.replicas, up.limited.1), (10, "ScaleUpLimit"));
        let first = normalize(&mut History::default(), &limits, 1, 40, NOW);
        assert_eq!(first.replicas, 4);
        let down = normalize(&mut history, &limits, 40, 5, after(299));
        assert_eq!((down.replicas, down.able.0), (40, "ScaleDownStabilized"));
        assert_eq!(normalize(&mut history, &limits, 40, 5, after(301)).replicas, 5);
    }

    #[test]
    fn bounds_hold() {
        let mut history = History::default();
        let narrow = Limits { min: 3, max: 6, behavior: None };
        assert_eq!(normalize(&mut history, &narrow, 5, 40, NOW).limited, (true, TOO_MANY.0, TOO_MANY.1));
        let mut history = History::default();
        let few = normalize(&mut history, &narrow, 5, 1, NOW);
        assert_eq!((few.replicas, few.limited.1), (3, "TooFewReplicas"));
    }

    #[test]
    fn policies_limit_the_rate_over_their_period() {
        let up = rules(0, Select::Max, &[(PolicyType::Pods, 4, 60), (PolicyType::Percent, 100, 60)]);
        let down = rules(0, Select::Max, &[(PolicyType::Percent, 10, 60)]);
        let (mut history, limits) = (History::default(), limits(Some((up, down))));
        let step = normalize(&mut history, &limits, 3, 50, NOW);
        assert_eq!((step.replicas, step.limited.1), (7, "ScaleUpLimit"));
        history.scaled(3, 7, NOW);
        // The four are used up until a minute has passed.
        assert_eq!(normalize(&mut history, &limits, 7, 50, after(30)).replicas, 7);
        assert_eq!(normalize(&mut history, &limits, 7, 50, after(61)).replicas, 14);
        let mut history = History::default();
        assert_eq!(normalize(&mut history, &limits, 50, 1, NOW).replicas, 45);
    }

    #[test]
    fn the_smallest_policy_and_none_at_all() {
        let up = rules(0, Select::Min, &[(PolicyType::Pods, 4, 60), (PolicyType::Percent, 100, 60)]);
        let off = rules(0, Select::Disabled, &[]);
        let limits = limits(Some((up, off)));
        assert_eq!(normalize(&mut History::default(), &limits, 3, 50, NOW).replicas, 6);
        assert_eq!(normalize(&mut History::default(), &limits, 50, 1, NOW).replicas, 50);
    }

    #[test]
    fn stabilisation_takes_the_most_careful_recommendation() {
        let all = [(PolicyType::Percent, 1000, 1)];
        let careful = limits(Some((
            rules(30, Select::Max, &all),
            rules(60, Select::Max, &[(PolicyType::Percent, 100, 1)]),
        )));
        let mut history = History::default();
        normalize(&mut history, &careful, 10, 12, NOW);
        // Twenty are asked for now, but twelve were enough a moment ago.
        assert_eq!(normalize(&mut history, &careful, 10, 20, after(10)).replicas, 12);
        assert_eq!(normalize(&mut history, &careful, 12, 20, after(45)).replicas, 20);
        // And down: twenty were wanted within the last minute.
        assert_eq!(normalize(&mut history, &careful, 20, 5, after(60)).replicas, 20);
        assert_eq!(normalize(&mut history, &careful, 20, 5, after(106)).replicas, 5);
    }
}
