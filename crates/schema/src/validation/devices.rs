//! The group `resource.k8s.io`: claims, classes and slices of devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use cel::{Env, Type};

use super::pod::affinity::node_selector;
use super::{format, labels, metadata, resources, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const LIST_MAX: usize = 32;
const FIRST_AVAILABLE_MAX: usize = 8;
const TAINTS_MAX: usize = 16;
const RESERVED_MAX: usize = 256;
const DEVICES_MAX: usize = 128;
const ADVANCED_DEVICES_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 32;
const VALUE_MAX_BYTES: usize = 64;
const NAME_MAX_BYTES: usize = 32;
const EXPRESSION_MAX_BYTES: usize = 10 * 1024;
const PARAMETERS_MAX_BYTES: usize = 10 * 1024;
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// ResourceClaim.
pub fn claim(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    claim_spec(&object.at("spec"), &mut errs);
    errs
}

/// A changed ResourceClaim: only metadata.
pub fn claim_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&new.at("metadata"), format::name_is_subdomain, &mut errs);
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata::immutable(&new.at("spec"), &old.at("spec"), &mut errs);
    errs
}

/// ResourceClaimTemplate.
pub fn claim_template(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    metadata::template(&object.at("spec").at("metadata"), &mut errs);
    claim_spec(&object.at("spec").at("spec"), &mut errs);
    errs
}

/// A changed ResourceClaimTemplate: only metadata.
pub fn claim_template_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    metadata::immutable(&new.at("spec"), &old.at("spec"), &mut errs);
    errs
}

/// The names of requests and, where there are alternatives, theirs.
type Names<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Whether there are no more items than may be; if there are, the items are not looked at.
fn at_most(list: &Node, max: usize, errs: &mut ErrorList) -> bool {
    if list.len() > max {
        errs.push(list.too_many(max));
    }
    list.len() <= max
}

/// Each item's key appears once.
fn unique<'a>(list: &Node<'a>, key: impl Fn(&Node<'a>) -> &'a str, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        if !seen.insert(key(&item)) {
            errs.push(Error::duplicate(item.path(), key(&item)));
        }
    }
}

fn label(name: &Node, errs: &mut ErrorList) {
    if rules::not_empty(name, errs) {
        rules::formatted(name, format::dns1123_label, errs);
    }
}

fn claim_spec(spec: &Node, errs: &mut ErrorList) {
    let devices = spec.at("devices");
    let requests = devices.at("requests");
    let mut names = Names::new();
    for request in requests.items() {
        let alternatives = request.at("firstAvailable").items().map(|sub| sub.at("name").str()).collect();
        names.insert(request.at("name").str(), alternatives);
    }
    if at_most(&requests, LIST_MAX, errs) {
        requests.items().for_each(|request| device_request(&request, errs));
        unique(&requests, |request| request.at("name").str(), errs);
    }
    let constraints = devices.at("constraints");
    if at_most(&constraints, LIST_MAX, errs) {
        constraints.items().for_each(|constraint| self::constraint(&constraint, &names, errs));
    }
    let config = devices.at("config");
    if at_most(&config, LIST_MAX, errs) {
        for item in config.items() {
            references(&item.at("requests"), &names, errs);
            configuration(&item, errs);
        }
    }
}

fn device_request(request: &Node, errs: &mut ErrorList) {
    label(&request.at("name"), errs);
    let (exactly, first) = (request.at("exactly"), request.at("firstAvailable"));
    match (exactly.is_set(), !first.is_empty()) {
        (false, false) => {
            errs.push(request.required("exactly one of `exactly` or `firstAvailable` is required"));
        }
        (true, true) => errs.push(request.invalid_as(
            serde_json::Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (true, false) => exact_request(&exactly, errs),
        (false, true) if at_most(&first, FIRST_AVAILABLE_MAX, errs) => {
            for sub in first.items() {
                label(&sub.at("name"), errs);
                exact_request(&sub, errs);
            }
            unique(&first, |sub| sub.at("name").str(), errs);
        }
        (false, true) => {}
    }
}

fn exact_request(request: &Node, errs: &mut ErrorList) {
    let class = request.at("deviceClassName");
    if rules::not_empty(&class, errs) {
        rules::named(&class, format::name_is_subdomain, errs);
    }
    selectors(&request.at("selectors"), errs);
    let (mode, count) = (request.at("allocationMode"), request.at("count"));
    match mode.str() {
        "All" if count.i64() != 0 => {
            errs.push(count.invalid_i64("must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" => rules::positive(&count, errs),
        "All" => {}
        _ => errs.push(mode.not_supported(&["All", "ExactCount"])),
    }
    request.at("tolerations").items().for_each(|toleration| self::toleration(&toleration, errs));
}

fn toleration(toleration: &Node, errs: &mut ErrorList) {
    let (key, value, operator) = (toleration.at("key"), toleration.at("value"), toleration.at("operator"));
    if !key.is_empty() {
        labels::label_name(&key, errs);
    }
    match operator.str() {
        "Exists" if !value.is_empty() => {
            errs.push(value.invalid_str("must be empty for operator `Exists`"));
        }
        "Equal" => rules::formatted(&value, format::label_value, errs),
        "Exists" => {}
        "" => errs.push(operator.required("")),
        _ => errs.push(operator.not_supported(&["Equal", "Exists"])),
    }
    let effect = toleration.at("effect");
    if !effect.is_empty() {
        rules::one_of(&effect, &TAINT_EFFECTS, errs);
    }
}

const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

fn selectors(list: &Node, errs: &mut ErrorList) {
    if !at_most(list, LIST_MAX, errs) {
        return;
    }
    for cel in list.items().map(|selector| selector.at("cel")) {
        if !cel.is_set() {
            errs.push(cel.required(""));
            continue;
        }
        let expression = cel.at("expression");
        if expression.len() > EXPRESSION_MAX_BYTES {
            errs.push(expression.too_long(EXPRESSION_MAX_BYTES));
        } else if let Some(why) = expression_fault(expression.str()) {
            errs.push(expression.invalid_str(why));
        }
    }
}

/// Why an expression about a `device` does not compile. What a device has is not checked.
fn expression_fault(expression: &str) -> Option<String> {
    static ENV: OnceLock<Env> = OnceLock::new();
    let env = ENV.get_or_init(|| Env::kubernetes().with_variable("device", Type::Dyn));
    match env.compile(expression) {
        Err(issues) => Some(format!("compilation failed: {issues}")),
        Ok(program) if [Type::Bool, Type::Dyn].contains(program.output_type()) => None,
        Ok(program) => {
            let found = program.output_type().runtime_name();
            Some(format!("must evaluate to bool or the unknown type, not {found}"))
        }
    }
}

fn constraint(constraint: &Node, names: &Names, errs: &mut ErrorList) {
    references(&constraint.at("requests"), names, errs);
    let (same, distinct) = (constraint.at("matchAttribute"), constraint.at("distinctAttribute"));
    if same.is_set() {
        fully_qualified_name(&same, errs);
    } else if distinct.is_set() {
        fully_qualified_name(&distinct, errs);
    } else {
        errs.push(constraint.required(
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        ));
    }
}

fn references(list: &Node, names: &Names, errs: &mut ErrorList) {
    if !at_most(list, LIST_MAX, errs) {
        return;
    }
    for reference in list.items() {
        let parts: Vec<&str> = reference.str().split('/').collect();
        if parts.len() > 2 {
            errs.push(reference.invalid_str(REFERENCE));
            continue;
        }
        for part in &parts {
            errs.extend(format::dns1123_label(part).into_iter().map(|m| reference.invalid_as(*part, m)));
        }
        let alternatives = parts.first().and_then(|name| names.get(name));
        let known = alternatives.is_some_and(|all| parts.get(1).is_none_or(|name| all.contains(name)));
        if !known {
            errs.push(reference.invalid_str(REFERENCE));
        }
    }
    unique(list, |reference| reference.str(), errs);
}

fn configuration(config: &Node, errs: &mut ErrorList) {
    let opaque = config.at("opaque");
    if !opaque.is_set() {
        errs.push(opaque.required(""));
        return;
    }
    driver_name(&opaque.at("driver"), errs);
    let parameters = opaque.at("parameters");
    match parameters.value() {
        None => errs.push(parameters.required("")),
        Some(value) if value.to_string().len() > PARAMETERS_MAX_BYTES => {
            errs.push(parameters.too_long(PARAMETERS_MAX_BYTES));
        }
        Some(value) if !value.is_object() => {
            errs.push(parameters.invalid_as("<value omitted>", "must be a valid JSON object"));
        }
        Some(_) => {}
    }
}

fn driver_name(driver: &Node, errs: &mut ErrorList) {
    super::volume_sources::csi_driver_name(driver, errs);
}

/// An identifier, in a domain if it is not the driver's own; reported where `at` is.
fn qualified_name(name: &str, at: &Node, errs: &mut ErrorList) {
    let (domain, identifier) = match name.split('/').collect::<Vec<_>>()[..] {
        [identifier] => (None, identifier),
        [domain, identifier] => (Some(domain), identifier),
        _ => return,
    };
    match domain {
        Some("") => errs.push(at.invalid_as("", "the domain must not be empty")),
        Some(domain) => {
            if domain.len() > 63 {
                errs.push(at.too_long(63));
            }
            let wrong = format::dns1123_subdomain(&domain.to_lowercase());
            errs.extend(wrong.into_iter().map(|m| at.invalid_as(domain, m)));
        }
        None => {}
    }
    if domain.is_some() && identifier.is_empty() {
        errs.push(at.invalid_as("", "the name must not be empty"));
        return;
    }
    if identifier.len() > NAME_MAX_BYTES {
        errs.push(at.too_long(NAME_MAX_BYTES));
    }
    errs.extend(format::c_identifier(identifier).into_iter().map(|m| at.invalid_as(identifier, m)));
}

fn fully_qualified_name(name: &Node, errs: &mut ErrorList) {
    qualified_name(name.str(), name, errs);
    if !name.str().contains('/') {
        errs.push(
            name.invalid_str("a fully qualified name must be a domain and a name separated by a slash"),
        );
    }
}

/// A changed status of a ResourceClaim.
pub fn claim_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let (status, before) = (new.at("status"), old.at("status"));
    let reserved = status.at("reservedFor");
    if at_most(&reserved, RESERVED_MAX, &mut errs) {
        for consumer in reserved.items() {
            for field in ["resource", "name", "uid"] {
                rules::not_empty(&consumer.at(field), &mut errs);
            }
        }
        unique(&reserved, |consumer| consumer.at("uid").str(), &mut errs);
    }
    let (allocation, allocated) = (status.at("allocation"), before.at("allocation"));
    if !reserved.is_empty() {
        let known =
            |consumer: &Node| before.at("reservedFor").items().any(|known| known.value() == consumer.value());
        if !allocation.is_set() {
            errs.push(reserved.forbidden("may not be specified when `allocated` is not set"));
        } else if new.at("metadata").at("deletionTimestamp").is_set() && !reserved.items().all(|c| known(&c))
        {
            errs.push(reserved.forbidden(
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            ));
        }
    }
    if allocation.is_set() && allocated.is_set() {
        metadata::immutable(&allocation, &allocated, &mut errs);
    }
    errs
}

/// DeviceClass, new or changed.
pub fn class(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    selectors(&spec.at("selectors"), &mut errs);
    let config = spec.at("config");
    if at_most(&config, LIST_MAX, &mut errs) {
        config.items().for_each(|config| configuration(&config, &mut errs));
    }
    let extended = spec.at("extendedResourceName");
    if extended.is_set() && !resources::is_extended(extended.str()) {
        errs.push(extended.invalid_str("must be a valid extended resource name"));
    }
    errs
}

/// A changed DeviceClass.
pub fn class_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs.extend(class(new));
    errs
}

/// ResourceSlice.
pub fn slice(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    slice_spec(&object.at("spec"), None, &mut errs);
    errs
}

/// A changed ResourceSlice.
pub fn slice_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    slice_spec(&new.at("spec"), Some(&old.at("spec")), &mut errs);
    errs
}

fn slice_spec(spec: &Node, old: Option<&Node>, errs: &mut ErrorList) {
    driver_name(&spec.at("driver"), errs);
    pool(&spec.at("pool"), errs);
    if let Some(old) = old {
        metadata::immutable(&spec.at("pool").at("name"), &old.at("pool").at("name"), errs);
        metadata::immutable(&spec.at("driver"), &old.at("driver"), errs);
        metadata::immutable(&spec.at("nodeName"), &old.at("nodeName"), errs);
    }
    let selector = spec.at("nodeSelector");
    let mut set = placement(spec, "must be either unset or set to a non-empty string", errs);
    if selector.is_set() && selector.at("nodeSelectorTerms").len() != 1 {
        errs.push(selector.at("nodeSelectorTerms").invalid("must have exactly one node selector term"));
    }
    let each = spec.at("perDeviceNodeSelection");
    match each.opt_bool() {
        Some(true) => set.push("`perDeviceNodeSelection`"),
        Some(false) => errs.push(each.invalid("must be either unset or set to true")),
        None => {}
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errs.push(spec.required(one)),
        1 => {}
        _ => errs.push(
            spec.invalid_as(format!("{{{}}}", set.join(", ")), format!("{one}, but multiple fields are set")),
        ),
    }
    let (devices, counters) = (spec.at("devices"), spec.at("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        errs.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let advanced = devices
        .items()
        .any(|device| !device.at("taints").is_empty() || !device.at("consumesCounters").is_empty());
    if at_most(&devices, if advanced { ADVANCED_DEVICES_MAX } else { DEVICES_MAX }, errs) {
        devices.items().for_each(|device| self::device(&device, each.bool(), errs));
        unique(&devices, |device| device.at("name").str(), errs);
    }
    for set in counters.items() {
        label(&set.at("name"), errs);
        if set.at("counters").is_empty() {
            errs.push(set.at("counters").required(""));
        }
        for (name, _) in set.at("counters").entries() {
            let wrong = format::dns1123_label(name);
            errs.extend(wrong.into_iter().map(|m| set.at("counters").invalid_as(name, m)));
        }
    }
    unique(&counters, |set| set.at("name").str(), errs);
}

/// Where a slice or device is: which of the fields that say so are set.
fn placement(of: &Node, empty_name: &str, errs: &mut ErrorList) -> Vec<&'static str> {
    let mut set = Vec::new();
    let (name, selector, all) = (of.at("nodeName"), of.at("nodeSelector"), of.at("allNodes"));
    match name.opt_str() {
        Some("") => errs.push(name.invalid_str(empty_name)),
        Some(_) => {
            set.push("`nodeName`");
            rules::named(&name, format::name_is_subdomain, errs);
        }
        None => {}
    }
    if selector.is_set() {
        set.push("`nodeSelector`");
        node_selector(&selector, false, errs);
    }
    match all.opt_bool() {
        Some(true) => set.push("`allNodes`"),
        Some(false) => errs.push(all.invalid("must be either unset or set to true")),
        None => {}
    }
    set
}

fn pool(pool: &Node, errs: &mut ErrorList) {
    let (name, count, generation) = (pool.at("name"), pool.at("resourceSliceCount"), pool.at("generation"));
    if rules::not_empty(&name, errs) {
        if name.len() > 253 {
            errs.push(name.too_long(253));
        }
        for part in name.str().split('/') {
            errs.extend(format::dns1123_subdomain(part).into_iter().map(|m| name.invalid_as(part, m)));
        }
    }
    rules::positive(&count, errs);
    if generation.i64() < 0 {
        errs.push(generation.invalid_i64("must be greater than or equal to zero"));
    }
}

fn device(device: &Node, placed: bool, errs: &mut ErrorList) {
    label(&device.at("name"), errs);
    let (attributes, capacity) = (device.at("attributes"), device.at("capacity"));
    let total = attributes.len() + capacity.len();
    if total > ATTRIBUTES_MAX {
        let detail =
            format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        errs.push(device.invalid_as(total, detail));
    }
    for (name, attribute) in attributes.entries() {
        qualified_name(name, &attributes, errs);
        self::attribute(&attribute, errs);
    }
    capacity.entries().for_each(|(name, _)| qualified_name(name, &capacity, errs));
    let taints = device.at("taints");
    if at_most(&taints, TAINTS_MAX, errs) {
        taints.items().for_each(|taint| self::taint(&taint, errs));
    }
    place_device(device, placed, errs);
}

fn place_device(device: &Node, placed: bool, errs: &mut ErrorList) {
    if !placed {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.at(field).is_set()) {
            errs.push(device.invalid_as(
                serde_json::Value::Null,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                 true in the ResourceSlice spec",
            ));
        }
        return;
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
               `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let set = placement(device, "must not be empty", errs);
    match set.len() {
        0 => errs.push(device.required(one)),
        1 => {}
        _ => errs.push(device.invalid_as(format!("{{{}}}", set.join(", ")), one)),
    }
}

fn attribute(attribute: &Node, errs: &mut ErrorList) {
    let fields = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    let set = fields.iter().filter(|field| attribute.at(field).is_set()).count();
    for field in ["string", "version"] {
        let text = attribute.at(field);
        if text.len() > VALUE_MAX_BYTES {
            errs.push(text.too_long(VALUE_MAX_BYTES));
        }
    }
    match set {
        0 => errs.push(attribute.invalid_as("", "exactly one value must be specified")),
        1 => {}
        _ => errs.push(attribute.invalid("exactly one value must be specified")),
    }
}

fn taint(taint: &Node, errs: &mut ErrorList) {
    labels::label_name(&taint.at("key"), errs);
    if !taint.at("value").is_empty() {
        rules::formatted(&taint.at("value"), format::label_value, errs);
    }
    rules::required_one_of(&taint.at("effect"), &TAINT_EFFECTS, errs);
}
