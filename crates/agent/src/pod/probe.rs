//! Probes: one task for each probe of a running container. Only changes of the outcome are reported, by
//! the probe's thresholds.

use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use runtime::{Error, Runtime};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::worker::Report;
use crate::http_get;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What a probe needs to know of its container.
#[derive(Clone)]
pub(crate) struct Target {
    pub runtime: Arc<dyn Runtime>,
    pub container: Container,
    pub container_id: String,
    /// Address of the pod.
    pub ip: String,
}

/// Writes an event about the probed container.
pub(crate) type Announce = Arc<dyn Fn(EventType, &str, String) + Send + Sync>;

/// A running probe; dropping it ends it.
pub(crate) struct Prober {
    _task: AbortOnDropHandle<()>,
}

impl Prober {
    /// Starts probing a container that has been running for `age`.
    pub(crate) fn start(
        kind: Kind,
        probe: Probe,
        target: Target,
        age: Duration,
        reports: mpsc::Sender<Report>,
        announce: Announce,
    ) -> Self {
        let task = tokio::spawn(run(kind, probe, target, age, reports, announce));
        Self { _task: AbortOnDropHandle::new(task) }
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default).max(1)
}

async fn run(
    kind: Kind,
    probe: Probe,
    target: Target,
    age: Duration,
    reports: mpsc::Sender<Report>,
    announce: Announce,
) {
    sleep(seconds(probe.initial_delay_seconds, 0).saturating_sub(age)).await;
    let (needed, allowed) = (threshold(probe.success_threshold, 1), threshold(probe.failure_threshold, 3));
    let (mut streak, mut last, mut reported) = (0u32, None, None);
    loop {
        let outcome = once(&probe, &target).await;
        let ok = outcome.is_ok();
        if let Err(reason) = outcome {
            announce(EventType::Warning, "Unhealthy", format!("{} probe failed: {reason}", kind.title()));
        }
        streak = if last == Some(ok) { streak.saturating_add(1) } else { 1 };
        last = Some(ok);
        let decided = streak >= if ok { needed } else { allowed };
        // A failed startup or liveness probe is said again, in case the first kill did not work.
        if decided && (reported != Some(ok) || (!ok && kind != Kind::Readiness)) {
            reported = Some(ok);
            let report = Report::Probe { container: target.container_id.clone(), kind, ok };
            if reports.send(report).await.is_err() {
                return;
            }
        }
        sleep(seconds(probe.period_seconds, 10).max(Duration::from_secs(1))).await;
    }
}

async fn once(probe: &Probe, target: &Target) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match target.runtime.exec_sync(&target.container_id, &command, limit).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => {
                Err(String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned())
            }
            Err(Error::Timeout(_)) => {
                Err(format!("command timed out: {command:?} timed out after {}s", limit.as_secs()))
            }
            Err(error) => Err(error.to_string()),
        };
    }
    let attempt = async {
        if let Some(get) = &probe.http_get {
            http_probe(get, target).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| target.ip.clone());
            let port = port_number(&tcp.port, &target.container)?;
            TcpStream::connect((host.as_str(), port))
                .await
                .map(drop)
                .map_err(|e| format!("dial tcp {host}:{port}: {e}"))
        } else if let Some(grpc) = &probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            http_get::grpc_health(&target.ip, u16::try_from(grpc.port).unwrap_or(0), &service).await
        } else {
            Ok(())
        }
    };
    timeout(limit, attempt).await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
}

async fn http_probe(get: &HTTPGetAction, target: &Target) -> Result<(), String> {
    match http_get::get(get, &target.ip, &target.container).await? {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// A port by number or by the name of one of the container's ports.
pub(crate) fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("couldn't find port: {port:?}"))
}
