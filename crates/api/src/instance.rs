//! Instance types and offerings: the vocabulary that clouds, provisioning and pricing share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How capacity is paid for, in Karpenter's terms. Ordered from the cheapest to the dearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapacityType {
    /// Paid for already.
    Reserved,
    /// Spare capacity, which the cloud may take back at short notice.
    Spot,
    /// Paid by the hour, kept as long as one likes.
    OnDemand,
}

impl CapacityType {
    /// The value of the label `karpenter.sh/capacity-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            CapacityType::Reserved => "reserved",
            CapacityType::Spot => "spot",
            CapacityType::OnDemand => "on-demand",
        }
    }

    /// Reads the label's value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reserved, Self::Spot, Self::OnDemand].into_iter().find(|known| known.as_str() == text)
    }
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a machine of some type has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineResources {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Node-local storage in bytes.
    pub ephemeral_bytes: i64,
    /// Pods.
    pub pods: i64,
    /// Extended resources by name, e.g. `nvidia.com/gpu`.
    pub extended: BTreeMap<String, i64>,
}

/// A kind of machine that a cloud rents out.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceType {
    /// Its name, e.g. `m7g.large`.
    pub name: Arc<str>,
    /// CPU architecture in Go's spelling.
    pub arch: Arc<str>,
    /// What the machine has.
    pub capacity: MachineResources,
    /// What of it pods can use.
    pub allocatable: MachineResources,
    /// Further labels that its nodes carry, e.g. the instance family.
    pub labels: BTreeMap<String, String>,
    /// Where and how it can be rented.
    pub offerings: Vec<Offering>,
}

/// An instance type in one zone, paid for in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Offering {
    /// The zone, e.g. `us-east-1a`.
    pub zone: Arc<str>,
    /// How it is paid for.
    pub capacity_type: CapacityType,
    /// Price in US dollars per hour.
    pub dollars_per_hour: f64,
    /// Whether the cloud is believed to have capacity.
    pub available: bool,
}

/// Names an offering.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferingKey {
    /// Name of the instance type.
    pub instance_type: Arc<str>,
    /// The zone.
    pub zone: Arc<str>,
    /// How it is paid for.
    pub capacity_type: CapacityType,
}

impl fmt::Display for OfferingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.instance_type, self.capacity_type, self.zone)
    }
}

impl InstanceType {
    /// The name of one of its offerings.
    pub fn key(&self, offering: &Offering) -> OfferingKey {
        OfferingKey {
            instance_type: self.name.clone(),
            zone: offering.zone.clone(),
            capacity_type: offering.capacity_type,
        }
    }
}
