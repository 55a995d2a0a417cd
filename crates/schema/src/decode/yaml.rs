//! YAML bodies.

use serde_json::Value;

use super::DecodeError;

/// Reads the first document of a YAML text as JSON values.
pub fn yaml_to_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    read(bytes).map(|(value, _)| value)
}

/// Also returns a text for every key that was given twice.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    serde_saphyr::from_slice(bytes)
        .map(|value| (value, Vec::new()))
        .map_err(|e| DecodeError::Syntax(format!("yaml: {e}")))
}
