//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::super::metadata::immutable;
use super::super::{format, metadata, rules};
use crate::cursor::Node;
use crate::decode::json_to_value;
use crate::field::{Error, ErrorList, Path};

/// How many bytes all values of an object may have together.
const DATA_MAX_BYTES: usize = 1 << 20;

fn keys(data: &Node, errs: &mut ErrorList) {
    for (key, value) in data.entries() {
        errs.extend(format::config_map_key(key).into_iter().map(|m| value.invalid_as(key, m)));
    }
}

/// The length of base64 when decoded.
fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// ConfigMap.
pub fn config_map(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let (data, binary) = (object.at("data"), object.at("binaryData"));
    keys(&data, &mut errs);
    for (key, value) in data.entries() {
        if binary.key(key).is_set() {
            errs.push(value.invalid_as(key, "duplicate of key present in binaryData"));
        }
    }
    keys(&binary, &mut errs);
    let text: usize = data.entries().map(|(_, value)| value.len()).sum();
    let bytes: usize = binary.entries().map(|(_, value)| decoded_length(value.str())).sum();
    if text + bytes > DATA_MAX_BYTES {
        errs.push(Error::too_long(&Path::new(""), DATA_MAX_BYTES));
    }
    errs
}

/// A changed ConfigMap.
pub fn config_map_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    frozen(new, old, &["data", "binaryData"], &mut errs);
    errs.extend(config_map(new));
    errs
}

/// What was made immutable stays so.
fn frozen(new: &Node, old: &Node, fields: &[&'static str], errs: &mut ErrorList) {
    if !old.at("immutable").bool() {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !new.at("immutable").bool() {
        errs.push(new.at("immutable").forbidden(detail));
    }
    for field in fields {
        if new.at(field).value() != old.at(field).value() {
            errs.push(new.at(field).forbidden(detail));
        }
    }
}

/// Secret.
pub fn secret(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let data = object.at("data");
    keys(&data, &mut errs);
    let bytes: usize = data.entries().map(|(_, value)| decoded_length(value.str())).sum();
    if bytes > DATA_MAX_BYTES {
        errs.push(data.too_long(DATA_MAX_BYTES));
    }
    match object.at("type").str() {
        "kubernetes.io/service-account-token" => {
            let name = object.at("metadata").at("annotations").key("kubernetes.io/service-account.name");
            rules::not_empty(&name, &mut errs);
        }
        "kubernetes.io/dockercfg" => docker_config(&data.key(".dockercfg"), &mut errs),
        "kubernetes.io/dockerconfigjson" => docker_config(&data.key(".dockerconfigjson"), &mut errs),
        "kubernetes.io/basic-auth" => {
            let parts = [data.key("username"), data.key("password")];
            if parts.iter().all(|part| !part.is_set()) {
                errs.extend(parts.iter().map(|part| part.required("")));
            }
        }
        "kubernetes.io/ssh-auth" => {
            rules::not_empty(&data.key("ssh-privatekey"), &mut errs);
        }
        "kubernetes.io/tls" => {
            let parts = [data.key("tls.crt"), data.key("tls.key")];
            errs.extend(parts.iter().filter(|part| !part.is_set()).map(|part| part.required("")));
        }
        _ => {}
    }
    errs
}

fn docker_config(config: &Node, errs: &mut ErrorList) {
    if !config.is_set() {
        errs.push(config.required(""));
        return;
    }
    let bytes = BASE64.decode(config.str()).unwrap_or_default();
    if let Some(problem) = go_json_problem(&bytes) {
        errs.push(config.invalid_as("<secret contents redacted>", problem));
    }
}

/// What Go's decoder says about bytes that should be a JSON object.
fn go_json_problem(bytes: &[u8]) -> Option<String> {
    let kind = match json_to_value(bytes) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::Array(_)) => "array",
        Err(error) => return Some(error.to_string()),
    };
    Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

/// A changed Secret.
pub fn secret_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    immutable(&new.at("type"), &old.at("type"), &mut errs);
    frozen(new, old, &["data"], &mut errs);
    errs.extend(secret(new));
    errs
}
