//! What Kubernetes makes of structural and OpenAPI schemas for CEL: how JSON is converted, which types
//! and fields the checker sees, and how large values can be.

mod decl_type;
mod escape;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use decl_type::{DeclKind, DeclType, DeclTypes, MAX_REQUEST_SIZE};
pub use escape::{escape, is_reserved, unescape};

/// The `type` of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaKind {
    /// No type: int-or-string, or unknown fields are preserved.
    #[default]
    Unspecified,
    /// `object`.
    Object,
    /// `array`.
    Array,
    /// `string`.
    String,
    /// `number`.
    Number,
    /// `integer`.
    Integer,
    /// `boolean`.
    Boolean,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Ordered, replaced as a whole.
    #[default]
    Atomic,
    /// Unordered and without duplicates.
    Set,
    /// Unordered, elements identified by `list_map_keys`.
    Map,
}

/// The parts of a schema that matter to CEL. The root of a resource and embedded resources must have passed
/// [`Schema::resource_root`].
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`.
    pub kind: SchemaKind,
    /// `format`, or empty.
    pub format: String,
    /// `items`.
    pub items: Option<Arc<Schema>>,
    /// `properties`; `None` if the schema has none.
    pub properties: Option<BTreeMap<String, Arc<Schema>>>,
    /// `additionalProperties`, if it is a schema.
    pub additional_properties: Option<Arc<Schema>>,
    /// `nullable`.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: ListType,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `maxLength`.
    pub max_length: Option<i64>,
    /// `maxItems`.
    pub max_items: Option<i64>,
    /// `maxProperties`.
    pub max_properties: Option<i64>,
    /// `required`.
    pub required: Vec<String>,
    /// `enum`.
    pub enum_values: Vec<serde_json::Value>,
    /// Whether there is a `default`.
    pub has_default: bool,
}

impl Schema {
    /// The schema of a member of an object, by its name in JSON.
    pub fn property(&self, name: &str) -> Option<&Schema> {
        match (&self.properties, &self.additional_properties) {
            (Some(properties), _) => properties.get(name).map(|schema| &**schema),
            (None, Some(schema)) => Some(schema),
            (None, None) => None,
        }
    }

    /// With `kind`, `apiVersion`, `metadata.name` and `metadata.generateName`, which the root of a resource and
    /// embedded resources always have (`WithTypeAndObjectMeta`).
    pub fn resource_root(mut self) -> Schema {
        let string = || Arc::new(Schema { kind: SchemaKind::String, ..Schema::default() });
        let is_string = |schema: Option<&Arc<Schema>>| schema.is_some_and(|s| s.kind == SchemaKind::String);
        let properties = self.properties.get_or_insert_default();
        let metadata = properties.get("metadata").and_then(|metadata| metadata.properties.as_ref());
        let complete = is_string(properties.get("kind"))
            && is_string(properties.get("apiVersion"))
            && metadata.is_some_and(|m| is_string(m.get("name")) && is_string(m.get("generateName")));
        if !complete {
            let names =
                BTreeMap::from([("name".to_owned(), string()), ("generateName".to_owned(), string())]);
            let metadata = Schema { kind: SchemaKind::Object, properties: Some(names), ..Schema::default() };
            properties.insert("kind".to_owned(), string());
            properties.insert("apiVersion".to_owned(), string());
            properties.insert("metadata".to_owned(), Arc::new(metadata));
        }
        self
    }
}
