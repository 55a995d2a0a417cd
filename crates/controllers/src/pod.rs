//! What controllers read from a pod's status, by upstream's definitions
//! (`pkg/api/v1/pod`, `pkg/controller/controller_utils.go`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The current time in the whole seconds that `metav1.Time` holds.
pub fn now() -> Time {
    let now = base::clock::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The pod's phase; the empty text when it has no status yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// Whether all containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether somebody has asked for the pod's deletion.
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod counts as a replica: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleted(pod)
}

/// Whether the pod is on its way out but its containers may still run.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleted(pod)
}

/// The node the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty())
}

/// The pod's condition of this type.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Whether the pod's Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready; `None` when it is not or does not say.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")
        .filter(|ready| ready.status == "True")
        .and_then(|ready| ready.last_transition_time.as_ref())
        .map(|time| time.0)
}

/// Whether the pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds <= 0
            || ready_since(pod)
                .is_some_and(|since| now.duration_since(since).as_secs() >= i64::from(min_ready_seconds)))
}

/// How long until a ready pod becomes available; `None` when waiting does not change anything.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    let at = ready_since(pod)? + Duration::from_secs(u64::try_from(min_ready_seconds).ok()?);
    Duration::try_from(at.duration_since(now)).ok().filter(|wait| !wait.is_zero())
}

/// The highest restart counts among the pod's containers and among its sidecars.
pub fn max_restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let of = |statuses: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>,
              sidecars: Option<&[&str]>| {
        statuses
            .iter()
            .flatten()
            .filter(|status| sidecars.is_none_or(|names| names.contains(&status.name.as_str())))
            .map(|status| status.restart_count)
            .max()
            .unwrap_or(0)
    };
    let sidecars: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    (of(&status.container_statuses, None), of(&status.init_container_statuses, Some(&sidecars)))
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! Pods for table tests.
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    /// A pod `name` in this phase, on `node` unless that is empty, ready since the given second.
    pub fn pod(name: &str, phase: &str, node: &str, ready_at: Option<i64>) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some(format!("uid-{name}")),
                creation_timestamp: Some(Time(Timestamp::from_second(1_000).unwrap())),
                ..Default::default()
            },
            spec: Some(PodSpec {
                node_name: (!node.is_empty()).then(|| node.to_string()),
                ..Default::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.into()),
                conditions: ready_at.map(|second| {
                    vec![PodCondition {
                        type_: "Ready".into(),
                        status: "True".into(),
                        last_transition_time: Some(Time(Timestamp::from_second(second).unwrap())),
                        ..Default::default()
                    }]
                }),
                ..Default::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::pod;
    use super::*;

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let ready = pod("a", "Running", "n", Some(100));
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_available(&ready, 0, at(100)));
        assert!(!is_available(&ready, 10, at(105)));
        assert_eq!(available_in(&ready, 10, at(105)), Some(Duration::from_secs(5)));
        assert!(is_available(&ready, 10, at(110)));
        assert_eq!(available_in(&ready, 10, at(110)), None);
        assert_eq!(available_in(&pod("b", "Running", "n", None), 10, at(110)), None);
    }

    #[test]
    fn ended_or_deleted_pods_are_not_active() {
        assert!(is_active(&pod("a", "Pending", "", None)));
        assert!(!is_active(&pod("a", "Failed", "", None)));
        let mut deleted = pod("a", "Running", "n", None);
        deleted.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(1).unwrap()));
        assert!(!is_active(&deleted) && is_terminating(&deleted));
    }
}
