//! `openapi.v2.Document`.

use serde_json::Value;

use super::Shape::{Any, Anys, Bool, Float, Int, Many, One, Text, Texts};
use super::{Field, additional_properties, entries, field, items, message, or_reference, texts, wrap};

/// A Swagger document.
pub fn document(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("swagger", 1, Text),
        field("info", 2, One(info)),
        field("host", 3, Text),
        field("basePath", 4, Text),
        field("schemes", 5, Texts),
        field("consumes", 6, Texts),
        field("produces", 7, Texts),
        field("paths", 8, One(|paths| entries(paths, 2, path_item))),
        field("definitions", 9, One(|schemas| entries(schemas, 1, schema))),
        field("parameters", 10, One(|parameters| entries(parameters, 1, parameter))),
        field("responses", 11, One(|responses| entries(responses, 1, response))),
        field("security", 12, Many(super::security_requirement)),
        field("securityDefinitions", 13, One(|schemes| entries(schemes, 1, security_scheme))),
    ];
    message(value, FIELDS, 16)
}

fn info(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("title", 1, Text),
        field("version", 2, Text),
        field("description", 3, Text),
        field("termsOfService", 4, Text),
    ];
    message(value, FIELDS, 7)
}

/// Of all kinds of schemes, Kubernetes has that of an API key.
fn security_scheme(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("type", 1, Text),
        field("name", 2, Text),
        field("in", 3, Text),
        field("description", 4, Text),
    ];
    wrap(2, &message(value, FIELDS, 5))
}

fn path_item(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("$ref", 1, Text),
        field("get", 2, One(operation)),
        field("put", 3, One(operation)),
        field("post", 4, One(operation)),
        field("delete", 5, One(operation)),
        field("options", 6, One(operation)),
        field("head", 7, One(operation)),
        field("patch", 8, One(operation)),
        field("parameters", 9, Many(parameter_or_reference)),
    ];
    message(value, FIELDS, 10)
}

fn operation(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("tags", 1, Texts),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("operationId", 5, Text),
        field("produces", 6, Texts),
        field("consumes", 7, Texts),
        field("parameters", 8, Many(parameter_or_reference)),
        field("responses", 9, One(|responses| entries(responses, 1, |value| or_reference(value, response)))),
        field("schemes", 10, Texts),
        field("deprecated", 11, Bool),
        field("security", 12, Many(super::security_requirement)),
    ];
    message(value, FIELDS, 13)
}

fn response(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] =
        &[field("description", 1, Text), field("schema", 2, One(|value| wrap(1, &schema(value))))];
    message(value, FIELDS, 5)
}

fn parameter_or_reference(value: &Value) -> Vec<u8> {
    or_reference(value, parameter)
}

fn parameter(value: &Value) -> Vec<u8> {
    const BODY: &[Field] = &[
        field("description", 1, Text),
        field("name", 2, Text),
        field("in", 3, Text),
        field("required", 4, Bool),
        field("schema", 5, One(schema)),
    ];
    const HEADER: &[Field] = &fields_of_parameter(false);
    const QUERY: &[Field] = &fields_of_parameter(true);
    match value["in"].as_str() {
        Some("body") => wrap(1, &message(value, BODY, 6)),
        Some("header") => wrap(2, &wrap(1, &message(value, HEADER, 22))),
        Some("path") => wrap(2, &wrap(4, &message(value, HEADER, 22))),
        _ => wrap(2, &wrap(3, &message(value, QUERY, 23))),
    }
}

/// Those in queries may be empty, which moves the numbers of what follows by one.
const fn fields_of_parameter(query: bool) -> [Field; 13] {
    let moved = query as u32;
    [
        field("required", 1, Bool),
        field("in", 2, Text),
        field("description", 3, Text),
        field("name", 4, Text),
        field("type", 5 + moved, Text),
        field("format", 6 + moved, Text),
        field("default", 9 + moved, Any),
        field("maximum", 10 + moved, Float),
        field("minimum", 12 + moved, Float),
        field("maxLength", 14 + moved, Int),
        field("pattern", 16 + moved, Text),
        field("uniqueItems", 19 + moved, Bool),
        field("enum", 20 + moved, Anys),
    ]
}

fn schema(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("$ref", 1, Text),
        field("format", 2, Text),
        field("title", 3, Text),
        field("description", 4, Text),
        field("default", 5, Any),
        field("multipleOf", 6, Float),
        field("maximum", 7, Float),
        field("exclusiveMaximum", 8, Bool),
        field("minimum", 9, Float),
        field("exclusiveMinimum", 10, Bool),
        field("maxLength", 11, Int),
        field("minLength", 12, Int),
        field("pattern", 13, Text),
        field("maxItems", 14, Int),
        field("minItems", 15, Int),
        field("uniqueItems", 16, Bool),
        field("maxProperties", 17, Int),
        field("minProperties", 18, Int),
        field("required", 19, Texts),
        field("enum", 20, Anys),
        field("additionalProperties", 21, One(|value| additional_properties(value, schema))),
        field("type", 22, One(type_names)),
        field("items", 23, One(|value| items(value, schema))),
        field("allOf", 24, Many(schema)),
        field("properties", 25, One(|properties| entries(properties, 1, schema))),
        field("discriminator", 26, Text),
        field("readOnly", 27, Bool),
        field("externalDocs", 29, One(external_docs)),
        field("example", 30, Any),
    ];
    message(value, FIELDS, 31)
}

/// One type, or several.
fn type_names(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    texts(value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice), 1, &mut out);
    out
}

fn external_docs(value: &Value) -> Vec<u8> {
    message(value, &[field("description", 1, Text), field("url", 2, Text)], 3)
}
