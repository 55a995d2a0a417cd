//! The status that a kubelet would write, at each stage of a simulated pod's life.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

/// Why and how the pod stands as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All containers run and are ready.
    Running,
    /// All containers have ended with exit code 0.
    Succeeded,
}

/// A merge patch of the pod's status for `stage`.
pub(crate) fn status_patch(pod: &Pod, stage: Stage, ip: &str, host_ip: &str, now: &str) -> Value {
    let running = stage == Stage::Running;
    let spec = pod.spec.as_ref();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let known_start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let start = known_start.map_or_else(|| now.to_owned(), |time| base::clock::rfc3339(time.0));
    // Containers that run already go on: they are only declared ready again.
    let was_running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let changed = if running && was_running { start.as_str() } else { now };
    let mut status = json!({
        "phase": if running { "Running" } else { "Succeeded" },
        "conditions": conditions(pod, running, now),
        "containerStatuses": containers.iter().map(|c| container(pod, c, running, &start, changed)).collect::<Vec<_>>(),
        "startTime": start,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
    });
    if !init.is_empty() {
        let sidecar = |c: &Container| c.restart_policy.as_deref() == Some("Always");
        let statuses: Vec<_> =
            init.iter().map(|c| container(pod, c, running && sidecar(c), &start, changed)).collect();
        status["initContainerStatuses"] = Value::Array(statuses);
    }
    json!({ "status": status })
}

fn conditions(pod: &Pod, running: bool, now: &str) -> Vec<Value> {
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let condition = |type_: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let unchanged = known.iter().find(|known| known.type_ == type_ && known.status == status);
        let since = unchanged
            .and_then(|known| known.last_transition_time.as_ref())
            .map_or_else(|| now.to_owned(), |time| base::clock::rfc3339(time.0));
        let mut condition =
            json!({"type": type_, "status": status, "lastProbeTime": null, "lastTransitionTime": since});
        if !holds {
            condition["reason"] = json!("PodCompleted");
        }
        condition
    };
    vec![
        condition("PodReadyToStartContainers", running),
        condition("Initialized", true),
        condition("Ready", running),
        condition("ContainersReady", running),
        condition("PodScheduled", true),
    ]
}

fn container(pod: &Pod, container: &Container, running: bool, start: &str, now: &str) -> Value {
    let uid = pod.metadata.uid.as_deref().unwrap_or("");
    let id = format!("sim://{uid}/{}", container.name);
    let image = container.image.as_deref().unwrap_or("");
    let state = if running {
        json!({"running": {"startedAt": now}})
    } else {
        json!({"terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": start, "finishedAt": now, "containerID": id
        }})
    };
    json!({
        "name": container.name,
        "image": image,
        "imageID": format!("sim://{image}"),
        "containerID": id,
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    })
}
