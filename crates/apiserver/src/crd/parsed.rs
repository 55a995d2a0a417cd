//! What the server needs to know of a CustomResourceDefinition before anybody uses it. Schemas may be
//! large and are left out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A CustomResourceDefinition without its schemas.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Crd {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub group: String,
    pub names: Names,
    pub scope: String,
    pub versions: Vec<VersionSpec>,
    pub conversion: Option<Conversion>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Names {
    pub plural: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub singular: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub list_kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct VersionSpec {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    pub deprecated: bool,
    pub deprecation_warning: Option<String>,
    pub subresources: Option<Subresources>,
    pub additional_printer_columns: Value,
    pub selectable_fields: Vec<SelectableField>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subresources {
    pub status: Option<Value>,
    pub scale: Option<Scale>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Scale {
    pub spec_replicas_path: String,
    pub status_replicas_path: String,
    pub label_selector_path: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SelectableField {
    pub json_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Conversion {
    pub strategy: String,
    pub webhook: Option<Webhook>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Webhook {
    /// As in the definition: the webhook client reads it.
    pub client_config: Value,
    pub conversion_review_versions: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub conditions: Option<Vec<Condition>>,
    pub accepted_names: Names,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    pub r#type: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

impl Crd {
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|condition| condition.r#type == r#type)
    }

    pub fn is(&self, r#type: &str) -> bool {
        self.condition(r#type).is_some_and(|condition| condition.status == "True")
    }

    /// `things.example.com`: the directory of its objects.
    pub fn dir(&self) -> String {
        format!("{}.{}", self.spec.names.plural, self.spec.group)
    }
}
