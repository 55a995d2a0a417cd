//! What `fieldRef` and `resourceFieldRef` read.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::spec;

/// What the agent knows of the pod beyond its specification.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub pod_ips: Vec<String>,
    pub host_ip: String,
    pub node_name: String,
    /// What limits default to.
    pub node_cpu_milli: i64,
    /// What limits default to.
    pub node_memory: i64,
}

/// The value of a field path, or why there is none.
pub(crate) fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key).cloned()).unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => {
            spec.and_then(|s| s.service_account_name.clone()).unwrap_or_else(|| "default".to_owned())
        }
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={}", quoted(value));
    map.into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// Go's `%q` for the characters that occur in labels and annotations.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a resource field; limits default to what the node has.
pub(crate) fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let resources = container.resources.as_ref();
    let divisor = selector.divisor.as_ref().and_then(|q| Quantity::parse(&q.0).ok()).filter(|q| !q.is_zero());
    let (list, name) = selector.resource.split_once('.').ok_or("invalid resource")?;
    let found = match list {
        "limits" => spec::limit(resources, name).filter(|q| !q.is_zero()),
        "requests" => spec::request(resources, name),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let value = match (found, list, name) {
        (Some(value), ..) => value,
        (None, "limits", "cpu") => Quantity::from_milli(facts.node_cpu_milli),
        (None, "limits", "memory") => Quantity::from_bytes(facts.node_memory),
        _ => Quantity::ZERO,
    };
    let divided = match name {
        "cpu" => div_ceil(value.milli(), divisor.map_or(1000, |d| d.milli())),
        _ => div_ceil(value.units(), divisor.map_or(1, |d| d.units())),
    };
    Ok(divided.to_string())
}

fn div_ceil(value: i64, divisor: i64) -> i64 {
    let divisor = divisor.max(1);
    value / divisor + i64::from(value % divisor > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_path() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "labels": {"app": "a\"b", "x/y": "z"}}, "spec": {"containers": []},
        }))
        .unwrap();
        let facts = Facts { pod_ips: vec!["10.0.0.2".into()], ..Facts::default() };
        assert_eq!(field(&pod, &facts, "metadata.labels['x/y']").unwrap(), "z");
        assert_eq!(field(&pod, &facts, "metadata.labels").unwrap(), "app=\"a\\\"b\"\nx/y=\"z\"");
        assert_eq!(field(&pod, &facts, "status.podIP").unwrap(), "10.0.0.2");
        assert!(field(&pod, &facts, "spec.nope").is_err());
    }

    #[test]
    fn resources_are_divided_upwards() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
        }))
        .unwrap();
        let read = |resource: &str, divisor: &str| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(serde_json::json!({"resource": resource, "divisor": divisor}))
                    .unwrap();
            super::resource(&container, &selector, &Facts::default()).unwrap()
        };
        assert_eq!(read("limits.cpu", "1"), "2");
        assert_eq!(read("limits.cpu", "1m"), "1500");
        assert_eq!(read("limits.memory", "1Mi"), "64");
        assert_eq!(read("requests.cpu", "0"), "2");
    }
}
