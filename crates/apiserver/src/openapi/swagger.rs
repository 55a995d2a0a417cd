//! OpenAPI v2, derived from the v3 documents.

use serde_json::{Map, Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// One Swagger document out of all v3 documents, as JSON text.
pub fn merge(documents: impl Iterator<Item = Value>) -> String {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for mut document in documents {
        if let Value::Object(of) = document["paths"].take() {
            paths.extend(of.into_iter().map(|(path, item)| (path, convert_path(item))));
        }
        if let Value::Object(of) = document["components"]["schemas"].take() {
            definitions.extend(of.into_iter().map(|(name, schema)| (name, convert_schema(schema))));
        }
    }
    let swagger = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": paths,
        "definitions": definitions,
        "parameters": {},
        "securityDefinitions": {"BearerToken": super::bearer_token()},
        "security": [{"BearerToken": []}],
    });
    swagger.to_string().replace("#/components/schemas/", "#/definitions/")
}

fn convert_path(item: Value) -> Value {
    let Value::Object(item) = item else { return item };
    let converted = item.into_iter().map(|(key, value)| {
        let value = match key.as_str() {
            "parameters" => parameters(value),
            method if METHODS.contains(&method) => operation(value),
            _ => value,
        };
        (key, value)
    });
    Value::Object(converted.collect())
}

/// v2 has neither defaults of references nor references with siblings in `allOf`.
fn convert_schema(schema: Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut converted = Map::new();
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("default", _) => {}
                    ("allOf", Value::Array(of)) if of.len() == 1 => {
                        converted.extend(
                            of.into_iter()
                                .filter_map(|one| match one {
                                    Value::Object(one) => Some(one),
                                    _ => None,
                                })
                                .flatten(),
                        );
                    }
                    ("oneOf", _) => {
                        converted.insert("type".to_owned(), json!("string"));
                    }
                    ("properties", Value::Object(properties)) => {
                        let properties = properties.into_iter().map(|(name, of)| (name, convert_schema(of)));
                        converted.insert(key, Value::Object(properties.collect()));
                    }
                    (_, value) => {
                        converted.insert(key, convert_schema(value));
                    }
                }
            }
            Value::Object(converted)
        }
        other => other,
    }
}

fn operation(mut operation: Value) -> Value {
    let Some(map) = operation.as_object_mut() else { return operation };
    let mut all = Vec::new();
    let mut consumes = vec![json!("*/*")];
    if let Some(body) = map.remove("requestBody") {
        let content = body["content"].as_object();
        let schema = content.and_then(|content| content.values().next()).map(|media| media["schema"].clone());
        consumes = content.into_iter().flatten().map(|(media, _)| json!(media)).collect();
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
        if body["required"] == true {
            parameter["required"] = json!(true);
        }
        all.push(parameter);
    }
    if let Some(Value::Array(queries)) = map.remove("parameters").map(parameters) {
        all.extend(queries);
    }
    if !all.is_empty() {
        map.insert("parameters".to_owned(), Value::Array(all));
    }
    let mut produces = Vec::new();
    if let Some(responses) = map.get_mut("responses").and_then(Value::as_object_mut) {
        for response in responses.values_mut() {
            let Some(Value::Object(content)) =
                response.as_object_mut().and_then(|response| response.remove("content"))
            else {
                continue;
            };
            produces = content.keys().map(|media| json!(media)).collect();
            if let Some(media) = content.into_iter().next() {
                response["schema"] = media.1["schema"].clone();
            }
        }
    }
    map.insert("consumes".to_owned(), Value::Array(consumes));
    map.insert("produces".to_owned(), Value::Array(produces));
    map.insert("schemes".to_owned(), json!(["https"]));
    operation
}

/// Types move from a schema of its own into the parameter.
fn parameters(mut list: Value) -> Value {
    for parameter in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(schema)) = parameter.remove("schema") {
            parameter.extend(schema);
        }
    }
    list
}
