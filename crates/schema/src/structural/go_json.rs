//! Values as Go prints them in messages, where that differs from JSON with sorted keys.

use serde_json::Value;

use super::Rule;
use crate::field::{Error, Kind, Path};
pub(super) use crate::gotext::type_of;

/// "Invalid value" that shows a text as it is: internal types of upstream, whose fields are not
/// sorted when they are printed.
pub(super) fn invalid_showing(path: &Path<'_>, shown: &str, detail: &str) -> Error {
    let shown = shown.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Error { kind: Kind::Invalid, field: path.to_string(), value: None, detail: format!("{shown}: {detail}") }
}

/// A rule as upstream's internal type prints it.
pub(super) fn rule(rule: &Rule) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let reason = rule.reason.as_deref().map_or_else(|| "null".to_owned(), text);
    let optional = rule.optional_old_self.map_or_else(|| "null".to_owned(), |b| b.to_string());
    format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{reason},"FieldPath":{},"OptionalOldSelf":{optional}}}"#,
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path),
    )
}
