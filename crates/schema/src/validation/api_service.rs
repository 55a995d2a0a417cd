//! APIService.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{format, metadata, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;

/// APIService, whose name follows from its group and version.
pub fn api_service(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    let spec = object.at("spec");
    let (group, version) = (spec.at("group"), spec.at("version"));
    let name = object.at("metadata").at("name");
    metadata::validate(&object.at("metadata"), any_path_segment, &mut errs);
    let wanted = format!("{}.{}", version.str(), group.str());
    if !name.is_empty() && format::path_segment(name.str()).is_empty() && name.str() != wanted {
        let wanted = crate::gotext::quote(&wanted);
        errs.push(name.invalid_str(format!("must be `spec.version+\".\"+spec.group`: {wanted}")));
    }
    if group.is_empty() && version.str() != "v1" {
        errs.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    if !group.is_empty() {
        rules::formatted(&group, format::dns1123_subdomain, &mut errs);
    }
    rules::formatted(&version, format::dns1035_label, &mut errs);
    for (field, max) in
        [("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)]
    {
        let priority = spec.at(field);
        if !(1..=max).contains(&priority.i64()) {
            errs.push(priority.invalid_i64(format!("must be positive and less than {max}")));
        }
    }
    connection(&spec, &mut errs);
    errs
}

fn any_path_segment(name: &str, _prefix: bool) -> Vec<String> {
    format::path_segment(name)
}

/// Where requests go, and whom to trust there.
fn connection(spec: &Node, errs: &mut ErrorList) {
    let (service, bundle, insecure) =
        (spec.at("service"), spec.at("caBundle"), spec.at("insecureSkipTLSVerify"));
    if !service.is_set() {
        if !bundle.is_empty() {
            let length = BASE64.decode(bundle.str()).map_or(0, |bytes| bytes.len());
            let detail = "local APIServices may not have a caBundle";
            errs.push(bundle.invalid_as(format!("{length} bytes"), detail));
        }
        if insecure.bool() {
            errs.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    }
    rules::not_empty(&service.at("namespace"), errs);
    rules::not_empty(&service.at("name"), errs);
    let port = service.at("port");
    let wrong = format::port_number(port.i64());
    if !wrong.is_empty() {
        errs.push(port.invalid_i64(format!("port is not valid: {}", wrong.join(", "))));
    }
    if insecure.bool() && !bundle.is_empty() {
        errs.push(insecure.invalid("may not be true if caBundle is present"));
    }
}

/// A changed APIService.
pub fn api_service_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs.extend(api_service(new));
    errs
}

/// A changed status.
pub fn api_service_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    for condition in new.at("status").at("conditions").items() {
        rules::one_of(&condition.at("status"), &["True", "False", "Unknown"], &mut errs);
    }
    errs
}
