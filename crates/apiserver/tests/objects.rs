//! Objects through the whole server, in process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use api::user::UserInfo;
use apiserver::{ApiServer, Body, Config};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

/// A server on a fresh memory store, and requests as its admin.
struct Server(ApiServer);

impl Server {
    async fn start() -> Self {
        Self(ApiServer::start(Config::new(Arc::new(store::Memory::new()))).await.unwrap())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response<Body> {
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request =
            Request::builder().method(method).uri(path).body(Full::new(Bytes::from(bytes))).unwrap();
        request.extensions_mut().insert(UserInfo::component("test"));
        self.0.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (
            code,
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())),
        )
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn create(&self, path: &str, body: &Value) -> Value {
        let (code, object) = self.call(Method::POST, path, Some(body)).await;
        assert_eq!(code, 201, "{object}");
        object
    }
}

/// The events that a watch delivers until it ends.
async fn events(response: Response<Body>) -> Vec<Value> {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"v": value}}, "data": {"k": value}})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(start_paused = true)]
async fn an_object_lives_and_dies() {
    let server = Server::start().await;
    let created = server.create(MAPS, &config_map("a", "1")).await;
    assert_eq!(created["kind"], "ConfigMap");
    assert_eq!(created["metadata"]["namespace"], "default");
    assert!(created["metadata"]["uid"].is_string());

    let (code, again) = server.call(Method::POST, MAPS, Some(&config_map("a", "1"))).await;
    assert_eq!((code, again["reason"].as_str()), (409, Some("AlreadyExists")));

    let path = format!("{MAPS}/a");
    assert_eq!(server.get(&path).await, (200, created.clone()));

    let mut changed = created.clone();
    changed["data"]["k"] = json!("2");
    let (code, updated) = server.call(Method::PUT, &path, Some(&changed)).await;
    assert_eq!((code, updated["data"]["k"].as_str()), (200, Some("2")));
    let (code, conflict) = server.call(Method::PUT, &path, Some(&changed)).await;
    assert_eq!(code, 409);
    assert_eq!(
        conflict["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let (code, status) = server.call(Method::DELETE, &path, None).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    let (code, gone) = server.get(&path).await;
    assert_eq!((code, gone["message"].as_str()), (404, Some("configmaps \"a\" not found")));
}

#[tokio::test(start_paused = true)]
async fn an_update_that_changes_nothing_is_not_written() {
    let server = Server::start().await;
    let created = server.create(MAPS, &config_map("a", "1")).await;
    let (_, same) = server.call(Method::PUT, &format!("{MAPS}/a"), Some(&created)).await;
    assert_eq!(same["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
}

#[tokio::test(start_paused = true)]
async fn the_service_of_the_server_comes_back() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/default/services/kubernetes";
    let (_, first) = server.get(path).await;
    server.call(Method::DELETE, path, None).await;
    assert_eq!(server.get(path).await.0, 404);
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    let (code, again) = server.get(path).await;
    assert_eq!((code, &again["spec"]["clusterIP"]), (200, &first["spec"]["clusterIP"]));
    // And it is not written again while it is there.
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(server.get(path).await, (200, again));
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_moment() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.create(MAPS, &config_map(name, "1")).await;
    }
    let (_, first) = server.get(&format!("{MAPS}?limit=1")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    assert!(first["items"][0].get("kind").is_none());
    server.call(Method::DELETE, &format!("{MAPS}/c"), None).await;
    server.create(MAPS, &config_map("bb", "1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = server.get(&format!("{MAPS}?limit=5&continue={token}")).await;
    let names: Vec<&str> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_objects_come_into_and_go_out_of_sight() {
    let server = Server::start().await;
    let (_, list) = server.get(MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut map = server.create(MAPS, &config_map("a", "1")).await;
    map["metadata"]["labels"]["v"] = json!("2");
    server.call(Method::PUT, &format!("{MAPS}/a"), Some(&map)).await;
    server.call(Method::DELETE, &format!("{MAPS}/a"), None).await;
    let kinds = async |selector: &str| {
        let path =
            format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}&labelSelector={selector}");
        let events = events(server.send(Method::GET, &path, None).await).await;
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("").await, ["ADDED", "MODIFIED", "DELETED"]);
    assert_eq!(kinds("v%3D1").await, ["ADDED", "DELETED"]);
    assert_eq!(kinds("v%3D2").await, ["ADDED", "DELETED"]);
}

#[tokio::test(start_paused = true)]
async fn initial_events_end_with_a_bookmark() {
    let server = Server::start().await;
    server.create(MAPS, &config_map("a", "1")).await;
    let path = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let events = events(server.send(Method::GET, &path, None).await).await;
    assert_eq!(events.last().unwrap()["type"], "BOOKMARK");
    assert_eq!(
        events.last().unwrap()["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_an_object() {
    let server = Server::start().await;
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.create(MAPS, &map).await;
    let path = format!("{MAPS}/a");
    let (code, mut held) = server.call(Method::DELETE, &path, None).await;
    assert_eq!(code, 200);
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    held["metadata"]["finalizers"] = json!([]);
    let (code, _) = server.call(Method::PUT, &path, Some(&held)).await;
    assert_eq!(code, 200);
    assert_eq!(server.get(&path).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_created_where_there_is_no_namespace() {
    let server = Server::start().await;
    let (code, error) =
        server.call(Method::POST, "/api/v1/namespaces/nope/configmaps", Some(&config_map("a", "1"))).await;
    assert_eq!((code, error["message"].as_str()), (404, Some("namespaces \"nope\" not found")));
}

#[tokio::test(start_paused = true)]
async fn a_terminating_namespace_takes_nothing_new() {
    let server = Server::start().await;
    server.create("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    let (code, namespace) = server.call(Method::DELETE, "/api/v1/namespaces/n", None).await;
    assert_eq!((code, namespace["status"]["phase"].as_str()), (200, Some("Terminating")));
    let (code, _) =
        server.call(Method::POST, "/api/v1/namespaces/n/configmaps", Some(&config_map("a", "1"))).await;
    assert_eq!(code, 403);
}

/// What a user without all rights gets.
async fn call_as(server: &Server, user: UserInfo, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if path.contains("fieldManager") {
        request = request.header("content-type", "application/apply-patch+yaml");
    }
    let mut request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    request.extensions_mut().insert(user);
    let response = server.0.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Lets `alice` do `verbs` to `resource` in the default namespace.
async fn allow_alice(server: &Server, resource: &str, verbs: &[&str]) {
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([{"apiGroups": [""], "resources": [resource], "verbs": verbs}]);
    server.create(&format!("{base}/roles"), &json!({"metadata": {"name": "r"}, "rules": rules})).await;
    let subject = json!({"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"});
    let role = json!({"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({"metadata": {"name": "r"}, "subjects": [subject], "roleRef": role});
    server.create(&format!("{base}/rolebindings"), &binding).await;
}

fn alice() -> UserInfo {
    UserInfo::new("alice", &["system:authenticated"])
}

#[tokio::test(start_paused = true)]
async fn rights_in_a_namespace_do_not_lead_to_another() {
    let server = Server::start().await;
    allow_alice(&server, "*", &["*"]).await;
    let null = Value::Null;
    for path in ["namespaces/default/namespaces/kube-system", "namespaces/default/nodes/n1"] {
        let path = format!("/api/v1/{path}");
        for method in [Method::GET, Method::DELETE, Method::PUT] {
            assert_eq!(call_as(&server, alice(), method, &path, &null).await.0, 404, "{path}");
        }
    }
    let list = "/api/v1/namespaces/default/namespaces";
    assert_eq!(call_as(&server, alice(), Method::GET, list, &null).await.0, 404);
    let own = "/api/v1/namespaces/default";
    assert_eq!(call_as(&server, alice(), Method::GET, own, &null).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_only_change_creates_nothing() {
    let server = Server::start().await;
    allow_alice(&server, "configmaps", &["get", "patch", "update"]).await;
    let path = format!("{MAPS}/a?fieldManager=m");
    let map = config_map("a", "1");
    assert_eq!(call_as(&server, alice(), Method::PATCH, &path, &map).await.0, 403);
    server.create(MAPS, &map).await;
    let (code, answer) = call_as(&server, alice(), Method::PATCH, &format!("{path}&force=true"), &map).await;
    assert_eq!(code, 200, "{answer}");
}

/// A pod on node n1 that is being held by a finalizer.
async fn pod(server: &Server) -> Value {
    server.create("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.create(accounts, &json!({"metadata": {"name": "default"}})).await;
    let spec = json!({"containers": [{"name": "main", "image": "x"}], "nodeName": "n1"});
    let metadata = json!({"name": "p", "finalizers": ["example.com/hold"]});
    server.create("/api/v1/namespaces/default/pods", &json!({"metadata": metadata, "spec": spec})).await
}

#[tokio::test(start_paused = true)]
async fn nodes_get_tokens_for_their_own_pods_only() {
    let server = Server::start().await;
    let pod = pod(&server).await;
    let uid = pod["metadata"]["uid"].clone();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let ask = async |bound: Value| {
        let body = json!({"spec": {"boundObjectRef": bound}});
        call_as(&server, node.clone(), Method::POST, path, &body).await.0
    };
    assert_eq!(ask(Value::Null).await, 403);
    assert_eq!(ask(json!({"apiVersion": "v1", "kind": "Node", "name": "n1"})).await, 403);
    assert_eq!(ask(json!({"apiVersion": "v1", "kind": "Pod", "name": "p"})).await, 403);
    assert_eq!(ask(json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid})).await, 201);
}

#[tokio::test(start_paused = true)]
async fn nodes_do_not_label_themselves_by_way_of_the_status() {
    let server = Server::start().await;
    pod(&server).await;
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let (_, mut object) = server.get("/api/v1/nodes/n1").await;
    object["metadata"]["labels"] = json!({"node-restriction.kubernetes.io/x": "y"});
    let path = "/api/v1/nodes/n1/status";
    assert_eq!(call_as(&server, node, Method::PUT, path, &object).await.0, 403);
}

#[tokio::test(start_paused = true)]
async fn absurd_periods_are_cut() {
    let server = Server::start().await;
    pod(&server).await;
    let path = "/api/v1/namespaces/default/pods/p";
    let options = json!({"gracePeriodSeconds": i64::MAX});
    let (code, object) = server.call(Method::DELETE, path, Some(&options)).await;
    assert_eq!((code, object["metadata"]["deletionGracePeriodSeconds"].as_i64()), (200, Some(3_162_240_000)));
    let (code, _) = server.call(Method::DELETE, path, Some(&json!({"gracePeriodSeconds": 5}))).await;
    assert_eq!(code, 200);
    let watch = format!("{MAPS}?watch=1&timeoutSeconds={}", i64::MAX);
    assert_eq!(server.send(Method::GET, &watch, None).await.status().as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_delete_writes_nothing() {
    let server = Server::start().await;
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.create(MAPS, &map).await;
    let (_, first) = server.call(Method::DELETE, &format!("{MAPS}/a"), None).await;
    let (code, second) = server.call(Method::DELETE, &format!("{MAPS}/a"), None).await;
    assert_eq!((code, &second), (200, &first));
}

#[tokio::test(start_paused = true)]
async fn a_body_nested_too_deeply_is_refused() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let deep =
        |n: usize| serde_json::from_str::<Value>(&format!("{}{}", "[".repeat(n), "]".repeat(n))).unwrap();
    let body = |n| json!({"metadata": {"name": "a"}, "revision": 1, "data": {"x": deep(n)}});
    assert_eq!(server.call(Method::POST, path, Some(&body(110))).await.0, 400);
    assert_eq!(server.call(Method::POST, path, Some(&body(90))).await.0, 201);
    assert_eq!(server.get(&format!("{path}/a?pretty=true")).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_version_to_come_waits_and_is_told_to_list_again() {
    let server = Server::start().await;
    let watch = |seconds| format!("{MAPS}?watch=1&timeoutSeconds={seconds}&resourceVersion=1000000");
    let quiet = server.send(Method::GET, &watch(1), None).await;
    assert_eq!(quiet.status(), 200);
    assert_eq!(events(quiet).await, Vec::<Value>::new());
    // The version may be of another life of the server.
    let told = events(server.send(Method::GET, &watch(60), None).await).await;
    assert_eq!(
        (told.len(), told[0]["type"].as_str(), told[0]["object"]["code"].as_u64()),
        (1, Some("ERROR"), Some(410))
    );
}

#[tokio::test(start_paused = true)]
async fn ephemeral_versions_go_on_from_those_of_an_earlier_life() {
    let version = async |server: &Server| {
        let (_, list) = server.get("/apis/metrics.kobune.dev/v1alpha1/nodeusages").await;
        list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
    };
    let first = version(&Server::start().await).await;
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(version(&Server::start().await).await > first);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_that_would_fail_costs_nothing() {
    let server = Server::start().await;
    let created = pod(&server).await;
    let path = "/api/v1/namespaces/default/pods/p";
    let mut running = created.clone();
    running["status"] = json!({"phase": "Running"});
    let (_, running) = server.call(Method::PUT, &format!("{path}/status"), Some(&running)).await;
    let evict = async |version: &Value| {
        let options = json!({"preconditions": {"resourceVersion": version}});
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": options});
        server.call(Method::POST, &format!("{path}/eviction"), Some(&body)).await.0
    };
    assert_eq!(evict(&created["metadata"]["resourceVersion"]).await, 409);
    assert_eq!(server.get(path).await.1, running);
    assert_eq!(evict(&running["metadata"]["resourceVersion"]).await, 201);
}
