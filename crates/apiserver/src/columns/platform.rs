//! Stub.

use super::*;

pub const DECISION: &[Heading] = NAME_CREATED_AT;
pub const NODE_CLAIM: &[Heading] = NAME_CREATED_AT;
pub const NODE_METRICS: &[Heading] = NAME_CREATED_AT;
pub const NODE_POOL: &[Heading] = NAME_CREATED_AT;
pub const POD_METRICS: &[Heading] = NAME_CREATED_AT;
pub fn decision(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn node_claim(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn node_metrics(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn node_pool(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn pod_metrics(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
