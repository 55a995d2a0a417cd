//! Dynamic resource allocation.

use super::*;

/// ResourceClaim.
pub const RESOURCE_CLAIM: &[Heading] = &[
    NAME,
    column("State", "string", "A summary of the current state (allocated, pending, reserved, etc.)."),
    AGE,
];

/// ResourceSlice.
pub const RESOURCE_SLICE: &[Heading] = &[
    NAME,
    column(
        "Node",
        "string",
        "NodeName identifies the node which provides the resources in this pool. A field selector can be used to list only ResourceSlice objects belonging to a certain node.\n\nThis field can be used to limit access from nodes to ResourceSlices with the same node name. It also indicates to autoscalers that adding new nodes of the same type as some old node might also make new resources available.\n\nExactly one of NodeName, NodeSelector, AllNodes, and PerDeviceNodeSelection must be set. This field is immutable.",
    ),
    column(
        "Driver",
        "string",
        "Driver identifies the DRA driver providing the capacity information. A field selector can be used to list only ResourceSlice objects with a certain driver name.\n\nMust be a DNS subdomain and should end with a DNS domain owned by the vendor of the driver. It should use only lower case characters. This field is immutable.",
    ),
    column(
        "Pool",
        "string",
        "Name is used to identify the pool. For node-local devices, this is often the node name, but this is not required.\n\nIt must not be longer than 253 characters and must consist of one or more DNS sub-domains separated by slashes. This field is immutable.",
    ),
    AGE,
];

/// One ResourceClaim.
pub fn resource_claim(object: &Value, now: Timestamp) -> Row {
    let deleted = object.pointer("/metadata/deletionTimestamp").is_some();
    let allocated = object.pointer("/status/allocation").is_some();
    let reserved = !list(object, "/status/reservedFor").is_empty();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    let state: Vec<&str> = states.iter().filter(|(holds, _)| *holds).map(|(_, state)| *state).collect();
    row![name(object), state.join(","), age(object, now)]
}

/// One ResourceSlice.
pub fn resource_slice(object: &Value, now: Timestamp) -> Row {
    row![
        name(object),
        text(object, "/spec/nodeName"),
        text(object, "/spec/driver"),
        text(object, "/spec/pool/name"),
        age(object, now),
    ]
}
