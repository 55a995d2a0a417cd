//! From request bodies to checked, normalised, defaulted object trees.

use http::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use crate::kind::Kind;
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

/// The media type of a body, without parameters; JSON where none is given.
pub fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.is_empty() { "application/json" } else { media }
}

/// Parses a body into a tree without looking at any type.
pub fn parse(body: &[u8], headers: &HeaderMap) -> Result<Value, ApiError> {
    match content_type(headers) {
        "application/json" => {
            serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))
        }
        "application/yaml" => parse_yaml(body),
        _ => Err(ApiError::unsupported_media_type(OBJECT_MEDIA_TYPES)),
    }
}

/// Parses YAML into a tree.
pub fn parse_yaml(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    serde_saphyr::from_str(text).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Decodes the body of a create or update.
pub fn decode(kind: &Kind, body: &[u8], headers: &HeaderMap, _query: &Query) -> Result<Decoded, ApiError> {
    let value = parse(body, headers)?;
    normalise(kind, value)
}

/// Checks and normalises a tree (after a patch, say).
pub fn normalise(kind: &Kind, mut value: Value) -> Result<Decoded, ApiError> {
    if value.is_null() {
        value = serde_json::json!({});
    }
    if !value.is_object() {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {})",
            kind.kind
        )));
    }
    value["kind"] = kind.kind.as_ref().into();
    value["apiVersion"] = kind.api_version().into();
    crate::object::meta_mut(&mut value);
    (schema::strategy::of(&kind.group, &kind.kind).default)(&mut value);
    Ok(Decoded { value, warnings: Vec::new() })
}
