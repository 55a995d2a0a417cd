//! From request bodies to checked, normalised, defaulted object trees.

use http::header::{CONTENT_TYPE, HeaderMap};
use schema::decode::{self, DecodeError, Strictness};
use schema::types::{self, Type};
use serde_json::{Value, json};

use crate::kind::{Kind, group_version};
use crate::negotiate::OBJECT_MEDIA_TYPES;
use crate::query::Query;
use crate::status::ApiError;

/// An object and what the sender should know about it.
#[derive(Debug)]
pub struct Decoded {
    /// The object, with kind and apiVersion.
    pub value: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// The media type of a body, without parameters; JSON where none is given, nothing where it cannot be read.
pub fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text.is_empty() {
        return "application/json".to_owned();
    }
    let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
    // As Go reads it: each parameter has a name and a value, only the last may be missing altogether.
    let is_fine = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        !name.trim().is_empty() && !value.trim().is_empty()
    };
    if parameters.trim().is_empty() || parameters.split(';').all(is_fine) {
        return media.trim().to_ascii_lowercase();
    }
    String::new()
}

/// What `fieldValidation` says; warnings unless told otherwise.
pub fn strictness(query: &Query) -> Strictness {
    match query.text("fieldValidation") {
        "Ignore" => Strictness::Ignore,
        "Strict" => Strictness::Strict,
        _ => Strictness::Warn,
    }
}

/// Parses a body into a tree without looking at any type.
pub fn parse(body: &[u8], headers: &HeaderMap) -> Result<Value, ApiError> {
    let read = match content_type(headers).as_str() {
        "application/json" => decode::json_to_value,
        "application/yaml" => decode::yaml_to_value,
        _ => return Err(ApiError::unsupported_media_type(OBJECT_MEDIA_TYPES)),
    };
    read(body).map_err(|error| {
        ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
    })
}

/// Decodes the body of a create or update of a kind.
pub fn decode(kind: &Kind, body: &[u8], headers: &HeaderMap, query: &Query) -> Result<Decoded, ApiError> {
    if let Some(handler) = &kind.custom {
        return crate::crd::decode(kind, handler, body, is_yaml(headers)?, strictness(query));
    }
    let mut decoded = decode_as(&Target::of(kind), body, headers, strictness(query))?;
    finish(kind, &mut decoded.value);
    Ok(decoded)
}

/// What a body must be.
pub struct Target<'a> {
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Its type, if it has a built-in one.
    pub ty: Option<&'a Type>,
}

impl<'a> Target<'a> {
    /// The kind itself.
    pub fn of(kind: &'a Kind) -> Self {
        Self { group: &kind.group, version: &kind.version, kind: &kind.kind, ty: kind.ty() }
    }

    /// A kind that is no main resource, such as Scale.
    pub fn named(group: &'a str, version: &'a str, kind: &'a str) -> Self {
        Self { group, version, kind, ty: types::of_kind(group, version, kind) }
    }

    fn is(&self, value: &Value) -> bool {
        let kind = value["kind"].as_str().unwrap_or_default();
        let version = value["apiVersion"].as_str().unwrap_or_default();
        (kind.is_empty() || kind == self.kind)
            && (version.is_empty() || version == group_version(self.group, self.version))
    }
}

/// Whether a body is YAML, where it must be that or JSON.
fn is_yaml(headers: &HeaderMap) -> Result<bool, ApiError> {
    match content_type(headers).as_str() {
        "application/json" => Ok(false),
        "application/yaml" => Ok(true),
        _ => Err(ApiError::unsupported_media_type(OBJECT_MEDIA_TYPES)),
    }
}

/// Decodes a body as a given type; kind and apiVersion are filled in.
pub fn decode_as(
    target: &Target<'_>,
    body: &[u8],
    headers: &HeaderMap,
    strictness: Strictness,
) -> Result<Decoded, ApiError> {
    let yaml = is_yaml(headers)?;
    let decoded = match (target.ty, yaml) {
        (Some(ty), false) => decode::decode_json(body, ty, strictness),
        (Some(ty), true) => decode::decode_yaml(body, ty, strictness),
        (None, false) => {
            decode::json_to_value_strict(body).map(|(value, warnings)| decode::Decoded { value, warnings })
        }
        (None, true) => {
            decode::yaml_to_value(body).map(|value| decode::Decoded { value, warnings: Vec::new() })
        }
    };
    match decoded {
        Ok(decoded) if target.is(&decoded.value) => {
            let mut value = if decoded.value.is_object() { decoded.value } else { json!({}) };
            value["kind"] = target.kind.into();
            value["apiVersion"] = group_version(target.group, target.version).into();
            Ok(Decoded { value, warnings: decoded.warnings })
        }
        // Upstream reads the type first, so its errors come before those of the fields.
        Ok(_) => Err(type_error(target, body, yaml, None)),
        Err(error) => Err(type_error(target, body, yaml, Some(error))),
    }
}

/// What upstream says about a body that is no object of the kind.
pub(crate) fn type_error(
    target: &Target<'_>,
    body: &[u8],
    yaml: bool,
    error: Option<DecodeError>,
) -> ApiError {
    let unrecognized = |error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error} ({})",
            target.kind,
            decode::summarize(body)
        ))
    };
    let json = if yaml {
        match decode::yaml_to_value(body) {
            Ok(value) => value.to_string().into_bytes(),
            Err(error) => return unrecognized(&error),
        }
    } else {
        body.to_vec()
    };
    let found = match decode::type_meta(&json) {
        Ok(found) => found,
        Err(error) => return unrecognized(&error),
    };
    let kind = if found.kind.is_empty() { target.kind } else { &found.kind };
    let (group, version) = if found.version.is_empty() {
        (target.group, target.version)
    } else {
        (found.group.as_str(), found.version.as_str())
    };
    if kind == target.kind && group == target.group && version != target.version && was_known(group, version)
    {
        return ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            group_version(group, version),
            group_version(target.group, target.version)
        ));
    }
    let cannot = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            target.kind
        ))
    };
    if kind == target.kind && group == target.group && version == target.version {
        return match error {
            Some(error) => cannot(&error),
            None => unrecognized(&"not an object"),
        };
    }
    cannot(&wrong_kind(target, group, version, kind))
}

/// Whether upstream can still read what was of a version that is not served.
fn was_known(group: &str, version: &str) -> bool {
    matches!(
        (group, version),
        ("authorization.k8s.io", "v1beta1") | ("authentication.k8s.io", "v1beta1" | "v1alpha1")
    )
}

/// Why an object of one kind is not one of another.
pub fn wrong_kind(target: &Target<'_>, group: &str, version: &str, kind: &str) -> String {
    let known = types::of_kind(group, version, kind.strip_suffix("List").unwrap_or(kind)).is_some();
    if known {
        let package = |group: &str| match group.split('.').next() {
            None | Some("") => "core".to_owned(),
            Some(first) => first.to_owned(),
        };
        format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            package(target.group),
            target.kind
        )
    } else {
        format!(
            "no kind {kind:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            group_version(group, version)
        )
    }
}

/// Checks and normalises a tree (after a patch, say) and fills in defaults.
pub fn normalise(kind: &Kind, value: Value, strictness: Strictness) -> Result<Decoded, DecodeError> {
    normalise_with(kind, value, strictness, decode::decode_value)
}

/// As [`normalise`], with what upstream says about the result of a strategic merge patch.
pub fn normalise_patched(kind: &Kind, value: Value, strictness: Strictness) -> Result<Decoded, DecodeError> {
    if let Some(handler) = &kind.custom {
        return crate::crd::normalise_applied(kind, handler, value);
    }
    normalise_with(kind, value, strictness, decode::decode_patched)
}

fn normalise_with(
    kind: &Kind,
    value: Value,
    strictness: Strictness,
    read: fn(Value, &Type, Strictness) -> Result<decode::Decoded, DecodeError>,
) -> Result<Decoded, DecodeError> {
    if let Some(handler) = &kind.custom {
        return crate::crd::normalise(kind, handler, value, strictness);
    }
    let mut decoded = match types::get(&kind.schema) {
        Some(ty) => read(value, ty, strictness)?,
        None => decode::Decoded { value, warnings: Vec::new() },
    };
    finish(kind, &mut decoded.value);
    Ok(Decoded { value: decoded.value, warnings: decoded.warnings })
}

fn finish(kind: &Kind, value: &mut Value) {
    if !value.is_object() {
        *value = json!({});
    }
    value["kind"] = kind.kind.as_ref().into();
    value["apiVersion"] = kind.api_version().into();
    crate::object::meta_mut(value);
    // Defaults are written for the stored version.
    if let Some(convert) = kind.storage.convert {
        (convert.to_storage)(value);
        (schema::strategy::of(&kind.storage.group, &kind.kind).default)(value);
        (convert.from_storage)(value);
        return;
    }
    (schema::strategy::of(&kind.group, &kind.kind).default)(value);
}

/// Brings an object into the form in which Go would write it after defaulting and preparation:
/// `status: {}` where a struct is empty, nothing where a list is. `object` is in the stored version.
pub fn canonicalise(kind: &Kind, object: &mut Value) {
    if kind.is_custom() {
        return;
    }
    let Some(ty) = types::of_kind(&kind.storage.group, &kind.storage.version, &kind.kind) else { return };
    let version = object["metadata"].get_mut("resourceVersion").map(Value::take);
    // The kinds of these groups are stored as JSON upstream, which tells empty from absent.
    if ["apiextensions.k8s.io", "apiregistration.k8s.io"].contains(&&*kind.storage.group) {
        decode::tidy(object, ty);
    } else {
        decode::tidy_stored(object, ty);
    }
    debug_assert_eq!(
        decode::decode_value(object.clone(), ty, Strictness::Ignore).map(|decoded| decoded.value).as_ref(),
        Ok(&*object),
        "our own rules made something that does not fit the type"
    );
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = version;
    }
}
