//! A cloud that exists only in this process, with the prices of a real one.
//!
//! Machines boot after a delay, may find no capacity, and are taken back on request with the usual
//! warning, all in tokio's time. The crate knows nothing of nodes: whoever wires it passes [`Hooks`]
//! that turn running machines into nodes. Nothing is kept on disk; after a restart,
//! [`SimCloud::adopt`] takes over the machines that NodeClaims still know.

mod catalogue;
mod machines;

pub use catalogue::{Catalogue, CatalogueError};
pub use machines::{Config, Hooks, Machine, SimCloud};
