//! Pods on simulated nodes: how fast they are bound, and what a large cluster costs.

use std::time::Duration;

use anyhow::{Result, bail};
use cluster::{Informer, Informers};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::server::Server;

/// Pods of one Deployment.
const PER_DEPLOYMENT: usize = 1000;
/// No measurement takes longer.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the pods are counted.
const LOOK: Duration = Duration::from_millis(50);

/// How many pods there are, and how far they are.
#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    bound: usize,
    running: usize,
}

/// Creates `pods` pods by Deployments on `nodes` nodes and measures how fast they are bound, creation
/// by the controllers included.
pub async fn bind(nodes: usize, pods: usize) -> Result<()> {
    let (server, informer) = start(nodes).await?;
    let client = server.client().await?;
    deploy(&client, pods).await?;
    let began = Instant::now();
    let mut first = None;
    let took = loop {
        let count = count(&informer);
        if first.is_none() && count.bound > 0 {
            first = Some((Instant::now(), count.bound));
        }
        if count.bound >= pods {
            break began.elapsed();
        }
        check_patience(began, count)?;
        tokio::time::sleep(LOOK).await;
    };
    let (since, already) = first.unwrap_or((began, 0));
    let binding = since.elapsed();
    println!(
        "{pods} pods on {nodes} nodes: all bound {:.2} s after the Deployments; {:.0} pods bound/s from the first to the last",
        took.as_secs_f64(),
        (pods - already) as f64 / binding.as_secs_f64(),
    );
    Ok(())
}

/// Brings up a large cluster and leaves it alone.
pub async fn scale(nodes: usize, pods: usize) -> Result<()> {
    let (server, informer) = start(nodes).await?;
    println!("{nodes} nodes ready in {:.2} s; {:.0} MiB", server.ready_in.as_secs_f64(), server.memory_mib());
    let client = server.client().await?;
    let began = Instant::now();
    deploy(&client, pods).await?;
    let mut shown = Instant::now();
    loop {
        let count = count(&informer);
        if shown.elapsed() > Duration::from_secs(2) {
            shown = Instant::now();
            println!(
                "  {:>6.1} s  {:>6} created  {:>6} bound  {:>6} running",
                began.elapsed().as_secs_f64(),
                count.all,
                count.bound,
                count.running
            );
        }
        if count.running >= pods {
            break;
        }
        check_patience(began, count)?;
        tokio::time::sleep(LOOK).await;
    }
    let took = began.elapsed();
    println!(
        "{pods} pods running after {:.2} s ({:.0} /s); {:.0} MiB",
        took.as_secs_f64(),
        pods as f64 / took.as_secs_f64(),
        server.memory_mib()
    );
    tokio::time::sleep(Duration::from_secs(15)).await;
    let cpu = server.cpu_percent(Duration::from_secs(20)).await;
    println!("idle: {cpu:.1} % of a core, {:.0} MiB", server.memory_mib());
    Ok(())
}

async fn start(nodes: usize) -> Result<(Server, Informer<Pod>)> {
    let server = Server::start(&["--runtime", "sim", "--nodes", &nodes.to_string()]).await?;
    let informer = Informers::new(server.client().await?).of::<Pod>();
    informer.synced().await;
    Ok((server, informer))
}

async fn deploy(client: &kube::Client, pods: usize) -> Result<()> {
    let mut left = pods;
    for number in 0.. {
        if left == 0 {
            break;
        }
        let replicas = left.min(PER_DEPLOYMENT);
        left -= replicas;
        let request = Request::post("/apis/apps/v1/namespaces/default/deployments")
            .header("content-type", "application/json")
            .body(deployment(number, replicas).to_string().into_bytes())?;
        client.request::<Value>(request).await?;
    }
    Ok(())
}

fn deployment(number: usize, replicas: usize) -> Value {
    let name = format!("load-{number}");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"automountServiceAccountToken": false, "containers": [{
                    "name": "main", "image": "load:1",
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}
                }]}
            }
        }
    })
}

fn count(informer: &Informer<Pod>) -> Count {
    let mut count = Count::default();
    informer.for_each(|pod| {
        count.all += 1;
        count.bound += usize::from(pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        count.running += usize::from(phase == Some("Running"));
    });
    count
}

fn check_patience(began: Instant, count: Count) -> Result<()> {
    if began.elapsed() > PATIENCE {
        bail!(
            "not done after {} s: {} created, {} bound, {} running",
            PATIENCE.as_secs(),
            count.all,
            count.bound,
            count.running
        );
    }
    Ok(())
}
