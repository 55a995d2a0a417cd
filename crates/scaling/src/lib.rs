//! scaling

pub mod hpa;
