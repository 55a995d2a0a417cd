//! Extensions that upstream declares and that nothing but its OpenAPI documents shows.

use serde_json::{Value, json};

/// The union that a struct is.
pub fn union(name: &str) -> Option<Value> {
    let (discriminator, fields): (&str, &[(&str, &str)]) = match name.strip_prefix("io.k8s.api.")? {
        "core.v1.AppArmorProfile" | "core.v1.SeccompProfile" => {
            ("type", &[("localhostProfile", "LocalhostProfile")])
        }
        "core.v1.PodSchedulingGroup" => ("", &[("podGroupName", "PodGroupName")]),
        "flowcontrol.v1.LimitResponse" => ("type", &[("queuing", "Queuing")]),
        "flowcontrol.v1.PriorityLevelConfigurationSpec" => {
            ("type", &[("exempt", "Exempt"), ("limited", "Limited")])
        }
        "flowcontrol.v1.Subject" => {
            ("kind", &[("group", "Group"), ("serviceAccount", "ServiceAccount"), ("user", "User")])
        }
        _ => return None,
    };
    let fields: serde_json::Map<String, Value> =
        fields.iter().map(|(field, value)| ((*field).to_owned(), json!(value))).collect();
    let mut union = json!({"fields-to-discriminateBy": fields});
    if !discriminator.is_empty() {
        union["discriminator"] = json!(discriminator);
    }
    Some(union)
}

/// What is said of a field beside its type: how it merges, where that is the rule anyway.
pub fn of_field(name: &str, field: &str) -> Option<(&'static str, &'static str)> {
    match (name.rsplit('.').next()?, field) {
        ("PersistentVolumeClaimStatus", "allocatedResourceStatuses")
        | ("PersistentVolumeSpec", "claimRef") => Some(("x-kubernetes-map-type", "granular")),
        ("APIServiceSpec", "caBundle") => Some(("x-kubernetes-list-type", "atomic")),
        _ => None,
    }
}
