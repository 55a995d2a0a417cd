//! apiserver

pub mod columns;
pub mod convert;
pub mod discovery;
pub mod fields;
pub mod kind;
pub mod kinds;
