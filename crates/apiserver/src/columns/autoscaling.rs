//! Stub.

use super::*;

pub const HPA: &[Heading] = NAME_CREATED_AT;
pub fn hpa(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn hpa_v1(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
