//! Stub.

use super::*;

pub const COMPONENT_STATUS: &[Heading] = NAME_CREATED_AT;
pub const CONFIG_MAP: &[Heading] = NAME_CREATED_AT;
pub const EVENT: &[Heading] = NAME_CREATED_AT;
pub const LEASE: &[Heading] = NAME_CREATED_AT;
pub const NAMESPACE: &[Heading] = NAME_CREATED_AT;
pub const PERSISTENT_VOLUME: &[Heading] = NAME_CREATED_AT;
pub const PERSISTENT_VOLUME_CLAIM: &[Heading] = NAME_CREATED_AT;
pub const RESOURCE_QUOTA: &[Heading] = NAME_CREATED_AT;
pub const RUNTIME_CLASS: &[Heading] = NAME_CREATED_AT;
pub const SECRET: &[Heading] = NAME_CREATED_AT;
pub const SELF_SUBJECT_REVIEW: &[Heading] = NAME_CREATED_AT;
pub fn component_status(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn config_map(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn event(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn events_event(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn lease(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn namespace(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn persistent_volume(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn persistent_volume_claim(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn resource_quota(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn runtime_class(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn secret(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn self_subject_review(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
