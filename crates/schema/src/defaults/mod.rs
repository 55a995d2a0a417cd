//! Upstream's default values, one function per kind. Objects come in the storage version's shape.

pub mod admission;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod core;
mod fill;
mod image;
pub mod karpenter;
pub mod misc;
pub mod pod;
pub mod resources;
