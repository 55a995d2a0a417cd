//! Pods and pod templates.

use serde_json::{Value, json};

use super::core::{claim_spec, same_first};
use super::fill::Fill;
use super::image::pull_policy;
use super::resources;

/// A Pod. Some defaults are for pods only, so that stored templates do not change with upgrades.
pub fn pod(pod: &mut Value) {
    legacy_annotations(pod);
    let spec = pod.filled("spec");
    for list in ["containers", "initContainers"] {
        spec.items(list).for_each(resources::request_limits);
    }
    resources::pod_level(spec);
    spec.fill_nil("enableServiceLinks", true);
    if spec["hostNetwork"] == true {
        for container in ["containers", "initContainers"] {
            spec.items(container).flat_map(|c| c.items("ports")).for_each(|port| {
                let container_port = port["containerPort"].clone();
                port.fill("hostPort", container_port);
            });
        }
    }
    pod_spec(spec);
    // A negative period was once accepted; it means "at once".
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|period| period < 0) {
        spec["terminationGracePeriodSeconds"] = json!(1);
    }
    status(pod);
}

/// A `PodTemplateSpec`.
pub fn template(template: &mut Value) {
    legacy_annotations(template);
    pod_spec(template.filled("spec"));
}

fn pod_spec(spec: &mut Value) {
    service_account(spec);
    spec.fill("dnsPolicy", "ClusterFirst");
    spec.fill("restartPolicy", "Always");
    spec.fill_nil("securityContext", json!({}));
    spec.fill_nil("terminationGracePeriodSeconds", 30);
    spec.fill("schedulerName", "default-scheduler");
    spec.items("volumes").for_each(volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.items(list).for_each(container);
    }
    resources::round_up(spec.field("overhead"));
    resources::round_up_requirements(spec.field("resources"));
}

/// Annotations of old kubelets, from before init containers had fields, are never kept.
fn legacy_annotations(object: &mut Value) {
    let Some(metadata) = object.field("metadata").and_then(Value::as_object_mut) else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    for version in ["alpha", "beta"] {
        for what in ["init-containers", "init-container-statuses"] {
            annotations.remove(&format!("pod.{version}.kubernetes.io/{what}"));
        }
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// The field's old name says the same as the new one, which counts.
fn service_account(spec: &mut Value) {
    let name = spec.text("serviceAccount").to_owned();
    if !name.is_empty() {
        spec.fill("serviceAccountName", name);
    }
    let name = spec.text("serviceAccountName").to_owned();
    if !name.is_empty() {
        spec["serviceAccount"] = name.into();
    }
}

fn status(pod: &mut Value) {
    let Some(status) = pod.field("status").filter(|status| status.is_object()) else { return };
    same_first(status, "podIP", "podIPs", Some("ip"));
    resources::round_up(status.field("allocatedResources"));
    resources::round_up_requirements(status.field("resources"));
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for container in status.items(list) {
            resources::round_up(container.field("allocatedResources"));
            resources::round_up_requirements(container.field("resources"));
        }
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(container.text("image"));
    container.fill("imagePullPolicy", policy);
    container.fill("terminationMessagePath", "/dev/termination-log");
    container.fill("terminationMessagePolicy", "File");
    container.items("ports").for_each(|port| port.fill("protocol", "TCP"));
    for source in container.items("env").filter_map(|env| env.field("valueFrom")) {
        if let Some(field) = source.field("fieldRef") {
            field.fill("apiVersion", "v1");
        }
        if let Some(file) = source.field("fileKeyRef") {
            file.fill_nil("optional", false);
        }
    }
    resources::round_up_requirements(container.field("resources"));
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.field(name) {
            probe(found);
        }
    }
    for handler in ["postStart", "preStop"] {
        if let Some(handler) = container.field("lifecycle").and_then(|l| l.field(handler)) {
            http_get(handler);
        }
    }
}

fn probe(probe: &mut Value) {
    probe.fill("timeoutSeconds", 1);
    probe.fill("periodSeconds", 10);
    probe.fill("successThreshold", 1);
    probe.fill("failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = probe.field("grpc") {
        grpc.fill_nil("service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.field("httpGet") {
        get.fill("path", "/");
        get.fill("scheme", "HTTP");
    }
}

fn volume(volume: &mut Value) {
    let Some(object) = volume.as_object_mut() else { return };
    if object.iter().all(|(name, value)| name == "name" || value.is_null()) {
        object.insert("emptyDir".to_owned(), json!({}));
    }
    volume_source(volume);
    for mode in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.field(mode) {
            source.fill_nil("defaultMode", 0o644);
        }
    }
    if let Some(source) = volume.field("downwardAPI") {
        downward_items(source);
    }
    for source in volume.field("projected").into_iter().flat_map(|p| p.items("sources")) {
        if let Some(downward) = source.field("downwardAPI") {
            downward_items(downward);
        }
        if let Some(token) = source.field("serviceAccountToken") {
            token.fill_nil("expirationSeconds", 3600);
        }
    }
    if let Some(image) = volume.field("image") {
        let policy = pull_policy(image.text("reference"));
        image.fill("pullPolicy", policy);
    }
    if let Some(claim) = volume.field("ephemeral").and_then(|e| e.field("volumeClaimTemplate")) {
        claim_spec(claim.filled("spec"));
    }
}

/// Defaults that volumes of pods and persistent volumes share.
pub fn volume_source(volume: &mut Value) {
    if let Some(path) = volume.field("hostPath") {
        path.fill_nil("type", "");
    }
    if let Some(iscsi) = volume.field("iscsi") {
        iscsi.fill("iscsiInterface", "default");
    }
    if let Some(rbd) = volume.field("rbd") {
        rbd.fill("pool", "rbd");
        rbd.fill("user", "admin");
        rbd.fill("keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = volume.field("azureDisk") {
        disk.fill_nil("cachingMode", "ReadWrite");
        disk.fill_nil("fsType", "ext4");
        disk.fill_nil("readOnly", false);
        disk.fill_nil("kind", "Shared");
    }
    if let Some(scale_io) = volume.field("scaleIO") {
        scale_io.fill("storageMode", "ThinProvisioned");
        scale_io.fill("fsType", "xfs");
    }
}

fn downward_items(source: &mut Value) {
    for field in source.items("items").filter_map(|item| item.field("fieldRef")) {
        field.fill("apiVersion", "v1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_pod_is_filled_in() {
        let mut object = json!({"spec": {"containers": [{
            "name": "a", "image": "busybox:1",
            "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}},
        }]}});
        pod(&mut object);
        let container = &object["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(container["livenessProbe"]["httpGet"], json!({"port": 80, "path": "/", "scheme": "HTTP"}));
        assert_eq!(container["livenessProbe"]["failureThreshold"], 3);
        assert_eq!(object["spec"]["restartPolicy"], "Always");
        assert_eq!(object["spec"]["enableServiceLinks"], true);
    }
}
