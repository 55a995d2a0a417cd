//! Metadata and type of custom objects and of the resources embedded in them.

use serde_json::{Map, Value};

use super::{META_FIELDS, Structural};
use crate::cursor::Node;
use crate::decode::{self, Strictness};
use crate::field::{Error, ErrorList, Kind, Path};
use crate::types::{Type, TypeRef};
use crate::validation::{format, metadata};

/// What to do about metadata that is not of the right type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Refuse the object.
    Refuse,
    /// Leave out the fields: what is stored may be older than the rules.
    Drop,
}

/// The type of `metadata`.
pub(super) fn object_meta_type() -> Option<TypeRef> {
    crate::types::of_kind("", "v1", "Pod")?.field("metadata").map(|field| field.ty.clone())
}

/// Reads and normalises an object's metadata, as Go does when it decodes `ObjectMeta`. Answers the
/// paths of unknown fields (relative to metadata), or Go's complaint.
pub fn normalize(metadata: &mut Value, malformed: Malformed, track: bool) -> Result<Vec<String>, String> {
    let Some(ty) = object_meta_type() else { return Ok(Vec::new()) };
    let strictness = if track { Strictness::Warn } else { Strictness::Ignore };
    let error = match decode::decode_value(metadata.clone(), &ty, strictness) {
        Ok(decoded) => {
            *metadata = decoded.value;
            return Ok(decoded.warnings.iter().filter_map(|w| unknown_path(w)).collect());
        }
        Err(error) => error.to_string(),
    };
    match (malformed, metadata) {
        (Malformed::Refuse, _) => Err(error),
        (Malformed::Drop, Value::Object(entries)) => Ok(salvage(entries, &ty, strictness)),
        (Malformed::Drop, other) => {
            Err(format!("invalid metadata: expected object, got {}", super::go_json::type_of(other)))
        }
    }
}

/// Keeps the fields that can be read one by one.
fn salvage(entries: &mut Map<String, Value>, ty: &Type, strictness: Strictness) -> Vec<String> {
    let mut kept = Map::new();
    let mut unknown = Vec::new();
    for (name, value) in std::mem::take(entries) {
        let single = Value::Object(Map::from_iter([(name, value)]));
        if let Ok(decoded) = decode::decode_value(single, ty, strictness) {
            unknown.extend(decoded.warnings.iter().filter_map(|w| unknown_path(w)));
            if let Value::Object(read) = decoded.value {
                kept.extend(read);
            }
        }
    }
    *entries = kept;
    unknown
}

/// The path in `unknown field "a.b"`.
fn unknown_path(warning: &str) -> Option<String> {
    let quoted = warning.strip_prefix("unknown field \"")?.strip_suffix('"')?;
    Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// Normalises metadata and checks type of embedded resources, and of the object itself if
/// `is_root`. Answers the sorted paths of unknown metadata fields if `track`.
pub fn coerce(
    object: &mut Value,
    schema: Option<&Structural>,
    is_root: bool,
    malformed: Malformed,
    track: bool,
) -> Result<Vec<String>, Error> {
    let mut coercer = Coercer { malformed, track, path: String::new(), unknown: Vec::new() };
    match (schema, is_root) {
        (Some(schema), is_root) => coercer.coerce(object, schema, is_root)?,
        (None, true) => coercer.coerce(object, &Structural::default(), true)?,
        (None, false) => {}
    }
    coercer.unknown.sort();
    Ok(coercer.unknown)
}

struct Coercer {
    malformed: Malformed,
    track: bool,
    path: String,
    unknown: Vec<String>,
}

impl Coercer {
    fn coerce(&mut self, value: &mut Value, schema: &Structural, is_root: bool) -> Result<(), Error> {
        match value {
            Value::Object(entries) => {
                if is_root || schema.extensions.embedded_resource {
                    self.resource(entries)?;
                }
                for (name, value) in entries {
                    let length = self.path.len();
                    let below = match schema.properties.get(name) {
                        Some(property) => {
                            push_child(&mut self.path, name);
                            property
                        }
                        None => {
                            let Some(schema) = schema.additional_schema() else { continue };
                            self.path.push_str(&format!("[{name}]"));
                            schema
                        }
                    };
                    self.coerce(value, below, false)?;
                    self.path.truncate(length);
                }
            }
            Value::Array(items) => {
                let Some(schema) = &schema.items else { return Ok(()) };
                for (i, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{i}]"));
                    self.coerce(item, schema, false)?;
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn resource(&mut self, entries: &mut Map<String, Value>) -> Result<(), Error> {
        for name in &META_FIELDS[..2] {
            if entries.get(*name).is_some_and(|v| !v.is_string()) {
                match self.malformed {
                    Malformed::Drop => drop(entries.remove(*name)),
                    Malformed::Refuse => {
                        let shown = entries.get(*name).cloned().unwrap_or_default();
                        return Err(self.invalid(name, shown, "must be a string"));
                    }
                }
            }
        }
        let Some(metadata) = entries.get_mut("metadata") else { return Ok(()) };
        match normalize(metadata, self.malformed, self.track) {
            Ok(unknown) => {
                let mut prefix = self.path.clone();
                push_child(&mut prefix, "metadata");
                self.unknown.extend(unknown.into_iter().map(|path| format!("{prefix}.{path}")));
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.retain(|name, value| name != "creationTimestamp" || !value.is_null());
                }
                Ok(())
            }
            Err(_) if self.malformed == Malformed::Drop => Ok(()),
            Err(text) => {
                let shown = metadata.clone();
                Err(self.invalid("metadata", shown, &text))
            }
        }
    }

    fn invalid(&self, name: &str, value: Value, detail: &str) -> Error {
        let mut field = self.path.clone();
        push_child(&mut field, name);
        Error { kind: Kind::Invalid, field, value: Some(value), detail: detail.to_owned() }
    }
}

fn push_child(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Checks metadata and type of embedded resources, and of the object itself if `is_root`.
pub fn validate(object: &Value, schema: Option<&Structural>, is_root: bool) -> ErrorList {
    validate_at(&Path::root(), object, schema, is_root)
}

/// As [`validate`], somewhere in an object.
pub(super) fn validate_at<'a>(
    path: &Path<'a>,
    value: &'a Value,
    schema: Option<&'a Structural>,
    is_root: bool,
) -> ErrorList {
    let mut errs = ErrorList::new();
    match (schema, is_root) {
        (Some(schema), _) => walk(path, value, schema, is_root, &mut errs),
        (None, true) => walk(path, value, &Structural::default(), true, &mut errs),
        (None, false) => {}
    }
    errs
}

fn walk<'a>(path: &Path<'a>, value: &'a Value, schema: &Structural, is_root: bool, errs: &mut ErrorList) {
    match value {
        Value::Object(entries) => {
            if is_root || schema.extensions.embedded_resource {
                embedded_resource(path, value, entries, errs);
            }
            for (name, value) in entries {
                if let Some(property) = schema.properties.get(name) {
                    walk(&path.child(name), value, property, false, errs);
                } else if let Some(schema) = schema.additional_schema() {
                    walk(&path.key(name), value, schema, false, errs);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for (i, item) in items.iter().enumerate() {
                walk(&path.index(i), item, schema, false, errs);
            }
        }
        _ => {}
    }
}

fn embedded_resource<'a>(
    path: &Path<'a>,
    value: &'a Value,
    entries: &Map<String, Value>,
    errs: &mut ErrorList,
) {
    for name in &META_FIELDS[..2] {
        if !entries.contains_key(*name) {
            errs.push(Error::required(&path.child(name), ""));
        }
    }
    if let Some(version) = entries.get("apiVersion") {
        let at = path.child("apiVersion");
        match version.as_str() {
            None => errs.push(Error::invalid(&at, version.clone(), "must be a string")),
            Some("") => errs.push(Error::invalid(&at, "", "must not be empty")),
            Some(text) if text.matches('/').count() > 1 => {
                errs.push(Error::invalid(&at, text, format!("unexpected GroupVersion string: {text}")));
            }
            Some(_) => {}
        }
    }
    if let Some(kind) = entries.get("kind") {
        let at = path.child("kind");
        match kind.as_str() {
            None => errs.push(Error::invalid(&at, kind.clone(), "must be a string")),
            Some("") => errs.push(Error::invalid(&at, "", "must not be empty")),
            Some(text) => {
                let wrong = format::dns1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let detail =
                        format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errs.push(Error::invalid(&at, text, detail));
                }
            }
        }
    }
    if let Some(given) = value.get("metadata") {
        embedded_metadata(path, given, errs);
    }
}

fn embedded_metadata<'a>(path: &Path<'a>, given: &Value, errs: &mut ErrorList) {
    let at = path.child("metadata");
    let mut meta = given.clone();
    if let Err(text) = normalize(&mut meta, Malformed::Refuse, false) {
        return errs.push(Error::invalid(&at, given.clone(), text));
    }
    let named = meta.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if let (false, Some(entries)) = (named, meta.as_object_mut()) {
        // A name is not required, but the rules for metadata want one.
        entries.insert("name".to_owned(), "fakename".into());
    }
    let mut found = ErrorList::new();
    metadata::validate_common(&Node::root(&meta), format::name_is_path_segment, &mut found);
    let prefix = at.to_string();
    errs.extend(found.into_iter().map(|error| Error { field: format!("{prefix}.{}", error.field), ..error }));
}
