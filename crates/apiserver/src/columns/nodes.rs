//! Stub.

use super::*;

pub const NODE: &[Heading] = NAME_CREATED_AT;
pub fn node(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
