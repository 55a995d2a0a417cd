//! Discovery documents.

use crate::kind::Registry;

/// The discovery documents of one registry.
pub struct Documents {}

impl Documents {
    /// Prepares the documents.
    pub fn new(_registry: &Registry) -> Documents {
        Documents {}
    }
}
