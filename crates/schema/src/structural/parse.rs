//! Reads `JSONSchemaProps` into a structural schema.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Additional, Extensions, Generic, Nested, Rule, Structural, ValueRules};

/// Decoded definitions are no deeper than this (`decode::MAX_KEPT_DEPTH`); whoever calls with something else
/// must not be able to exhaust the stack.
const MAX_DEPTH: usize = 200;

pub(super) fn structural(schema: &Value) -> Result<Structural, String> {
    read(schema, 0)
}

fn read(schema: &Value, depth: usize) -> Result<Structural, String> {
    supported(schema, depth)?;
    let values = values(schema, depth)?;
    let items = match single_items(schema)? {
        Some(items) => Some(Box::new(read(items, depth + 1)?)),
        None => None,
    };
    let additional = match field(schema, "additionalProperties") {
        Some(Value::Bool(any)) => Some(Additional::Any(*any)),
        Some(other) => Some(Additional::Schema(Box::new(read(other, depth + 1)?))),
        None => None,
    };
    Ok(Structural {
        items,
        properties: map(schema, "properties", |s| read(s, depth + 1))?,
        additional,
        generic: generic(schema),
        extensions: extensions(schema)?,
        rules: rules(schema),
        values: (values != ValueRules::default()).then(|| Box::new(values)),
    })
}

fn nested(schema: &Value, depth: usize) -> Result<Nested, String> {
    supported(schema, depth)?;
    let boxed = |s: &Value| nested(s, depth + 1).map(Box::new);
    let additional = match field(schema, "additionalProperties") {
        Some(Value::Bool(true)) => Some(Box::default()),
        None | Some(Value::Bool(false)) => None,
        Some(other) => Some(boxed(other)?),
    };
    Ok(Nested {
        values: values(schema, depth)?,
        rules: rules(schema),
        items: single_items(schema)?.map(boxed).transpose()?,
        properties: map(schema, "properties", |s| nested(s, depth + 1))?,
        additional,
        generic: generic(schema),
        extensions: extensions(schema)?,
    })
}

/// A field that is there; null is not.
pub(super) fn field<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get(name).filter(|v| !v.is_null())
}

fn text(schema: &Value, name: &str) -> String {
    field(schema, name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(schema: &Value, name: &str) -> bool {
    field(schema, name).and_then(Value::as_bool).unwrap_or_default()
}

fn list<'a>(schema: &'a Value, name: &str) -> &'a [Value] {
    field(schema, name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings(schema: &Value, name: &str) -> Vec<String> {
    list(schema, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn map<T>(
    schema: &Value,
    name: &str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let entries = field(schema, name).and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, value)| Ok((key.clone(), read(value)?))).collect()
}

fn filled(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

fn supported(schema: &Value, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("OpenAPIV3Schema is nested too deeply".to_owned());
    }
    for (name, shown) in [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
    ] {
        if field(schema, name).is_some_and(filled) {
            return Err(format!("OpenAPIV3Schema '{shown}' is not supported"));
        }
    }
    if field(schema, "additionalItems").is_some() {
        return Err("OpenAPIV3Schema 'additionalItems' is not supported".to_owned());
    }
    if field(schema, "definitions").is_some_and(filled) {
        return Err("OpenAPIV3Schema 'definitions' is not supported".to_owned());
    }
    Ok(())
}

fn single_items(schema: &Value) -> Result<Option<&Value>, String> {
    match field(schema, "items") {
        Some(Value::Array(schemas)) if !schemas.is_empty() => {
            Err("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned())
        }
        Some(items @ Value::Object(_)) => Ok(Some(items)),
        _ => Ok(None),
    }
}

fn generic(schema: &Value) -> Generic {
    Generic {
        r#type: text(schema, "type"),
        default: field(schema, "default").cloned(),
        nullable: flag(schema, "nullable"),
        titled: field(schema, "title").is_some_and(filled),
        described: field(schema, "description").is_some_and(filled),
        documented: field(schema, "externalDocs").or_else(|| field(schema, "example")).is_some(),
    }
}

fn extensions(schema: &Value) -> Result<Extensions, String> {
    let preserve = field(schema, "x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool);
    if preserve == Some(false) {
        let text = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
        return Err(text.to_owned());
    }
    let optional = |name| field(schema, name).and_then(Value::as_str).map(str::to_owned);
    Ok(Extensions {
        preserve_unknown: preserve.is_some(),
        embedded_resource: flag(schema, "x-kubernetes-embedded-resource"),
        int_or_string: flag(schema, "x-kubernetes-int-or-string"),
        list_map_keys: strings(schema, "x-kubernetes-list-map-keys"),
        list_type: optional("x-kubernetes-list-type"),
        map_type: optional("x-kubernetes-map-type"),
    })
}

fn rules(schema: &Value) -> Vec<Rule> {
    list(schema, "x-kubernetes-validations").iter().map(rule).collect()
}

/// One of `x-kubernetes-validations`.
pub(super) fn rule(rule: &Value) -> Rule {
    Rule {
        rule: text(rule, "rule"),
        message: text(rule, "message"),
        message_expression: text(rule, "messageExpression"),
        reason: field(rule, "reason").and_then(Value::as_str).map(str::to_owned),
        field_path: text(rule, "fieldPath"),
        optional_old_self: field(rule, "optionalOldSelf").and_then(Value::as_bool),
    }
}

fn values(schema: &Value, depth: usize) -> Result<ValueRules, String> {
    let number = |name| field(schema, name).and_then(Value::as_f64);
    let whole = |name| field(schema, name).and_then(Value::as_i64);
    let all = |name| list(schema, name).iter().map(|s| nested(s, depth + 1)).collect::<Result<Vec<_>, _>>();
    Ok(ValueRules {
        format: text(schema, "format"),
        maximum: number("maximum"),
        exclusive_maximum: flag(schema, "exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag(schema, "exclusiveMinimum"),
        max_length: whole("maxLength"),
        min_length: whole("minLength"),
        pattern: text(schema, "pattern"),
        max_items: whole("maxItems"),
        min_items: whole("minItems"),
        unique_items: flag(schema, "uniqueItems"),
        multiple_of: number("multipleOf"),
        enumeration: list(schema, "enum").to_vec(),
        max_properties: whole("maxProperties"),
        min_properties: whole("minProperties"),
        required: strings(schema, "required"),
        all_of: all("allOf")?,
        any_of: all("anyOf")?,
        one_of: all("oneOf")?,
        not: field(schema, "not").map(|s| nested(s, depth + 1).map(Box::new)).transpose()?,
    })
}
