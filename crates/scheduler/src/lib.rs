//! The scheduler: the loop around the placement engine of `scheduling`.
//!
//! Informers tell what there is; [`run`] places pending pods on nodes and binds them through the API.
//! A placement is assumed at once and bound in the background, many at a time; a binding that fails
//! is forgotten again. Pods that fit nowhere wait, class by class, until a node changes so that it
//! could take them: nothing is tried on a timer.
//!
//! `state` decides and does no IO; `requests` and `decisions` do IO and decide nothing.

mod decisions;
mod inbox;
mod pod;
mod queue;
mod requests;
mod run;
mod state;

pub use run::{Config, DEFAULT_SCHEDULER, run};
