//! The attacks, each bounded. What a server has to do about it is checked here; that others are served all
//! the while is checked by [`super::run`].

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::raw::{End, Tally, exchange, post};
use super::{COLLECTION, Target};
use crate::bench::objects::{config_map, create_all};

/// Longer than any bound of the server, shorter than patience.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long a client may be cut off later than the stalls that the server allows (60 s).
const STALL_PATIENCE: Duration = Duration::from_secs(90);
/// What an attacker writes on.
type Writer = WriteHalf<TlsStream<TcpStream>>;
const JSON: &str = "Content-Type: application/json\r\n";

/// Watches that nobody reads, each on a connection of its own; then one event for all of them.
pub async fn idle_watches(target: &Target) -> Result<String> {
    let mut opening = JoinSet::new();
    let mut watches = Vec::with_capacity(target.watches);
    for number in 0..target.watches {
        let connector = target.connector.clone();
        opening.spawn(async move {
            let mut connection = connector.connect().await?;
            let path = format!("{COLLECTION}?watch=true&fieldSelector=metadata.name%3Dobject-0");
            let response = connection.open(Method::GET, &path, Bytes::new()).await?;
            ensure!(response.status() == StatusCode::OK, "watch {number}: {}", response.status());
            Ok((connection, response.into_body()))
        });
        if opening.len() >= 32
            && let Some(opened) = opening.join_next().await
        {
            watches.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        watches.push(opened??);
    }
    create_all(&target.connector, 1, 1, COLLECTION, config_map).await?;
    let began = Instant::now();
    let mut heard = 0;
    for (_, body) in &mut watches {
        let left = PATIENCE.saturating_sub(began.elapsed());
        heard += usize::from(matches!(tokio::time::timeout(left, body.frame()).await, Ok(Some(Ok(_)))));
    }
    ensure!(heard == target.watches, "only {heard} of {} watches heard of an event", target.watches);
    Ok(format!(
        "{heard} of {} heard of one event within {:.1} s",
        target.watches,
        began.elapsed().as_secs_f64()
    ))
}

/// Handshakes that never come, headers and bodies that come a byte a second.
pub async fn slow_loris(target: &Target) -> Result<String> {
    const EACH: usize = 300;
    let begins = [
        Some("GET /version HTTP/1.1\r\nHost: kobune\r\nX-Slow: ".to_owned()),
        Some(format!("POST {COLLECTION} HTTP/1.1\r\nHost: kobune\r\n{JSON}Content-Length: 100000\r\n\r\n")),
        None,
    ];
    let mut clients = JoinSet::new();
    for begin in begins.iter().cycle().take(EACH * begins.len()).cloned() {
        let connector = target.connector.clone();
        clients.spawn(async move {
            let Some(begin) = begin else {
                let silent = exchange(connector.tcp().await?, PATIENCE, async |_| Ok(()));
                return anyhow::Ok(silent.await);
            };
            let drip = async move |mut writer: Writer| {
                writer.write_all(begin.as_bytes()).await?;
                loop {
                    writer.write_all(b"{").await?;
                    writer.flush().await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            Ok(exchange(connector.stream().await?, PATIENCE, drip).await)
        });
    }
    none_open(tally(clients).await?)
}

/// Bodies without an end, announced or not.
pub async fn huge_bodies(target: &Target) -> Result<String> {
    let mut clients = JoinSet::new();
    for number in 0..200 {
        let connector = target.connector.clone();
        clients.spawn(async move {
            let length =
                if number % 2 == 0 { "Content-Length: 10000000000" } else { "Transfer-Encoding: chunked" };
            let head = format!("POST {COLLECTION} HTTP/1.1\r\nHost: kobune\r\n{JSON}{length}\r\n\r\n");
            let flood = async move |mut writer: Writer| {
                let chunk = [b"10000\r\n".as_slice(), &[b' '; 1 << 16], b"\r\n"].concat();
                writer.write_all(head.as_bytes()).await?;
                loop {
                    writer.write_all(&chunk).await?;
                }
            };
            Ok(exchange(connector.stream().await?, PATIENCE, flood).await)
        });
    }
    none_open(tally(clients).await?)
}

/// Headers of a megabyte, and many of them.
pub async fn huge_headers(target: &Target) -> Result<String> {
    let mut clients = JoinSet::new();
    for number in 0..100 {
        let connector = target.connector.clone();
        clients.spawn(async move {
            let headers = match number % 2 {
                0 => format!("{JSON}X-Long: {}\r\n", "x".repeat(1 << 20)),
                _ => format!("{JSON}{}", "X-Many: x\r\n".repeat(50_000)),
            };
            post(connector.stream().await?, COLLECTION, &headers, b"{}", PATIENCE).await
        });
    }
    none_open(tally(clients).await?)
}

/// Documents that are deep, that repeat themselves, or that grow when they are read.
pub async fn deep_documents(target: &Target) -> Result<String> {
    const YAML: &str = "Content-Type: application/yaml\r\n";
    const PROTOBUF: &str = "Content-Type: application/vnd.kubernetes.protobuf\r\n";
    let laughs = (1..30).fold("a0: &a0 [lol, lol]\n".to_owned(), |text, n| {
        let line = format!("*a{}, ", n - 1).repeat(10);
        format!("{text}a{n}: &a{n} [{}]\n", line.trim_end_matches(", "))
    });
    let documents = [
        (JSON, "[".repeat(3 << 20)),
        (JSON, "{\"a\":".repeat(600_000)),
        (JSON, "{\"metadata\":".repeat(200_000)),
        (
            JSON,
            format!(
                "{{\"metadata\":{{\"name\":\"x\"}},\"data\":{{{}\"z\":\"\"}}}}",
                "\"a\":\"\",".repeat(300_000)
            ),
        ),
        (JSON, format!("{{\"metadata\":{{\"name\":\"x\"}},{}\"z\":1}}", "\"u\":1,".repeat(400_000))),
        (YAML, "[".repeat(3 << 20)),
        (YAML, "- ".repeat(1 << 20)),
        (YAML, "a:\n ".repeat(1000)),
        (YAML, laughs),
        (PROTOBUF, format!("k8s\0{}", "\u{a}\u{7f}".repeat(1 << 20))),
    ];
    let mut clients = JoinSet::new();
    for (content_type, document) in documents {
        let document = Bytes::from(document);
        for _ in 0..4 {
            let (connector, document) = (target.connector.clone(), document.clone());
            clients.spawn(async move {
                let path = format!("{COLLECTION}?fieldValidation=Strict");
                post(connector.stream().await?, &path, content_type, &document, PATIENCE).await
            });
        }
    }
    let tally = tally(clients).await?;
    ensure!(tally.count(End::Answered(201)) == 0, "one was taken: {tally}");
    none_open(tally)
}

/// A gibibyte of spaces in a megabyte.
pub async fn zip_bombs(target: &Target) -> Result<String> {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..1024 {
        bomb.write_all(&[b' '; 1 << 20])?;
    }
    let bomb = Bytes::from(bomb.finish()?);
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let (connector, bomb) = (target.connector.clone(), bomb.clone());
        let headers = format!("{JSON}Content-Encoding: gzip\r\n");
        clients.spawn(
            async move { post(connector.stream().await?, COLLECTION, &headers, &bomb, PATIENCE).await },
        );
    }
    none_open(tally(clients).await?)
}

/// Rules whose cost is known to be too high are refused; those whose cost shows later are cut short.
pub async fn cel_bombs(target: &Target) -> Result<String> {
    const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut connection = target.connector.connect().await?;
    let cubed = "all(a, self.all(b, self.all(c, a + b != c)))";
    let definition = json!({"metadata": {"name": "bombs.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "bombs", "kind": "Bomb"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "array", "items": {"type": "string"},
                "x-kubernetes-validations": [{"rule": format!("self.{cubed}")}]}}}}}]}});
    let refused = StatusCode::UNPROCESSABLE_ENTITY;
    connection.send(Method::POST, DEFINITIONS, definition.to_string().into(), refused).await?;

    let cubed = "object.data.all(a, object.data.all(b, object.data.all(c, a + b != c)))";
    let doubled = (0..40).fold("'xxxxxxxx'".to_owned(), |text, _| format!("[{text}].map(s, s + s)[0]"));
    let expressions: Vec<Value> =
        [cubed, &format!("{doubled} != ''")].iter().map(|text| json!({"expression": text})).collect();
    let policy = json!({"metadata": {"name": "bomb"}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
            "operations": ["CREATE"]}]},
        "matchConditions": [{"name": "not-others", "expression": "object.metadata.name.startsWith('bomb')"}],
        "validations": expressions}});
    let binding = json!({"metadata": {"name": "bomb"},
        "spec": {"policyName": "bomb", "validationActions": ["Deny"]}});
    connection.send(Method::POST, POLICIES, policy.to_string().into(), StatusCode::CREATED).await?;
    connection.send(Method::POST, BINDINGS, binding.to_string().into(), StatusCode::CREATED).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let data: serde_json::Map<String, Value> = (0..1000).map(|n| (format!("k{n}"), json!(""))).collect();
    let bomb = Bytes::from(json!({"metadata": {"name": "bomb"}, "data": data}).to_string());
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let (connector, bomb) = (target.connector.clone(), bomb.clone());
        clients
            .spawn(async move { post(connector.stream().await?, COLLECTION, JSON, &bomb, PATIENCE).await });
    }
    let tally = tally(clients).await?;
    let cut_short = tally.count(End::Answered(422)) + tally.count(End::Answered(403));
    ensure!(cut_short == 100, "not all were cut short: {tally}");
    for path in [BINDINGS, POLICIES] {
        connection.send(Method::DELETE, &format!("{path}/bomb"), Bytes::new(), StatusCode::OK).await?;
    }
    Ok(format!("the definition was refused; {tally}"))
}

/// Clients that ask for 20 MB and take nothing of it.
pub async fn slow_readers(target: &Target) -> Result<String> {
    create_all(&target.connector, 16, 20_000, "/api/v1/namespaces/kube-public/configmaps", config_map)
        .await?;
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let connector = target.connector.clone();
        clients.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(connector.stream().await?);
            writer.write_all(b"GET /api/v1/configmaps HTTP/1.1\r\nHost: kobune\r\n\r\n").await?;
            writer.flush().await?;
            tokio::time::sleep(STALL_PATIENCE).await;
            // What the kernel holds may be read; after it, the connection has to be at its end.
            let mut rest = tokio::io::sink();
            let all = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut reader, &mut rest)).await;
            Ok(match all {
                Ok(Ok(length)) if length > 20_000_000 => End::Answered(200),
                Ok(_) => End::Closed,
                Err(_) => End::Open,
            })
        });
    }
    let tally = tally(clients).await?;
    ensure!(tally.count(End::Closed) == 200, "not all were cut off: {tally}");
    Ok(tally.to_string())
}

/// HTTP/2 streams that are reset as soon as they are opened (CVE-2023-44487).
pub async fn rapid_resets(target: &Target) -> Result<String> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const WHOLE: u8 = 0x5; // the end of the stream and of the headers
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // GET https /, to an authority of one letter (RFC 7541, appendix A and 6.2.2).
    let request = [0x82, 0x87, 0x84, 0x01, 0x01, b'a'];
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for stream in (1..200_000).step_by(2) {
        bytes.extend(frame(HEADERS, WHOLE, stream, &request));
        bytes.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
    }
    let bytes = Bytes::from(bytes);
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let (connector, bytes) = (target.connector.clone(), bytes.clone());
        clients.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(connector.stream_h2().await?);
            let flood = async {
                let cut = writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err();
                if !cut {
                    tokio::time::sleep(PATIENCE).await;
                }
                if cut { End::Closed } else { End::Open }
            };
            let read = async {
                let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
                End::Closed
            };
            Ok(tokio::select! { end = flood => end, end = read => end })
        });
    }
    none_open(tally(clients).await?)
}

async fn tally(mut clients: JoinSet<Result<End>>) -> Result<Tally> {
    let mut tally = Tally::default();
    while let Some(end) = clients.join_next().await {
        tally.add(end??);
    }
    Ok(tally)
}

fn none_open(tally: Tally) -> Result<String> {
    ensure!(tally.count(End::Open) == 0, "not all were cut off: {tally}");
    Ok(tally.to_string())
}
