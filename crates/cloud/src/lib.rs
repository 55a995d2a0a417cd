//! What the autoscaler needs of a cloud: a catalogue with prices, machines on demand, and warnings
//! before machines vanish.
//!
//! The kinds of [`CloudError`] are the contract: they say whether to back off an offering, to try
//! again, or to give up. [`suite`] holds every provider to it.

pub mod suite;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use api::instance::{CapacityType, InstanceType, MachineResources, Offering, OfferingKey};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use tokio::sync::broadcast;

/// A provider of machines.
#[async_trait]
pub trait Cloud: Send + Sync + 'static {
    /// What can be rented now. Cheap: providers keep it and refresh it themselves.
    fn catalogue(&self) -> Arc<Vec<InstanceType>>;

    /// Rents one machine: the first of the request's offerings that has capacity.
    ///
    /// Idempotent by [`LaunchRequest::claim`]: the same claim gets the same machine again.
    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, CloudError>;

    /// Gives a machine back. [`CloudError::NotFound`] when it is gone already.
    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError>;

    /// One machine.
    async fn get(&self, id: &InstanceId) -> Result<Instance, CloudError>;

    /// All machines of this cluster that are not terminated.
    async fn list(&self) -> Result<Vec<Instance>, CloudError>;

    /// What happens to machines from now on. A reader that falls behind looks at [`Cloud::list`].
    fn events(&self) -> broadcast::Receiver<CloudEvent>;
}

/// The name of a machine as in `node.spec.providerID`, e.g. `sim:///us-east-1a/i-0123`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub Arc<str>);

impl InstanceId {
    /// The name from its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The order of one machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaunchRequest {
    /// Name of the NodeClaim. The machine carries it as a tag.
    pub claim: String,
    /// Acceptable offerings, the preferred one first.
    pub offerings: Vec<OfferingKey>,
    /// Labels that the node registers with.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<Taint>,
}

/// A machine that was rented, and what was tried before.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// The machine.
    pub instance: Instance,
    /// Preferred offerings that had no capacity.
    pub unavailable: Vec<OfferingKey>,
}

/// A rented machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// The NodeClaim that it was rented for.
    pub claim: String,
    /// What was rented.
    pub offering: OfferingKey,
    /// Price in US dollars per hour at the time of the launch.
    pub dollars_per_hour: f64,
    /// The machine image.
    pub image: String,
    /// When it was rented.
    pub launched: Timestamp,
}

/// What a cloud says about a machine without being asked.
#[derive(Clone, Debug, PartialEq)]
pub enum CloudEvent {
    /// The machine will be taken back.
    Interruption {
        /// The machine.
        instance: InstanceId,
        /// When it vanishes.
        deadline: Timestamp,
    },
    /// The machine is gone.
    Gone {
        /// The machine.
        instance: InstanceId,
    },
}

/// Why a cloud did not do what it was asked for; the kind says what to do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CloudError {
    /// None of the offerings has capacity: leave them alone for some seconds and take others.
    #[error("no capacity for {}", names(.offerings))]
    InsufficientCapacity {
        /// What was tried.
        offerings: Vec<OfferingKey>,
    },
    /// Throttled or out of reach: the same request may succeed later.
    #[error("{reason}")]
    Retry {
        /// What went wrong.
        reason: String,
        /// When to try again, if the cloud says so.
        after: Option<Duration>,
    },
    /// There is no such machine (any more).
    #[error("instance {0} not found")]
    NotFound(InstanceId),
    /// The request can never succeed: wrong configuration, quota, missing rights.
    #[error("{0}")]
    GiveUp(String),
}

fn names(offerings: &[OfferingKey]) -> String {
    match offerings {
        [] => "no offerings at all".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} others", rest.len()),
    }
}
