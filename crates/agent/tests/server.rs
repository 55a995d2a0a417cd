//! The kubelet's server: who gets in, logs, and remote commands over both protocols.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Node, container, phase};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

struct Fixture {
    node: Node,
    _dir: tempfile::TempDir,
    pki: apiserver::pki::Pki,
    port: u16,
}

/// A node with its server and a running pod `web`.
async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let pki = apiserver::pki::Pki::ephemeral().unwrap();
    let credentials = pki.kubelet(common::NODE, &["127.0.0.1".to_owned()]).unwrap();
    let mut node = Node::start(Arc::new(runtime::fake::Fake::default()), dir.path()).await;
    node.stop().await;
    node.config.server = Some(agent::Server {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate: credentials.certificate_pem,
        key: credentials.key_pem,
        client_ca: pki.ca_pem().to_owned(),
    });
    node.run();
    let command = json!({"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "99999"]}]});
    node.pod("web", command).await;
    node.until("running", "web", |p| phase(p) == "Running").await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(node.config.client.clone());
    let port = node
        .server
        .eventually("the server's port", || async {
            let status = nodes.get_opt(common::NODE).await.unwrap()?.status?;
            Some(status.daemon_endpoints?.kubelet_endpoint?.port)
        })
        .await;
    Fixture { node, _dir: dir, pki, port: u16::try_from(port).unwrap() }
}

impl Fixture {
    async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_as(self.pki.kubelet_client().unwrap()).await
    }

    async fn connect_as(&self, client: apiserver::pki::Credentials) -> TlsStream<TcpStream> {
        let mut config = apiserver::pki::client_config(&client, self.pki.ca_pem()).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.get_over(self.connect().await, path).await
    }

    async fn get_over(&self, tls: TlsStream<TcpStream>, path: &str) -> (u16, String) {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path).header("Host", "n1").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Runs a command over WebSocket with some input; returns standard output and the final status.
    async fn exec(&self, protocol: &str, query: &str, input: &[u8]) -> (String, Value) {
        let uri = format!("wss://127.0.0.1:{}/exec/default/web/c?{query}", self.port);
        let mut request = uri.into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
        let (mut socket, response) =
            tokio_tungstenite::client_async(request, self.connect().await).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        if !input.is_empty() {
            socket.send(Message::Binary([&[0], input].concat().into())).await.unwrap();
            socket.send(Message::Binary(vec![255, 0].into())).await.unwrap();
        }
        let (mut stdout, mut status) = (Vec::new(), Vec::new());
        while let Some(Ok(message)) = socket.next().await {
            match (message.is_binary(), message.into_data().split_first()) {
                (true, Some((1, data))) => stdout.extend_from_slice(data),
                (true, Some((3, data))) => status.extend_from_slice(data),
                _ => {}
            }
        }
        (String::from_utf8(stdout).unwrap(), serde_json::from_slice(&status).unwrap())
    }
}

#[tokio::test]
async fn only_the_authority_s_clients_get_in() {
    let fixture = fixture().await;
    assert_eq!(fixture.get("/healthz").await, (200, "ok".to_owned()));
    assert!(fixture.get("/metrics").await.1.contains("kubelet_pods{phase=\"Running\"} 1"));
    assert_eq!(fixture.get("/nothing").await.0, 404);
    let node = fixture.pki.kubelet("n2", &[]).unwrap();
    assert_eq!(fixture.get_over(fixture.connect_as(node).await, "/healthz").await.0, 403);
    let stranger = apiserver::pki::Pki::ephemeral().unwrap().kubelet_client().unwrap();
    let config = apiserver::pki::client_config(&stranger, fixture.pki.ca_pem()).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", fixture.port)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    // TLS 1.3 tells a client that it is refused when it first reads.
    if let Ok(mut tls) = tls {
        let mut byte = [0];
        assert!(tokio::io::AsyncReadExt::read_exact(&mut tls, &mut byte).await.is_err());
    }
}

#[tokio::test]
async fn logs_are_served() {
    let fixture = fixture().await;
    let pod = fixture.node.pods().get("web").await.unwrap();
    let directory = format!("default_web_{}/c/0.log", pod.metadata.uid.as_ref().unwrap());
    let line = "2026-11-20T10:00:00.5Z stdout F hello\n";
    std::fs::write(fixture.node.config.log_dir.join(directory), line.repeat(3)).unwrap();
    let logs = "/containerLogs/default/web/c";
    assert_eq!(fixture.get(&format!("{logs}?tailLines=2")).await, (200, "hello\nhello\n".to_owned()));
    assert_eq!(fixture.get(&format!("{logs}?tailLines=x")).await.0, 400);
    let (status, text) = fixture.get(&format!("{logs}?previous=true")).await;
    assert_eq!(status, 400);
    assert_eq!(text, "previous terminated container \"c\" in pod \"web\" not found");
    assert!(container(&pod, "c").is_some());
}

#[tokio::test]
async fn commands_run_over_websocket() {
    let fixture = fixture().await;
    let (stdout, status) =
        fixture.exec("v5.channel.k8s.io", "command=cat&stdin=1&stdout=1", b"through").await;
    assert_eq!((stdout.as_str(), &status["status"]), ("through", &json!("Success")));
    let (stdout, status) =
        fixture.exec("v4.channel.k8s.io", "command=echo&command=a%20b&output=1", b"").await;
    assert_eq!((stdout.as_str(), &status["status"]), ("a b\n", &json!("Success")));
    let (_, status) =
        fixture.exec("v4.channel.k8s.io", "command=sh&command=-c&command=exit+7&stdout=1", b"").await;
    assert_eq!(status["details"]["causes"][0]["message"], "7");
    assert_eq!(fixture.get("/exec/default/web/c?command=ls&stdout=1").await.0, 400);
    assert_eq!(fixture.get("/exec/default/none/c?command=ls&stdout=1").await.0, 404);
}

#[tokio::test]
async fn commands_run_over_spdy() {
    let fixture = fixture().await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(fixture.connect().await)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = http::Request::post("/exec/default/web/c?command=cat&stdin=1&stdout=1")
        .header("Host", "n1")
        .header("Connection", "Upgrade")
        .header("Upgrade", "SPDY/3.1")
        .header("X-Stream-Protocol-Version", "v4.channel.k8s.io")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    let (connection, _none) = spdy::Connection::new(TokioIo::new(upgraded), spdy::Role::Client);
    let open = async |kind: &str| connection.open(vec![("streamtype".into(), kind.into())]).await.unwrap();
    let (mut error, stdin, mut stdout) = (open("error").await, open("stdin").await, open("stdout").await);
    stdin.writer.write(Bytes::from_static(b"through")).await.unwrap();
    stdin.writer.finish().await.unwrap();
    assert_eq!(stdout.reader.recv().await.unwrap(), "through");
    assert!(stdout.reader.recv().await.is_none());
    let status: Value = serde_json::from_slice(&error.reader.recv().await.unwrap()).unwrap();
    assert_eq!(status["status"], "Success");
}
