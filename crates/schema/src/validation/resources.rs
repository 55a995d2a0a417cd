//! Names and quantities of resources.

use std::collections::BTreeSet;

use api::quantity::Quantity;

use super::{format, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const REQUESTS_AND_LIMITS: [&str; 7] = [
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Whether the name is of huge pages: `hugepages-2Mi`.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether the resource is Kubernetes' own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the resource is somebody's, like `vendor.example/gpu`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && format::label_key(&format!("requests.{name}")).is_empty()
}

/// Whether more of it may be promised than there is.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn is_standard(name: &str) -> bool {
    CONTAINER.contains(&name)
        || COUNTED.contains(&name)
        || REQUESTS_AND_LIMITS.contains(&name)
        || name == "storage"
        || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

/// Whether quotas may limit the resource.
pub fn is_standard_for_quota(name: &str) -> bool {
    is_standard(name) && name != "storage"
}

/// A resource's name; reported with the name as value.
pub fn name(name: &str, at: &Node, errs: &mut ErrorList) -> bool {
    let wrong = format::label_key(name);
    if !wrong.is_empty() {
        errs.extend(wrong.into_iter().map(|m| at.invalid_as(name, m)));
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        errs.push(at.invalid_as(name, "must be a standard resource type or fully qualified"));
        return false;
    }
    true
}

/// The name of a resource that a container can have.
pub fn container_name(name: &str, at: &Node, errs: &mut ErrorList) {
    self::name(name, at, errs);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !is_huge_page(name) {
            errs.push(at.invalid_as(name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errs.push(at.invalid_as(name, "doesn't follow extended resource name standard"));
    }
}

fn pod_level_name(name: &str, at: &Node, errs: &mut ErrorList) {
    if self::name(name, at, errs) && !POD_LEVEL.contains(&name) && !is_huge_page(name) {
        let supported = ["cpu", "hugepages-", "memory"];
        errs.push(crate::field::Error::not_supported(at.path(), name, &supported));
    }
}

/// A quantity that the resource can have.
pub fn value(name: &str, at: &Node, errs: &mut ErrorList) {
    rules::nonnegative_quantity(at, errs);
    let counted = COUNTED.contains(&name) || is_extended(name);
    let quantity = rules::quantity(at);
    // Upstream counts in thousandths; what is too large for that passes.
    let countable = quantity < Quantity::from_units(i64::MAX / 1000);
    if counted && countable && !Quantity::from_milli(quantity.milli()).is_integer() {
        errs.push(at.invalid_as(quantity.to_string(), "must be an integer"));
    }
}

/// Limits and requests of a container.
pub fn container(requirements: &Node, claims: &BTreeSet<&str>, errs: &mut ErrorList) {
    self::requirements(requirements, container_name, claims, errs);
}

/// Limits and requests of a whole pod.
pub fn pod_level(requirements: &Node, claims: &BTreeSet<&str>, errs: &mut ErrorList) {
    self::requirements(requirements, pod_level_name, claims, errs);
}

/// What running a pod costs beside its containers; the path is that of the list of limits.
pub fn overhead(overhead: &Node, errs: &mut ErrorList) {
    let limits = overhead.reported_at(&overhead.path().child("limits"));
    let (mut compute, mut huge_pages) = (false, false);
    for (name, limit) in limits.entries() {
        limit_value(name, &limit, container_name, errs);
        huge_page_value(name, &limit, errs);
        compute |= POD_LEVEL.contains(&name);
        huge_pages |= is_huge_page(name);
    }
    if huge_pages && !compute {
        errs.push(overhead.forbidden("HugePages require cpu or memory"));
    }
}

fn limit_value(name: &str, at: &Node, name_rule: fn(&str, &Node, &mut ErrorList), errs: &mut ErrorList) {
    name_rule(name, at, errs);
    value(name, at, errs);
}

fn requirements(
    requirements: &Node,
    name_rule: fn(&str, &Node, &mut ErrorList),
    claims: &BTreeSet<&str>,
    errs: &mut ErrorList,
) {
    let (limits, requests) = (requirements.at("limits"), requirements.at("requests"));
    let (mut compute, mut huge_pages) = (false, false);
    for (name, limit) in limits.entries() {
        limit_value(name, &limit, name_rule, errs);
        huge_page_value(name, &limit, errs);
        compute |= POD_LEVEL.contains(&name);
        huge_pages |= is_huge_page(name);
    }
    for (name, request) in requests.entries() {
        limit_value(name, &request, name_rule, errs);
        let quantity = rules::quantity(&request);
        if let Some(limit) = limits.key(name).opt() {
            let limit = rules::quantity(&limit);
            let problem = match may_overcommit(name) {
                false if quantity != limit => "equal to",
                true if quantity > limit => "less than or equal to",
                _ => "",
            };
            if !problem.is_empty() {
                let detail = format!("must be {problem} {name} limit of {limit}");
                errs.push(requests.invalid_as(quantity.to_string(), detail));
            }
        } else if !may_overcommit(name) {
            errs.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        huge_page_value(name, &request, errs);
        compute |= POD_LEVEL.contains(&name);
        huge_pages |= is_huge_page(name);
    }
    if huge_pages && !compute {
        errs.push(requirements.forbidden("HugePages require cpu or memory"));
    }
    claim_names(&requirements.at("claims"), claims, errs);
}

fn huge_page_value(name: &str, at: &Node, errs: &mut ErrorList) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let quantity = rules::quantity(at);
    let divisible = Quantity::parse(size)
        .is_ok_and(|size| size > Quantity::ZERO && size.is_integer() && quantity.units() % size.units() == 0);
    if !divisible {
        let detail = format!("{quantity} is not positive integer multiple of {name}");
        errs.push(at.invalid_as(quantity.to_string(), detail));
    }
}

fn claim_names(list: &Node, claims: &BTreeSet<&str>, errs: &mut ErrorList) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for claim in list.items() {
        let (name, request) = (claim.at("name").str(), claim.at("request"));
        if name.is_empty() {
            errs.push(claim.required(""));
            continue;
        }
        let duplicate = |key: &str| crate::field::Error::duplicate(claim.path(), key);
        if seen.contains(name) {
            errs.push(duplicate(name));
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                rules::formatted(&request, format::dns1123_label, errs);
                key = format!("{name}/{}", request.str());
            }
            if seen.contains(&key) {
                errs.push(duplicate(&key));
            } else if request.is_empty() {
                let of_same_claim =
                    |other: &&String| other.split_once('/').is_some_and(|(claim, _)| claim == name);
                errs.extend(seen.iter().filter(of_same_claim).map(|_| duplicate(name)));
            }
            seen.insert(key);
        }
        if !claims.contains(name) {
            let known: Vec<&str> = claims.iter().copied().collect();
            let rest = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            let mut error = crate::field::Error::not_found(claim.path(), name);
            error.detail = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            errs.push(error);
        }
    }
}
