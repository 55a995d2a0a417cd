//! Stub.

use super::*;

pub const CONTROLLER_REVISION: &[Heading] = NAME_CREATED_AT;
pub const CRON_JOB: &[Heading] = NAME_CREATED_AT;
pub const DAEMON_SET: &[Heading] = NAME_CREATED_AT;
pub const DEPLOYMENT: &[Heading] = NAME_CREATED_AT;
pub const JOB: &[Heading] = NAME_CREATED_AT;
pub const POD_TEMPLATE: &[Heading] = NAME_CREATED_AT;
pub const REPLICATION_CONTROLLER: &[Heading] = NAME_CREATED_AT;
pub const REPLICA_SET: &[Heading] = NAME_CREATED_AT;
pub const STATEFUL_SET: &[Heading] = NAME_CREATED_AT;
pub fn controller_revision(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn cron_job(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn daemon_set(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn deployment(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn job(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn pod_template(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn replica_set(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn replication_controller(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn stateful_set(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
