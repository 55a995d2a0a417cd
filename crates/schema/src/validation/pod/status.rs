//! The status of a pod: what kubelets say, and what they may not take back.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{format, metadata, resources, rules};
use super::Pod;
use super::update::annotation_update;
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// The lists of container statuses, each with the list of containers that it is about.
const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];
/// How long the message about a device's health may be.
const HEALTH_MESSAGE_MAX: usize = 1024;

/// A changed status.
pub fn update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    annotation_update(new, old, &mut errs);
    let (status, before, spec) = (new.at("status"), old.at("status"), old.at("spec"));
    conditions(&status.at("conditions"), &mut errs);
    let nominated = status.at("nominatedNodeName");
    if nominated.str() != before.at("nominatedNodeName").str() && !nominated.is_empty() {
        rules::named(&nominated, format::name_is_subdomain, &mut errs);
        if !spec.at("nodeName").is_empty() {
            errs.push(nominated.forbidden("may not be set on pods that are already bound to a node"));
        }
    }
    if status.at("observedGeneration").i64() < 0 {
        errs.push(status.at("observedGeneration").invalid_i64("must be a non-negative integer"));
    }
    if status.at("qosClass").str() != before.at("qosClass").str() {
        errs.push(status.at("qosClass").invalid_str("field is immutable"));
    }
    for (list, containers) in LISTS {
        let containers = spec.at(containers);
        let ephemeral = list == "ephemeralContainerStatuses";
        state_transitions(
            &status.at(list),
            &before.at(list),
            |name, code| !ephemeral && may_restart(&spec, &containers, name, code),
            &mut errs,
        );
    }
    claim_statuses(&status.at("resourceClaimStatuses"), &spec, &mut errs);
    extended_claim(&status.at("extendedResourceClaimStatus"), &spec, &mut errs);
    allocatable_claims(&status, &spec, &mut errs);
    addresses(&status.at("podIPs"), &before.at("podIPs"), &mut errs);
    let hosts = status.at("hostIPs");
    if let Some(first) = hosts.items().next().map(|host| host.at("ip"))
        && first.str() != status.at("hostIP").str()
    {
        errs.push(first.invalid_str("must be equal to `hostIP`"));
    }
    addresses(&hosts, &before.at("hostIPs"), &mut errs);
    for (list, _) in LISTS {
        users(&status.at(list), &spec, &mut errs);
    }
    for (list, containers) in LISTS {
        let ephemeral = list == "ephemeralContainerStatuses";
        for container in status.at(list).items() {
            let allocated = container.at("allocatedResourcesStatus");
            if !ephemeral {
                allocated_resources(&container, &spec.at(containers), &mut errs);
            } else if !allocated.is_empty() {
                errs.push(allocated.forbidden("must not be specified in container status"));
            }
        }
    }
    errs
}

fn conditions(list: &Node, errs: &mut ErrorList) {
    for condition in list.items() {
        let generation = condition.at("observedGeneration");
        if generation.i64() < 0 {
            errs.push(generation.invalid_i64("must be a non-negative integer"));
        }
        if !["PodScheduled", "Ready", "Initialized"].contains(&condition.at("type").str()) {
            let kind = condition.at("type").reported_at(condition.at("Type").path());
            rules::formatted(&kind, format::label_key, errs);
        }
    }
}

/// One address, or one of each family; what was malformed before may stay.
fn addresses(list: &Node, before: &Node, errs: &mut ErrorList) {
    let known: BTreeSet<&str> = before.items().map(|item| item.at("ip").str()).collect();
    let ips: Vec<Node> = list.items().map(|item| item.at("ip").reported_at(item.path())).collect();
    for ip in ips.iter().filter(|ip| !known.contains(ip.str())) {
        rules::ip_address(ip, errs);
    }
    if ips.len() < 2 {
        return;
    }
    let parsed: Vec<_> = ips.iter().map(|ip| rules::parse_ip(ip.str()).map(|(ip, _)| ip)).collect();
    if let Some(wrong) = parsed.iter().position(Option::is_none) {
        let text =
            format!("failed to check for dual stack with error:invalid IP[{wrong}]: {}", ips[wrong].str());
        errs.push(Error::internal(list.path(), text));
    }
    let families: BTreeSet<_> = parsed.iter().flatten().map(std::net::IpAddr::is_ipv6).collect();
    if ips.len() > 2 || families.len() < 2 || parsed.contains(&None) {
        errs.push(list.invalid("may specify no more than one IP for each IP family"));
    }
}

fn claim_statuses(list: &Node, spec: &Node, errs: &mut ErrorList) {
    let known: BTreeSet<&str> =
        spec.at("resourceClaims").items().map(|claim| claim.at("name").str()).collect();
    let mut seen = BTreeSet::new();
    for status in list.items() {
        let name = status.at("name");
        if !known.contains(name.str()) {
            errs.push(name.invalid_str("must match the name of an entry in `spec.resourceClaims`"));
        }
        if !seen.insert(name.str()) {
            errs.push(Error::duplicate(name.path(), name.str()));
        }
        if let Some(claim) = status.at("resourceClaimName").opt() {
            rules::named(&claim, format::name_is_subdomain, errs);
        }
    }
}

/// The claim that was made for extended resources.
fn extended_claim(status: &Node, spec: &Node, errs: &mut ErrorList) {
    if !status.is_set() {
        return;
    }
    let mappings = status.at("requestMappings");
    if mappings.is_empty() {
        errs.push(mappings.required("at least one request mapping is required"));
    }
    let lists = ["containers", "initContainers"];
    let container =
        |name: &str| lists.iter().find_map(|list| spec.at(list).items().find(|c| c.at("name").str() == name));
    let mut seen = BTreeSet::new();
    for mapping in mappings.items() {
        let fields = ["containerName", "resourceName", "requestName"].map(|field| mapping.at(field));
        let [name, resource, request] = &fields;
        match container(name.str()) {
            None => errs.push(name.invalid_str(
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            )),
            Some(found) if !found.at("resources").at("requests").key(resource.str()).is_set() => {
                errs.push(resource.invalid_str(
                    "must match the extended resource name of an entry in spec.initContainers.resources.requests \
                     or spec.containers.resources.requests",
                ));
            }
            Some(_) => {}
        }
        // Upstream leaves the list out of this path.
        rules::formatted(&request.reported_at(status.at("requestName").path()), format::dns1123_label, errs);
        if !seen.insert(fields.each_ref().map(Node::str)) {
            errs.extend(fields.iter().map(|field| Error::duplicate(field.path(), field.str())));
        }
    }
    let claim = status.at("resourceClaimName");
    if rules::not_empty(&claim, errs) {
        rules::named(&claim, format::name_is_subdomain, errs);
    }
}

/// Claims that are counted against what a node has of its own resources.
fn allocatable_claims(status: &Node, spec: &Node, errs: &mut ErrorList) {
    let holders = [spec.at("resourceClaims"), status.at("resourceClaimStatuses")];
    let named: Vec<&str> = holders
        .iter()
        .flat_map(Node::items)
        .filter_map(|claim| claim.at("resourceClaimName").opt_str())
        .collect();
    for claim in status.at("nodeAllocatableResourceClaimStatuses").items() {
        let name = claim.at("resourceClaimName");
        if name.is_empty() {
            errs.push(name.required("must not be empty"));
        }
        if !named.contains(&name.str()) {
            errs.push(name.invalid_str("no mapping found in pod reference"));
        }
        for list in ["containers", "resources"] {
            if claim.at(list).is_empty() {
                errs.push(claim.at(list).required("must not be empty"));
            }
        }
        for (resource, amount) in claim.at("resources").entries() {
            if !resources::is_native(resource) {
                errs.push(amount.invalid_as(resource, "must be a node allocatable resource name"));
            }
            let quantity = rules::quantity(&amount);
            if quantity.is_negative() {
                errs.push(amount.invalid_as(quantity.to_string(), "must be non-negative"));
            }
        }
    }
}

/// As whom the processes of containers run.
fn users(statuses: &Node, spec: &Node, errs: &mut ErrorList) {
    let os = spec.at("os").opt().map_or("linux", |os| os.at("name").str());
    for user in statuses.items().filter_map(|status| status.at("user").at("linux").opt()) {
        match os {
            "windows" => errs.push(user.forbidden("cannot be set for a windows pod")),
            "linux" => {
                rules::number(&user.at("uid"), format::posix_id, errs);
                rules::number(&user.at("gid"), format::posix_id, errs);
                user.at("supplementalGroups")
                    .items()
                    .for_each(|gid| rules::number(&gid, format::posix_id, errs));
            }
            _ => {}
        }
    }
}

/// The health of what devices a container was given.
fn allocated_resources(status: &Node, containers: &Node, errs: &mut ErrorList) {
    let list = status.at("allocatedResourcesStatus");
    if list.is_empty() {
        return;
    }
    let container = containers.items().find(|c| c.at("name").str() == status.at("name").str());
    for allocated in list.items() {
        let name = allocated.at("name");
        if let Some(detail) = container.as_ref().and_then(|container| unknown_resource(container, name.str()))
        {
            errs.push(name.invalid_str(detail));
        }
        let mut seen = BTreeSet::new();
        for resource in allocated.at("resources").items() {
            rules::one_of(&resource.at("health"), &["Healthy", "Unhealthy", "Unknown"], errs);
            if let Some(message) = resource.at("message").opt() {
                if message.is_empty() {
                    errs.push(message.required("must be non-empty if specified"));
                } else if message.len() > HEALTH_MESSAGE_MAX {
                    errs.push(message.too_long(HEALTH_MESSAGE_MAX));
                }
            }
            let id = resource.at("resourceID");
            if !seen.insert(id.str()) {
                errs.push(Error::duplicate(id.path(), id.str()));
            }
        }
    }
}

/// Why the container has no such resource; `None` if it has.
fn unknown_resource(container: &Node, name: &str) -> Option<&'static str> {
    let asked = container.at("resources");
    if !name.starts_with("claim:") {
        let found = asked.at("requests").key(name).is_set();
        return (!found).then_some("must match one of the container's resource requests");
    }
    let found = asked.at("claims").items().any(|claim| {
        let request = claim.at("request").str();
        let slash = if request.is_empty() { "" } else { "/" };
        name == format!("claim:{}{slash}{request}", claim.at("name").str())
    });
    (!found).then_some(
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
         'claim:<claimName>' if request is empty",
    )
}

fn state_transitions(new: &Node, old: &Node, may_restart: impl Fn(&str, i64) -> bool, errs: &mut ErrorList) {
    let by_name: BTreeMap<&str, Node> = new.items().map(|status| (status.at("name").str(), status)).collect();
    for status in old.items() {
        let Some(terminated) = status.at("state").at("terminated").opt() else { continue };
        let name = status.at("name").str();
        let running = by_name.get(name).is_some_and(|now| !now.at("state").at("terminated").is_set());
        if running && !may_restart(name, terminated.at("exitCode").i64()) {
            let at = new.path().index(old.items().position(|s| s.at("name").str() == name).unwrap_or(0));
            errs.push(Error::forbidden(
                &at.child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
}

/// Whether the container is restarted after this exit code: by its rules, its policy, the pod's.
fn may_restart(spec: &Node, containers: &Node, name: &str, exit_code: i64) -> bool {
    let restarts_all =
        |c: Node| c.at("restartPolicyRules").items().any(|r| r.at("action").str() == "RestartAllContainers");
    if Pod::new(spec, None, true).all_containers().any(restarts_all) {
        return true;
    }
    let Some(container) = containers.items().find(|c| c.at("name").str() == name) else { return false };
    for rule in container.at("restartPolicyRules").items() {
        let codes = rule.at("exitCodes");
        let listed = codes.at("values").items().any(|code| code.i64() == exit_code);
        if listed == (codes.at("operator").str() == "In") && rule.at("action").str() == "Restart" {
            return true;
        }
    }
    let own = container.at("restartPolicy").opt_str();
    match own.unwrap_or(spec.at("restartPolicy").str()) {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_kubelets_say_must_fit_the_pod() {
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"a.b/c": "1"}}}]});
        let old = json!({"metadata": {}, "spec": spec, "status": {}});
        let status = json!({
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "hostIP": "1.1.1.1",
            "hostIPs": [{"ip": "2.2.2.2"}],
            "resourceClaimStatuses": [{"name": "a"}],
            "containerStatuses": [{
                "name": "c",
                "user": {"linux": {"uid": -1, "gid": 0}},
                "allocatedResourcesStatus": [{"name": "x", "resources": [{"resourceID": "1", "health": "Fine"}]}],
            }],
        });
        let new = json!({"metadata": {}, "spec": spec, "status": status});
        let errors = update(&Node::root(&new), &Node::root(&old));
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "status.resourceClaimStatuses[0].name",
                "status.podIPs",
                "status.hostIPs[0].ip",
                "status.containerStatuses[0].user.linux.uid",
                "status.containerStatuses[0].allocatedResourcesStatus[0].name",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health",
            ]
        );
    }
}
