//! apiVersion and kind of a body, read before anything else is.

use std::fmt::Write as _;

use serde_json::Value;

use super::DecodeError;

/// What a body says it is. Both parts may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

const GO_TYPE: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// Reads apiVersion and kind of a JSON body, with the texts of upstream's `json.MetaFactory`.
pub fn type_meta(body: &[u8]) -> Result<TypeMeta, DecodeError> {
    let parse =
        |text: String| DecodeError::Type(format!("couldn't get version/kind; json parse error: {text}"));
    let value = super::json_to_value(body).map_err(|e| parse(e.to_string()))?;
    let entries = match value {
        Value::Object(entries) => entries,
        Value::Null => return Ok(TypeMeta::default()),
        other => {
            let kind = kind_of(&other);
            return Err(parse(format!("json: cannot unmarshal {kind} into Go value of type {GO_TYPE}")));
        }
    };
    // Go's own decoder matches names without regard to case.
    let text = |name: &str| {
        let found = entries.get(name).or_else(|| {
            entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        });
        match found {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(parse(format!(
                "json: cannot unmarshal {} into Go struct field .{name} of type string",
                kind_of(other)
            ))),
        }
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, version) = match api_version.split_once('/') {
        None => ("", api_version.as_str()),
        Some((_, rest)) if rest.contains('/') => {
            return Err(DecodeError::Type(format!("unexpected GroupVersion string: {api_version}")));
        }
        Some(parts) => parts,
    };
    Ok(TypeMeta { group: group.into(), version: version.into(), kind })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The beginning of a body as upstream quotes it behind "the object provided is unrecognized".
pub fn summarize(body: &[u8]) -> String {
    const MAX: usize = 30;
    if body.is_empty() {
        return "<empty>".into();
    }
    let cut = &body[..body.len().min(MAX)];
    let mut text = if body[0] == b'{' {
        String::from_utf8_lossy(cut).into_owned()
    } else {
        cut.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    if body.len() > MAX {
        text.push_str(" ...");
    }
    text
}
