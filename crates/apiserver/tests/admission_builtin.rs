//! The built-in admission plugins, through the whole server in process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use api::user::UserInfo;
use apiserver::{ApiServer, Config};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

#[derive(Clone)]
struct Server(ApiServer);

/// What a request is answered with.
struct Answer {
    code: u16,
    body: Value,
    warnings: Vec<String>,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Server {
    async fn start() -> Self {
        let server = Self(ApiServer::start(Config::new(Arc::new(store::Memory::new()))).await.unwrap());
        server
            .create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
            .await;
        server
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        request.extensions_mut().insert(UserInfo::component("test"));
        let response = self.0.clone().oneshot(request).await.unwrap();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_default(), warnings }
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &body).await
    }

    async fn create(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        answer.body
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &Value::Null).await
    }

    /// A quota whose status says that nothing is used.
    async fn quota(&self, name: &str, spec: Value) {
        let path = "/api/v1/namespaces/default/resourcequotas";
        self.create(path, json!({"metadata": {"name": name}, "spec": spec})).await;
        let used: serde_json::Map<String, Value> =
            spec["hard"].as_object().unwrap().keys().map(|name| (name.clone(), "0".into())).collect();
        let status = json!({"status": {"hard": spec["hard"], "used": used}});
        let answer = self.send(Method::PATCH, &format!("{path}/{name}/status"), &status).await;
        assert_eq!(answer.code, 200, "{}", answer.body);
    }

    async fn used(&self, name: &str) -> Value {
        self.get(&format!("/api/v1/namespaces/default/resourcequotas/{name}")).await.body["status"]["used"]
            .clone()
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "i", "resources": resources}]}})
}

#[tokio::test(start_paused = true)]
async fn limit_ranges_fill_in_and_refuse() {
    let server = Server::start().await;
    let limits = json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}, "max": {"cpu": "2"}}]);
    let path = "/api/v1/namespaces/default/limitranges";
    server.create(path, json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})).await;
    let created = server.create(PODS, pod("a", json!({}))).await;
    assert_eq!(
        created["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}})
    );
    let refused =
        server.post(PODS, pod("b", json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}))).await;
    assert_eq!(
        (refused.code, refused.message()),
        (403, "pods \"b\" is forbidden: maximum cpu usage per Container is 2, but limit is 3")
    );
}

#[tokio::test(start_paused = true)]
async fn pod_security_refuses_and_warns() {
    let server = Server::start().await;
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "v1.18"}}});
    let mut privileged = pod("a", json!({}));
    privileged["spec"]["hostNetwork"] = true.into();
    server.create(PODS, privileged.clone()).await;
    let labelled = server.send(Method::PATCH, "/api/v1/namespaces/default", &labels).await;
    assert_eq!(labelled.code, 200);
    assert_eq!(
        labelled.warnings,
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"a: host namespaces\"",
        ]
    );
    privileged["metadata"]["name"] = "b".into();
    let refused = server.post(PODS, privileged).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            403,
            "pods \"b\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
        )
    );
    let warned = server.post(PODS, pod("c", json!({}))).await;
    assert_eq!(warned.code, 201);
    assert!(
        warned.warnings[0].contains("would violate PodSecurity \\\"restricted:v1.18\\\": "),
        "{:?}",
        warned.warnings
    );
}

#[tokio::test(start_paused = true)]
async fn quotas_are_charged_with_upstreams_words() {
    let server = Server::start().await;
    server.quota("q", json!({"hard": {"pods": "1", "requests.cpu": "1", "count/configmaps": "1"}})).await;
    let missing = server.post(PODS, pod("a", json!({}))).await;
    assert_eq!(
        missing.message(),
        "pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: a"
    );
    let asking = |name| pod(name, json!({"requests": {"cpu": "600m"}}));
    let dry = server.post(&format!("{PODS}?dryRun=All"), asking("a")).await;
    assert_eq!(dry.code, 201);
    server.create(PODS, asking("a")).await;
    assert_eq!(server.used("q").await, json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "0"}));
    let refused = server.post(PODS, asking("b")).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            403,
            "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=600m, used: pods=1,requests.cpu=600m, limited: pods=1,requests.cpu=1"
        )
    );
    let path = "/api/v1/namespaces/default/resourcequotas/q/status";
    let status = json!({"status": {"used": {"count/configmaps": null}}});
    assert_eq!(server.send(Method::PATCH, path, &status).await.code, 200);
    let unknown =
        server.post("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "c"}})).await;
    assert_eq!(
        unknown.message(),
        "configmaps \"c\" is forbidden: status unknown for quota: q, resources: count/configmaps"
    );
}

/// Many tasks at once get exactly as much as there is, and what is written is what they got.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quota_is_never_exceeded() {
    const HARD: usize = 40;
    let server = Server::start().await;
    server.quota("few", json!({"hard": {"count/configmaps": HARD.to_string()}})).await;
    server.quota("many", json!({"hard": {"configmaps": "1000"}})).await;
    let create = |index: usize| {
        let server = server.clone();
        async move {
            let body = json!({"metadata": {"name": format!("c{index}")}});
            let answer = server.post("/api/v1/namespaces/default/configmaps", body).await;
            // In between, somebody else rewrites the status, without changing what it says.
            if index.is_multiple_of(16) {
                let path = "/api/v1/namespaces/default/resourcequotas/few";
                let labels = json!({"metadata": {"labels": {"at": index.to_string()}}});
                assert_eq!(server.send(Method::PATCH, path, &labels).await.code, 200);
            }
            answer.code
        }
    };
    let codes: Vec<u16> = futures::stream::iter(0..200).map(create).buffer_unordered(64).collect().await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), HARD);
    assert!(codes.iter().all(|code| matches!(code, 201 | 403)), "{codes:?}");
    assert_eq!(server.used("few").await, json!({"count/configmaps": HARD.to_string()}));
    let list = server.get("/api/v1/namespaces/default/configmaps").await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), HARD);
}

#[tokio::test(start_paused = true)]
async fn services_have_addresses_from_every_range() {
    let server = Server::start().await;
    let service = |name: &str, address: &str| {
        let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        if !address.is_empty() {
            service["spec"]["clusterIP"] = address.into();
        }
        service
    };
    let path = "/api/v1/namespaces/default/services";
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    let default = server.get(&format!("{ranges}/kubernetes")).await.body;
    assert_eq!(default["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    assert_eq!(
        server.get(&format!("{addresses}/10.96.0.1")).await.body["spec"]["parentRef"]["name"],
        "kubernetes"
    );
    let refused = server.post(path, service("a", "10.200.0.1")).await;
    assert_eq!(refused.code, 422);
    server.create(ranges, json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/28"]}})).await;
    server.create(path, service("a", "10.200.0.1")).await;
    assert_eq!(
        server.get(&format!("{addresses}/10.200.0.1")).await.body["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "a"})
    );
    let taken = server.post(path, service("b", "10.200.0.1")).await;
    assert!(taken.message().ends_with("provided IP is already allocated"), "{}", taken.message());
    assert_eq!(server.send(Method::DELETE, &format!("{path}/a"), &Value::Null).await.code, 200);
    assert_eq!(server.get(&format!("{addresses}/10.200.0.1")).await.code, 404);
    server.create(path, service("b", "10.200.0.1")).await;
}

#[tokio::test(start_paused = true)]
async fn classes_are_filled_in() {
    let server = Server::start().await;
    let class = json!({"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "p"});
    server.create("/apis/storage.k8s.io/v1/storageclasses", class).await;
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claim = server.create("/api/v1/namespaces/default/persistentvolumeclaims", claim).await;
    assert_eq!(claim["spec"]["storageClassName"], "fast");
    assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let runtime = json!({"metadata": {"name": "kata"}, "handler": "kata", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"kata": "yes"}}});
    server.create("/apis/node.k8s.io/v1/runtimeclasses", runtime).await;
    let mut wanted = pod("a", json!({}));
    wanted["spec"]["runtimeClassName"] = "kata".into();
    let created = server.create(PODS, wanted.clone()).await;
    assert_eq!(created["spec"]["overhead"], json!({"memory": "64Mi"}));
    assert_eq!(created["spec"]["nodeSelector"], json!({"kata": "yes"}));
    wanted["spec"]["runtimeClassName"] = "other".into();
    wanted["metadata"]["name"] = "b".into();
    let refused = server.post(PODS, wanted).await;
    assert_eq!(refused.message(), "pods \"b\" is forbidden: pod rejected: RuntimeClass \"other\" not found");
}
