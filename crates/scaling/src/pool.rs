//! NodePools as provisioning sees them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::instance::{InstanceType, MachineResources, Offering};
use api::karpenter::{Budget, NodePool};
use api::names;
use scheduling::{Effect, NodeInfo, Resources, Taint};

use crate::duration;
use crate::requirements::{BadRequirement, Requirements};

/// A pool may leave this many combinations of its own labels open.
const VARIANTS_MAX: usize = 32;
/// Karpenter's default of `expireAfter`.
const EXPIRE_AFTER: Duration = Duration::from_secs(720 * 3600);

/// A NodePool, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// Pools of a higher weight are tried first.
    pub weight: i32,
    /// What the nodes must be like.
    pub requirements: Requirements,
    /// Labels of the nodes besides those of type and offering: one set per combination of values
    /// that the requirements leave open for labels of the pool's own.
    pub variants: Vec<BTreeMap<String, String>>,
    /// Taints that the nodes keep.
    pub taints: Vec<Taint>,
    /// Upper bounds on the sum over all nodes.
    pub limits: Limits,
    /// When nodes go away voluntarily.
    pub disruption: Disruption,
}

/// Bounds or sums of what a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Nodes.
    pub nodes: i64,
}

/// When nodes of a pool go away voluntarily.
#[derive(Clone, Debug, PartialEq)]
pub struct Disruption {
    /// Whether nodes with pods are consolidated too (`WhenEmptyOrUnderutilized`).
    pub underutilized: bool,
    /// How long a node is left alone after its pods changed; `None` is `Never`.
    pub consolidate_after: Option<Duration>,
    /// Bounds on simultaneous disruption.
    pub budgets: Vec<Budget>,
    /// How long a node may live; `None` is `Never`.
    pub expire_after: Option<Duration>,
}

impl Limits {
    /// No bound at all.
    pub const NONE: Limits = Limits { cpu_milli: i64::MAX, memory_bytes: i64::MAX, nodes: i64::MAX };
    /// Nothing.
    pub const ZERO: Limits = Limits { cpu_milli: 0, memory_bytes: 0, nodes: 0 };

    /// What is left of these bounds after `used`; `NONE` stays unbounded.
    pub fn less(&self, used: &Limits) -> Limits {
        let less = |bound: i64, used: i64| if bound == i64::MAX { bound } else { bound.saturating_sub(used) };
        Limits {
            cpu_milli: less(self.cpu_milli, used.cpu_milli),
            memory_bytes: less(self.memory_bytes, used.memory_bytes),
            nodes: less(self.nodes, used.nodes),
        }
    }

    /// Adds `count` machines.
    pub fn add(&mut self, machine: &MachineResources, count: i64) {
        self.cpu_milli = self.cpu_milli.saturating_add(machine.cpu_milli.saturating_mul(count));
        self.memory_bytes = self.memory_bytes.saturating_add(machine.memory_bytes.saturating_mul(count));
        self.nodes = self.nodes.saturating_add(count);
    }

    /// How many such machines these bounds hold.
    pub fn holds(&self, machine: &MachineResources) -> i64 {
        let times = |bound: i64, each: i64| match each {
            _ if bound == i64::MAX => i64::MAX,
            0 => i64::MAX,
            each => (bound / each).max(0),
        };
        times(self.cpu_milli, machine.cpu_milli)
            .min(times(self.memory_bytes, machine.memory_bytes))
            .min(self.nodes.max(0))
    }

    /// Whether there is any bound.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl Pool {
    /// Compiles a NodePool.
    pub fn of(pool: &NodePool) -> Result<Self, BadRequirement> {
        let name: Arc<str> = pool.metadata.name.as_deref().unwrap_or_default().into();
        let template = &pool.spec.template;
        let requirements = Requirements::of(&template.spec.requirements)?;
        let mut labels: BTreeMap<String, String> =
            template.metadata.iter().flat_map(|metadata| &metadata.labels).flatten().map(pair).collect();
        labels.insert(names::NODE_POOL.to_owned(), name.to_string());
        Ok(Self {
            weight: pool.spec.weight.unwrap_or(1),
            variants: variants(labels, &requirements),
            taints: template.spec.taints.iter().flatten().filter_map(taint).collect(),
            limits: limits(pool),
            disruption: disruption(pool),
            requirements,
            name,
        })
    }

    /// Whether the pool accepts this offering.
    pub fn accepts(&self, kind: &InstanceType, offering: &Offering) -> bool {
        let fixed: [(&str, &str); 5] = [
            (names::INSTANCE_TYPE, &kind.name),
            (names::ARCH, &kind.arch),
            (names::OS, "linux"),
            (names::ZONE, &offering.zone),
            (names::CAPACITY_TYPE, offering.capacity_type.as_str()),
        ];
        fixed.iter().all(|(key, value)| self.requirements.admits(key, Some(value)))
            && self.requirements.admits(names::REGION, Some(region_of(&offering.zone)))
            && kind.labels.iter().all(|(key, value)| self.requirements.admits(key, Some(value)))
    }
}

/// A node that does not exist yet, without zone and capacity type: see [`set_offering`].
pub fn hypothetical(
    name: &str,
    kind: &InstanceType,
    labels: &BTreeMap<String, String>,
    taints: &[Taint],
) -> NodeInfo {
    let mut all: BTreeMap<&str, &str> =
        kind.labels.iter().chain(labels).map(|(k, v)| (k.as_str(), v.as_str())).collect();
    all.insert(names::INSTANCE_TYPE, &kind.name);
    all.insert(names::ARCH, &kind.arch);
    all.insert(names::OS, "linux");
    all.insert(names::HOSTNAME, name);
    NodeInfo {
        name: name.into(),
        labels: all.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        taints: taints.to_vec(),
        unschedulable: false,
        allocatable: resources(&kind.allocatable),
        pods_max: kind.allocatable.pods,
    }
}

/// Puts a hypothetical node into the zone and capacity type of an offering.
pub fn set_offering(node: &mut NodeInfo, offering: &Offering) {
    node.set_label(names::ZONE, &offering.zone);
    node.set_label(names::REGION, region_of(&offering.zone));
    node.set_label(names::CAPACITY_TYPE, offering.capacity_type.as_str());
}

/// What a machine has, as the placement engine counts it.
pub fn resources(machine: &MachineResources) -> Resources {
    Resources {
        cpu_milli: machine.cpu_milli,
        memory_bytes: machine.memory_bytes,
        ephemeral_bytes: machine.ephemeral_bytes,
        extended: machine.extended.iter().map(|(name, amount)| (name.as_str().into(), *amount)).collect(),
    }
}

/// The region of a zone: its name without the final letter.
pub fn region_of(zone: &str) -> &str {
    zone.strip_suffix(|last: char| last.is_ascii_lowercase()).unwrap_or(zone)
}

/// Compiles a taint; `None` for an unknown effect.
pub fn taint(taint: &k8s_openapi::api::core::v1::Taint) -> Option<Taint> {
    Some(Taint {
        key: taint.key.as_str().into(),
        value: taint.value.as_deref().unwrap_or_default().into(),
        effect: Effect::parse(&taint.effect)?,
    })
}

fn pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// Labels that the type or the offering decides, not the pool.
fn is_decided_by_offering(key: &str) -> bool {
    let known =
        [names::INSTANCE_TYPE, names::ARCH, names::OS, names::ZONE, names::REGION, names::CAPACITY_TYPE];
    known.contains(&key) || key == names::HOSTNAME || key.starts_with("karpenter.k8s.aws/")
}

fn variants(labels: BTreeMap<String, String>, requirements: &Requirements) -> Vec<BTreeMap<String, String>> {
    let mut variants = vec![labels];
    for (key, allowed) in requirements.iter().filter(|(key, _)| !is_decided_by_offering(key)) {
        let Some(values) = allowed.listed().filter(|values| !values.is_empty()) else { continue };
        if variants[0].contains_key(key) || variants.len() * values.len() > VARIANTS_MAX {
            continue;
        }
        variants = variants
            .into_iter()
            .flat_map(|labels| {
                values.iter().map(move |value| {
                    let mut labels = labels.clone();
                    labels.insert(key.to_owned(), value.clone());
                    labels
                })
            })
            .collect();
    }
    variants
}

fn limits(pool: &NodePool) -> Limits {
    let quantity = |name: &str| {
        let text = pool.spec.limits.as_ref()?.get(name)?;
        api::quantity::Quantity::parse(&text.0).ok()
    };
    Limits {
        cpu_milli: quantity("cpu").map_or(i64::MAX, |cpu| cpu.milli()),
        memory_bytes: quantity("memory").map_or(i64::MAX, |memory| memory.units()),
        nodes: quantity("nodes").map_or(i64::MAX, |nodes| nodes.units()),
    }
}

fn disruption(pool: &NodePool) -> Disruption {
    let disruption = pool.spec.disruption.clone().unwrap_or_default();
    let after = |text: &Option<String>, default| text.as_deref().map_or(default, duration::parse);
    Disruption {
        underutilized: disruption.consolidation_policy.as_deref() != Some("WhenEmpty"),
        consolidate_after: after(&disruption.consolidate_after, Some(Duration::ZERO)),
        budgets: disruption
            .budgets
            .unwrap_or_else(|| vec![Budget { nodes: "10%".to_owned(), ..Budget::default() }]),
        expire_after: after(&pool.spec.template.spec.expire_after, Some(EXPIRE_AFTER)),
    }
}
