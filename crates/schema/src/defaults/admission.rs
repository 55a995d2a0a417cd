//! The group `admissionregistration.k8s.io`.

use serde_json::{Value, json};

use super::fill::Fill;

/// ValidatingWebhookConfiguration.
pub fn validating_webhooks(object: &mut Value) {
    object.items("webhooks").for_each(webhook);
}

/// MutatingWebhookConfiguration.
pub fn mutating_webhooks(object: &mut Value) {
    for hook in object.items("webhooks") {
        webhook(hook);
        hook.fill_nil("reinvocationPolicy", "Never");
    }
}

fn webhook(hook: &mut Value) {
    hook.fill_nil("failurePolicy", "Fail");
    hook.fill_nil("timeoutSeconds", 10);
    match_resources(hook);
    rules(hook, "rules");
    if let Some(service) = hook.field("clientConfig").and_then(|config| config.field("service")) {
        service.fill_nil("port", 443);
    }
}

fn match_resources(holder: &mut Value) {
    holder.fill_nil("matchPolicy", "Equivalent");
    holder.fill_nil("namespaceSelector", json!({}));
    holder.fill_nil("objectSelector", json!({}));
}

fn rules(holder: &mut Value, list: &str) {
    holder.items(list).for_each(|rule| rule.fill_nil("scope", "*"));
}

/// ValidatingAdmissionPolicy and MutatingAdmissionPolicy.
pub fn policy(object: &mut Value) {
    let spec = object.filled("spec");
    spec.fill_nil("failurePolicy", "Fail");
    constraints(spec.field("matchConstraints"));
}

/// Bindings of admission policies.
pub fn policy_binding(object: &mut Value) {
    constraints(object.filled("spec").field("matchResources"));
}

fn constraints(constraints: Option<&mut Value>) {
    if let Some(constraints) = constraints {
        match_resources(constraints);
        rules(constraints, "resourceRules");
        rules(constraints, "excludeResourceRules");
    }
}
