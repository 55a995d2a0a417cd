//! Resource lists: rounding, and requests taken over from limits.

use api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::fill::Fill;

/// Resources that a pod as a whole may ask for.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];

/// Quantities by resource name.
pub type List = std::collections::BTreeMap<String, Quantity>;

/// Rounds the quantities of a `ResourceList` up to thousandths.
pub fn round_up(list: Option<&mut Value>) {
    for quantity in list.and_then(Value::as_object_mut).into_iter().flat_map(|list| list.values_mut()) {
        let Some(exact) = quantity.as_str().and_then(|q| Quantity::parse(q).ok()) else { continue };
        let rounded = Quantity::from_milli(exact.milli());
        // Beyond what thousandths of an i64 can hold there is no fraction to round.
        if rounded != exact && exact.units() < i64::MAX / 1000 {
            *quantity = json!(rounded.to_string());
        }
    }
}

/// Rounds limits and requests of a `ResourceRequirements`.
pub fn round_up_requirements(requirements: Option<&mut Value>) {
    if let Some(requirements) = requirements {
        round_up(requirements.field("limits"));
        round_up(requirements.field("requests"));
    }
}

/// A limit without a request is also the request. Only for pods, not for templates.
pub fn request_limits(container: &mut Value) {
    let Some(resources) = container.field("resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let (Some(requests), false) = (resources.filled("requests").as_object_mut(), limits.is_empty()) {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// Requests of the whole pod default to the sum of its containers', else to its limits
/// (KEP-2837); limits on huge pages default to the containers' sum.
pub fn pod_level(spec: &mut Value) {
    let Some(resources) = spec.get("resources").filter(|r| r.is_object()) else { return };
    let list = |name: &str| resources.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (list("limits"), list("requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, limit) in aggregate(spec, "limits") {
        if name.starts_with("hugepages-") && !requests.contains_key(&name) {
            limits.entry(name).or_insert_with(|| json!(limit.to_string()));
        }
    }
    if !limits.is_empty() {
        for (name, request) in aggregate(spec, "requests") {
            if POD_LEVEL.contains(&name.as_str()) {
                requests.entry(name).or_insert_with(|| json!(request.to_string()));
            }
        }
        for (name, limit) in &limits {
            if POD_LEVEL.contains(&name.as_str()) || name.starts_with("hugepages-") {
                requests.entry(name.clone()).or_insert_with(|| limit.clone());
            }
        }
    }
    let resources = &mut spec["resources"];
    for (name, list) in [("limits", limits), ("requests", requests)] {
        if !list.is_empty() {
            resources[name] = Value::Object(list);
        }
    }
}

/// What all containers need at the same time: the greater of running and initialising.
pub fn aggregate(spec: &Value, list: &str) -> List {
    let of = |container: &Value| parse_list(container["resources"][list].as_object());
    let containers = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
    let (mut running, mut sidecars, mut peak) = (List::new(), List::new(), List::new());
    for container in containers("containers") {
        add(&mut running, &of(&container));
    }
    for container in containers("initContainers") {
        let mut needs = of(&container);
        if container["restartPolicy"] == "Always" {
            add(&mut running, &needs);
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        raise(&mut peak, needs);
    }
    raise(&mut running, peak);
    running
}

fn parse_list(list: Option<&Map<String, Value>>) -> List {
    let parse =
        |(name, quantity): (&String, &Value)| Some((name.clone(), Quantity::parse(quantity.as_str()?).ok()?));
    list.into_iter().flatten().filter_map(parse).collect()
}

fn add(sum: &mut List, more: &List) {
    for (name, quantity) in more {
        let total = sum.get(name).map_or(*quantity, |sum| sum.plus(quantity));
        sum.insert(name.clone(), total);
    }
}

fn raise(to: &mut List, other: List) {
    for (name, quantity) in other {
        let highest = to.get(&name).map_or(quantity, |q| (*q).max(quantity));
        to.insert(name, highest);
    }
}
