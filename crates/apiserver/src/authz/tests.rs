use serde_json::{Value, json};

use super::*;
use crate::authz::escalation::Target;

fn authorizer() -> Authorizer {
    let pod = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
        "volumes": [{"secret": {"secretName": "s"}}]}});
    let authorizer = Authorizer::default();
    authorizer.apply("/registry/pods/n/p", Some(pod.to_string().as_bytes()));
    for (resource, object) in bootstrap::objects() {
        put(&authorizer, resource, &object);
    }
    authorizer
}

fn put(authorizer: &Authorizer, resource: &str, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let place = object["metadata"]["namespace"]
        .as_str()
        .map_or(name.to_owned(), |namespace| format!("{namespace}/{name}"));
    let key = format!("/registry/{resource}.rbac.authorization.k8s.io/{place}");
    authorizer.apply(&key, Some(object.to_string().as_bytes()));
}

fn grant(authorizer: &Authorizer, role: &str, rules: &Value, subject: &Value) {
    let metadata = json!({"name": role, "namespace": "n"});
    put(authorizer, "roles", &json!({"metadata": metadata, "rules": rules}));
    let role_ref = json!({"kind": "Role", "name": role});
    put(
        authorizer,
        "rolebindings",
        &json!({"metadata": metadata, "roleRef": role_ref, "subjects": [subject]}),
    );
}

fn alice() -> UserInfo {
    UserInfo::new("alice", &[])
}

fn wants<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes { verb, is_resource: true, resource, subresource, namespace, name, ..Attributes::default() }
}

fn alice_is(kind: &str) -> Value {
    json!({"kind": kind, "name": "alice"})
}

#[test]
fn a_role_grants_in_its_namespace_only() {
    let authorizer = authorizer();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["one"]},
        {"apiGroups": [""], "resources": ["*/log"], "verbs": ["get"]}]);
    grant(&authorizer, "r", &rules, &alice_is("User"));
    let allows = |verb, resource, namespace, name| {
        authorizer.allows(&alice(), &wants(verb, resource, namespace, name))
    };
    assert!(allows("list", "pods", "n", ""));
    assert!(!allows("list", "pods", "other", ""));
    assert!(!allows("list", "pods", "", ""));
    assert!(allows("get", "secrets", "n", "one"));
    assert!(!allows("get", "secrets", "n", "two"));
    assert!(allows("get", "pods/log", "n", "x"));
    assert!(!allows("get", "pods/exec", "n", "x"));
    let decision = authorizer.decide(&alice(), &wants("get", "pods", "n", ""));
    assert_eq!(decision.reason, "RBAC: allowed by RoleBinding \"r/n\" of Role \"r\" to User \"alice\"");

    authorizer.apply("/registry/rolebindings.rbac.authorization.k8s.io/n/r", None);
    assert!(!authorizer.allows(&alice(), &wants("list", "pods", "n", "")));
}

#[test]
fn service_accounts_of_the_bindings_namespace_are_meant() {
    let authorizer = authorizer();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]);
    grant(&authorizer, "r", &rules, &json!({"kind": "ServiceAccount", "name": "web"}));
    let user = UserInfo::new("system:serviceaccount:n:web", &["system:serviceaccounts"]);
    assert!(authorizer.allows(&user, &wants("delete", "pods", "n", "x")));
}

#[test]
fn refusals_use_upstreams_words() {
    let refused = authorizer().check(&alice(), &wants("get", "pods/log", "n", "x")).unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"x\" is forbidden: User \"alice\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"n\""
    );
    let path = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
    let refused = authorizer().check(&alice(), &path).unwrap_err();
    assert_eq!(refused.message, "forbidden: User \"alice\" cannot get path \"/metrics\"");
    let authorizer = authorizer();
    let role_ref = json!({"kind": "ClusterRole", "name": "none"});
    put(
        &authorizer,
        "rolebindings",
        &json!({"metadata": {"name": "b", "namespace": "n"}, "roleRef": role_ref, "subjects": [alice_is("User")]}),
    );
    let refused = authorizer.check(&alice(), &wants("list", "pods", "n", "")).unwrap_err();
    assert!(
        refused.message.ends_with("\"n\": RBAC: clusterrole.rbac.authorization.k8s.io \"none\" not found")
    );
}

#[test]
fn aggregating_roles_hold_what_is_stored() {
    let authorizer = authorizer();
    let role_ref = json!({"kind": "ClusterRole", "name": "all"});
    let binding = json!({"metadata": {"name": "b"}, "roleRef": role_ref, "subjects": [alice_is("User")]});
    put(&authorizer, "clusterrolebindings", &binding);
    let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]});
    let mut all = json!({"metadata": {"name": "all"}, "aggregationRule": selectors, "rules": null});
    let rules = json!([{"apiGroups": [""], "resources": ["widgets"], "verbs": ["get"]}]);
    let part = json!({"metadata": {"name": "part", "labels": {"part": "yes"}}, "rules": rules});
    put(&authorizer, "clusterroles", &part);
    put(&authorizer, "clusterroles", &all);
    // Until the controller has written them.
    assert!(!authorizer.allows(&alice(), &wants("get", "widgets", "n", "w")));
    all["rules"] = rules;
    put(&authorizer, "clusterroles", &all);
    assert!(authorizer.allows(&alice(), &wants("get", "widgets", "n", "w")));
}

#[test]
fn discovery_is_for_everybody_who_is_authenticated() {
    let path = |path| Attributes { verb: "get", path, ..Attributes::default() };
    assert!(authorizer().allows(&alice(), &path("/apis/apps/v1")));
    let anonymous = UserInfo {
        name: "system:anonymous".to_owned(),
        groups: vec!["system:unauthenticated".to_owned()],
        ..UserInfo::default()
    };
    assert!(!authorizer().allows(&anonymous, &path("/api")));
    assert!(authorizer().allows(&anonymous, &path("/version")));
}

#[test]
fn nobody_grants_more_than_they_hold() {
    let authorizer = authorizer();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    grant(&authorizer, "r", &rules, &alice_is("User"));
    let target = Target { resource: "roles", namespace: "n", request_name: "", name: "more" };
    let check = |rules: Value| authorizer.check_escalation(&alice(), target, &json!({"rules": rules}), None);
    assert!(check(rules).is_ok());
    let refused =
        check(json!([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]}]));
    assert_eq!(
        refused.unwrap_err().message,
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"alice\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
    );
    let target = Target { resource: "rolebindings", namespace: "n", request_name: "", name: "b" };
    let bind = |name: &str| {
        let binding = json!({"roleRef": {"kind": "Role", "name": name}, "subjects": [alice_is("User")]});
        authorizer.check_escalation(&alice(), target, &binding, None)
    };
    assert!(bind("r").is_ok());
    assert_eq!(bind("none").unwrap_err().code, 404);
}

#[test]
fn nodes_read_what_their_pods_refer_to() {
    let authorizer = authorizer();
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let allows = |wanted: Attributes<'_>| authorizer.allows(&node, &wanted);
    assert!(allows(wants("get", "secrets", "n", "s")));
    assert!(!allows(wants("get", "secrets", "n", "other")));
    assert!(allows(wants("get", "pods", "n", "p")));
    assert!(!allows(wants("list", "pods", "", "")));
    assert!(allows(Attributes { selected_node: "n1", ..wants("list", "pods", "", "") }));
    assert!(allows(wants("create", "serviceaccounts/token", "n", "sa")));
    assert!(allows(wants("get", "nodes", "", "n1")));
    assert!(!allows(wants("get", "nodes", "", "n2")));
    assert!(!allows(wants("delete", "nodes", "", "n1")));
    assert!(allows(wants("list", "services", "", "")));
    assert!(allows(wants("create", "events", "n", "")));
    assert!(!allows(wants("list", "secrets", "n", "")));
    assert_eq!(authorizer.decide(&node, &wants("get", "pods", "n", "")).reason, "No Object name found");
}

#[test]
fn decisions_look_at_the_bindings_that_count_only() {
    let mut rbac = Rbac::default();
    let binding = |user: &str| json!({"roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "User", "name": user}]});
    let put = |rbac: &mut Rbac, user: usize, namespace: usize| {
        let key = format!("/registry/rolebindings.rbac.authorization.k8s.io/n{namespace}/b{user}");
        rbac.apply(&key, Some(binding(&format!("u{user}")).to_string().as_bytes()));
        key
    };
    for number in 0..10_000 {
        put(&mut rbac, number, number % 100);
    }
    let keys: Vec<String> = (0..100).map(|namespace| put(&mut rbac, 7, namespace)).collect();
    let user = UserInfo::new("u7", &["system:authenticated"]);
    assert_eq!(rbac.bindings_of(&user, "n3").count(), 1);
    assert_eq!(rbac.bindings_of(&user, "").count(), 0);
    for key in keys {
        rbac.apply(&key, None);
    }
    assert_eq!(rbac.bindings_of(&user, "n3").count(), 0);
}

#[test]
fn reviews_answer_for_others() {
    let authorizer = authorizer();
    let mut review = json!({"kind": "SubjectAccessReview",
        "spec": {"user": "root", "groups": ["system:masters"], "resourceAttributes": {"verb": "get", "resource": "x"}}});
    reviews::check_review(&review).unwrap();
    authorizer.review(&alice(), &mut review).unwrap();
    assert_eq!(review["status"], json!({"allowed": true}));
    let review = json!({"kind": "SubjectAccessReview", "spec": {"user": "carol"}});
    assert_eq!(reviews::check_review(&review).unwrap_err().code, 422);
    let mut review = json!({"kind": "SelfSubjectRulesReview", "spec": {"namespace": "n"}});
    authorizer.review_rules(&alice(), &mut review);
    assert_eq!(review["status"]["resourceRules"][0]["resources"][0], "selfsubjectaccessreviews");
}
