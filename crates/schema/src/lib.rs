//! schema

pub mod cursor;
pub mod defaults;
pub mod field;
pub mod strategy;
pub mod types;
pub mod validation;
