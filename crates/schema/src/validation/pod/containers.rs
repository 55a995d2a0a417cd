//! Containers of all three sorts.

use std::collections::BTreeSet;

use super::super::{format, resources, rules};
use super::{Pod, env, handlers, mounts, pull_policy, security};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// What ephemeral containers may not say, in the order of Go's fields.
const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// `spec.containers`.
pub fn validate(pod: &Pod<'_>, errs: &mut ErrorList) {
    let containers = pod.spec.at("containers");
    if containers.is_empty() {
        errs.push(containers.required(""));
        return;
    }
    let mut names = BTreeSet::new();
    for container in containers.items() {
        common(pod, &container, errs);
        if !names.insert(container.at("name").str()) {
            errs.push(Error::duplicate(container.at("name").path(), container.at("name").str()));
        }
        handlers::lifecycle(pod, &container, errs);
        handlers::probes(pod, &container, errs);
        restart_policy(&container, errs);
    }
    host_port_conflicts(containers.items(), errs);
}

/// `spec.initContainers`.
pub fn init(pod: &Pod<'_>, errs: &mut ErrorList) {
    let list = pod.spec.at("initContainers");
    let mut names: BTreeSet<&str> = pod.spec.at("containers").items().map(|c| c.at("name").str()).collect();
    for container in list.items() {
        common(pod, &container, errs);
        let policy = container.at("restartPolicy");
        if !policy.is_set() {
            if !container.at("restartPolicyRules").is_empty() {
                errs.push(policy.required("must specify restartPolicy when restart rules are used"));
            }
        } else {
            restart_policy(&container, errs);
        }
        let (name, sidecar) = (container.at("name"), policy.str() == "Always");
        if names.contains(name.str()) {
            errs.push(Error::duplicate(name.path(), name.str()));
        } else if !name.is_empty() {
            names.insert(name.str());
        }
        // Upstream checks each on its own, so always at index 0.
        host_port_conflicts(std::iter::once(container.reported_at(&list.path().index(0))), errs);
        if sidecar {
            handlers::lifecycle(pod, &container, errs);
            handlers::probes(pod, &container, errs);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if let Some(field) = container.at(field).opt() {
                    errs.push(
                        field.forbidden("may not be set for init containers without restartPolicy=Always"),
                    );
                }
            }
            for policy in container.at("resizePolicy").items().map(|p| p.at("restartPolicy")) {
                if policy.str() == "RestartContainer" {
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    errs.push(policy.invalid_str(detail));
                }
            }
        }
    }
}

/// `spec.ephemeralContainers`.
pub fn ephemeral(pod: &Pod<'_>, errs: &mut ErrorList) {
    let others = ["containers", "initContainers"].into_iter().flat_map(|list| pod.spec.at(list).items());
    let others: BTreeSet<&str> = others.map(|c| c.at("name").str()).collect();
    let mut names = others.clone();
    for container in pod.spec.at("ephemeralContainers").items() {
        common(pod, &container, errs);
        unpadded_image(&container, errs);
        if !names.insert(container.at("name").str()) {
            errs.push(Error::duplicate(container.at("name").path(), container.at("name").str()));
        }
        let target = container.at("targetContainerName");
        if !target.is_empty() && !others.contains(target.str()) {
            errs.push(target.not_found());
        }
        let forbidden = "cannot be set for an Ephemeral Container";
        for field in NOT_EPHEMERAL {
            let value = container.at(field);
            if value.is_set() && (field != "resources" || !value.is_empty()) {
                errs.push(value.forbidden(forbidden));
            }
        }
        for mount in container.at("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.at(field).is_empty() {
                    errs.push(mount.at(field).forbidden(forbidden));
                }
            }
        }
    }
}

/// Pods, not templates, must name their images without padding.
pub fn unpadded_image(container: &Node, errs: &mut ErrorList) {
    let image = container.at("image");
    if image.str().trim() != image.str() {
        errs.push(image.invalid_str("must not have leading or trailing whitespace"));
    }
}

fn common(pod: &Pod<'_>, container: &Node, errs: &mut ErrorList) {
    let name = container.at("name");
    if rules::not_empty(&name, errs) {
        rules::formatted(&name, format::dns1123_label, errs);
    }
    rules::not_empty(&container.at("image"), errs);
    let message_policies = ["File", "FallbackToLogsOnError"];
    rules::required_one_of(&container.at("terminationMessagePolicy"), &message_policies, errs);
    ports(&container.at("ports"), errs);
    env::variables(&container.at("env"), errs);
    env::sources(&container.at("envFrom"), errs);
    mounts::mounts(pod, container, errs);
    mounts::devices(pod, container, errs);
    pull_policy(&container.at("imagePullPolicy"), errs);
    resources::container(&container.at("resources"), &pod.claims, errs);
    resize_policy(pod, &container.at("resizePolicy"), errs);
    security::container(pod, &container.at("securityContext"), errs);
}

fn ports(ports: &Node, errs: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.is_empty() {
            if !format::port_name(name.str()).is_empty() {
                rules::formatted(&name, format::port_name, errs);
            } else if !names.insert(name.str()) {
                errs.push(name.duplicate());
            }
        }
        let number = port.at("containerPort");
        if number.i64() == 0 {
            errs.push(number.required(""));
        } else {
            rules::number(&number, format::port_number, errs);
        }
        if port.at("hostPort").i64() != 0 {
            rules::number(&port.at("hostPort"), format::port_number, errs);
        }
        rules::required_one_of(&port.at("protocol"), &["SCTP", "TCP", "UDP"], errs);
    }
}

fn host_port_conflicts<'a>(containers: impl Iterator<Item = Node<'a>>, errs: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for port in containers.flat_map(|c| c.at("ports").items()).filter(|p| p.at("hostPort").i64() != 0) {
        let host_port = port.at("hostPort");
        let key = format!("{}/{}/{}", port.at("protocol").str(), port.at("hostIP").str(), host_port.i64());
        if taken.contains(&key) {
            errs.push(Error::duplicate(host_port.path(), key));
        } else {
            taken.insert(key);
        }
    }
}

fn resize_policy(pod: &Pod<'_>, list: &Node, errs: &mut ErrorList) {
    let mut resources = BTreeSet::new();
    for item in list.items() {
        let resource = item.at("resourceName").reported_at(list.path());
        let policy = item.at("restartPolicy").reported_at(list.path());
        if !resources.insert(resource.str()) {
            errs.push(Error::duplicate(item.path(), resource.str()));
        }
        rules::required_one_of(&resource, &["cpu", "memory"], errs);
        rules::required_one_of(&policy, &["NotRequired", "RestartContainer"], errs);
        if pod.spec.at("restartPolicy").str() == "Never" && policy.str() != "NotRequired" {
            errs.push(policy.invalid_str("must be 'NotRequired' when pod `restartPolicy` is 'Never'"));
        }
    }
}

fn restart_policy(container: &Node, errs: &mut ErrorList) {
    let (policy, rules_list) = (container.at("restartPolicy"), container.at("restartPolicyRules"));
    if !policy.is_set() {
        if rules_list.is_empty() {
            return;
        }
        errs.push(policy.required("must specify restartPolicy when restart rules are used"));
    } else {
        rules::one_of(&policy, &["Always", "Never", "OnFailure"], errs);
    }
    if rules_list.len() > 20 {
        errs.push(rules_list.too_many(20));
    }
    for rule in rules_list.items() {
        rules::one_of(&rule.at("action"), &["Restart", "RestartAllContainers"], errs);
        match rule.at("exitCodes").opt() {
            None => errs.push(rule.at("exitCodes").required("must be specified")),
            Some(codes) => {
                rules::one_of(&codes.at("operator"), &["In", "NotIn"], errs);
                if codes.at("values").len() > 255 {
                    errs.push(codes.at("values").too_many(255));
                }
            }
        }
    }
}
