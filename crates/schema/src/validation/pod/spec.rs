//! `PodSpec`: the rules for the pod as a whole, in upstream's order.

use api::quantity::Quantity;

use super::super::{format, labels, resources, rules};
use super::{Pod, affinity, containers, security, spread, tolerations, volumes};
use crate::cursor::Node;
use crate::defaults;
use crate::field::ErrorList;

/// The whole spec.
pub fn validate(pod: &mut Pod<'_>, errs: &mut ErrorList) {
    let spec = pod.spec.clone();
    if pod.grace_period.is_none() {
        errs.push(spec.at("terminationGracePeriodSeconds").required(""));
    }
    pod.volumes = volumes::validate(pod, errs);
    resource_claims(pod, errs);
    containers::validate(pod, errs);
    containers::init(pod, errs);
    containers::ephemeral(pod, errs);
    pod_level_resources(pod, errs);
    host_network_ports(pod, errs);
    rules::required_one_of(&spec.at("restartPolicy"), &["Always", "OnFailure", "Never"], errs);
    let dns_policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    rules::required_one_of(&spec.at("dnsPolicy"), &dns_policies, errs);
    labels::labels(&spec.at("nodeSelector"), errs);
    security::pod(&spec, errs);
    affinity::validate(&spec.at("affinity"), errs);
    dns_config(&spec, errs);
    for gate in spec.at("readinessGates").items() {
        rules::formatted(&gate.at("conditionType"), format::label_key, errs);
    }
    scheduling_gates(&spec.at("schedulingGates"), errs);
    spread::validate(&spec.at("topologySpreadConstraints"), errs);
    security::host_processes(pod, errs);
    host_users(pod, errs);
    host_name_override(&spec, errs);
    names(&spec, errs);
    tolerations::validate(&spec.at("tolerations"), errs);
    for alias in spec.at("hostAliases").items() {
        rules::ip_address(&alias.at("ip"), errs);
        alias
            .at("hostnames")
            .items()
            .for_each(|name| rules::formatted(&name, format::dns1123_subdomain, errs));
    }
    if !spec.at("priorityClassName").is_empty() {
        rules::named(&spec.at("priorityClassName"), format::name_is_subdomain, errs);
    }
    if let Some(class) = spec.at("runtimeClassName").opt() {
        rules::named(&class, format::name_is_subdomain, errs);
    }
    if let Some(policy) = spec.at("preemptionPolicy").opt() {
        rules::required_one_of(&policy, &["PreemptLowerPriority", "Never"], errs);
    }
    resources::overhead(&spec.at("overhead"), errs);
    operating_system(pod, errs);
    file_key_volumes(pod, errs);
}

fn names(spec: &Node, errs: &mut ErrorList) {
    for name in ["serviceAccountName", "nodeName"] {
        if !spec.at(name).is_empty() {
            rules::named(&spec.at(name), format::name_is_subdomain, errs);
        }
    }
    if let Some(deadline) = spec.at("activeDeadlineSeconds").opt() {
        rules::number(&deadline, |n| format::in_range(n, 1, i64::from(i32::MAX)), errs);
    }
    for name in ["hostname", "subdomain"] {
        if !spec.at(name).is_empty() {
            rules::formatted(&spec.at(name), format::dns1123_label, errs);
        }
    }
}

fn resource_claims(pod: &Pod<'_>, errs: &mut ErrorList) {
    let claims = pod.spec.at("resourceClaims");
    let mirror = pod
        .metadata
        .as_ref()
        .is_some_and(|m| m.at("annotations").key("kubernetes.io/config.mirror").is_set());
    let mut seen = std::collections::BTreeSet::new();
    for claim in claims.items() {
        if mirror {
            let nowhere = crate::field::Path::new("");
            errs.push(crate::field::Error::forbidden(&nowhere, "static pods do not support resource claims"));
            continue;
        }
        let name = claim.at("name");
        if rules::not_empty(&name, errs) {
            if seen.insert(name.str()) {
                rules::formatted(&name, format::dns1123_label, errs);
            } else {
                errs.push(name.duplicate());
            }
        }
        let (by_name, by_template) = (claim.at("resourceClaimName"), claim.at("resourceClaimTemplateName"));
        match (by_name.is_set(), by_template.is_set()) {
            (true, true) => errs.push(claim.invalid(
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
            (false, false) => errs
                .push(claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")),
            _ => {}
        }
        for reference in [by_name, by_template].iter().filter(|r| r.is_set()) {
            rules::named(reference, format::name_is_subdomain, errs);
        }
    }
}

fn pod_level_resources(pod: &Pod<'_>, errs: &mut ErrorList) {
    let Some(own) = pod.spec.at("resources").opt() else { return };
    if pod.os() == Some("windows") {
        errs.push(own.forbidden("may not be set for a windows pod"));
        return;
    }
    if own.at("claims").is_set() {
        errs.push(own.at("claims").forbidden("claims may not be set for Resources at pod-level"));
    }
    resources::pod_level(&own, &pod.claims, errs);
    let Some(spec) = pod.spec.value() else { return };
    for (name, needed) in defaults::resources::aggregate(spec, "requests") {
        let request = own.at("requests").key(&name).value().cloned();
        let Some(request) = request.and_then(|q| Quantity::parse(q.as_str()?).ok()) else { continue };
        if needed > request {
            let at = own.path().child("requests");
            let detail = format!("must be greater than or equal to aggregate container requests of {needed}");
            errs.push(crate::field::Error::invalid(&at.key(&name), request.to_string(), detail));
        }
    }
    for (name, needed) in defaults::resources::aggregate(spec, "limits") {
        let limit = own.at("limits").key(&name).value().cloned();
        let Some(limit) = limit.and_then(|q| Quantity::parse(q.as_str()?).ok()) else { continue };
        if resources::is_huge_page(&name) && needed > limit {
            let at = own.path().child("limits");
            let detail = format!("must be greater than or equal to aggregate container limits of {needed}");
            errs.push(crate::field::Error::invalid(&at.key(&name), limit.to_string(), detail));
        }
    }
    for (i, container) in pod.spec.at("containers").items().enumerate() {
        for (name, limit) in container.at("resources").at("limits").entries() {
            let Some(most) = own.at("limits").key(name).opt().map(|q| rules::quantity(&q)) else { continue };
            if rules::quantity(&limit) > most {
                // Upstream's path, which no object has.
                let at = own.path().child("containers").index(i).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errs.push(crate::field::Error::invalid(&at, rules::quantity(&limit).to_string(), detail));
            }
        }
    }
}

fn host_network_ports(pod: &Pod<'_>, errs: &mut ErrorList) {
    if !pod.spec.at("hostNetwork").bool() {
        return;
    }
    for port in pod.spec.at("containers").items().flat_map(|c| c.at("ports").items()) {
        let host_port = port.at("hostPort");
        let differs = host_port.i64() != port.at("containerPort").i64();
        if (pod.is_pod || host_port.i64() != 0) && differs {
            errs.push(host_port.invalid_i64("must match `containerPort` when `hostNetwork` is true"));
        }
    }
}

fn scheduling_gates(gates: &Node, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for gate in gates.items() {
        let name = gate.at("name").reported_at(gate.path());
        rules::formatted(&name, format::label_key, errs);
        if !seen.insert(name.str()) {
            errs.push(crate::field::Error::duplicate(gate.path(), name.str()));
        }
    }
}

fn dns_config(spec: &Node, errs: &mut ErrorList) {
    let config = spec.at("dnsConfig");
    let (servers, searches) = (config.at("nameservers"), config.at("searches"));
    if spec.at("dnsPolicy").str() == "None" {
        if !config.is_set() {
            errs.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            errs.push(servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
            return;
        }
    }
    if servers.len() > 3 {
        errs.push(servers.invalid("must not have more than 3 nameservers"));
    }
    servers.items().for_each(|server| rules::ip_address(&server, errs));
    if searches.len() > 32 {
        errs.push(searches.invalid("must not have more than 32 search paths"));
    }
    if searches.strings().join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errs.push(searches.invalid(detail));
    }
    for search in searches.items().filter(|search| search.str() != ".") {
        let domain = search.str().strip_suffix('.').unwrap_or(search.str());
        let wrong = format::dns1123_subdomain_with_underscore(domain);
        errs.extend(wrong.into_iter().map(|m| search.invalid_as(domain, m)));
    }
    for option in config.at("options").items() {
        if option.at("name").is_empty() {
            errs.push(option.required("must not be empty"));
        }
    }
}

fn host_users(pod: &Pod<'_>, errs: &mut ErrorList) {
    if pod.host_users {
        return;
    }
    let forbidden = "when `hostUsers` is false";
    if pod.spec.at("hostNetwork").bool() {
        errs.push(pod.spec.at("hostNetwork").forbidden(forbidden));
    }
    // Upstream's paths, in the spelling of its internal type.
    for (name, path) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if pod.spec.at(name).bool() {
            errs.push(pod.spec.at(path).forbidden(forbidden));
        }
    }
    for container in pod.all_containers() {
        if !container.at("volumeDevices").is_empty() {
            errs.push(container.at("volumeDevices").forbidden(forbidden));
        }
    }
}

fn host_name_override(spec: &Node, errs: &mut ErrorList) {
    let Some(name) = spec.at("hostnameOverride").opt() else { return };
    if spec.at("setHostnameAsFQDN").bool() {
        errs.push(name.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.at("hostNetwork").bool() {
        errs.push(name.forbidden("may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errs.push(name.too_long(64));
    }
    rules::formatted(&name, format::dns1123_subdomain, errs);
}

fn operating_system(pod: &Pod<'_>, errs: &mut ErrorList) {
    let Some(os) = pod.spec.at("os").opt() else { return };
    match os.at("name").str() {
        "" => errs.push(os.at("name").required("")),
        "linux" => security::no_windows_options(pod, errs),
        "windows" => security::windows(pod, errs),
        name => errs.push(crate::field::Error::not_supported(os.path(), name, &["linux", "windows"])),
    }
}

fn file_key_volumes(pod: &Pod<'_>, errs: &mut ErrorList) {
    let volumes = pod.spec.at("volumes");
    for variable in pod.all_containers().flat_map(|c| c.at("env").items()) {
        let Some(reference) = variable.at("valueFrom").at("fileKeyRef").opt() else { continue };
        let name = reference.at("volumeName");
        match volumes.items().filter(|v| v.at("name").str() == name.str()).last() {
            None => errs.push(name.not_found()),
            Some(volume) if !volume.at("emptyDir").is_set() => {
                errs.push(name.invalid_str("referenced volume must be of type emptyDir"));
            }
            Some(_) => {}
        }
    }
}
