//! From request bodies and patches to objects of a custom kind.

use schema::decode::{self, DecodeError, Strictness};
use schema::structural::custom::Source;
use schema::structural::object_meta::{self, Malformed};
use serde_json::Value;

use super::Handler;
use crate::codec::{Decoded, Target, type_error};
use crate::kind::Kind;
use crate::status::ApiError;

/// Decodes the body of a create or update.
pub(crate) fn decode(
    kind: &Kind,
    handler: &Handler,
    body: &[u8],
    yaml: bool,
    strictness: Strictness,
) -> Result<Decoded, ApiError> {
    let target = Target::of(kind);
    let (mut object, mut problems) = match read(body, yaml, strictness) {
        Ok(read) => read,
        // Type and version are read first, and hold no numbers.
        Err(DecodeError::Type(text)) if text.contains("cannot unmarshal number") => {
            let (kind, version) = (&kind.kind, &kind.version);
            return Err(ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {text}"
            )));
        }
        Err(error) => return Err(type_error(&target, body, yaml, Some(error))),
    };
    let given = object["apiVersion"].as_str().unwrap_or_default();
    if object["kind"].as_str().is_none_or(str::is_empty) || given != kind.api_version() {
        check_type_meta(&target, body, &object, yaml)?;
    }
    if object["kind"].as_str().unwrap_or_default().is_empty() {
        let shown = if yaml { object.to_string() } else { String::from_utf8_lossy(body).into_owned() };
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{shown}' ({})",
            kind.kind,
            decode::summarize(body)
        )));
    }
    if given != kind.api_version() {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    let cannot = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            object_kind(kind, body, yaml),
            kind.version,
            kind.kind
        ))
    };
    let source = Source::Request { track_unknown: strictness != Strictness::Ignore };
    let unknown = conform(kind, handler, &mut object, source)?.map_err(|error| cannot(&error))?;
    problems.extend(unknown);
    if strictness == Strictness::Strict && !problems.is_empty() {
        return Err(cannot(&DecodeError::Strict(problems)));
    }
    crate::object::meta_mut(&mut object);
    Ok(Decoded { value: object, warnings: problems })
}

/// Type and version are read before anything else is said about them.
fn check_type_meta(target: &Target<'_>, body: &[u8], object: &Value, yaml: bool) -> Result<(), ApiError> {
    let json = if yaml { object.to_string().into_bytes() } else { body.to_vec() };
    if decode::type_meta(&json).is_err() { Err(type_error(target, body, yaml, None)) } else { Ok(()) }
}

/// Brings the result of a patch or an apply in line with the schema.
pub(crate) fn normalise(
    kind: &Kind,
    handler: &Handler,
    mut object: Value,
    strictness: Strictness,
) -> Result<Decoded, DecodeError> {
    let source = Source::Request { track_unknown: strictness != Strictness::Ignore };
    let outcome = conform(kind, handler, &mut object, source);
    let unknown = outcome.map_err(|error| DecodeError::Type(error.message))?.map_err(DecodeError::Type)?;
    if strictness == Strictness::Strict && !unknown.is_empty() {
        return Err(DecodeError::Strict(unknown));
    }
    crate::object::meta_mut(&mut object);
    Ok(Decoded { value: object, warnings: unknown })
}

/// Brings what an apply has merged in line with the schema, as far as upstream does.
pub(crate) fn normalise_applied(
    kind: &Kind,
    handler: &Handler,
    mut object: Value,
) -> Result<Decoded, DecodeError> {
    let outcome = conform(kind, handler, &mut object, Source::Apply);
    outcome.map_err(|error| DecodeError::Type(error.message))?.map_err(DecodeError::Type)?;
    crate::object::meta_mut(&mut object);
    Ok(Decoded { value: object, warnings: Vec::new() })
}

/// The kind that the body names, for messages.
fn object_kind(kind: &Kind, body: &[u8], yaml: bool) -> String {
    let object = if yaml { decode::yaml_to_value(body) } else { decode::json_to_value(body) };
    let named = object.ok().and_then(|object| object["kind"].as_str().map(str::to_owned));
    named.unwrap_or_else(|| kind.kind.to_string())
}

/// The body as a tree, with the texts of duplicate fields unless nobody wants them.
fn read(body: &[u8], yaml: bool, strictness: Strictness) -> Result<(Value, Vec<String>), DecodeError> {
    let untyped = || {
        DecodeError::Type("json: cannot unmarshal array into Go value of type map[string]interface {}".into())
    };
    let (object, repeated) = match yaml {
        true => decode::yaml_to_value_strict(body)?,
        false => decode::json_to_value_strict(body)?,
    };
    let object = if object.is_null() { Value::Object(serde_json::Map::new()) } else { object };
    if !object.is_object() {
        return Err(untyped());
    }
    let repeated = match strictness {
        Strictness::Ignore => Vec::new(),
        // As one error, the lines have a heading.
        Strictness::Strict if yaml && !repeated.is_empty() => {
            vec![format!("yaml: unmarshal errors:\n  {}", repeated.join("\n  "))]
        }
        _ => repeated,
    };
    Ok((object, repeated))
}

/// Normalises, prunes and defaults; answers the texts of unknown fields. The outer error is ours, the
/// inner one the object's.
fn conform(
    kind: &Kind,
    handler: &Handler,
    object: &mut Value,
    source: Source,
) -> Result<Result<Vec<String>, String>, ApiError> {
    let version = handler.version()?;
    // Objects of another kind are left to validation.
    let found = if object["kind"] == *kind.kind {
        let found = version.coerce(object, source);
        if found.is_ok() {
            version.apply_defaults(object);
        }
        found
    } else {
        match object.get_mut("metadata") {
            Some(metadata) => {
                let track_unknown = source == Source::Request { track_unknown: true };
                object_meta::normalize(metadata, Malformed::Refuse, track_unknown)
            }
            None => Ok(Vec::new()),
        }
    };
    Ok(found.map(|paths| paths.into_iter().map(|path| format!("unknown field \"{path}\"")).collect()))
}
