//! Stub.

use super::*;

pub const CERTIFICATE_SIGNING_REQUEST: &[Heading] = NAME_CREATED_AT;
pub const CLUSTER_ROLE_BINDING: &[Heading] = NAME_CREATED_AT;
pub const FLOW_SCHEMA: &[Heading] = NAME_CREATED_AT;
pub const POD_DISRUPTION_BUDGET: &[Heading] = NAME_CREATED_AT;
pub const PRIORITY_CLASS: &[Heading] = NAME_CREATED_AT;
pub const PRIORITY_LEVEL_CONFIGURATION: &[Heading] = NAME_CREATED_AT;
pub const ROLE_BINDING: &[Heading] = NAME_CREATED_AT;
pub fn certificate_signing_request(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn flow_schema(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn pod_disruption_budget(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn priority_class(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn priority_level_configuration(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn role_binding(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
