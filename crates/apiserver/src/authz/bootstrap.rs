//! The roles and bindings that every cluster starts with.

use serde_json::{Value, json};

const POLICY: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// Resource (`clusterroles`, `rolebindings`, …) and object, without kind and apiVersion, in the order
/// in which they are to be created.
pub fn objects() -> Vec<(&'static str, Value)> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    for line in POLICY.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["role", "in", namespace, name] => objects.push(("roles", role(name, namespace))),
            ["role", name] => objects.push(("clusterroles", role(name, ""))),
            ["bind", "in", namespace, name, subjects @ ..] => {
                objects.push(("rolebindings", binding(name, namespace, subjects)));
            }
            ["bind", name, subjects @ ..] => {
                objects.push(("clusterrolebindings", binding(name, "", subjects)))
            }
            member => {
                if let Some((_, role)) = objects.last_mut() {
                    add(role, member);
                }
            }
        }
    }
    objects
}

fn metadata(name: &str, namespace: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn role(name: &str, namespace: &str) -> Value {
    json!({"metadata": metadata(name, namespace), "rules": null})
}

fn binding(name: &str, namespace: &str, subjects: &[&str]) -> Value {
    let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
    let (name, role) = name.split_once('=').unwrap_or((name, name));
    let mut binding = json!({
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
    });
    if !subjects.is_empty() {
        binding["subjects"] = subjects.iter().map(|subject| subject_of(subject)).collect();
    }
    binding
}

fn subject_of(subject: &str) -> Value {
    let (kind, name) = subject.split_once(':').unwrap_or_default();
    match name.split_once('/') {
        Some((namespace, name)) => json!({"kind": kind, "name": name, "namespace": namespace}),
        None => json!({"kind": kind, "apiGroup": GROUP, "name": name}),
    }
}

/// Adds a label, an aggregation or a rule to a role.
fn add(role: &mut Value, words: &[&str]) {
    match words {
        ["label", key] => role["metadata"]["labels"][*key] = json!("true"),
        ["aggregates", key] => {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {*key: "true"}}]});
        }
        [verbs, what, names @ ..] => {
            let rule = rule(verbs, what, names.first().copied());
            match role["rules"].as_array_mut() {
                Some(rules) => rules.push(rule),
                None => role["rules"] = json!([rule]),
            }
        }
        _ => {}
    }
}

fn rule(verbs: &str, what: &str, names: Option<&str>) -> Value {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
    let mut verbs: Vec<&str> = match verbs {
        "+read" => READ.to_vec(),
        "+write" => WRITE.to_vec(),
        "+all" => [&READ[..], &WRITE[..]].concat(),
        verbs => verbs.split(',').collect(),
    };
    verbs.sort_unstable();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    match what.split_once(':') {
        Some(("url", paths)) => json!({"verbs": verbs, "nonResourceURLs": list(paths)}),
        Some((groups, resources)) => {
            let mut rule = json!({"verbs": verbs, "apiGroups": list(groups), "resources": list(resources)});
            if let Some(names) = names {
                rule["resourceNames"] = json!(list(names));
            }
            rule
        }
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_refers_to_a_role() {
        let objects = objects();
        let has = |resource: &str, binding: &Value| {
            objects.iter().any(|(other, role)| {
                *other == resource
                    && role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
            })
        };
        for (resource, object) in &objects {
            match *resource {
                "clusterrolebindings" => assert!(has("clusterroles", object), "{object}"),
                "rolebindings" => assert!(has("roles", object), "{object}"),
                _ => assert!(
                    object["rules"].as_array().is_none_or(|rules| rules.iter().all(Value::is_object)),
                    "{object}"
                ),
            }
        }
    }
}
