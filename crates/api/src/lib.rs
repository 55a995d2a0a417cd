//! The vocabulary of Kubernetes that every layer shares: quantities, selectors, formats of names, identities,
//! well-known names, and the types that k8s-openapi does not have (Karpenter's and our own).

pub mod explain;
pub mod format;
pub mod instance;
pub mod karpenter;
pub mod names;
pub mod quantity;
pub mod quota;
mod resource;
pub mod resource_list;
pub mod selector;
pub mod usage;
pub mod user;

pub use k8s_openapi;
