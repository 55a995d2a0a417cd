//! Pods.

use super::*;

/// Pod.
pub const POD: &[Heading] = &[
    NAME,
    column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
    column("Status", "string", "The aggregate status of the containers in this pod."),
    column(
        "Restarts",
        "string",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE,
    wide(
        "IP",
        "string",
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
    ),
    wide(
        "Node",
        "string",
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
    ),
    wide(
        "Nominated Node",
        "string",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.",
    ),
    wide(
        "Readiness Gates",
        "string",
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
    ),
];

/// One pod.
pub fn pod(pod: &Value, now: Timestamp) -> Row {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, human_duration(seconds(last, now)))
        }
        _ => summary.restarts.to_string(),
    };
    let mut row = row![
        name(pod),
        format!("{}/{}", summary.ready, summary.total),
        summary.reason,
        restarts,
        age(pod, now),
        text_or(pod, "/status/podIPs/0/ip", "<none>"),
        text_or(pod, "/spec/nodeName", "<none>"),
        text_or(pod, "/status/nominatedNodeName", "<none>"),
        readiness_gates(pod),
    ];
    row.conditions = match text(pod, "/status/phase") {
        "Succeeded" => vec![completed("Succeeded", "The pod has completed successfully.")],
        "Failed" => vec![completed("Failed", "The pod failed.")],
        _ => Vec::new(),
    };
    row
}

fn completed(reason: &str, message: &str) -> Value {
    json!({"type": "Completed", "status": "True", "reason": reason, "message": message})
}

/// What the containers of a pod add up to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts, and the time of the last one.
#[derive(Clone, Copy, Default)]
struct Restarts(i64, Option<Timestamp>);

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.0 += number(status, "/restartCount");
        self.1 = self.1.max(time(status, "/lastState/terminated/finishedAt"));
    }
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let init_containers = list(pod, "/spec/initContainers");
        let is_sidecar = |name: &str| {
            init_containers.iter().any(|container| {
                text(container, "/name") == name && text(container, "/restartPolicy") == "Always"
            })
        };
        let sidecars =
            init_containers.iter().filter(|container| text(container, "/restartPolicy") == "Always");
        let total = list(pod, "/spec/containers").len() + sidecars.count();

        let mut ready = 0;
        let mut reason = text_or(pod, "/status/reason", text(pod, "/status/phase")).to_owned();
        let gated = condition(pod, "PodScheduled")
            .is_some_and(|scheduled| text(scheduled, "/reason") == "SchedulingGated");
        if gated {
            reason = "SchedulingGated".to_owned();
        }

        let (mut all, mut of_sidecars) = (Restarts::default(), Restarts::default());
        let mut initializing = false;
        for (index, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            all.add(status);
            let sidecar = is_sidecar(text(status, "/name"));
            if sidecar {
                of_sidecars.add(status);
            }
            if status.pointer("/state/terminated").is_some()
                && number(status, "/state/terminated/exitCode") == 0
            {
                continue;
            }
            if sidecar && flag(status, "/started") {
                ready += usize::from(flag(status, "/ready"));
                continue;
            }
            reason = initializing_reason(status, index, init_containers.len());
            initializing = true;
            break;
        }

        if !initializing || is_true(pod, "Initialized") {
            all = of_sidecars;
            let (running, running_reason) = running_reason(pod, &mut all, reason);
            ready += running;
            reason = running_reason;
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            if text(pod, "/status/reason") == "NodeLost" {
                reason = "Unknown".to_owned();
            } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
                reason = "Terminating".to_owned();
            }
        }
        Summary { ready, total, reason, restarts: all.0, last_restart: all.1 }
    }
}

/// Why initialization is not finished, from the status of the first init container that is not.
fn initializing_reason(status: &Value, index: usize, total: usize) -> String {
    let waiting = text(status, "/state/waiting/reason");
    if let Some(terminated) = status.pointer("/state/terminated") {
        format!("Init:{}", termination_reason(terminated))
    } else if !waiting.is_empty() && waiting != "PodInitializing" {
        format!("Init:{waiting}")
    } else {
        format!("Init:{index}/{total}")
    }
}

fn termination_reason(terminated: &Value) -> String {
    match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Number of ready containers, and the reason after initialization. The first container's word counts.
fn running_reason(pod: &Value, restarts: &mut Restarts, mut reason: String) -> (usize, String) {
    let mut ready = 0;
    let mut error = String::new();
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        restarts.add(status);
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if let Some(terminated) = status.pointer("/state/terminated") {
            reason = termination_reason(terminated);
            if number(terminated, "/exitCode") != 0 {
                error.clone_from(&reason);
            }
        } else if flag(status, "/ready") && status.pointer("/state/running").is_some() {
            ready += 1;
        }
    }
    // One finished container does not complete the pod while others run.
    if reason == "Completed" {
        if ready > 0 && is_true(pod, "Ready") {
            reason = "Running".to_owned();
        } else if !error.is_empty() {
            reason = error;
        } else if ready > 0 {
            reason = "NotReady".to_owned();
        }
    }
    (ready, reason)
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| is_true(pod, text(gate, "/conditionType"))).count();
    format!("{open}/{}", gates.len())
}
