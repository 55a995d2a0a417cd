//! Groups with a few defaults each.

use serde_json::{Value, json};

use super::fill::Fill;

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// EndpointSlice.
pub fn endpoint_slice(object: &mut Value) {
    for port in object.items("ports") {
        port.fill_nil("name", "");
        port.fill_nil("protocol", "TCP");
    }
}

/// FlowSchema.
pub fn flow_schema(object: &mut Value) {
    object.filled("spec").fill("matchingPrecedence", 1000);
}

/// PriorityLevelConfiguration.
pub fn priority_level(object: &mut Value) {
    let spec = object.filled("spec");
    for (kind, shares) in [("exempt", 0), ("limited", 30)] {
        if let Some(level) = spec.field(kind) {
            level.fill_nil("nominalConcurrencyShares", shares);
            level.fill_nil("lendablePercent", 0);
        }
    }
    if let Some(queuing) =
        spec.field("limited").and_then(|l| l.field("limitResponse")).and_then(|r| r.field("queuing"))
    {
        queuing.fill("handSize", 8);
        queuing.fill("queues", 64);
        queuing.fill("queueLengthLimit", 50);
    }
}

/// NetworkPolicy: ingress is always meant, egress if there are rules for it.
pub fn network_policy(object: &mut Value) {
    let spec = object.filled("spec");
    let has =
        |spec: &Value, list: &str| spec.get(list).and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    if !has(spec, "policyTypes") {
        spec["policyTypes"] =
            if has(spec, "egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    for direction in ["ingress", "egress"] {
        let ports = spec.items(direction).flat_map(|rule| rule.items("ports"));
        ports.for_each(|port| port.fill_nil("protocol", "TCP"));
    }
}

/// IngressClass.
pub fn ingress_class(object: &mut Value) {
    if let Some(parameters) = object.filled("spec").field("parameters") {
        parameters.fill_nil("scope", "Cluster");
    }
}

/// RoleBinding and ClusterRoleBinding.
pub fn role_binding(object: &mut Value) {
    object.filled("roleRef").fill("apiGroup", RBAC_GROUP);
    for subject in object.items("subjects") {
        if ["User", "Group"].contains(&subject.text("kind")) {
            subject.fill("apiGroup", RBAC_GROUP);
        }
    }
}

/// PriorityClass.
pub fn priority_class(object: &mut Value) {
    object.fill_nil("preemptionPolicy", "PreemptLowerPriority");
}

/// StorageClass.
pub fn storage_class(object: &mut Value) {
    object.fill_nil("reclaimPolicy", "Delete");
    object.fill_nil("volumeBindingMode", "Immediate");
}

/// CSIDriver.
pub fn csi_driver(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill_nil("attachRequired", true);
    spec.fill_nil("podInfoOnMount", false);
    spec.fill_nil("storageCapacity", false);
    spec.fill_nil("fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
    spec.fill_nil("requiresRepublish", false);
    spec.fill_nil("seLinuxMount", false);
}

/// ResourceClaim.
pub fn resource_claim(object: &mut Value) {
    device_claim(object.filled("spec"));
    let results = object.pointer_mut("/status/allocation/devices");
    results.into_iter().flat_map(|devices| devices.items("results")).for_each(tolerations);
}

/// ResourceClaimTemplate.
pub fn resource_claim_template(object: &mut Value) {
    device_claim(object.filled("spec").filled("spec"));
}

fn device_claim(spec: &mut Value) {
    let exactly_one = |request: &mut Value| {
        request.fill("allocationMode", "ExactCount");
        if request.text("allocationMode") == "ExactCount" {
            request.fill("count", 1);
        }
        tolerations(request);
    };
    for request in spec.field("devices").into_iter().flat_map(|devices| devices.items("requests")) {
        if let Some(exactly) = request.field("exactly") {
            exactly_one(exactly);
        }
        request.items("firstAvailable").for_each(exactly_one);
    }
}

fn tolerations(holder: &mut Value) {
    holder.items("tolerations").for_each(|toleration| toleration.fill("operator", "Equal"));
}

/// ResourceSlice: taints say since when they are there.
pub fn resource_slice(object: &mut Value) {
    let devices = object.filled("spec").items("devices");
    for taint in devices.flat_map(|device| device.items("taints")) {
        if taint.lacks("timeAdded") {
            taint.fill_nil("timeAdded", base::clock::rfc3339(base::clock::now()));
        }
    }
}

/// CustomResourceDefinition.
pub fn custom_resource_definition(object: &mut Value) {
    let spec = object.filled("spec");
    let names = spec.filled("names");
    let kind = names.text("kind").to_owned();
    names.fill("singular", kind.to_lowercase());
    if !kind.is_empty() {
        names.fill("listKind", format!("{kind}List"));
    }
    spec.fill_nil("conversion", json!({"strategy": "None"}));
    // Upstream's internal form keeps what is in the webhook, and so loses one in which there is nothing.
    if let Some(conversion) = spec.field("conversion").and_then(Value::as_object_mut)
        && conversion.get("webhook").is_some_and(|webhook| {
            webhook.lacks("clientConfig")
                && webhook["conversionReviewVersions"].as_array().is_none_or(Vec::is_empty)
        })
    {
        conversion.remove("webhook");
    }
    let webhook = spec.field("conversion").and_then(|c| c.field("webhook"));
    let config = webhook.and_then(|w| w.field("clientConfig"));
    if let Some(service) = config.and_then(|config| config.field("service")) {
        service.fill_nil("port", 443);
    }
    let stored = spec.items("versions").find(|v| v["storage"] == true).map(|v| v["name"].clone());
    let status = object.filled("status");
    if let (None, Some(version)) = (status["storedVersions"].as_array().filter(|v| !v.is_empty()), stored) {
        status["storedVersions"] = json!([version]);
    }
}

/// APIService.
pub fn api_service(object: &mut Value) {
    if let Some(service) = object.filled("spec").field("service") {
        service.fill_nil("port", 443);
    }
}

/// TokenRequest.
pub fn token_request(object: &mut Value) {
    object.filled("spec").fill_nil("expirationSeconds", 3600);
}
