//! Placement: which node a pod runs on, and why not.
//!
//! Pure: snapshots in, decisions out; no IO, no clock, no tasks. The scheduler, the autoscaler (on
//! nodes that do not exist yet), the simulator and `kobune explain` share it, so that they cannot
//! disagree. Filters, scores and messages are those of upstream's default scheduler profile.
//!
//! - [`PodRequirements`] is what of a pod matters, compiled once; pods that compile to the same share
//!   a [`PodClass`].
//! - [`Engine`] holds a columnar [`Snapshot`] of nodes and, per class, a standing order of all nodes.
//!   [`Engine::place`] takes the first of it; [`Engine::fork`] answers "what if".
//! - [`Cluster`] adds the placed pods, which preemption and consolidation need.
//! - [`Unschedulable`] and [`Preemption`] say why not, in upstream's words.

mod class;
mod cluster;
mod diagnosis;
mod engine;
mod filter;
mod index;
mod node;
mod preempt;
mod relations;
mod resources;
mod score;
mod selector;
mod snapshot;
mod tree;

pub use class::{HostPort, PodClass, PodRequirements};
pub use cluster::{Cluster, PlacedPod, PodKey};
pub use diagnosis::{Nearest, Nodes, Unschedulable};
pub use engine::{Engine, Placement};
pub use filter::Reason;
pub use node::{Effect, NodeInfo, Taint};
pub use preempt::{Preemption, preempt};
pub use relations::PodGroup;
pub use resources::{DEFAULT_CPU_REQUEST_MILLI, DEFAULT_MEMORY_REQUEST_BYTES, Resources};
pub use score::{MAX_NODE_SCORE, Scores};
pub use snapshot::{Free, NodeId, Snapshot};
