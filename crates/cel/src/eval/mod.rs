//! Evaluation.

mod activation;
mod charge;
pub(crate) mod plan;
pub(crate) mod run;

pub use activation::{Activation, Bindings};

use crate::{Error, Value};

/// What an evaluation came to.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The value, or why there is none.
    pub result: Result<Value<'a>, Error>,
    /// What it cost.
    pub cost: u64,
}
