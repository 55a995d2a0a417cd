//! Stub.

use super::*;

pub const CSI_DRIVER: &[Heading] = NAME_CREATED_AT;
pub const CSI_NODE: &[Heading] = NAME_CREATED_AT;
pub const CSI_STORAGE_CAPACITY: &[Heading] = NAME_CREATED_AT;
pub const STORAGE_CLASS: &[Heading] = NAME_CREATED_AT;
pub const VOLUME_ATTACHMENT: &[Heading] = NAME_CREATED_AT;
pub const VOLUME_ATTRIBUTES_CLASS: &[Heading] = NAME_CREATED_AT;
pub fn csi_driver(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn csi_node(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn csi_storage_capacity(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn storage_class(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn volume_attachment(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
pub fn volume_attributes_class(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}
