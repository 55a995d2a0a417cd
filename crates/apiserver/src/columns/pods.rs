//! Stub.

use super::*;

pub const POD: &[Heading] = NAME_CREATED_AT;
pub fn pod(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
