//! Custom resources: what a CustomResourceDefinition may say, and what its objects must be.
//!
//! A [`Structural`] is a structural schema: the shape of values, apart from the rules about them.
//! Pruning, defaulting and coercion follow its shape; [`value`] checks values against its rules
//! in kube-openapi's words; [`rules`] evaluates `x-kubernetes-validations`; [`crd`] says whether a
//! definition is valid; [`custom`] puts all of it together for one version of a custom kind.
//!
//! Upstream: `k8s.io/apiextensions-apiserver/pkg/{apiserver/schema,apiserver/validation,
//! apis/apiextensions/validation,registry}`. Where Go iterates over maps in random order, keys are
//! taken in alphabetical order here.

pub mod columns;
pub mod crd;
pub mod custom;
pub mod defaulting;
mod field_path;
mod formats;
mod go_json;
mod invariants;
pub mod json_path;
mod list_types;
pub mod object_meta;
pub mod openapi;
mod parse;
pub mod pruning;
mod ratcheting;
mod regexp;
pub mod rules;
mod to_type;
pub mod value;

use std::collections::BTreeMap;

use serde_json::Value;

pub use custom::CustomVersion;
pub use field_path::{FieldPath, valid_field_path};
pub use invariants::validate as validate_structural;
pub use to_type::to_type;

/// The fields that every object has, whatever its schema says.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A structural schema: every value it describes has one known shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Structural {
    /// Schema of the items of an array.
    pub items: Option<Box<Structural>>,
    /// Schemas of the fields of an object.
    pub properties: BTreeMap<String, Structural>,
    /// What other fields of an object may be.
    pub additional: Option<Additional>,
    /// What is allowed in structures only, not in rules about values.
    pub generic: Generic,
    /// Kubernetes' extensions that say something about structure.
    pub extensions: Extensions,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// The rules about values, if there are any.
    pub values: Option<Box<ValueRules>>,
}

/// `additionalProperties`.
#[derive(Clone, Debug, PartialEq)]
pub enum Additional {
    /// Anything, or nothing.
    Any(bool),
    /// Values of this schema.
    Schema(Box<Structural>),
}

/// What a schema may say outside of rules about values only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generic {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`, or empty.
    pub r#type: String,
    /// What is put where nothing is.
    pub default: Option<Value>,
    /// Whether null is a value.
    pub nullable: bool,
    /// Whether there is a title. The texts are read from the definition when they are published.
    pub titled: bool,
    /// Whether there is a description.
    pub described: bool,
    /// Whether there are external documentation or an example.
    pub documented: bool,
}

/// Kubernetes' extensions of OpenAPI that say something about structure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extensions {
    /// Fields that are not specified stay.
    pub preserve_unknown: bool,
    /// The value is an object of some kind, with apiVersion, kind and metadata.
    pub embedded_resource: bool,
    /// The value is an integer or a string.
    pub int_or_string: bool,
    /// The fields that identify the items of a list of type `map`.
    pub list_map_keys: Vec<String>,
    /// `atomic`, `set` or `map`.
    pub list_type: Option<String>,
    /// `granular` or `atomic`.
    pub map_type: Option<String>,
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// A CEL expression that must be true.
    pub rule: String,
    /// What to say if it is not.
    pub message: String,
    /// A CEL expression that says it.
    pub message_expression: String,
    /// The machine-readable reason.
    pub reason: Option<String>,
    /// The field to complain about, relative to the schema's place.
    pub field_path: String,
    /// Whether `oldSelf` is an optional.
    pub optional_old_self: Option<bool>,
}

/// Rules about values, as far as they do not say anything about structure.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of JSON Schema")]
pub struct ValueRules {
    pub format: String,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: String,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub enumeration: Vec<Value>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub all_of: Vec<Nested>,
    pub any_of: Vec<Nested>,
    pub one_of: Vec<Nested>,
    pub not: Option<Box<Nested>>,
}

/// Rules about values below `allOf`, `anyOf`, `oneOf` or `not`.
///
/// What they say about structure makes a schema non-structural, but for the ways in which
/// int-or-string is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nested {
    /// The rules about the value itself.
    pub values: ValueRules,
    /// `x-kubernetes-validations`, which are not allowed here.
    pub rules: Vec<Rule>,
    /// Rules about the items.
    pub items: Option<Box<Nested>>,
    /// Rules about fields.
    pub properties: BTreeMap<String, Nested>,
    /// Rules about other fields, which are not allowed here.
    pub additional: Option<Box<Nested>>,
    /// Not allowed here.
    pub generic: Generic,
    /// Not allowed here.
    pub extensions: Extensions,
}

impl Structural {
    /// Reads a version's `openAPIV3Schema` (or a part of it), as it stands in a definition of
    /// `apiextensions.k8s.io/v1`. Fails on what structural schemas cannot express.
    pub fn parse(schema: &Value) -> Result<Structural, String> {
        parse::structural(schema)
    }

    /// The rules about values; none if there are none.
    pub fn values(&self) -> &ValueRules {
        static NONE: std::sync::OnceLock<ValueRules> = std::sync::OnceLock::new();
        self.values.as_deref().unwrap_or_else(|| NONE.get_or_init(ValueRules::default))
    }

    /// The schema of other fields, if they have one.
    pub fn additional_schema(&self) -> Option<&Structural> {
        match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// The schema of a field, be it named or not.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or_else(|| self.additional_schema())
    }

    /// Whether null is neither a value here nor replaced by one.
    fn drops_null(&self) -> bool {
        !self.generic.nullable && self.generic.default.is_none()
    }
}

#[cfg(test)]
mod tests;
