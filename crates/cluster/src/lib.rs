//! From settings to a running cluster: the only place that wires components together.
//!
//! Everything above this crate decides how a cluster should look ([`Options`]); everything below
//! it knows nothing of the other parts. [`start`] brings the parts up in order and reports each stage.

mod access;
mod autoscaling;
mod components;
mod error;
mod files;
mod kubeconfig;
mod nodes;
mod options;
mod real_node;
mod run_state;
mod start;

pub use apiserver::audit::LogConfig;
pub use apiserver::oidc;
pub use client::{Informer, Informers};
pub use components::{Component, Components};
pub use error::StartError;
pub use nodes::RuntimeInUse;
pub use options::{AccessOptions, Options, RuntimeChoice};
pub use run_state::RunState;
pub use simnodes::NodeSpec;
pub use start::{Cluster, Stage, clean_up, start};
