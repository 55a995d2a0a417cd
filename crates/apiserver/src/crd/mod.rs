//! Custom resources: what CustomResourceDefinitions make of the server while it runs.
//!
//! The rules themselves are pure and live in [`schema::structural`]. Here is what ties them to the
//! server: a [`Definition`] is a CustomResourceDefinition as it is served, a [`Handler`] one version of
//! it, which the version's row of the kind table carries. The `controller` follows the definitions in
//! the watch cache, accepts their names, swaps the kind table and cleans up behind deleted ones.
//!
//! Stored objects begin with the version that they were stored in. Those that were written since their
//! definition last changed, and are asked for in that version, are answered as they are stored; all
//! others are pruned, given defaults and converted when somebody looks at them (`show`).

mod body;
mod conditions;
mod controller;
mod convert;
mod definition;
mod names;
mod parsed;
mod paths;
mod removal;
mod rows;
mod show;

pub(crate) use body::{decode, normalise, normalise_applied};
pub(crate) use controller::{Queue, start};
pub(crate) use convert::between;
pub(crate) use definition::is_superseded;
pub use definition::{Definition, Handler};
pub(crate) use paths::refusal;
pub(crate) use removal::mark_for_deletion;

/// The group of CustomResourceDefinitions.
const GROUP: &str = "apiextensions.k8s.io";
/// Where they are stored.
const DIR: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Keeps a definition until its objects are gone.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
