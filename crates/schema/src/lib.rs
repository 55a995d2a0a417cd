//! schema

pub mod apply;
pub mod cursor;
pub mod decode;
pub mod defaults;
pub mod field;
pub mod gotext;
pub mod patch;
pub mod policy_expressions;
pub mod strategy;
pub mod structural;
pub mod types;
pub mod validation;
