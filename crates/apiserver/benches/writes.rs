//! The write path without network and disk: one request at a time through the whole server over the
//! in-memory store. `cargo bench -p apiserver --bench writes`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on has failed")]

use std::hint::black_box;
use std::sync::Arc;

use api::user::UserInfo;
use apiserver::{ApiServer, Config};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// As in the `kobune` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

struct Server {
    runtime: Runtime,
    server: ApiServer,
    user: UserInfo,
    next: u64,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Config::new(Arc::new(store::Memory::new()));
        let server = runtime.block_on(ApiServer::start(config)).unwrap();
        let mut server = Self { runtime, server, user: UserInfo::component("bench"), next: 0 };
        let account = json!({"metadata": {"name": "default"}});
        let path = "/api/v1/namespaces/default/serviceaccounts";
        server.send(Method::POST, path, "application/json", Bytes::from(account.to_string()), 201);
        server
    }

    fn name(&mut self) -> String {
        self.next += 1;
        format!("object-{}", self.next)
    }

    fn send(&mut self, method: Method, path: &str, content: &str, body: Bytes, code: u16) -> Bytes {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .header("user-agent", "bench/1")
            .body(Full::new(body))
            .unwrap();
        request.extensions_mut().insert(self.user.clone());
        let server = self.server.clone();
        self.runtime.block_on(async move {
            let answer = server.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::from_u16(code).unwrap());
            answer.into_body().collect().await.unwrap().to_bytes()
        })
    }
}

/// 1 KB.
fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x".repeat(900)}})
}

/// A web server's pod as a Deployment would make it.
fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web", "pod-template-hash": "5d8f7c9b4"}},
        "spec": {"containers": [{"name": "web", "image": "registry.example/web:1.2.3",
            "ports": [{"containerPort": 8080, "name": "http"}],
            "env": [{"name": "MODE", "value": "production"}, {"name": "NODE",
                "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}}}]}})
}

fn creates(c: &mut Criterion, what: &str, path: &'static str, object: fn(&str) -> Value) {
    let mut server = Server::start();
    c.bench_function(what, |b| {
        b.iter_batched(
            || {
                Bytes::from(
                    object(&format!("{}-{}", base::rng::name_suffix(8), base::rng::name_suffix(8)))
                        .to_string(),
                )
            },
            |body| black_box(server.send(Method::POST, path, "application/json", body, 201)),
            BatchSize::SmallInput,
        );
    });
}

fn patches(c: &mut Criterion, what: &str, content: &'static str, body: fn(u64) -> Value) {
    let mut server = Server::start();
    let name = server.name();
    let made = Bytes::from(pod(&name).to_string());
    server.send(Method::POST, PODS, "application/json", made, 201);
    let path = format!("{PODS}/{name}?fieldManager=bench&force=true");
    let path = if content.contains("apply") { path } else { path.replace("&force=true", "") };
    let mut count = 0;
    c.bench_function(what, |b| {
        b.iter(|| {
            count += 1;
            let patch = Bytes::from(body(count).to_string());
            black_box(server.send(Method::PATCH, &path, content, patch, 200))
        });
    });
}

fn writes(c: &mut Criterion) {
    creates(c, "create ConfigMap of 1 KB", CONFIG_MAPS, config_map);
    creates(c, "create Pod", PODS, pod);
    patches(
        c,
        "merge patch of a Pod",
        "application/merge-patch+json",
        |n| json!({"metadata": {"annotations": {"n": n.to_string()}}}),
    );
    patches(
        c,
        "strategic patch of a Pod",
        "application/strategic-merge-patch+json",
        |n| json!({"metadata": {"annotations": {"n": n.to_string()}}}),
    );
    patches(
        c,
        "apply to a Pod",
        "application/apply-patch+yaml",
        |n| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "object-1", "annotations": {"n": n.to_string()}}}),
    );
}

criterion_group!(benches, writes);
criterion_main!(benches);
