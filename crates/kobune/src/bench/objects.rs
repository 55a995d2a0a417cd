//! Creates, gets and lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::Connector;
use super::server::Server;
use super::{Latencies, print_rate};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A ConfigMap of about 1 KB.
pub fn config_map(name: &str) -> Bytes {
    let value = "x".repeat(900);
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}});
    Bytes::from(object.to_string())
}

/// Creates `objects` ConfigMaps, then gets them for `gets_for`, then patches them for as long.
pub async fn creates_and_gets(clients: usize, objects: usize, gets_for: Duration) -> Result<()> {
    let server = Server::start(&["--components", "apiserver"]).await?;
    let connector = Connector::new(&server.config().await?)?;
    let (took, latencies) = create_all(&connector, clients, objects, CONFIG_MAPS, config_map).await?;
    print_rate("durable creates", took, &latencies);

    let (took, latencies) = each_for(&connector, clients, objects, gets_for, Method::GET).await?;
    print_rate("gets", took, &latencies);
    println!("memory after {objects} objects {:>10.0} MiB", server.memory_mib());
    let (took, latencies) = each_for(&connector, clients, objects, gets_for, Method::PATCH).await?;
    print_rate("durable merge patches", took, &latencies);
    Ok(())
}

/// Gets or patches the ConfigMaps, scattered, over `clients` connections until the time is over.
async fn each_for(
    connector: &Connector,
    clients: usize,
    objects: usize,
    time: Duration,
    method: Method,
) -> Result<(Duration, Latencies)> {
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..clients {
        let mut connection = connector.connect().await?;
        let method = method.clone();
        workers.spawn(async move {
            let mut latencies = Latencies::default();
            let mut number = worker;
            while began.elapsed() < time {
                let path = format!("{CONFIG_MAPS}/object-{}", number % objects);
                let body = match method {
                    Method::PATCH => Bytes::from(json!({"data": {"n": number.to_string()}}).to_string()),
                    _ => Bytes::new(),
                };
                let sent = Instant::now();
                connection.send(method.clone(), &path, body, StatusCode::OK).await?;
                latencies.add(sent);
                number += 7919;
            }
            anyhow::Ok(latencies)
        });
    }
    let latencies = Latencies::merge(workers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?);
    Ok((began.elapsed(), latencies))
}

/// Creates objects `object-0`, `object-1`, … over `clients` connections.
pub async fn create_all(
    connector: &Connector,
    clients: usize,
    objects: usize,
    collection: &'static str,
    object: fn(&str) -> Bytes,
) -> Result<(Duration, Latencies)> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(connector.connect().await?);
    }
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for mut connection in connections {
        let next = next.clone();
        workers.spawn(async move {
            let mut latencies = Latencies::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= objects {
                    return anyhow::Ok(latencies);
                }
                let body = object(&format!("object-{number}"));
                let sent = Instant::now();
                connection.send(Method::POST, collection, body, StatusCode::CREATED).await?;
                latencies.add(sent);
            }
        });
    }
    let results = workers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    Ok((began.elapsed(), Latencies::merge(results)))
}

/// A pod of the usual size: a few labels, two containers with resources and probes.
fn pod(name: &str) -> Bytes {
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example/app/web:1.2.3",
            "ports": [{"containerPort": 8080, "name": "http"}],
            "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "REGION", "value": "somewhere"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}})
    };
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web", "tier": "front", "version": "1.2.3"}},
        "spec": {"automountServiceAccountToken": false, "containers": [container("web"), container("proxy")]}
    });
    Bytes::from(object.to_string())
}

/// Creates `pods` pods and lists them for `lists_for`.
pub async fn lists(pods: usize, clients: usize, lists_for: Duration) -> Result<()> {
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let server = Server::start(&["--components", "apiserver"]).await?;
    let connector = Connector::new(&server.config().await?)?;
    let mut connection = connector.connect().await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    connection.send(Method::POST, accounts, account.to_string().into(), StatusCode::CREATED).await?;
    let (took, latencies) = create_all(&connector, 64, pods, PODS, pod).await?;
    print_rate("pod creates", took, &latencies);

    for (form, accept) in [("JSON", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf")]
    {
        let (took, latencies, bytes) = list_for(&connector, clients, lists_for, PODS, accept).await?;
        print_rate(&format!("{form} lists of {pods} pods"), took, &latencies);
        println!("                         {:>9.0} MB/s", bytes as f64 / 1e6 / took.as_secs_f64());
    }
    println!("memory {:>36.0} MiB", server.memory_mib());
    Ok(())
}

/// Lists a collection over `clients` connections until the time is over; also how many bytes came.
async fn list_for(
    connector: &Connector,
    clients: usize,
    time: Duration,
    collection: &'static str,
    accept: &'static str,
) -> Result<(Duration, Latencies, usize)> {
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..clients {
        let mut connection = connector.connect().await?;
        connection.accept = accept;
        workers.spawn(async move {
            let (mut latencies, mut bytes) = (Latencies::default(), 0);
            while began.elapsed() < time {
                let sent = Instant::now();
                bytes += connection.send(Method::GET, collection, Bytes::new(), StatusCode::OK).await?;
                latencies.add(sent);
            }
            anyhow::Ok((latencies, bytes))
        });
    }
    let results = workers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let bytes = results.iter().map(|(_, bytes)| bytes).sum();
    Ok((began.elapsed(), Latencies::merge(results.into_iter().map(|(latencies, _)| latencies)), bytes))
}
