//! schema

pub mod cursor;
pub mod field;
pub mod strategy;
pub mod validation;
