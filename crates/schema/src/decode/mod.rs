//! Reads objects the way Go does: the same forms are accepted, the same error texts come out, and
//! the result is what Go would write after reading: nulls gone, empty values left out where the
//! field says `omitempty` and present where it does not, quantities and times in canonical form.
//!
//! Why an own JSON reader: what clients see depends on details that serde_json hides. Errors quote
//! number literals (`number 1e2`), lone surrogates and invalid UTF-8 are replaced, duplicate keys
//! are reported with their path and merged. It reads once, driven by the type.

mod duration;
mod json;
mod quantity;
mod scan;
mod tidy;
mod time;
mod tree;
mod type_meta;
mod typed;
mod yaml;

use serde_json::Value;

use crate::types::Type;

pub use tidy::{tidy, tidy_stored};
pub use type_meta::{TypeMeta, summarize, type_meta};
pub(crate) use typed::float_as_go;
pub use yaml::yaml_to_value;

/// Values that are kept become trees, which are walked recursively, here and by every reader of what is
/// stored (serde_json stops at 128). No object needs more.
const MAX_KEPT_DEPTH: usize = 100;

/// What to do about fields that are unknown or given twice (`fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in `Decoded::warnings`.
    Warn,
    /// Refuse the object.
    Strict,
}

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The normalised object.
    pub value: Value,
    /// One text per unknown or duplicate field, as it stands in a Warning header. Empty unless
    /// `Strictness::Warn` was asked for.
    pub warnings: Vec<String>,
}

/// Why a body is not an object of the type. The texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body is not JSON or not YAML.
    #[error("{0}")]
    Syntax(String),
    /// A value has the wrong kind or form.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields, with `Strictness::Strict`.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// Decodes a JSON body as an object of a type.
pub fn decode_json(bytes: &[u8], ty: &Type, strictness: Strictness) -> Result<Decoded, DecodeError> {
    let mut decoder = typed::Decoder::new(json::Reader::new(bytes), strictness);
    let outcome = decoder.document(ty);
    match (outcome, decoder.first_error.take()) {
        (Ok(value), None) => finish(value, decoder.strict_errors, strictness),
        (outcome, saved) => {
            // Go checks the syntax of the whole body before it looks at types.
            scan::check(bytes).map_err(DecodeError::Syntax)?;
            Err(match (outcome, saved) {
                (Err(typed::Stop::Unmarshaler(text)), _) | (_, Some(text)) => DecodeError::Type(text),
                (Err(typed::Stop::Syntax), None) => {
                    // Well-formed, as was just checked, but for its depth.
                    DecodeError::Syntax("exceeded max depth".into())
                }
                (Ok(_), None) => unreachable!("matched above"),
            })
        }
    }
}

/// Decodes a YAML body. As upstream does, YAML is turned into JSON values first.
pub fn decode_yaml(bytes: &[u8], ty: &Type, strictness: Strictness) -> Result<Decoded, DecodeError> {
    let (value, mut duplicates) = yaml::read(bytes)?;
    let mut decoded = match decode_value(value, ty, strictness) {
        Err(DecodeError::Strict(fields)) => {
            duplicates.extend(fields);
            return Err(DecodeError::Strict(duplicates));
        }
        outcome => outcome?,
    };
    match strictness {
        Strictness::Strict if !duplicates.is_empty() => return Err(DecodeError::Strict(duplicates)),
        Strictness::Warn => drop(decoded.warnings.splice(0..0, lines(&duplicates))),
        _ => {}
    }
    Ok(decoded)
}

/// Checks and normalises an object that is a value already, such as the result of a patch.
pub fn decode_value(value: Value, ty: &Type, strictness: Strictness) -> Result<Decoded, DecodeError> {
    decode_tree(value, ty, strictness, false)
}

/// As `decode_value`, with the complaints that upstream has about the result of a strategic merge
/// patch or an apply (`cannot restore slice from map`).
pub fn decode_patched(value: Value, ty: &Type, strictness: Strictness) -> Result<Decoded, DecodeError> {
    decode_tree(value, ty, strictness, true)
}

fn decode_tree(
    value: Value,
    ty: &Type,
    strictness: Strictness,
    from_tree: bool,
) -> Result<Decoded, DecodeError> {
    let mut decoder = typed::Decoder::new(tree::Reader::new(value), strictness);
    decoder.from_tree = from_tree;
    match (decoder.document(ty), decoder.first_error.take()) {
        (Ok(value), None) => finish(value, decoder.strict_errors, strictness),
        (Err(typed::Stop::Unmarshaler(text)), _) | (_, Some(text)) => Err(DecodeError::Type(text)),
        (Err(typed::Stop::Syntax), None) => Err(DecodeError::Syntax("exceeded max depth".into())),
    }
}

/// Reads JSON without a type, by Go's rules (invalid UTF-8 is replaced, of duplicate keys the last
/// counts). For patches and custom resources.
pub fn json_to_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    decode_json(bytes, &untyped(), Strictness::Ignore).map(|d| d.value)
}

/// As `json_to_value`; also returns a text for every duplicate key.
pub fn json_to_value_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    decode_json(bytes, &untyped(), Strictness::Warn).map(|d| (d.value, d.warnings))
}

/// As `json_to_value`, but numbers stay as they are written: `1.0` is not `1`.
pub fn json_to_value_as_written(bytes: &[u8]) -> Result<Value, DecodeError> {
    decode_json(bytes, &Type::new("", "interface {}", crate::types::Shape::Raw), Strictness::Ignore)
        .map(|d| d.value)
}

/// What Go says about a text that is no duration; an empty one is none, and fine.
pub fn duration_error(text: &str) -> Option<String> {
    if text.is_empty() { None } else { duration::duration(text).err() }
}

/// As [`yaml_to_value`]; also returns a text for every key that is given twice, with its line.
pub fn yaml_to_value_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    yaml::read(bytes).map(|(value, texts)| (value, lines(&texts).collect()))
}

/// The lines of go-yaml's errors, each by itself.
fn lines(texts: &[String]) -> impl Iterator<Item = String> {
    texts.iter().flat_map(|text| text.lines().skip(1)).map(|line| line.trim().to_owned())
}

/// Rewrites numbers as Go does that has read them without a type: `1.0` becomes `1`.
pub fn numbers_as_go(value: Value) -> Value {
    decode_value(value, &untyped(), Strictness::Ignore).map(|d| d.value).unwrap_or_default()
}

fn untyped() -> Type {
    Type::new("", "map[string]interface {}", crate::types::Shape::Any)
}

fn finish(value: Value, errors: Vec<String>, strictness: Strictness) -> Result<Decoded, DecodeError> {
    match strictness {
        Strictness::Strict if !errors.is_empty() => Err(DecodeError::Strict(errors)),
        _ => Ok(Decoded { value, warnings: errors }),
    }
}

#[cfg(test)]
mod tests;
