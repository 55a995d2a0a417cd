//! Kinds of the core group other than Pod.

pub mod cluster;
pub mod config;
pub mod endpoints;
pub mod limits;
pub mod service;
pub mod storage;
pub mod volumes;
