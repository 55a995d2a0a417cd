//! Aggregated APIs, with a real TLS server on loopback behind the API server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::pki::{self, Pki};
use apiserver::{ApiServer, Body, Config, ProxyClient};
use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

struct Server {
    api: ApiServer,
    /// Vouches for the server behind.
    pki: Pki,
    proxy: ProxyClient,
}

impl Server {
    async fn start() -> Self {
        let pki = Pki::ephemeral().unwrap();
        let mut config = Config::new(Arc::new(store::Memory::new()));
        let proxy = pki.proxy_client().unwrap();
        config.proxy_client = Some(proxy.clone());
        Self { api: ApiServer::start(config).await.unwrap(), pki, proxy }
    }

    async fn send(&self, method: Method, path: &str, accept: &str, body: &Value) -> Response<Body> {
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("accept", accept);
        let mut request = request.body(Full::new(Bytes::from(bytes))).unwrap();
        request.extensions_mut().insert(UserInfo::new("alice", &["system:masters"]));
        self.api.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, accept: &str, body: &Value) -> (u16, Value) {
        let response = self.send(method, path, accept, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, "application/json", &Value::Null).await
    }

    async fn create(&self, path: &str, object: Value) {
        let (code, answer) = self.call(Method::POST, path, "application/json", &object).await;
        assert_eq!(code, 201, "{answer}");
    }

    /// Waits until a path is answered with a code: routes follow a moment after conditions.
    async fn until(&self, path: &str, code: u16) -> Value {
        for _ in 0..200 {
            let (now, answer) = self.get(path).await;
            if now == code {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} was not answered with {code}: {:?}", self.get(path).await);
    }

    /// Waits for a reason in the condition of the APIService behind.
    async fn await_reason(&self, reason: &str) -> Value {
        for _ in 0..200 {
            let (_, service) = self.get(&format!("{SERVICES}/v1.wardle.example.com")).await;
            let condition = &service["status"]["conditions"][0];
            if condition["reason"] == reason {
                return condition.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{reason} was not seen: {}", self.get(&format!("{SERVICES}/v1.wardle.example.com")).await.1);
    }
}

/// A server that says what it serves, and otherwise what it was asked and by whom.
async fn behind(pki: &Pki, trusted: &str) -> u16 {
    let credentials = pki.server(&["wardle.default.svc".to_owned()]).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(pki::server_config(&credentials, trusted).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(tcp).await else { return };
                assert!(stream.get_ref().1.peer_certificates().is_some(), "it must show a certificate");
                let service = hyper::service::service_fn(answer);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                let _ = connection.await;
            });
        }
    });
    port
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let answer = match request.uri().path() {
        "/apis/wardle.example.com/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1",
            "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                "verbs": ["get", "list"]}],
        }),
        "/openapi/v3" => json!({"paths": {"apis/wardle.example.com/v1":
            {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1?hash=1"}}}),
        "/openapi/v2" => json!({"swagger": "2.0",
            "paths": {"/apis/wardle.example.com/v1/flunders": {"get": {}}, "/version/": {"get": {"own": 1}}},
            "definitions": {"com.example.wardle.Flunder": {"type": "object"}}}),
        path if path.starts_with("/apis/wardle.example.com/v1/") || path.starts_with("/openapi/v3/") => {
            json!({
                "path": request.uri().to_string(), "user": header("x-remote-user"),
                "group": header("x-remote-group"), "authorization": header("authorization"),
            })
        }
        _ => {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = http::StatusCode::NOT_FOUND;
            return Ok(answer);
        }
    };
    Ok(Response::new(Full::new(Bytes::from(answer.to_string()))))
}

#[tokio::test]
async fn requests_go_to_the_server_behind() {
    let server = Server::start().await;
    let port = behind(&server.pki, &server.proxy.ca_pem).await;
    let ca = base64::engine::general_purpose::STANDARD.encode(server.pki.ca_pem());
    server
        .create(
            SERVICES,
            json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": "v1.wardle.example.com"},
                "spec": {"group": "wardle.example.com", "version": "v1", "caBundle": ca,
                    "groupPriorityMinimum": 2000, "versionPriority": 10,
                    "service": {"namespace": "default", "name": "wardle", "port": port}},
            }),
        )
        .await;
    let condition = server.await_reason("ServiceNotFound").await;
    assert_eq!(condition["message"], "service/wardle in \"default\" is not present");
    let flunders = "/apis/wardle.example.com/v1/namespaces/default/flunders?limit=5";
    assert_eq!(server.until(flunders, 503).await, json!("service unavailable\n"));

    server
        .create(
            "/api/v1/namespaces/default/services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
                "spec": {"ports": [{"name": "https", "port": port}]}}),
        )
        .await;
    server.await_reason("EndpointsNotFound").await;
    // Endpoints cannot be on loopback, but what a name stands for can.
    let path = "/api/v1/namespaces/default/services";
    server.send(Method::DELETE, &format!("{path}/wardle"), "*/*", &Value::Null).await;
    server
        .create(
            path,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
                "spec": {"type": "ExternalName", "externalName": "localhost"}}),
        )
        .await;
    assert_eq!(server.await_reason("Passed").await["message"], "all checks passed");

    let said = server.until(flunders, 200).await;
    let path = said["path"].as_str().unwrap();
    assert!(path.ends_with("/apis/wardle.example.com/v1/namespaces/default/flunders?limit=5"), "{path}");
    assert_eq!((&said["user"], &said["group"]), (&json!("alice"), &json!("system:masters")));
    documents(&server).await;
}

async fn documents(server: &Server) {
    // They are read after the condition says that the server is there.
    for _ in 0..200 {
        let (_, apis) = server.call(Method::GET, "/apis", AGGREGATED, &Value::Null).await;
        let group = apis["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|group| group["metadata"]["name"] == "wardle.example.com");
        if group.is_some_and(|group| group["versions"][0]["freshness"] == "Current") {
            assert_eq!(group.unwrap()["versions"][0]["resources"][0]["resource"], "flunders");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, apis) = server.get("/apis").await;
    let names: Vec<&str> =
        apis["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    let place = |name: &str| names.iter().position(|other| *other == name).unwrap();
    assert!(place("flowcontrol.apiserver.k8s.io") < place("wardle.example.com"));
    assert!(place("wardle.example.com") < place("karpenter.sh"));
    let (code, group) = server.get("/apis/wardle.example.com").await;
    assert_eq!((code, &group["preferredVersion"]["version"]), (200, &json!("v1")));
    let (_, list) = server.get("/apis/wardle.example.com/v1").await;
    assert_eq!(list["resources"][0]["name"], "flunders");
    let (_, index) = server.get("/openapi/v3").await;
    let url = index["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, "/openapi/v3/apis/wardle.example.com/v1?hash=1");
    assert_eq!(server.get(url).await.0, 200);
    let (_, swagger) = server.get("/openapi/v2").await;
    assert!(swagger["paths"]["/apis/wardle.example.com/v1/flunders"].is_object());
    assert!(swagger["paths"]["/version/"]["get"]["own"].is_null());
    assert!(swagger["definitions"]["com.example.wardle.Flunder"].is_object());
}

#[tokio::test(start_paused = true)]
async fn what_is_served_here_has_apiservices() {
    let server = Server::start().await;
    let (_, apps) = server.get(&format!("{SERVICES}/v1.apps")).await;
    assert_eq!(apps["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
    assert_eq!(
        apps["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    let condition = &apps["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Local")));
    let (_, config) =
        server.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    assert_eq!(config["data"]["requestheader-username-headers"], "[\"X-Remote-User\"]");
    assert_eq!(config["data"]["requestheader-client-ca-file"], server.proxy.ca_pem);

    // Those of custom resources come and go with their definitions.
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    server
        .create(
            definitions,
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "things.example.com"},
                "spec": {"group": "example.com", "scope": "Namespaced",
                    "names": {"plural": "things", "kind": "Thing"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}}),
        )
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (_, own) = server.get(&format!("{SERVICES}/v1.example.com")).await;
    assert_eq!(
        (&own["spec"]["groupPriorityMinimum"], &own["spec"]["versionPriority"]),
        (&json!(1000), &json!(100))
    );
    server.send(Method::DELETE, &format!("{definitions}/things.example.com"), "*/*", &Value::Null).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(server.get(&format!("{SERVICES}/v1.example.com")).await.0, 404);
}
