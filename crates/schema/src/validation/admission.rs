//! Webhook configurations of the group `admissionregistration.k8s.io`.

use std::collections::BTreeSet;

use super::expressions::Expressions;
use super::{format, labels, metadata, rules, webhook_address};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// ValidatingWebhookConfiguration and MutatingWebhookConfiguration.
pub fn webhooks(object: &Node) -> ErrorList {
    configuration(object, true)
}

fn configuration(object: &Node, conditions: bool) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let mut names = BTreeSet::new();
    for hook in object.at("webhooks").items() {
        webhook(&hook, &mut errs);
        if conditions {
            match_conditions(&hook.at("matchConditions"), false, &mut errs);
        }
        review_versions(&hook.at("admissionReviewVersions"), &mut errs);
        let name = hook.at("name");
        if !name.is_empty() && !names.insert(name.str()) {
            errs.push(name.duplicate());
        }
    }
    errs
}

/// Changed configurations, by what they are now. Conditions that stay the same are not looked at.
pub fn webhooks_update(new: &Node, old: &Node) -> ErrorList {
    let conditions = |object: &Node| -> Vec<_> {
        let hooks = object.at("webhooks").items();
        hooks.map(|hook| hook.at("matchConditions").to_value()).collect()
    };
    configuration(new, conditions(new) != conditions(old))
}

fn webhook(hook: &Node, errs: &mut ErrorList) {
    fully_qualified(&hook.at("name"), errs);
    hook.at("rules").items().for_each(|rule| rule_with_operations(&rule, errs));
    optional(&hook.at("failurePolicy"), &["Fail", "Ignore"], errs);
    optional(&hook.at("matchPolicy"), &["Equivalent", "Exact"], errs);
    let side_effects = hook.at("sideEffects");
    if side_effects.is_set() {
        rules::one_of(&side_effects, &["None", "NoneOnDryRun"], errs);
    } else {
        errs.push(side_effects.required("must specify one of None, NoneOnDryRun"));
    }
    let timeout = hook.at("timeoutSeconds");
    if timeout.is_set() && !(1..=30).contains(&timeout.i64()) {
        errs.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    labels::selector(&hook.at("namespaceSelector"), errs);
    labels::selector(&hook.at("objectSelector"), errs);
    optional(&hook.at("reinvocationPolicy"), &["IfNeeded", "Never"], errs);
    client_config(&hook.at("clientConfig"), errs);
}

pub(super) fn optional(node: &Node, supported: &[&str], errs: &mut ErrorList) {
    if node.is_set() {
        rules::one_of(node, supported, errs);
    }
}

fn fully_qualified(name: &Node, errs: &mut ErrorList) {
    if !rules::not_empty(name, errs) {
        return;
    }
    let wrong = format::dns1123_subdomain(name.str());
    if !wrong.is_empty() {
        errs.push(name.invalid_str(wrong.join(",")));
    } else if name.str().split('.').count() < 3 {
        errs.push(name.invalid_str("should be a domain with at least three segments separated by dots"));
    }
}

fn review_versions(versions: &Node, errs: &mut ErrorList) {
    if versions.is_empty() {
        errs.push(versions.required("must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in versions.items() {
        if !seen.insert(version.str()) {
            errs.push(version.invalid_str("duplicate version"));
            continue;
        }
        rules::formatted(&version, format::dns1035_label, errs);
    }
    if !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        errs.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}

pub(super) fn rule_with_operations(rule: &Node, errs: &mut ErrorList) {
    let operations = rule.at("operations");
    if operations.is_empty() {
        errs.push(operations.required(""));
    }
    if operations.len() > 1 && operations.strings().contains(&"*") {
        errs.push(operations.invalid("if '*' is present, must not specify other operations"));
    }
    for operation in operations.items() {
        rules::one_of(&operation, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"], errs);
    }
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.at(field);
        if list.is_empty() {
            errs.push(list.required(""));
        }
        if list.len() > 1 && list.strings().contains(&"*") {
            errs.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
        }
    }
    for version in rule.at("apiVersions").items() {
        rules::not_empty(&version, errs);
    }
    resources(&rule.at("resources"), errs);
    optional(&rule.at("scope"), &["*", "Cluster", "Namespaced"], errs);
}

fn resources(list: &Node, errs: &mut ErrorList) {
    rules::not_empty(list, errs);
    let (mut all_of_resource, mut of_all_resources) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut any_resource, mut plain) = (false, false, false);
    for item in list.items() {
        let text = item.str();
        if !rules::not_empty(&item, errs) {
            continue;
        }
        everything |= text == "*/*";
        any_resource |= text == "*";
        let Some((resource, subresource)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_of_resource.contains(resource) {
            errs.push(item.invalid_str(format!("if '{resource}/*' is present, must not specify {text}")));
        }
        if of_all_resources.contains(subresource) {
            errs.push(item.invalid_str(format!("if '*/{subresource}' is present, must not specify {text}")));
        }
        if subresource == "*" {
            all_of_resource.insert(resource);
        }
        if resource == "*" {
            of_all_resources.insert(subresource);
        }
    }
    if list.len() > 1 && everything {
        errs.push(list.invalid("if '*/*' is present, must not specify other resources"));
    }
    if any_resource && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errs.push(list.invalid(detail));
    }
}

fn client_config(config: &Node, errs: &mut ErrorList) {
    let (url, service) = (config.at("url"), config.at("service"));
    if url.is_set() == service.is_set() {
        errs.push(config.required("exactly one of url or service is required"));
    } else if url.is_set() {
        webhook_address::url(&url, errs);
    } else {
        webhook_address::service(&service, errs);
    }
}

pub(super) fn match_conditions(list: &Node, params: bool, errs: &mut ErrorList) {
    let expressions = Expressions::plain(params);
    if list.len() > 64 {
        errs.push(list.too_many(64));
    }
    let mut names = BTreeSet::new();
    for condition in list.items() {
        let (name, expression) = (condition.at("name"), condition.at("expression"));
        if expression.str().trim().is_empty() {
            errs.push(expression.required(""));
        } else {
            expressions.condition(&expression, expression.str().trim(), errs);
        }
        if rules::not_empty(&name, errs) {
            rules::formatted(&name, format::label_key, errs);
            if !names.insert(name.str()) {
                errs.push(Error::duplicate(name.path(), name.str()));
            }
        }
    }
}
