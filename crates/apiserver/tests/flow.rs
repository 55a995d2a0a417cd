//! Priority and fairness: a flood by one client does not starve the others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::{ApiServer, Body, Config, Token};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use store::{Committed, KeyValue, Memory, Range, Revision, Store, StoreError, WatchStream, Write};
use tokio::time::Instant;
use tower::ServiceExt;

/// A store that takes its time to write, so that requests get in each other's way.
struct Slow(Memory);

const WRITE: Duration = Duration::from_millis(10);

#[async_trait::async_trait]
impl Store for Slow {
    async fn commit(&self, write: Write) -> Result<Committed, StoreError> {
        if write.key.contains("/configmaps/default/") {
            tokio::time::sleep(WRITE).await;
        }
        self.0.commit(write).await
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.0.get(key).await
    }

    async fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, StoreError> {
        self.0.range(prefix, start_after, limit, at).await
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.0.watch(prefix, after)
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.0.current_revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.compact(revision).await
    }
}

#[derive(Clone)]
struct Server(ApiServer);

impl Server {
    /// A server with few seats, where the users `flood` and `quiet` may do anything.
    async fn start() -> Self {
        let mut config = Config::new(Arc::new(Slow(Memory::new())));
        config.concurrency = 20;
        let token = |name: &str| Token { token: name.to_owned(), user: UserInfo::new(name, &["testers"]) };
        config.tokens = ["flood", "quiet"].map(token).into();
        let server = Self(ApiServer::start(config).await.unwrap());
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "testers"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "testers"}],
        });
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        assert_eq!(server.send(None, Method::POST, path, &binding).await.status(), 201);
        server
    }

    /// A request as a user, or by the system itself.
    async fn send(&self, user: Option<&str>, method: Method, path: &str, body: &Value) -> Response<Body> {
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(user) = user {
            request = request.header("authorization", format!("Bearer {user}"));
        }
        let mut request = request.body(Full::new(Bytes::from(bytes))).unwrap();
        if user.is_none() {
            request.extensions_mut().insert(UserInfo::component("test"));
        }
        self.0.clone().oneshot(request).await.unwrap()
    }

    async fn create(&self, user: Option<&str>, name: String) -> Response<Body> {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        self.send(user, Method::POST, "/api/v1/namespaces/default/configmaps", &object).await
    }

    async fn get(&self, path: &str) -> Value {
        let body = self.send(None, Method::GET, path, &Value::Null).await.into_body();
        serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_starve_the_others() {
    let server = Server::start().await;
    let flood: Vec<_> = (0..2000)
        .map(|number| {
            let server = server.clone();
            tokio::spawn(async move {
                let started = Instant::now();
                (server.create(Some("flood"), format!("flood-{number}")).await, started.elapsed())
            })
        })
        .collect();
    tokio::task::yield_now().await;
    for number in 0..5 {
        let started = Instant::now();
        let answer = server.create(Some("quiet"), format!("quiet-{number}")).await;
        assert_eq!(answer.status(), 201);
        assert!(started.elapsed() <= 8 * WRITE, "it took {:?}", started.elapsed());
    }
    // The system itself does not wait at all.
    let started = Instant::now();
    assert_eq!(server.create(None, "system".to_owned()).await.status(), 201);
    assert!(started.elapsed() <= 2 * WRITE);
    let (mut made, mut refused, mut longest) = (0, 0, Duration::ZERO);
    for task in flood {
        let (answer, took) = task.await.unwrap();
        longest = longest.max(took);
        match answer.status().as_u16() {
            201 => made += 1,
            429 => {
                refused += 1;
                assert!(answer.headers().contains_key("retry-after"));
                assert!(answer.headers().contains_key("x-kubernetes-pf-flowschema-uid"));
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, "Too many requests, please try again later.\n");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(made + refused, 2000);
    assert!(made >= 300 && refused >= 1500, "{made} made, {refused} refused");
    assert!(longest <= Duration::from_secs(16), "nobody waits for ever");
    // All seats are back.
    assert_eq!(server.create(Some("flood"), "again".to_owned()).await.status(), 201);
}

#[tokio::test(start_paused = true)]
async fn requests_are_classified_by_objects() {
    const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let server = Server::start().await;
    let schemas = server.get(SCHEMAS).await;
    assert_eq!(schemas["items"].as_array().unwrap().len(), 11);
    let default = server.get(&format!("{SCHEMAS}/global-default")).await;
    let condition = &default["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Dangling"), &json!("False")));
    let classified = async || {
        let answer =
            server.send(Some("quiet"), Method::GET, "/api/v1/namespaces/default", &Value::Null).await;
        let uid = answer.headers().get("x-kubernetes-pf-flowschema-uid").unwrap();
        uid.to_str().unwrap().to_owned()
    };
    assert_eq!(classified().await, default["metadata"]["uid"]);

    let own = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "own"},
        "spec": {
            "priorityLevelConfiguration": {"name": "workload-high"}, "matchingPrecedence": 500,
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "quiet"}}],
                "resourceRules": [{
                    "verbs": ["get"], "apiGroups": [""], "resources": ["namespaces"], "namespaces": ["default"],
                }],
            }],
        },
    });
    assert_eq!(server.send(None, Method::POST, SCHEMAS, &own).await.status(), 201);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let own = server.get(&format!("{SCHEMAS}/own")).await;
    assert_eq!(classified().await, own["metadata"]["uid"]);
    assert_eq!(own["status"]["conditions"][0]["reason"], "Found");

    // One that leads nowhere says so, and is passed over.
    let patch = json!([{"op": "replace", "path": "/spec/priorityLevelConfiguration/name", "value": "none"}]);
    let path = format!("{SCHEMAS}/own");
    let mut request = Request::patch(&path).body(Full::new(Bytes::from(patch.to_string()))).unwrap();
    request.headers_mut().insert("content-type", "application/json-patch+json".parse().unwrap());
    request.extensions_mut().insert(UserInfo::component("test"));
    assert_eq!(server.0.clone().oneshot(request).await.unwrap().status(), 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let condition = server.get(&path).await["status"]["conditions"][0].take();
    assert_eq!(
        condition["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"none\" but there is no such object"
    );
    assert_eq!(classified().await, default["metadata"]["uid"]);
}
