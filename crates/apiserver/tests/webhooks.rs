//! Admission webhooks, with a real TLS server on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use api::user::UserInfo;
use apiserver::{ApiServer, Body, Config};
use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tower::ServiceExt;

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
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Configures webhooks of one sort, each with its own part.
    async fn configure(&self, sort: &str, name: &str, hooks: Vec<Value>) {
        let hooks: Vec<Value> = hooks
            .into_iter()
            .map(|own| {
                let mut hook = json!({
                    "name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                    "rules": [{
                        "apiGroups": [""], "apiVersions": ["v1"],
                        "operations": ["*"], "resources": ["configmaps"],
                    }],
                });
                hook.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
                hook
            })
            .collect();
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations",
            sort.to_ascii_lowercase()
        );
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}WebhookConfiguration"),
            "metadata": {"name": name}, "webhooks": hooks,
        });
        let (code, answer) = self.post(&path, &configuration).await;
        assert_eq!(code, 201, "{answer}");
    }
}

type Reviews = Arc<Mutex<Vec<Value>>>;
/// Answers the request of a review with what goes into `response`.
type Answer = fn(&Value) -> Value;

/// A webhook: its client configuration, and what it was asked.
struct Hook {
    port: u16,
    bundle: String,
    reviews: Reviews,
}

impl Hook {
    async fn start(answer: Answer) -> Self {
        let key = rcgen::generate_simple_self_signed(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "hook.hooks.svc".to_owned(),
        ])
        .unwrap();
        let bundle = base64::engine::general_purpose::STANDARD.encode(key.cert.pem());
        let chain = vec![CertificateDer::from(key.cert.der().to_vec())];
        let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reviews = Reviews::default();
        tokio::spawn(serve(
            listener,
            tokio_rustls::TlsAcceptor::from(Arc::new(config)),
            answer,
            reviews.clone(),
        ));
        Self { port, bundle, reviews }
    }

    fn client_config(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/check", self.port), "caBundle": self.bundle})
    }

    /// What it was asked since somebody looked.
    fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.reviews.lock().unwrap())
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    answer: Answer,
    reviews: Reviews,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, reviews) = (acceptor.clone(), reviews.clone());
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let reviews = reviews.clone();
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let review: Value = serde_json::from_slice(&body).unwrap();
                    let mut response = answer(&review["request"]);
                    if response["uid"].is_null() {
                        response["uid"] = review["request"]["uid"].clone();
                    }
                    let reply = json!({
                        "kind": review["kind"], "apiVersion": review["apiVersion"], "response": response,
                    });
                    reviews.lock().unwrap().push(review["request"].clone());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(reply.to_string()))))
                }
            });
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

fn patch(operations: &Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_validating_webhook_sees_requests_and_refuses_them() {
    let hook = Hook::start(|request| match request["name"].as_str() {
        Some("bad") => json!({"allowed": false, "warnings": ["look out"],
            "status": {"code": 418, "reason": "Tea", "message": "no coffee here"}}),
        _ => json!({"allowed": true, "warnings": ["look out"]}),
    })
    .await;
    let server = Server::start().await;
    server.configure("Validating", "w", vec![json!({"clientConfig": hook.client_config()})]).await;

    let response = server.send(Method::POST, MAPS, Some(&config_map("good"))).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["warning"], "299 - \"look out\"");
    let asked = hook.asked();
    let request = &asked[0];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!((&request["namespace"], &request["name"]), (&json!("default"), &json!("good")));
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["object"]["data"]["k"], "v");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert!(request["object"]["metadata"]["uid"].is_string() && request["oldObject"].is_null());

    let (code, status) = server.post(MAPS, &config_map("bad")).await;
    assert_eq!((code, &status["reason"]), (418, &json!("Tea")));
    assert_eq!(
        status["message"],
        "admission webhook \"hook.example.com\" denied the request: no coffee here"
    );

    hook.asked();
    let (code, _) = server.call(Method::DELETE, &format!("{MAPS}/good"), None).await;
    let request = &hook.asked()[0];
    assert_eq!((code, &request["operation"]), (200, &json!("DELETE")));
    assert!(request["object"].is_null() && request["oldObject"]["data"]["k"] == "v");
}

#[tokio::test]
async fn mutating_webhooks_patch_in_order_and_are_asked_again() {
    // Counts how often it was called.
    let counting = Hook::start(|request| {
        let calls = request["object"]["data"]["calls"].as_str().unwrap_or_default().len();
        patch(&json!([{"op": "add", "path": "/data/calls", "value": "x".repeat(calls + 1)}]))
    })
    .await;
    let labelling =
        Hook::start(|_| patch(&json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}])))
            .await;
    let server = Server::start().await;
    let again = json!({"clientConfig": counting.client_config(), "reinvocationPolicy": "IfNeeded"});
    server.configure("Mutating", "a", vec![again]).await;
    server.configure("Mutating", "b", vec![json!({"clientConfig": labelling.client_config()})]).await;
    let (code, object) = server.post(MAPS, &config_map("m")).await;
    assert_eq!(code, 201, "{object}");
    assert_eq!(object["data"], json!({"k": "v", "calls": "xx"}));
    assert_eq!(object["metadata"]["labels"], json!({"seen": "yes"}));
    assert_eq!((counting.asked().len(), labelling.asked().len()), (2, 1));
}

#[tokio::test]
async fn failures_are_fatal_or_ignored() {
    let server = Server::start().await;
    let unreachable = json!({"url": "https://127.0.0.1:1/x"});
    let hook = json!({"clientConfig": unreachable, "timeoutSeconds": 2});
    server.configure("Validating", "w", vec![hook.clone()]).await;
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    assert_eq!(code, 500);
    assert_eq!(
        status["message"],
        "Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=2s\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w";
    assert_eq!(server.call(Method::DELETE, path, None).await.0, 200);
    let mut ignored = hook;
    ignored["failurePolicy"] = "Ignore".into();
    server.configure("Validating", "w", vec![ignored]).await;
    assert_eq!(server.post(MAPS, &config_map("a")).await.0, 201);
}

#[tokio::test]
async fn strangers_and_wrong_answers_are_not_believed() {
    let hook = Hook::start(|_| json!({"allowed": true, "uid": "another"})).await;
    let stranger = Hook::start(|_| json!({"allowed": true})).await;
    let server = Server::start().await;
    let mut config = hook.client_config();
    server.configure("Validating", "wrong", vec![json!({"clientConfig": config})]).await;
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        code == 500 && message.contains("received invalid webhook response: expected response.uid="),
        "{message}"
    );

    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/wrong";
    server.call(Method::DELETE, path, None).await;
    config["caBundle"] = stranger.bundle.clone().into();
    server.configure("Validating", "stranger", vec![json!({"clientConfig": config})]).await;
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        code == 500
            && message.ends_with(
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ),
        "{message}"
    );
}

#[tokio::test]
async fn a_webhook_is_found_through_its_service_and_asked_in_its_version() {
    let hook = Hook::start(|_| json!({"allowed": true})).await;
    let server = Server::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hooks"}});
    assert_eq!(server.post("/api/v1/namespaces", &namespace).await.0, 201);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    assert_eq!(server.post("/api/v1/namespaces/hooks/services", &service).await.0, 201);
    let config = json!({
        "service": {"namespace": "hooks", "name": "hook", "port": hook.port, "path": "/v"},
        "caBundle": hook.bundle,
    });
    let rules = json!([{"apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["horizontalpodautoscalers"]}]);
    server.configure("Validating", "w", vec![json!({"clientConfig": config, "rules": rules})]).await;
    let hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let (code, answer) = server.post(path, &hpa).await;
    assert_eq!(code, 201, "{answer}");
    let request = &hook.asked()[0];
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(request["object"]["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
}

#[tokio::test]
async fn dry_runs_are_announced_and_old_reviews_spoken() {
    let hook = Hook::start(|_| json!({"allowed": true})).await;
    let server = Server::start().await;
    let harmful = json!({"clientConfig": hook.client_config(), "admissionReviewVersions": ["v1beta1"]});
    server.configure("Mutating", "w", vec![harmful]).await;
    let path = format!("{MAPS}?dryRun=All");
    assert_eq!(server.post(&path, &config_map("a")).await.0, 201);
    assert_eq!(hook.asked()[0]["dryRun"], true);
}

/// Moves the one field to where the wanted version has it, and tries to change what it must not.
fn converted(request: &Value) -> Value {
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        let text = object["spec"]["one"].as_str().or(object["spec"]["two"].as_str()).unwrap().to_owned();
        object["spec"] = if wanted.ends_with("v1") { json!({"one": text}) } else { json!({"two": text}) };
        object["apiVersion"] = wanted.into();
        object["metadata"]["annotations"] = json!({"converted-to": wanted});
        object["metadata"]["finalizers"] = json!(["example.com/no"]);
        object
    });
    let objects: Vec<Value> = objects.collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

#[tokio::test]
async fn a_conversion_webhook_moves_fields_between_versions() {
    let server = Server::start().await;
    let hook = Hook::start(converted).await;
    let version = |name: &str, field: &str| {
        json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"spec": {"type": "object", "properties": {field: {"type": "string"}}}}}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1", "one"), version("v2", "two")],
            "conversion": {"strategy": "Webhook", "webhook":
                {"conversionReviewVersions": ["v1"], "clientConfig": hook.client_config()}}}});
    let (code, answer) =
        server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    assert_eq!(code, 201, "{answer}");
    let things = |version: &str| format!("/apis/example.com/{version}/namespaces/default/things");
    let mut object = json!({"apiVersion": "example.com/v2", "kind": "Thing",
        "metadata": {"name": "a"}, "spec": {"two": "x"}});
    let mut created = (404, Value::Null);
    while created.0 == 404 {
        let response = server.send(Method::POST, &things("v2"), Some(&object)).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        created = (code, serde_json::from_slice(&bytes).unwrap_or_default());
        tokio::task::yield_now().await;
    }
    assert_eq!((created.0, &created.1["spec"]), (201, &json!({"two": "x"})), "{}", created.1);
    // Stored as v1, read back as v2; metadata but for labels and annotations is as it was.
    assert_eq!(hook.asked().len(), 2);
    let (_, stored) = server.call(Method::GET, &format!("{}/a", things("v1")), None).await;
    assert_eq!(stored["spec"], json!({"one": "x"}));
    assert_eq!(stored["metadata"]["finalizers"], Value::Null);
    assert_eq!(stored["metadata"]["annotations"], json!({"converted-to": "example.com/v1"}));
    assert!(hook.asked().is_empty());

    // A list is converted in one go, and what was converted is remembered.
    object["metadata"]["name"] = json!("b");
    server.post(&things("v2"), &object).await;
    hook.asked();
    let (_, list) = server.call(Method::GET, &things("v2"), None).await;
    assert_eq!(
        (&list["items"][0]["spec"], &list["items"][1]["spec"]),
        (&json!({"two": "x"}), &json!({"two": "x"}))
    );
    assert!(hook.asked().is_empty());
}
