//! Stub.

use super::*;

pub const RESOURCE_CLAIM: &[Heading] = NAME_CREATED_AT;
pub const RESOURCE_SLICE: &[Heading] = NAME_CREATED_AT;
pub fn resource_claim(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn resource_slice(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
