//! Publishes custom kinds in OpenAPI documents, version 2 and 3.
//!
//! What is published is the definition's schema as it stands there, with what all objects have.
//! Schemas that are not structural are published as any object.

use serde_json::{Map, Value, json};

use super::crd::has_invalid_types;
use super::{META_FIELDS, Structural, invariants};
use crate::field::Path;

pub use super::to_type::model_name;

/// Which documents a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `/openapi/v2`: kubectl once misunderstood much, which is therefore left out.
    V2,
    /// `/openapi/v3/apis/…`.
    V3,
}

impl Document {
    fn reference(self, name: &str) -> Value {
        match self {
            Document::V2 => format!("#/definitions/{name}").into(),
            Document::V3 => format!("#/components/schemas/{name}").into(),
        }
    }

    /// In version 3 nothing may stand beside a reference.
    fn described_reference(self, name: &str, description: &str) -> Value {
        match self {
            Document::V2 => json!({"description": description, "$ref": self.reference(name)}),
            Document::V3 => json!({"description": description, "allOf": [{"$ref": self.reference(name)}]}),
        }
    }
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The schema of a kind, under [`model_name`].
pub fn kind_schema(definition: &Value, version: &str, document: Document) -> Value {
    let spec = &definition["spec"];
    let version_of = spec["versions"].as_array().and_then(|all| all.iter().find(|v| v["name"] == version));
    let schema = version_of.map(|v| &v["schema"]["openAPIV3Schema"]).filter(|s| s.is_object());
    let published = schema.filter(|schema| {
        !has_invalid_types(schema)
            && Structural::parse(schema).is_ok_and(|s| invariants::validate(&Path::root(), &s).is_empty())
    });
    let preserves = |schema: &Value| is_true(schema, PRESERVE) || spec["preserveUnknownFields"] == true;
    let mut result = match published {
        None => json!({"type": "object"}),
        Some(schema) if document == Document::V2 && preserves(schema) => json!({"type": "object"}),
        Some(schema) => {
            let mut schema = schema.clone();
            unfold(&mut schema);
            if document == Document::V2 {
                simplify(&mut schema);
            }
            add_embedded(&mut schema, document);
            let properties = object_field(&mut schema, "properties");
            type_meta(properties);
            properties.insert("metadata".to_owned(), document.described_reference(OBJECT_META, METADATA));
            schema
        }
    };
    result[GVK] = json!([gvk(spec, version, &spec["names"]["kind"])]);
    add_selectable(&mut result, version_of);
    result
}

/// The schema of the list of a kind, under [`model_name`] of the list kind.
pub fn list_schema(definition: &Value, version: &str, document: Document) -> Value {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names = &spec["names"];
    let (kind, list_kind, plural) = (text(&names["kind"]), text(&names["listKind"]), text(&names["plural"]));
    let item = document.reference(&model_name(&text(&spec["group"]), version, &kind));
    let mut properties = Map::new();
    type_meta(&mut properties);
    properties.insert(
        "items".to_owned(),
        json!({
            "description": format!("List of {plural}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"),
            "type": "array",
            "items": {"$ref": item},
        }),
    );
    properties.insert("metadata".to_owned(), document.described_reference(LIST_META, LIST_METADATA));
    let mut result = json!({
        "description": format!("{list_kind} is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        GVK: [gvk(spec, version, &names["listKind"])],
    });
    let versions = spec["versions"].as_array();
    add_selectable(&mut result, versions.and_then(|all| all.iter().find(|v| v["name"] == version)));
    result
}

const GVK: &str = "x-kubernetes-group-version-kind";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

fn gvk(spec: &Value, version: &str, kind: &Value) -> Value {
    json!({"group": spec["group"], "version": version, "kind": kind})
}

fn add_selectable(schema: &mut Value, version: Option<&Value>) {
    let fields = version.and_then(|v| v["selectableFields"].as_array()).filter(|fields| !fields.is_empty());
    let Some(fields) = fields else { return };
    let paths = fields.iter().map(|field| {
        let path = field["jsonPath"].as_str().unwrap_or_default();
        json!({"fieldPath": path.strip_prefix('.').unwrap_or(path)})
    });
    schema["x-kubernetes-selectable-fields"] = paths.collect();
}

fn is_true(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn type_meta(properties: &mut Map<String, Value>) {
    properties.insert("apiVersion".to_owned(), json!({"description": API_VERSION, "type": "string"}));
    properties.insert("kind".to_owned(), json!({"description": KIND, "type": "string"}));
}

/// A field that is an object, made if it is none.
fn object_field<'a>(schema: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !schema.is_object() {
        *schema = json!({});
    }
    let field = &mut schema[name];
    if !field.is_object() {
        *field = json!({});
    }
    match field {
        Value::Object(entries) => entries,
        _ => unreachable!("it was just made an object"),
    }
}

/// The schemas right below one.
fn below(schema: &mut Value) -> impl Iterator<Item = &mut Value> {
    let mut found = Vec::new();
    if let Value::Object(entries) = schema {
        for (name, value) in entries {
            match (name.as_str(), value) {
                ("properties", Value::Object(properties)) => found.extend(properties.values_mut()),
                ("items" | "additionalProperties", schema @ Value::Object(_)) => found.push(schema),
                _ => {}
            }
        }
    }
    found.into_iter()
}

/// Says in words of JSON Schema what int-or-string is, and leaves out what says nothing.
fn unfold(schema: &mut Value) {
    if let Value::Object(entries) = schema {
        entries.retain(|name, value| match value {
            Value::Null | Value::Bool(false) => name == "additionalProperties" && !value.is_null(),
            Value::Object(entries) => {
                !entries.is_empty() || matches!(name.as_str(), "items" | "not" | "default")
            }
            Value::Array(items) => !items.is_empty() || name == "default",
            Value::String(text) => !text.is_empty() || name == "default",
            _ => true,
        });
    }
    if is_true(schema, "x-kubernetes-int-or-string") {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let said = schema.get("anyOf") == Some(&either) || schema["allOf"][0]["anyOf"] == either;
        match (said, schema.get("anyOf").is_some()) {
            (true, _) => {}
            (false, false) => schema["anyOf"] = either,
            (false, true) => {
                let mut all = vec![json!({ "anyOf": either })];
                if let Some(Value::Array(given)) = schema.get_mut("allOf").map(Value::take) {
                    all.extend(given);
                }
                schema["allOf"] = Value::Array(all);
            }
        }
        if let Some(entries) = schema.as_object_mut() {
            entries.retain(|_, value| !value.is_null());
        }
    }
    below(schema).for_each(unfold);
}

/// Leaves out what version 2 does not know or kubectl did not understand (`ToStructuralOpenAPIV2`); and
/// defaults, as all of that document.
fn simplify(schema: &mut Value) {
    let nullable_properties: Vec<String> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, property)| is_true(property, "nullable"))
        .map(|(name, _)| name.clone())
        .collect();
    let nullable_values = is_true(&schema["additionalProperties"], "nullable");
    let (nullable, preserves) = (is_true(schema, "nullable"), is_true(schema, PRESERVE));
    let Some(entries) = schema.as_object_mut() else { return };
    for name in ["allOf", "oneOf", "anyOf", "not", "nullable", "default"] {
        entries.remove(name);
    }
    if nullable || preserves {
        entries.remove("items");
        entries.remove("properties");
    }
    let ty = entries.get("type").and_then(Value::as_str).unwrap_or_default();
    let untyped =
        nullable || (ty == "array" && !entries.contains_key("items")) || (preserves && ty == "object");
    if untyped {
        entries.remove("type");
    }
    entries.retain(|_, value| !value.is_null());
    if let Some(Value::Array(required)) = entries.get_mut("required") {
        if !nullable && !preserves {
            required.retain(|name| !nullable_properties.iter().any(|n| name == n.as_str()));
        }
        if required.is_empty() || nullable_values {
            entries.remove("required");
        }
    }
    below(schema).for_each(simplify);
}

/// What embedded resources have, whatever their schema says.
fn add_embedded(schema: &mut Value, document: Document) {
    below(schema).for_each(|schema| add_embedded(schema, document));
    let free = document == Document::V2 && is_true(schema, PRESERVE);
    if free || !is_true(schema, "x-kubernetes-embedded-resource") {
        return;
    }
    let properties = object_field(schema, "properties");
    for (name, description) in [("apiVersion", EMBEDDED_API_VERSION), ("kind", EMBEDDED_KIND)] {
        properties.insert(name.to_owned(), json!({"description": description, "type": "string"}));
    }
    properties.insert(META_FIELDS[2].to_owned(), document.described_reference(OBJECT_META, METADATA));
    let mut required: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    for name in ["kind", "apiVersion"] {
        if !required.contains(&name.into()) {
            required.push(name.into());
        }
    }
    schema["required"] = required.into();
}
