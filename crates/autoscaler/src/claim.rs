//! Reading and writing NodeClaims: conditions, offerings, labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::instance::{CapacityType, InstanceType, MachineResources, OfferingKey};
use api::karpenter::{NodeClaim, NodeClaimStatus};
use api::names;
use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use scaling::requirements::Requirements;
use scheduling::NodeInfo;

/// The cloud gave a machine.
pub(crate) const LAUNCHED: &str = "Launched";
/// The machine's node has joined.
pub(crate) const REGISTERED: &str = "Registered";
/// The node can take pods.
pub(crate) const INITIALIZED: &str = "Initialized";
/// All of the above.
pub(crate) const READY: &str = "Ready";

/// The claim that this one will replace.
pub(crate) const REPLACES: &str = "autoscaler.kobune.dev/replaces";
/// When the machine will be taken back, in RFC 3339.
pub(crate) const INTERRUPTION: &str = "autoscaler.kobune.dev/interruption-deadline";

pub(crate) fn name(claim: &NodeClaim) -> &str {
    claim.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn label<'a>(claim: &'a NodeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn annotation<'a>(claim: &'a NodeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn pool(claim: &NodeClaim) -> &str {
    label(claim, names::NODE_POOL).unwrap_or_default()
}

pub(crate) fn provider_id(claim: &NodeClaim) -> Option<&str> {
    claim.status.as_ref()?.provider_id.as_deref()
}

pub(crate) fn is_deleting(claim: &NodeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some()
}

pub(crate) fn is_interrupted(claim: &NodeClaim) -> bool {
    annotation(claim, INTERRUPTION).is_some()
}

pub(crate) fn created(claim: &NodeClaim) -> Option<Timestamp> {
    claim.metadata.creation_timestamp.as_ref().map(|Time(time)| *time)
}

/// When a condition last changed, if it holds.
pub(crate) fn since(claim: &NodeClaim, type_: &str) -> Option<Timestamp> {
    let conditions = claim.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")
        .map(|condition| condition.last_transition_time.0)
}

pub(crate) fn is(claim: &NodeClaim, type_: &str) -> bool {
    since(claim, type_).is_some()
}

/// Sets a condition. Returns whether that changed anything but the message.
pub(crate) fn set_condition(
    status: &mut NodeClaimStatus,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
) -> bool {
    let text = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == type_);
    if let Some(known) = known
        && conditions[known].status == text
        && conditions[known].reason == reason
    {
        return false;
    }
    let condition = Condition {
        type_: type_.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(base::clock::now()),
        observed_generation: None,
    };
    match known {
        Some(known) => conditions[known] = condition,
        None => conditions.push(condition),
    }
    true
}

/// What was rented for the claim.
pub(crate) fn offering(claim: &NodeClaim) -> Option<OfferingKey> {
    Some(OfferingKey {
        instance_type: label(claim, names::INSTANCE_TYPE)?.into(),
        zone: label(claim, names::ZONE)?.into(),
        capacity_type: CapacityType::parse(label(claim, names::CAPACITY_TYPE)?)?,
    })
}

/// The offerings that the claim accepts, cheapest first.
pub(crate) fn ranked<'a>(
    claim: &NodeClaim,
    catalogue: &'a [InstanceType],
) -> Vec<(f64, &'a InstanceType, OfferingKey)> {
    let Ok(requirements) = Requirements::of(&claim.spec.requirements) else { return Vec::new() };
    let requests = claim.spec.resources.as_ref().map(|resources| &resources.requests);
    let mut found = Vec::new();
    for kind in catalogue {
        let fits = requests.is_none_or(|requests| holds(&kind.allocatable, requests));
        if !fits || !requirements.admits(names::INSTANCE_TYPE, Some(&kind.name)) {
            continue;
        }
        let suits = requirements.admits(names::ARCH, Some(&kind.arch))
            && kind.labels.iter().all(|(key, value)| requirements.admits(key, Some(value)));
        for offering in kind.offerings.iter().filter(|offering| suits && offering.available) {
            if requirements.admits(names::ZONE, Some(&offering.zone))
                && requirements.admits(names::CAPACITY_TYPE, Some(offering.capacity_type.as_str()))
            {
                found.push((offering.dollars_per_hour, kind, kind.key(offering)));
            }
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2.cmp(&b.2)));
    found
}

fn holds(machine: &MachineResources, requests: &BTreeMap<String, WireQuantity>) -> bool {
    requests.iter().all(|(name, quantity)| {
        let Ok(quantity) = Quantity::try_from(quantity) else { return true };
        match name.as_str() {
            "cpu" => quantity.milli() <= machine.cpu_milli,
            "memory" => quantity.units() <= machine.memory_bytes,
            "pods" => quantity.units() <= machine.pods,
            "ephemeral-storage" => quantity.units() <= machine.ephemeral_bytes,
            name => quantity.units() <= machine.extended.get(name).copied().unwrap_or(0),
        }
    })
}

/// Resources as the API writes them.
pub(crate) fn resource_list(machine: &MachineResources) -> BTreeMap<String, WireQuantity> {
    let mut list: BTreeMap<String, WireQuantity> = BTreeMap::from([
        ("cpu".to_owned(), Quantity::from_milli(machine.cpu_milli).into()),
        ("memory".to_owned(), Quantity::from_bytes(machine.memory_bytes).into()),
        ("pods".to_owned(), Quantity::from_units(machine.pods).into()),
        ("ephemeral-storage".to_owned(), Quantity::from_bytes(machine.ephemeral_bytes).into()),
    ]);
    for (name, amount) in &machine.extended {
        list.insert(name.clone(), Quantity::from_units(*amount).into());
    }
    list.retain(|_, quantity| quantity.0 != "0");
    list
}

/// Labels that the offering decides.
pub(crate) fn offering_labels(kind: &InstanceType, key: &OfferingKey) -> BTreeMap<String, String> {
    let mut labels = kind.labels.clone();
    for (label, value) in [
        (names::INSTANCE_TYPE, &*kind.name),
        (names::ARCH, &*kind.arch),
        (names::OS, "linux"),
        (names::ZONE, &*key.zone),
        (names::REGION, scaling::pool::region_of(&key.zone)),
        (names::CAPACITY_TYPE, key.capacity_type.as_str()),
    ] {
        labels.insert(label.to_owned(), value.to_owned());
    }
    labels
}

/// The node that the claim will become, as far as one can tell.
pub(crate) fn future_node(claim: &NodeClaim, catalogue: &[InstanceType]) -> Option<NodeInfo> {
    let key = match offering(claim) {
        Some(key) => key,
        None => ranked(claim, catalogue).first()?.2.clone(),
    };
    let kind = catalogue.iter().find(|kind| kind.name == key.instance_type)?;
    let mut labels = claim.metadata.labels.clone().unwrap_or_default();
    labels.extend(offering_labels(kind, &key));
    let taints: Vec<_> = claim.spec.taints.iter().flatten().filter_map(scaling::pool::taint).collect();
    let name: Arc<str> =
        claim.status.as_ref().and_then(|status| status.node_name.as_deref()).unwrap_or(name(claim)).into();
    Some(scaling::pool::hypothetical(&name, kind, &labels, &taints))
}
