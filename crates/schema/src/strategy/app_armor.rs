//! AppArmor profiles by annotation, from before there were fields for them: a new pod gets the field.
//!
//! Source: `applyAppArmorVersionSkew` of the pod strategy.

use serde_json::{Value, json};

const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The field that says the same as the annotation; `None` if there is none.
pub fn field(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let profile = annotation.strip_prefix("localhost/").filter(|profile| !profile.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": profile}))
        }
    }
}

/// What a container's annotation says, if there is one and no field of its own.
struct Found {
    list: &'static str,
    index: usize,
    key: String,
    /// The field to set; `None` if the annotation says nothing valid.
    profile: Option<Value>,
}

fn found(pod: &Value) -> Vec<Found> {
    let mut all = Vec::new();
    let annotations = &pod["metadata"]["annotations"];
    if pod["spec"]["os"]["name"] == "windows" || !annotations.is_object() {
        return all;
    }
    for list in CONTAINERS {
        for (index, container) in pod["spec"][list].as_array().into_iter().flatten().enumerate() {
            let key = format!("{PREFIX}{}", container["name"].as_str().unwrap_or_default());
            let own = &container["securityContext"]["appArmorProfile"];
            if let (Some(annotation), true) = (annotations[&key].as_str(), own.is_null()) {
                let profile = field(annotation).filter(is_valid);
                all.push(Found { list, index, key, profile });
            }
        }
    }
    all
}

fn is_valid(profile: &Value) -> bool {
    let path = profile["localhostProfile"].as_str().unwrap_or_default();
    path.trim() == path && path.len() <= 4095
}

/// Sets the fields of containers that have only annotations, where they differ from the pod's.
pub fn apply_annotations(pod: &mut Value) {
    let whole = pod["spec"]["securityContext"]["appArmorProfile"].clone();
    for Found { list, index, profile, .. } in found(pod) {
        if let Some(profile) = profile.filter(|profile| *profile != whole) {
            pod["spec"][list][index]["securityContext"]["appArmorProfile"] = profile;
        }
    }
}

/// What the sender of a new pod should know before annotations become fields.
pub fn deprecated_annotations(pod: &Value) -> Vec<String> {
    let whole = &pod["spec"]["securityContext"]["appArmorProfile"];
    found(pod)
        .into_iter()
        .filter(|found| found.profile.as_ref() != Some(whole))
        .map(|found| {
            let key = found.key;
            let instead = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            format!("metadata.annotations[{key}]: {instead}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_become_fields() {
        let container = |name: &str| json!({"name": name});
        let key = |name: &str| format!("{PREFIX}{name}");
        let mut pod = json!({
            "metadata": {"annotations": {
                key("a"): "localhost/x", key("b"): "runtime/default", key("c"): "nonsense",
            }},
            "spec": {
                "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}},
                "containers": [container("a"), container("b"), container("c"), container("d")],
            },
        });
        assert_eq!(deprecated_annotations(&pod).len(), 2);
        apply_annotations(&mut pod);
        let containers = &pod["spec"]["containers"];
        let profile = json!({"type": "Localhost", "localhostProfile": "x"});
        assert_eq!(containers[0]["securityContext"]["appArmorProfile"], profile);
        assert!((1..4).all(|i| containers[i]["securityContext"].is_null()));
    }
}
