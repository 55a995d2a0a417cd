//! Kubernetes' function libraries.

use crate::Function;

/// All functions of Kubernetes' libraries.
pub fn functions() -> Vec<Function> {
    Vec::new()
}
