//! Structural schemas as CEL sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::Schema;
use cel::decl::{ListType, SchemaKind};

use super::super::Structural;

/// The schema of values in expressions. The root of a resource has metadata and type.
pub(super) fn declare(schema: &Structural, is_root: bool) -> Arc<Schema> {
    let values = schema.values();
    let extensions = &schema.extensions;
    let properties = || -> BTreeMap<String, Arc<Schema>> {
        schema.properties.iter().map(|(name, property)| (name.clone(), declare(property, false))).collect()
    };
    let declared = Schema {
        kind: match schema.generic.r#type.as_str() {
            "object" => SchemaKind::Object,
            "array" => SchemaKind::Array,
            "string" => SchemaKind::String,
            "number" => SchemaKind::Number,
            "integer" => SchemaKind::Integer,
            "boolean" => SchemaKind::Boolean,
            _ => SchemaKind::Unspecified,
        },
        format: values.format.clone(),
        items: schema.items.as_deref().map(|items| declare(items, false)),
        properties: (!schema.properties.is_empty()).then(properties),
        additional_properties: schema.additional_schema().map(|additional| declare(additional, false)),
        nullable: schema.generic.nullable,
        int_or_string: extensions.int_or_string,
        embedded_resource: extensions.embedded_resource,
        preserve_unknown_fields: extensions.preserve_unknown,
        list_type: match extensions.list_type.as_deref() {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        },
        list_map_keys: extensions.list_map_keys.clone(),
        max_length: values.max_length,
        max_items: values.max_items,
        max_properties: values.max_properties,
        required: values.required.clone(),
        enum_values: values.enumeration.clone(),
        has_default: schema.generic.default.is_some(),
    };
    let is_resource = is_root || extensions.embedded_resource;
    Arc::new(if is_resource { declared.resource_root() } else { declared })
}

/// Whether values of a schema can be seen in expressions at all.
pub(super) fn is_visible(schema: &Schema) -> bool {
    if schema.int_or_string {
        return true;
    }
    match schema.kind {
        SchemaKind::Unspecified => false,
        SchemaKind::Array => schema.items.as_deref().is_some_and(is_visible),
        SchemaKind::Object => schema.additional_properties.as_deref().is_none_or(is_visible),
        SchemaKind::String | SchemaKind::Number | SchemaKind::Integer | SchemaKind::Boolean => true,
    }
}
