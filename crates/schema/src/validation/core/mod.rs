//! Kinds of the core group other than Pod.

pub mod storage;
