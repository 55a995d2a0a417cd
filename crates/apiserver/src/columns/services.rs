//! Stub.

use super::*;

pub const ENDPOINTS: &[Heading] = NAME_CREATED_AT;
pub const ENDPOINT_SLICE: &[Heading] = NAME_CREATED_AT;
pub const INGRESS: &[Heading] = NAME_CREATED_AT;
pub const INGRESS_CLASS: &[Heading] = NAME_CREATED_AT;
pub const IP_ADDRESS: &[Heading] = NAME_CREATED_AT;
pub const NETWORK_POLICY: &[Heading] = NAME_CREATED_AT;
pub const SERVICE: &[Heading] = NAME_CREATED_AT;
pub const SERVICE_CIDR: &[Heading] = NAME_CREATED_AT;
pub fn endpoint_slice(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn endpoints(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn ingress(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn ingress_class(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn ip_address(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn network_policy(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn service(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn service_cidr(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
