//! `kobune demo --real`: the application as real containers whose requests cost real CPU.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use cluster::{Informer, Informers};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::load::{self, Load, PORT};
use super::manifests::{APP, apply, autoscaler};
use super::screen::Screen;

/// CPU that a pod requests, in millicores.
pub const CPU_REQUEST_MILLI: f64 = 100.0;
/// CPU that a pod may use at most, in millicores: one pod alone cannot serve the rush.
const CPU_LIMIT_MILLI: f64 = 200.0;
/// Replicas at least and at most. Eight pods at their target use half a core.
const REPLICAS: (i32, i32) = (1, 8);
/// CPU that one request should cost.
const CPU_PER_REQUEST: Duration = Duration::from_millis(14);
/// The first pod must serve within this time; an image may have to be pulled.
const FIRST_POD_WITHIN: Duration = Duration::from_secs(60);
/// The script behind the application's only page: it counts to the number in the query and says how
/// much CPU time that took.
const SCRIPT: &str = r#"#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
i=0
while [ "$i" -lt "$QUERY_STRING" ]; do i=$((i + 1)); done
times
"#;
/// Rounds of the script's loop from which measuring its cost begins.
const FIRST_ROUNDS: u32 = 20_000;
/// The kernel tells CPU time in hundredths of a second, so measuring one needs this much.
const MEASURABLE: Duration = Duration::from_millis(150);

/// Deploys the application, waits for its first pod, and returns a client whose requests cost about
/// [`CPU_PER_REQUEST`] each.
pub async fn deploy(client: &kube::Client, informers: &Informers, screen: &Screen) -> Result<Load> {
    let objects = [
        ("/api/v1/namespaces/default/configmaps/shop", script()),
        ("/apis/apps/v1/namespaces/default/deployments/shop", deployment()),
    ];
    for (path, object) in objects {
        apply(client, path, &object).await.with_context(|| format!("the demo's {path} was refused"))?;
    }
    let pods = informers.of::<Pod>();
    let began = Instant::now();
    let ip = first_pod(&pods).await?;
    screen.say(&format!("The first container serves after {:.2} s.", began.elapsed().as_secs_f64()));
    let rounds = calibrate(&ip).await.context("the cost of a request could not be measured")?;
    Ok(Load::new(pods, page(rounds)))
}

/// Applies the autoscaler. Measuring the cost of a request must be over: it would take that for load.
pub async fn autoscale(client: &kube::Client) -> Result<()> {
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/shop";
    apply(client, path, &autoscaler(REPLICAS)).await.with_context(|| format!("the demo's {path} was refused"))
}

/// The address of the first pod that serves.
async fn first_pod(pods: &Informer<Pod>) -> Result<String> {
    let deadline = Instant::now() + FIRST_POD_WITHIN;
    loop {
        if let Some(ip) = pods.list().iter().find_map(|pod| load::address(pod).map(str::to_owned)) {
            return Ok(ip);
        }
        if Instant::now() >= deadline {
            let reason = pods.list().iter().find_map(|pod| trouble(pod)).unwrap_or_default();
            bail!("no pod serves after {} s{reason}", FIRST_POD_WITHIN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Why a pod's container waits.
fn trouble(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    let waiting = statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref().unwrap_or("waiting");
    Some(format!(": {reason}: {}", waiting.message.as_deref().unwrap_or("no message")))
}

/// How many rounds of the script's loop cost [`CPU_PER_REQUEST`] here.
async fn calibrate(ip: &str) -> Result<u32> {
    let mut rounds = FIRST_ROUNDS;
    loop {
        let answer = load::get(ip, &page(rounds)).await?;
        let cost = cpu_time(&String::from_utf8_lossy(&answer))?;
        if cost >= MEASURABLE {
            let per_round = cost.as_secs_f64() / f64::from(rounds);
            // At least one round, and no more than were measured: the value fits.
            return Ok((CPU_PER_REQUEST.as_secs_f64() / per_round).clamp(1.0, f64::from(rounds)) as u32);
        }
        rounds = rounds.checked_mul(3).ok_or_else(|| anyhow!("{rounds} rounds cost no CPU time"))?;
    }
}

fn page(rounds: u32) -> String {
    format!("/cgi-bin/work?{rounds}")
}

/// What the shell says of its own CPU time: `0m0.140s 0m0.000s` in user and kernel mode.
fn cpu_time(times: &str) -> Result<Duration> {
    let part = |text: &str| {
        let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    let first = times.lines().next().unwrap_or_default();
    let parts: Option<Vec<f64>> = first.split_whitespace().map(part).collect();
    let seconds = parts.filter(|parts| parts.len() == 2).map(|parts| parts.iter().sum());
    let seconds = seconds.with_context(|| format!("the application said {times:?}"))?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}

fn script() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": APP},
        "data": {"work": SCRIPT}
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": APP},
        "spec": {
            "selector": {"matchLabels": {"app": APP}},
            "template": {
                "metadata": {"labels": {"app": APP}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "web", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                        "command": ["httpd", "-f", "-p", PORT.to_string(), "-h", "/www"],
                        "ports": [{"containerPort": PORT}],
                        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                        "resources": {
                            "requests": {"cpu": format!("{CPU_REQUEST_MILLI}m"), "memory": "16Mi"},
                            "limits": {"cpu": format!("{CPU_LIMIT_MILLI}m")}
                        },
                        "volumeMounts": [{"name": "pages", "mountPath": "/www/cgi-bin"}]
                    }],
                    "volumes": [{"name": "pages", "configMap": {"name": APP, "defaultMode": 0o755}}]
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shells_times_are_understood() {
        let user_and_system = cpu_time("0m0.140s 1m0.010s\n0m0.000s 0m0.000s\n");
        assert_eq!(user_and_system.ok(), Some(Duration::from_millis(60_150)));
        assert!(cpu_time("404").is_err());
    }
}
