//! The group `apps`.

use serde_json::{Value, json};

use super::core::persistent_volume_claim;
use super::fill::Fill;
use super::pod;

/// Deployment.
pub fn deployment(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill_nil("replicas", 1);
    let strategy = spec.filled("strategy");
    strategy.fill("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.filled("rollingUpdate");
        rolling.fill_nil("maxUnavailable", "25%");
        rolling.fill_nil("maxSurge", "25%");
    }
    spec.fill_nil("revisionHistoryLimit", 10);
    spec.fill_nil("progressDeadlineSeconds", 600);
    pod::template(spec.filled("template"));
}

/// ReplicaSet.
pub fn replica_set(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill_nil("replicas", 1);
    pod::template(spec.filled("template"));
}

/// DaemonSet.
pub fn daemon_set(object: &mut Value) {
    // Only upstream's internal type has this field; in v1 it is an annotation that is always there.
    let annotations = object.filled("metadata").filled("annotations");
    annotations.fill("deprecated.daemonset.template.generation", "0");
    let spec = object.filled("spec");
    let strategy = spec.filled("updateStrategy");
    strategy.fill("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.filled("rollingUpdate");
        rolling.fill_nil("maxUnavailable", 1);
        rolling.fill_nil("maxSurge", 0);
    }
    spec.fill_nil("revisionHistoryLimit", 10);
    pod::template(spec.filled("template"));
}

/// StatefulSet.
pub fn stateful_set(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill("podManagementPolicy", "OrderedReady");
    let strategy = spec.filled("updateStrategy");
    if strategy.text("type").is_empty() {
        strategy["type"] = json!("RollingUpdate");
        strategy.filled("rollingUpdate");
    }
    if strategy.text("type") == "RollingUpdate"
        && let Some(rolling) = strategy.field("rollingUpdate")
    {
        rolling.fill_nil("partition", 0);
    }
    let retention = spec.filled("persistentVolumeClaimRetentionPolicy");
    retention.fill("whenDeleted", "Retain");
    retention.fill("whenScaled", "Retain");
    spec.fill_nil("replicas", 1);
    spec.fill_nil("revisionHistoryLimit", 10);
    pod::template(spec.filled("template"));
    for claim in spec.items("volumeClaimTemplates") {
        // Upstream's internal type does not keep what was said here.
        claim["kind"] = "PersistentVolumeClaim".into();
        claim["apiVersion"] = "v1".into();
        persistent_volume_claim(claim);
    }
}
