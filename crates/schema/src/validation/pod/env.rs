//! Environment variables, and the references that they share with the downward API.

use super::super::{format, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// Fields of the pod that variables can take.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that exist, whether they can be taken or not.
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `env`.
pub fn variables(list: &Node, errs: &mut ErrorList) {
    for variable in list.items() {
        let name = variable.at("name");
        if rules::not_empty(&name, errs) {
            rules::formatted(&name, format::env_var_name, errs);
        }
        if let Some(source) = variable.at("valueFrom").opt() {
            value_from(&source, &variable.at("value"), errs);
        }
    }
}

fn value_from(source: &Node, value: &Node, errs: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = source.at("fieldRef").opt() {
        sources += 1;
        field_selector(&field, &FIELDS, errs);
    }
    if let Some(resource) = source.at("resourceFieldRef").opt() {
        sources += 1;
        resource_selector(&resource, false, errs);
    }
    for reference in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.at(reference).opt() {
            sources += 1;
            rules::named(&reference.at("name"), format::name_is_subdomain, errs);
            if rules::not_empty(&reference.at("key"), errs) {
                rules::formatted(&reference.at("key"), format::config_map_key, errs);
            }
        }
    }
    if let Some(file) = source.at("fileKeyRef").opt() {
        sources += 1;
        file_key(&file, errs);
    }
    match sources {
        0 => errs.push(source.invalid_as(
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )),
        _ if !value.is_empty() => {
            errs.push(source.invalid_as("", "may not be specified when `value` is not empty"));
        }
        1 => {}
        _ => errs.push(source.invalid_as("", "may not have more than one field specified at a time")),
    }
}

fn file_key(file: &Node, errs: &mut ErrorList) {
    if rules::not_empty(&file.at("key"), errs) {
        rules::formatted(&file.at("key"), format::env_var_name, errs);
    }
    if rules::not_empty(&file.at("volumeName"), errs) {
        rules::formatted(&file.at("volumeName"), format::dns1123_label, errs);
    }
    if rules::not_empty(&file.at("path"), errs) {
        rules::no_backsteps(&file.at("path"), errs);
    }
}

/// `envFrom`.
pub fn sources(list: &Node, errs: &mut ErrorList) {
    for source in list.items() {
        if !source.at("prefix").is_empty() {
            rules::formatted(&source.at("prefix"), format::env_var_name, errs);
        }
        let mut count = 0;
        for reference in ["configMapRef", "secretRef"] {
            let Some(reference) = source.at(reference).opt() else { continue };
            count += 1;
            let name = reference.at("name");
            if rules::not_empty(&name, errs) {
                let wrong = format::name_is_subdomain(name.str(), true);
                errs.extend(wrong.into_iter().map(|m| name.invalid_str(m)));
            }
        }
        // Upstream reports at the list.
        match count {
            0 => errs.push(list.invalid_as("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errs.push(list.invalid_as("", "may not have more than one field specified at a time")),
        }
    }
}

/// A reference to a field of the pod.
pub fn field_selector(selector: &Node, allowed: &[&str], errs: &mut ErrorList) {
    let (version, path) = (selector.at("apiVersion"), selector.at("fieldPath"));
    if !rules::not_empty(&version, errs) || !rules::not_empty(&path, errs) {
        return;
    }
    let (field, subscript) = split_subscript(path.str());
    let problem = if version.str() != "v1" {
        Some(format!("unsupported pod version: {}", version.str()))
    } else if subscript.is_some() && !["metadata.annotations", "metadata.labels"].contains(&field) {
        Some(format!("field label does not support subscript: {}", path.str()))
    } else if subscript.is_none() && field != "spec.host" && !KNOWN_FIELDS.contains(&field) {
        Some(format!("field label not supported: {}", path.str()))
    } else {
        None
    };
    if let Some(problem) = problem {
        errs.push(path.invalid_str(format!("error converting fieldPath: {problem}")));
        return;
    }
    let field = if field == "spec.host" { "spec.nodeName" } else { field };
    match subscript {
        Some(key) => {
            let key = if field == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
            let wrong = format::label_key(&key);
            errs.extend(wrong.into_iter().map(|m| selector.invalid_as(key.as_str(), m)));
        }
        None if !allowed.contains(&field) => {
            let mut supported = allowed.to_vec();
            supported.sort_unstable();
            errs.push(Error::not_supported(path.path(), field, &supported));
        }
        None => {}
    }
}

/// `metadata.labels['key']` → the field and the key.
fn split_subscript(path: &str) -> (&str, Option<&str>) {
    let parts = path.strip_suffix("']").and_then(|front| front.split_once("['"));
    match parts {
        Some((field, key)) if !field.is_empty() => (field, Some(key)),
        _ => (path, None),
    }
}

/// A reference to a resource of a container; volumes must say which container.
pub fn resource_selector(selector: &Node, in_volume: bool, errs: &mut ErrorList) {
    let resource = selector.at("resource");
    if in_volume && selector.at("containerName").is_empty() {
        errs.push(selector.at("containerName").required(""));
    } else if rules::not_empty(&resource, errs) {
        let huge = ["requests.hugepages-", "limits.hugepages-"].iter().any(|p| resource.str().starts_with(p));
        if !huge {
            rules::one_of(&resource, &RESOURCES, errs);
        }
    }
    divisor(selector, resource.str(), errs);
}

fn divisor(selector: &Node, resource: &str, errs: &mut ErrorList) {
    let quantity = rules::quantity(&selector.at("divisor"));
    if quantity.is_zero() {
        return;
    }
    let (allowed, what): (&[&str], _) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "cpu"),
        "memory" => (&BYTE_DIVISORS, "memory"),
        "ephemeral-storage" => (&BYTE_DIVISORS, "local ephemeral storage"),
        name if name.starts_with("hugepages-") => (&BYTE_DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&quantity.to_string().as_str()) {
        let values = if what == "cpu" { "1m and 1".to_owned() } else { allowed.join(", ") };
        let detail = format!("only divisor's values {values} are supported with the {what} resource");
        errs.push(selector.at("divisor").invalid_as(resource, detail));
    }
}
