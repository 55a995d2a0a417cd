//! The vocabulary of Kubernetes that every layer shares: quantities, selectors, identities,
//! well-known names, and the types that k8s-openapi does not have (Karpenter's and our own).

pub mod explain;
pub mod instance;
pub mod karpenter;
pub mod names;
pub mod quantity;
mod resource;
pub mod selector;
pub mod usage;
pub mod user;

pub use k8s_openapi;
