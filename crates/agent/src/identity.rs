//! How containers say whose they are. The keys are upstream's, so that other tools recognise them; they
//! are what survives a restart of the agent.

use k8s_openapi::api::core::v1::Pod;
use runtime::Labels;

/// Label: name of the pod.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: namespace of the pod.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: UID of the pod.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: name of the container.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: hash of the container's specification; a difference means that it must be replaced.
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the container was started before.
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: grace period, for pods whose API object is gone.
pub(crate) const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation: path on the machine of the file that holds the termination message.
pub(crate) const TERMINATION_LOG: &str = "kobune.dev/termination-log";

/// Namespace, name and UID of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodId {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodId {
    pub(crate) fn of(pod: &Pod) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let meta = &pod.metadata;
        Self { namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid) }
    }

    /// From the labels of a sandbox or container.
    pub(crate) fn from_labels(labels: &Labels) -> Option<Self> {
        let label = |key: &str| labels.get(key).cloned();
        Some(Self { namespace: label(POD_NAMESPACE)?, name: label(POD_NAME)?, uid: label(POD_UID)? })
    }

    pub(crate) fn labels(&self) -> Labels {
        Labels::from([
            (POD_NAMESPACE.to_owned(), self.namespace.clone()),
            (POD_NAME.to_owned(), self.name.clone()),
            (POD_UID.to_owned(), self.uid.clone()),
        ])
    }

    /// What selects everything of the pod.
    pub(crate) fn selector(&self) -> Labels {
        Labels::from([(POD_UID.to_owned(), self.uid.clone())])
    }

    /// Directory name for logs, as upstream has it below `/var/log/pods`.
    pub(crate) fn log_directory(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// Hash of what a running container depends on. Only the image may change in place.
pub(crate) fn container_hash(name: &str, image: &str) -> String {
    let hash = name
        .bytes()
        .chain([0])
        .chain(image.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}
