//! The server on a loopback socket: TLS, client certificates, bodies, and what is passed on to kubelets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use apiserver::pki::{self, Credentials, Pki, Usage};
use apiserver::{ApiServer, Config, KubeletAccess, serve};
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server on a free port and the authority behind it.
struct Cluster {
    address: SocketAddr,
    pki: Arc<Pki>,
}

impl Cluster {
    async fn start() -> Self {
        let pki = Arc::new(Pki::ephemeral().unwrap());
        let mut config = Config::new(Arc::new(store::Memory::new()));
        config.kubelets =
            Some(KubeletAccess { client: pki.kubelet_client().unwrap(), ca_pem: pki.ca_pem().to_owned() });
        let server = ApiServer::start(config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, pki.server_config(&[], &[]).unwrap(), server, std::future::pending()));
        Self { address, pki }
    }

    /// A connection on which the client shows `credentials`.
    async fn connect(
        &self,
        credentials: &Credentials,
    ) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let tls = pki::client_config(credentials, self.pki.ca_pem()).unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn call(
        &self,
        credentials: &Credentials,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut sender = self.connect(credentials).await;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let response =
            sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }
}

/// A kubelet that logs the path it was asked for, and echoes whatever comes over an upgrade.
async fn kubelet(pki: &Pki) -> u16 {
    let credentials = pki.kubelet("n1", &["127.0.0.1".to_owned()]).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(pki::server_config(&credentials, pki.ca_pem()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let stream = tls.accept(tcp).await.unwrap();
                assert!(
                    stream.get_ref().1.peer_certificates().is_some(),
                    "the API server must show a certificate"
                );
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .with_upgrades();
                let _ = connection.await;
            });
        }
    });
    port
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().get(UPGRADE).is_none() {
        return Ok(Response::new(Full::new(Bytes::from(request.uri().to_string()))));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 64];
        loop {
            let length = io.read(&mut buffer).await.unwrap_or(0);
            if length == 0 || io.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    Ok(response.header(UPGRADE, "SPDY/3.1").header(CONNECTION, "Upgrade").body(Full::default()).unwrap())
}

async fn cluster_with_pod() -> (Cluster, Credentials) {
    let cluster = Cluster::start().await;
    let admin = cluster.pki.admin().unwrap();
    let port = kubelet(&cluster.pki).await;
    let post = async |path: &str, body: Value| {
        let (status, answer) = cluster.call(&admin, Method::POST, path, body).await;
        assert!(status.is_success(), "{answer}");
    };
    post("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let status = json!({"metadata": {"name": "n1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let (code, answer) = cluster.call(&admin, Method::PUT, "/api/v1/nodes/n1/status", status).await;
    assert_eq!(code, 200, "{answer}");
    let pods = "/api/v1/namespaces/default/pods";
    post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let spec = json!({"containers": [{"name": "main", "image": "x"}], "nodeName": "n1"});
    post(pods, json!({"metadata": {"name": "p"}, "spec": spec})).await;
    (cluster, admin)
}

#[tokio::test]
async fn certificates_say_who_is_there() {
    let cluster = Cluster::start().await;
    let admin = cluster.pki.admin().unwrap();
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (status, answer) = cluster.call(&admin, Method::POST, review, json!({})).await;
    assert_eq!(status, 201);
    assert_eq!(answer["status"]["userInfo"]["username"], "kubernetes-admin");
    let alice = cluster.pki.issue("alice", &["g"], &[], Usage::Client).unwrap();
    let (status, answer) = cluster.call(&alice, Method::GET, "/api/v1/pods", Value::Null).await;
    assert_eq!(status, 403);
    assert_eq!(
        answer["message"],
        "pods is forbidden: User \"alice\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let cluster = Cluster::start().await;
    let admin = cluster.pki.admin().unwrap();
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(4 << 20)}});
    let (status, answer) =
        cluster.call(&admin, Method::POST, "/api/v1/namespaces/default/configmaps", map).await;
    assert_eq!((status.as_u16(), answer["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
}

#[tokio::test]
async fn logs_come_from_the_nodes_kubelet() {
    let (cluster, admin) = cluster_with_pod().await;
    let path = "/api/v1/namespaces/default/pods/p/log?follow=true&tailLines=5";
    let (status, text) = cluster.call(&admin, Method::GET, path, Value::Null).await;
    assert_eq!(
        (status.as_u16(), text.as_str()),
        (200, Some("/containerLogs/default/p/main?follow=true&tailLines=5"))
    );
}

#[tokio::test]
async fn an_upgrade_is_tunnelled() {
    let (cluster, admin) = cluster_with_pod().await;
    let mut sender = cluster.connect(&admin).await;
    let path = "/api/v1/namespaces/default/pods/p/exec?command=sh&stdin=true&stdout=true";
    let request = Request::builder().method(Method::POST).uri(path).header("host", "localhost");
    let request =
        request.header(UPGRADE, "SPDY/3.1").header(CONNECTION, "Upgrade").body(Full::default()).unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    io.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn reading_a_pod_is_not_running_something_in_it() {
    let (cluster, admin) = cluster_with_pod().await;
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([{"apiGroups": [""], "resources": ["pods/exec", "pods/log"], "verbs": ["get"]}]);
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    assert_eq!(cluster.call(&admin, Method::POST, &format!("{base}/roles"), role).await.0, 201);
    let binding = json!({"metadata": {"name": "r"},
        "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}});
    assert_eq!(cluster.call(&admin, Method::POST, &format!("{base}/rolebindings"), binding).await.0, 201);
    let alice = cluster.pki.issue("alice", &[], &[], Usage::Client).unwrap();
    let pod = "/api/v1/namespaces/default/pods/p";
    assert_eq!(cluster.call(&alice, Method::GET, &format!("{pod}/log"), Value::Null).await.0, 200);
    let (code, answer) =
        cluster.call(&alice, Method::GET, &format!("{pod}/exec?command=sh"), Value::Null).await;
    assert_eq!(code, 403, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("cannot create resource \"pods/exec\""), "{answer}");
}

#[tokio::test]
async fn proxies_do_not_lead_to_this_host_and_kubelets_clients_may_nothing_here() {
    let (cluster, admin) = cluster_with_pod().await;
    let pod = "/api/v1/namespaces/default/pods";
    let status = json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}]}});
    let (code, answer) = cluster.call(&admin, Method::PUT, &format!("{pod}/p/status"), status).await;
    assert_eq!(code, 200, "{answer}");
    for name in ["p", "https:p"] {
        let path = format!("{pod}/{name}:{}/proxy/api/v1/secrets", cluster.address.port());
        let (code, answer) = cluster.call(&admin, Method::GET, &path, Value::Null).await;
        assert_eq!((code.as_u16(), answer["message"].as_str()), (400, Some("address not allowed")));
    }
    let kubelets = cluster.pki.kubelet_client().unwrap();
    assert_eq!(cluster.call(&kubelets, Method::GET, "/api/v1/pods", Value::Null).await.0, 403);
}
