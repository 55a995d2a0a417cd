//! Formats of names and other strings; they are in `api`, where CEL's function libraries find them too.

pub use api::format::*;
