//! The status of claims: what was allocated to whom, and what drivers say about it.

use std::collections::BTreeSet;

use super::super::pod::affinity::node_selector;
use super::super::{conditions, metadata, rules};
use super::claim::{self, Names};
use super::{LIST_MAX, at_most, binding_conditions, driver_name, label, pool_name, raw_object, unique};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Kind, go_json};

const RESERVED_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const IPS_MAX: usize = 16;
const INTERFACE_NAME_MAX_BYTES: usize = 256;
const HARDWARE_ADDRESS_MAX_BYTES: usize = 128;

/// Driver, pool, device and share.
type DeviceId<'a> = [&'a str; 4];

fn device_id<'a>(of: &Node<'a>) -> DeviceId<'a> {
    ["driver", "pool", "device", "shareID"].map(|field| of.at(field).str())
}

/// An id as upstream's struct prints.
fn shown(id: DeviceId) -> String {
    let [driver, pool, device, share] = id.map(|part| go_json(&part.into()));
    format!("{{\"Driver\":{driver},\"Pool\":{pool},\"Device\":{device},\"ShareID\":{share}}}")
}

/// An error that shows an id.
fn about(device: &Node, kind: Kind, detail: &str) -> Error {
    let detail = format!("{}{detail}", shown(device_id(device)));
    Error { kind, field: device.path().to_string(), value: None, detail }
}

/// A changed status of a ResourceClaim.
pub fn claim_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let (status, before) = (new.at("status"), old.at("status"));
    let (allocation, allocated) = (status.at("allocation"), before.at("allocation"));
    let reserved = status.at("reservedFor");
    if at_most(&reserved, RESERVED_MAX, &mut errs) {
        for consumer in reserved.items() {
            for field in ["resource", "name", "uid"] {
                rules::not_empty(&consumer.at(field), &mut errs);
            }
        }
        unique(&reserved, |consumer| consumer.at("uid").str(), &mut errs);
    }
    devices(&status.at("devices"), &allocation, &mut errs);
    if !reserved.is_empty() {
        let deleted = new.at("metadata").at("deletionTimestamp").is_set();
        let known =
            |consumer: &Node| before.at("reservedFor").items().any(|known| known.value() == consumer.value());
        if !allocation.is_set() {
            errs.push(reserved.forbidden("may not be specified when `allocated` is not set"));
        } else if deleted && !reserved.items().all(|c| known(&c)) {
            errs.push(reserved.forbidden(
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            ));
        }
    }
    if allocation.is_set() && allocated.is_set() {
        metadata::immutable(&allocation, &allocated, &mut errs);
    } else if allocation.is_set() {
        let names = claim::request_names(&new.at("spec").at("devices"));
        allocation_result(&allocation, &names, &mut errs);
    }
    errs
}

fn allocation_result(allocation: &Node, names: &Names, errs: &mut ErrorList) {
    let devices = allocation.at("devices");
    let (results, config) = (devices.at("results"), devices.at("config"));
    if at_most(&results, LIST_MAX, errs) {
        for result in results.items() {
            claim::reference(&result.at("request"), names, errs);
            driver_name(&result.at("driver"), errs);
            pool_name(&result.at("pool"), errs);
            label(&result.at("device"), errs);
            binding_conditions(&result, errs);
            share(&result.at("shareID"), errs);
        }
    }
    // As many from the class as from the claim.
    if at_most(&config, 2 * LIST_MAX, errs) {
        for item in config.items() {
            rules::required_one_of(&item.at("source"), &["FromClaim", "FromClass"], errs);
            claim::references(&item.at("requests"), names, errs);
            claim::configuration(&item, false, errs);
        }
    }
    if let Some(selector) = allocation.at("nodeSelector").opt() {
        node_selector(&selector, true, errs);
    }
}

fn devices(list: &Node, allocation: &Node, errs: &mut ErrorList) {
    let results = allocation.at("devices").at("results");
    let allocated: BTreeSet<DeviceId> = results.items().map(|result| device_id(&result)).collect();
    for device in list.items() {
        driver_name(&device.at("driver"), errs);
        pool_name(&device.at("pool"), errs);
        label(&device.at("device"), errs);
        share(&device.at("shareID"), errs);
        if !allocated.contains(&device_id(&device)) {
            errs.push(about(&device, Kind::Invalid, ": must be an allocated device in the claim"));
        }
        let list = device.at("conditions");
        at_most(&list, CONDITIONS_MAX, errs);
        conditions::validate(&list, errs);
        if let Some(data) = device.at("data").opt() {
            raw_object(&data, false, errs);
        }
        network_data(&device.at("networkData"), errs);
    }
    let mut seen = BTreeSet::new();
    for device in list.items() {
        if !seen.insert(device_id(&device)) {
            errs.push(about(&device, Kind::Duplicate, ""));
        }
    }
}

fn network_data(data: &Node, errs: &mut ErrorList) {
    let (interface, hardware, ips) = (data.at("interfaceName"), data.at("hardwareAddress"), data.at("ips"));
    if interface.len() > INTERFACE_NAME_MAX_BYTES {
        errs.push(interface.too_long(INTERFACE_NAME_MAX_BYTES));
    }
    if hardware.len() > HARDWARE_ADDRESS_MAX_BYTES {
        errs.push(hardware.too_long(HARDWARE_ADDRESS_MAX_BYTES));
    }
    if at_most(&ips, IPS_MAX, errs) {
        ips.items().for_each(|ip| interface_address(&ip, errs));
        unique(&ips, |ip| ip.str(), errs);
    }
}

/// An address with the length of its subnet's prefix, in its one canonical form.
fn interface_address(address: &Node, errs: &mut ErrorList) {
    let Some(cidr) = rules::parse_cidr(address.str()) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errs.push(address.invalid_str(detail));
        return;
    };
    let ip = cidr.address.to_canonical();
    let prefix = if ip == cidr.address { cidr.prefix } else { cidr.prefix.saturating_sub(96) };
    let canonical = format!("{ip}/{prefix}");
    if canonical != address.str() {
        errs.push(address.invalid_str(format!("must be in canonical form (\"{canonical}\")")));
    }
}

/// The uid of a share, in its normal form.
fn share(id: &Node, errs: &mut ErrorList) {
    let Some(text) = id.opt_str() else { return };
    if let Some(why) = uuid_fault(text) {
        errs.push(id.invalid_str(format!("error validating uid: {why}")));
    } else if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        errs.push(id.invalid_str(
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
             hexadecimal characters",
        ));
    }
}

/// Why a text is no UUID in any of the forms that `github.com/google/uuid` takes.
fn uuid_fault(text: &str) -> Option<String> {
    let prefix = text.get(..9).unwrap_or_default();
    let bytes = match text.len() {
        36 => text.as_bytes(),
        45 if prefix.eq_ignore_ascii_case("urn:uuid:") => &text.as_bytes()[9..],
        45 => return Some(format!("invalid urn prefix: {}", crate::gotext::quote(prefix))),
        38 if text.starts_with('{') && text.ends_with('}') => &text.as_bytes()[1..37],
        38 => return Some("invalid bracketed UUID format".to_owned()),
        32 if text.bytes().all(|b| b.is_ascii_hexdigit()) => return None,
        32 => return Some("invalid UUID format".to_owned()),
        length => return Some(format!("invalid UUID length: {length}")),
    };
    let dash = |i: usize| [8, 13, 18, 23].contains(&i);
    let fits =
        bytes.iter().enumerate().all(|(i, b)| if dash(i) { *b == b'-' } else { b.is_ascii_hexdigit() });
    (!fits).then(|| "invalid UUID format".to_owned())
}
