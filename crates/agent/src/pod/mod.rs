//! One pod on this node: what it asks for, what runs, what to do next and what to report. Everything but
//! the worker is a function of its arguments.

mod backoff;
mod container;
mod environment;
mod expand;
pub(crate) mod fields;
mod hook;
mod image;
mod observed;
mod plan;
mod probe;
pub(crate) use probe::port_number;
mod sandbox;
pub(crate) mod spec;
mod start;
mod status;
mod stop;
mod worker;
mod write_status;

pub(crate) use worker::{Update, Worker};
