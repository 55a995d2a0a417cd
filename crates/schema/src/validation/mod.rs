//! The rules that objects must satisfy, in upstream's order and words.
//!
//! Rules take a [`Node`](crate::cursor::Node) and add what is wrong to an
//! [`ErrorList`](crate::field::ErrorList). The kinds' entry points are named in
//! [`strategy`](crate::strategy).

pub mod admission;
pub mod api_service;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
mod conditions;
pub mod core;
pub mod cron;
pub mod devices;
mod diff;
pub mod discovery;
pub mod events;
mod expressions;
pub mod flowcontrol;
pub mod format;
mod internal;
pub mod karpenter;
mod key_pair;
pub mod kind_warnings;
pub mod labels;
pub mod metadata;
pub mod networking;
mod pem;
pub mod pod;
pub mod policies;
pub mod policy;
pub mod rbac;
pub mod resources;
pub(crate) mod rules;
pub mod scheduling;
pub mod storage;
#[cfg(test)]
mod tests;
mod volume_sources;
pub mod warnings;
pub(crate) mod webhook_address;
