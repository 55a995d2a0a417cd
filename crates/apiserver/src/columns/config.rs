//! Configuration kinds, events and other small ones.

use super::*;

/// ConfigMap.
pub const CONFIG_MAP: &[Heading] = &[
    NAME,
    column(
        "Data",
        "string",
        "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
    ),
    AGE,
];

/// Secret.
pub const SECRET: &[Heading] = &[
    NAME,
    column(
        "Type",
        "string",
        "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
    ),
    column(
        "Data",
        "string",
        "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
    ),
    AGE,
];

/// Namespace.
pub const NAMESPACE: &[Heading] = &[NAME, column("Status", "string", "The status of the namespace"), AGE];

/// Event.
pub const EVENT: &[Heading] = &[
    column("Last Seen", "string", "The time at which the most recent occurrence of this event was recorded."),
    column("Type", "string", "Type of this event (Normal, Warning), new types could be added in the future"),
    column(
        "Reason",
        "string",
        "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
    ),
    column("Object", "string", "The object that this event is about."),
    wide(
        "Subobject",
        "string",
        "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is to a container within a pod, this would take on a value like: \"spec.containers{name}\" (where \"name\" refers to the name of the container that triggered the event) or if no container name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax is chosen only to have some well-defined way of referencing a part of an object.",
    ),
    wide(
        "Source",
        "string",
        "The component reporting this event. Should be a short machine understandable string.",
    ),
    column("Message", "string", "A human-readable description of the status of this operation."),
    wide(
        "First Seen",
        "string",
        "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
    ),
    wide("Count", "string", "The number of times this event has occurred."),
    Heading { format: "name", ..wide("Name", "string", NAME_DESCRIPTION) },
];

/// ResourceQuota.
pub const RESOURCE_QUOTA: &[Heading] = &[
    NAME,
    column(
        "Request",
        "string",
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    column(
        "Limit",
        "string",
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
    ),
    AGE,
];

/// ComponentStatus.
pub const COMPONENT_STATUS: &[Heading] = &[
    NAME,
    column("Status", "string", "Status of the component conditions"),
    column("Message", "string", "Message of the component conditions"),
    column("Error", "string", "Error of the component conditions"),
];

/// Lease.
pub const LEASE: &[Heading] = &[
    NAME,
    column(
        "Holder",
        "string",
        "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
    ),
    AGE,
];

/// RuntimeClass.
pub const RUNTIME_CLASS: &[Heading] = &[NAME, column("Handler", "string", ""), AGE];

/// Status, the answer to errors and deletes.
pub const STATUS: &[Heading] = &[
    column(
        "Status",
        "string",
        "Status of the operation. One of: \"Success\" or \"Failure\". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#spec-and-status",
    ),
    column(
        "Reason",
        "string",
        "A machine-readable description of why this operation is in the \"Failure\" status. If this value is empty there is no information available. A Reason clarifies an HTTP status code but does not override it.",
    ),
    column("Message", "string", ""),
];

/// SelfSubjectReview.
pub const SELF_SUBJECT_REVIEW: &[Heading] = NAME_CREATED_AT;

/// One ConfigMap.
pub fn config_map(object: &Value, now: Timestamp) -> Row {
    row![name(object), entries(object, "/data") + entries(object, "/binaryData"), age(object, now)]
}

/// One Secret.
pub fn secret(object: &Value, now: Timestamp) -> Row {
    row![name(object), text(object, "/type"), entries(object, "/data"), age(object, now)]
}

/// One Namespace.
pub fn namespace(object: &Value, now: Timestamp) -> Row {
    row![name(object), text(object, "/status/phase"), age(object, now)]
}

/// One Event, in its core/v1 form.
pub fn event(event: &Value, now: Timestamp) -> Row {
    let first = if event.get("firstTimestamp").is_some_and(Value::is_string) {
        since(event, "/firstTimestamp", now)
    } else {
        since(event, "/eventTime", now)
    };
    let mut last = match event.get("lastTimestamp") {
        Some(Value::String(_)) => since(event, "/lastTimestamp", now),
        _ => first.clone(),
    };
    // Events of the newer API that happened once carry no count.
    let mut count = number(event, "/count").max(1);
    if event.get("series").is_some_and(Value::is_object) {
        last = since(event, "/series/lastObservedTime", now);
        count = number(event, "/series/count");
    }
    let mut target = text(event, "/involvedObject/kind").to_lowercase();
    let involved = text(event, "/involvedObject/name");
    if !involved.is_empty() {
        target = format!("{target}/{involved}");
    }
    let component = text_or(event, "/source/component", text(event, "/reportingComponent"));
    let source = match text_or(event, "/source/host", text(event, "/reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    };
    row![
        last,
        text(event, "/type"),
        text(event, "/reason"),
        target,
        text(event, "/involvedObject/fieldPath"),
        source,
        text(event, "/message").trim(),
        first,
        count,
        name(event),
    ]
}

/// One Event, in its events.k8s.io/v1 form.
pub fn events_event(event_: &Value, now: Timestamp) -> Row {
    let mut core = event_.clone();
    crate::convert::event_to_core(&mut core);
    event(&core, now)
}

/// One ResourceQuota.
pub fn resource_quota(object: &Value, now: Timestamp) -> Row {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let mut resources: Vec<&String> = hard.into_iter().flat_map(|hard| hard.keys()).collect();
    resources.sort_unstable();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for resource in resources {
        let of =
            |map| object["status"][map].get(resource).map_or("0".to_owned(), |value| plain(value, "", "0"));
        let shown = format!("{resource}: {}/{}", of("used"), of("hard"));
        if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    row![name(object), requests.join(", "), limits.join(", "), age(object, now)]
}

/// One ComponentStatus.
pub fn component_status(object: &Value, _: Timestamp) -> Row {
    let healthy = list(object, "/conditions").iter().find(|condition| text(condition, "/type") == "Healthy");
    let (status, message, error) = match healthy {
        Some(healthy) if text(healthy, "/status") == "True" => {
            ("Healthy", text(healthy, "/message"), text(healthy, "/error"))
        }
        Some(healthy) => ("Unhealthy", text(healthy, "/message"), text(healthy, "/error")),
        None => ("Unknown", "", ""),
    };
    row![name(object), status, message, error]
}

/// One Lease.
pub fn lease(object: &Value, now: Timestamp) -> Row {
    row![name(object), text(object, "/spec/holderIdentity"), age(object, now)]
}

/// One RuntimeClass.
pub fn runtime_class(object: &Value, now: Timestamp) -> Row {
    row![name(object), text(object, "/handler"), age(object, now)]
}

/// One SelfSubjectReview.
pub fn self_subject_review(object: &Value, now: Timestamp) -> Row {
    name_created_at(object, now)
}

/// A Status.
pub fn status(object: &Value, _: Timestamp) -> Row {
    row![text(object, "/status"), text(object, "/reason"), text(object, "/message")]
}
