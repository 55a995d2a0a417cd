//! The flow schemas and priority levels that every cluster has, and how they are kept up to date.
//!
//! After upstream's `apis/flowcontrol/bootstrap` and `registry/flowcontrol/ensurer`.

use serde_json::{Value, json};

use super::config::{CATCH_ALL, EXEMPT};
use crate::object::meta;

/// Whether the server keeps an object's spec as it ships it.
pub(super) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// One object of the bootstrap configuration.
pub(super) struct Bootstrap {
    pub object: Value,
    /// Its spec cannot be anything else, whatever its annotation says.
    pub mandatory: bool,
}

impl Bootstrap {
    pub fn name(&self) -> &str {
        meta(&self.object, "name")
    }

    fn of(name: &str, spec: Value) -> Self {
        let metadata = json!({"name": name, "generation": 1, "annotations": {AUTO_UPDATE: "true"}});
        Self {
            object: json!({"metadata": metadata, "spec": spec}),
            mandatory: [EXEMPT, CATCH_ALL].contains(&name),
        }
    }
}

/// The priority levels.
pub(super) fn levels() -> Vec<Bootstrap> {
    let limited = |name, shares: u32, lendable: u32, queues: u32, hand: u32| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let spec = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}});
        Bootstrap::of(name, json!({"type": "Limited", "limited": spec}))
    };
    let exempt = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    let catch_all =
        json!({"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
    vec![
        limited("system", 30, 33, 64, 6),
        limited("node-high", 40, 25, 64, 6),
        limited("leader-election", 10, 0, 16, 4),
        limited("workload-high", 40, 50, 128, 6),
        limited("workload-low", 100, 90, 128, 6),
        limited("global-default", 20, 50, 128, 6),
        Bootstrap::of(CATCH_ALL, json!({"type": "Limited", "limited": catch_all})),
        Bootstrap::of(EXEMPT, json!({"type": "Exempt", "exempt": exempt})),
    ]
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn kube_system() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn everything(subjects: Vec<Value>) -> Value {
    json!({"subjects": subjects, "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
}

/// The flow schemas.
pub(super) fn schemas() -> Vec<Bootstrap> {
    const LEASES: &str = "coordination.k8s.io";
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let schema = |name, level: &str, precedence: i32, by: &str, rules: Value| {
        let mut spec = json!({"priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence, "rules": [rules]});
        if !by.is_empty() {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        Bootstrap::of(name, spec)
    };
    let mut electors = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    electors.push(kube_system());
    let election = resources(&["get", "create", "update"], LEASES, &["leases"], false);
    let node_high = json!({"subjects": groups(&["system:nodes"]), "resourceRules": [
        resources(&["*"], "", &["nodes", "nodes/status"], true), resources(&["*"], LEASES, &["leases"], false)]});
    let probes = json!({"subjects": everybody(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    vec![
        schema("system-nodes", "system", 500, "ByUser", everything(groups(&["system:nodes"]))),
        schema("system-node-high", "node-high", 400, "ByUser", node_high),
        schema("probes", EXEMPT, 2, "", probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            json!({"subjects": electors, "resourceRules": [election]}),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            everything(users(&["system:kube-controller-manager"])),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            everything(users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            everything(vec![kube_system()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            everything(groups(&["system:serviceaccounts"])),
        ),
        schema("global-default", "global-default", 9900, "ByUser", everything(everybody())),
        schema(EXEMPT, EXEMPT, 1, "", everything(groups(&["system:masters"]))),
        schema(CATCH_ALL, CATCH_ALL, 10_000, "ByUser", everything(everybody())),
    ]
}

/// A stored object as it has to be, if that is not how it is. Specs that somebody has taken over by the
/// annotation, or by a change while there was none, stay.
pub(super) fn revise(current: &Value, bootstrap: &Bootstrap) -> Option<Value> {
    let annotation = current["metadata"]["annotations"][AUTO_UPDATE].as_str().and_then(parse_bool);
    let untouched = current["metadata"]["generation"].as_u64() == Some(1);
    let automatic = bootstrap.mandatory || annotation.unwrap_or(untouched);
    let mut revised = current.clone();
    if automatic && current["spec"] != bootstrap.object["spec"] {
        revised["spec"] = bootstrap.object["spec"].clone();
        let generation = current["metadata"]["generation"].as_u64().unwrap_or(0);
        revised["metadata"]["generation"] = (generation + 1).into();
    }
    if annotation != Some(automatic) {
        if !revised["metadata"]["annotations"].is_object() {
            revised["metadata"]["annotations"] = json!({});
        }
        revised["metadata"]["annotations"][AUTO_UPDATE] = automatic.to_string().into();
    }
    (revised != *current).then_some(revised)
}

/// Whether an object was shipped by an older version and is to go: nobody has taken it over.
pub(super) fn is_obsolete(object: &Value, shipped: &[Bootstrap]) -> bool {
    let annotation = object["metadata"]["annotations"][AUTO_UPDATE].as_str().and_then(parse_bool);
    annotation == Some(true) && shipped.iter().all(|other| other.name() != meta(object, "name"))
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_kept_unless_somebody_has_taken_them_over() {
        let all = levels();
        let (system, exempt) = (&all[0], all.last().unwrap());
        assert!(revise(&system.object, system).is_none());
        let mut changed = system.object.clone();
        changed["spec"]["limited"]["lendablePercent"] = 1.into();
        assert_eq!(revise(&changed, system).unwrap()["spec"], system.object["spec"]);
        changed["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert!(revise(&changed, system).is_none());
        changed["metadata"]["annotations"] = json!({});
        changed["metadata"]["generation"] = 2.into();
        assert_eq!(revise(&changed, system).unwrap()["metadata"]["annotations"][AUTO_UPDATE], "false");
        assert!(exempt.mandatory && !system.mandatory);
    }
}
