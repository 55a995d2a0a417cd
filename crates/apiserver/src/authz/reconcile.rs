//! Bootstrap roles and bindings at start: what an older version stored, or somebody took away, comes
//! back; what somebody added stays. An object whose autoupdate annotation is `false` is left alone.
//!
//! After `k8s.io/component-helpers/auth/rbac/reconciliation`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Rule;
use super::escalation::missing_rules;

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What has to happen to a stored object.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It is as it should be, or protected.
    Keep,
    /// It is to be replaced by this.
    Update(Value),
    /// It refers to another role, which cannot be changed in place: it is to be made anew.
    Recreate,
}

/// Compares the stored object with the one of the bootstrap policy.
pub fn reconcile(resource: &str, existing: &Value, expected: &Value) -> Outcome {
    if existing["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Outcome::Keep;
    }
    let is_binding = resource.ends_with("bindings");
    if is_binding && existing["roleRef"] != expected["roleRef"] {
        return Outcome::Recreate;
    }
    let mut object = existing.clone();
    for field in ["annotations", "labels"] {
        merge(&mut object["metadata"], &expected["metadata"], field);
    }
    if is_binding {
        add_missing(&mut object, expected, "subjects");
    } else {
        add_rules(&mut object, expected);
        aggregation(&mut object, expected);
    }
    if object == *existing { Outcome::Keep } else { Outcome::Update(object) }
}

/// Adds labels or annotations; what is there wins.
fn merge(metadata: &mut Value, expected: &Value, field: &str) {
    let Some(wanted) = expected[field].as_object() else { return };
    let Some(metadata) = metadata.as_object_mut() else { return };
    let present = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
    let Some(present) = present.as_object_mut() else { return };
    for (key, value) in wanted {
        present.entry(key.as_str()).or_insert_with(|| value.clone());
    }
}

/// Adds the items of a list that are not there.
fn add_missing(object: &mut Value, expected: &Value, field: &str) {
    let wanted = expected[field].as_array().cloned().unwrap_or_default();
    let present = object[field].as_array().cloned().unwrap_or_default();
    let missing: Vec<Value> = wanted.into_iter().filter(|item| !present.contains(item)).collect();
    if !missing.is_empty() {
        object[field] = Value::Array([present, missing].concat());
    }
}

fn rules(role: &Value) -> Vec<Rule> {
    Vec::<Rule>::deserialize(&role["rules"]).unwrap_or_default()
}

fn add_rules(object: &mut Value, expected: &Value) {
    let missing = missing_rules(&rules(object), &rules(expected));
    if missing.is_empty() {
        return;
    }
    let mut all = object["rules"].as_array().cloned().unwrap_or_default();
    all.extend(missing.iter().map(Rule::to_value));
    object["rules"] = Value::Array(all);
}

fn aggregation(object: &mut Value, expected: &Value) {
    const RULE: &str = "aggregationRule";
    if expected[RULE].is_null() {
        if let Some(map) = object.as_object_mut() {
            map.remove(RULE);
        }
    } else if object[RULE].is_null() {
        object[RULE] = expected[RULE].clone();
    } else {
        add_missing(&mut object[RULE], &expected[RULE], "clusterRoleSelectors");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(annotation: &str, rules: Value) -> Value {
        json!({"metadata": {"name": "r", "annotations": {AUTO_UPDATE: annotation}}, "rules": rules})
    }

    #[test]
    fn what_is_missing_comes_back_and_what_was_added_stays() {
        let rule = |verbs: Value| json!({"verbs": verbs, "apiGroups": [""], "resources": ["pods"]});
        let expected = role("true", json!([rule(json!(["get", "list"]))]));
        assert_eq!(reconcile("clusterroles", &expected, &expected), Outcome::Keep);
        let poorer = role("true", json!([rule(json!(["get", "watch"]))]));
        let Outcome::Update(updated) = reconcile("clusterroles", &poorer, &expected) else { panic!() };
        assert_eq!(updated["rules"], json!([rule(json!(["get", "watch"])), rule(json!(["list"]))]));
        let protected = role("false", json!([]));
        assert_eq!(reconcile("clusterroles", &protected, &expected), Outcome::Keep);
    }

    #[test]
    fn a_binding_to_another_role_is_made_anew() {
        let binding =
            |role: &str, users: Value| json!({"metadata": {}, "roleRef": {"name": role}, "subjects": users});
        let (a, b) = (json!({"kind": "User", "name": "a"}), json!({"kind": "User", "name": "b"}));
        let expected = binding("r", json!([a]));
        assert_eq!(reconcile("rolebindings", &binding("other", json!([])), &expected), Outcome::Recreate);
        let Outcome::Update(updated) = reconcile("rolebindings", &binding("r", json!([b])), &expected) else {
            panic!()
        };
        assert_eq!(updated["subjects"], json!([b, a]));
    }
}
