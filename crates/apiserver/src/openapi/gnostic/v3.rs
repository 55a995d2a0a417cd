//! `openapi.v3.Document`.

use serde_json::Value;

use super::Shape::{Any, Anys, Bool, Float, Int, Many, One, Text, Texts};
use super::{Field, additional_properties, entries, field, items, message, or_reference, put_float, wrap};

/// The document of a group version.
pub fn document(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("openapi", 1, Text),
        field("info", 2, One(info)),
        field("paths", 4, One(|paths| entries(paths, 1, path_item))),
        field("components", 5, One(components)),
        field("security", 6, Many(super::security_requirement)),
    ];
    message(value, FIELDS, 9)
}

fn info(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("title", 1, Text),
        field("description", 2, Text),
        field("termsOfService", 3, Text),
        field("version", 6, Text),
    ];
    message(value, FIELDS, 7)
}

fn components(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("schemas", 1, One(schemas)),
        field(
            "securitySchemes",
            7,
            One(|schemes| entries(schemes, 1, |value| or_reference(value, security_scheme))),
        ),
    ];
    message(value, FIELDS, 10)
}

fn security_scheme(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("type", 1, Text),
        field("description", 2, Text),
        field("name", 3, Text),
        field("in", 4, Text),
        field("scheme", 5, Text),
        field("bearerFormat", 6, Text),
    ];
    message(value, FIELDS, 9)
}

fn path_item(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("$ref", 1, Text),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("get", 4, One(operation)),
        field("put", 5, One(operation)),
        field("post", 6, One(operation)),
        field("delete", 7, One(operation)),
        field("options", 8, One(operation)),
        field("head", 9, One(operation)),
        field("patch", 10, One(operation)),
        field("trace", 11, One(operation)),
        field("parameters", 13, Many(|value| or_reference(value, parameter))),
    ];
    message(value, FIELDS, 14)
}

fn operation(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("tags", 1, Texts),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("operationId", 5, Text),
        field("parameters", 6, Many(|value| or_reference(value, parameter))),
        field("requestBody", 7, One(|value| or_reference(value, request_body))),
        field("responses", 8, One(|responses| entries(responses, 2, |value| or_reference(value, response)))),
        field("deprecated", 10, Bool),
        field("security", 11, Many(super::security_requirement)),
    ];
    message(value, FIELDS, 13)
}

fn parameter(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("name", 1, Text),
        field("in", 2, Text),
        field("description", 3, Text),
        field("required", 4, Bool),
        field("deprecated", 5, Bool),
        field("allowEmptyValue", 6, Bool),
        field("style", 7, Text),
        field("explode", 8, Bool),
        field("allowReserved", 9, Bool),
        field("schema", 10, One(schema_or_reference)),
        field("example", 11, Any),
        field("content", 13, One(media_types)),
    ];
    message(value, FIELDS, 14)
}

fn request_body(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] =
        &[field("description", 1, Text), field("content", 2, One(media_types)), field("required", 3, Bool)];
    message(value, FIELDS, 4)
}

fn response(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[field("description", 1, Text), field("content", 3, One(media_types))];
    message(value, FIELDS, 5)
}

fn media_types(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[field("schema", 1, One(schema_or_reference)), field("example", 2, Any)];
    entries(value, 1, |media| message(media, FIELDS, 5))
}

fn schemas(value: &Value) -> Vec<u8> {
    entries(value, 1, schema_or_reference)
}

fn schema_or_reference(value: &Value) -> Vec<u8> {
    or_reference(value, schema)
}

fn schema(value: &Value) -> Vec<u8> {
    const FIELDS: &[Field] = &[
        field("nullable", 1, Bool),
        field("readOnly", 3, Bool),
        field("writeOnly", 4, Bool),
        field("externalDocs", 6, One(external_docs)),
        field("example", 7, Any),
        field("deprecated", 8, Bool),
        field("title", 9, Text),
        field("multipleOf", 10, Float),
        field("maximum", 11, Float),
        field("exclusiveMaximum", 12, Bool),
        field("minimum", 13, Float),
        field("exclusiveMinimum", 14, Bool),
        field("maxLength", 15, Int),
        field("minLength", 16, Int),
        field("pattern", 17, Text),
        field("maxItems", 18, Int),
        field("minItems", 19, Int),
        field("uniqueItems", 20, Bool),
        field("maxProperties", 21, Int),
        field("minProperties", 22, Int),
        field("required", 23, Texts),
        field("enum", 24, Anys),
        field("type", 25, Text),
        field("allOf", 26, Many(schema_or_reference)),
        field("oneOf", 27, Many(schema_or_reference)),
        field("anyOf", 28, Many(schema_or_reference)),
        field("not", 29, One(schema)),
        field("items", 30, One(|value| items(value, schema_or_reference))),
        field("properties", 31, One(schemas)),
        field("additionalProperties", 32, One(|value| additional_properties(value, schema_or_reference))),
        field("default", 33, One(default)),
        field("description", 34, Text),
        field("format", 35, Text),
    ];
    message(value, FIELDS, 36)
}

/// A default that is a scalar; for others the message has no room.
fn default(value: &Value) -> Vec<u8> {
    match value {
        Value::Number(number) => {
            let mut out = Vec::with_capacity(9);
            put_float(&mut out, 1, number.as_f64().unwrap_or_default());
            out
        }
        Value::Bool(flag) => vec![2 << 3, u8::from(*flag)],
        Value::String(text) => wrap(3, text.as_bytes()),
        _ => Vec::new(),
    }
}

fn external_docs(value: &Value) -> Vec<u8> {
    message(value, &[field("description", 1, Text), field("url", 2, Text)], 3)
}
