//! Stub.

use super::*;

pub const ADMISSION_POLICY_BINDING: &[Heading] = NAME_CREATED_AT;
pub const API_SERVICE: &[Heading] = NAME_CREATED_AT;
pub const MUTATING_ADMISSION_POLICY: &[Heading] = NAME_CREATED_AT;
pub const VALIDATING_ADMISSION_POLICY: &[Heading] = NAME_CREATED_AT;
pub const WEBHOOK_CONFIGURATION: &[Heading] = NAME_CREATED_AT;
pub fn admission_policy_binding(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn api_service(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn mutating_admission_policy(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn validating_admission_policy(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn webhook_configuration(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
