//! Scaling decisions as pure functions: how many replicas, which machines to buy, which to give back.
//!
//! No IO, no clock, no tasks: snapshots in, decisions with their reasons out. Placement is the
//! `scheduling` engine's, so that nothing here disagrees with the scheduler.

pub mod consolidate;
pub mod duration;
pub mod hpa;
pub mod ledger;
pub mod pool;
pub mod provision;
pub mod requirements;
