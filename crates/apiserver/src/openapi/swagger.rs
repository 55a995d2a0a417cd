//! OpenAPI v2, derived from the v3 documents.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Map, Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// One Swagger document out of all v3 documents, as JSON text.
pub fn merge(documents: impl Iterator<Item = Value>) -> String {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    let mut shared = Map::new();
    for mut document in documents {
        if let Value::Object(of) = document["paths"].take() {
            paths.extend(of.into_iter().map(|(path, item)| (path, convert_path(item))));
        }
        if let Value::Object(of) = document["components"]["schemas"].take() {
            for (name, schema) in of {
                define(&mut definitions, name, convert_schema(schema));
            }
        }
    }
    for kind in ["DeleteOptions", "WatchEvent"] {
        if let Some(schema) = definitions.get_mut(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")) {
            belongs_everywhere(schema, kind);
        }
    }
    paths.values_mut().for_each(|path| share_parameters(path, &mut shared));
    let swagger = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": super::VERSION},
        "paths": paths,
        "definitions": definitions,
        "parameters": shared,
        "securityDefinitions": {"BearerToken": super::bearer_token()},
        "security": [{"BearerToken": []}],
    });
    swagger.to_string().replace("#/components/schemas/", "#/definitions/")
}

/// Adds a definition. Options and events belong to every group: what each document says of that is
/// put together.
fn define(definitions: &mut Map<String, Value>, name: String, mut schema: Value) {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    if let Some(Value::Array(known)) = definitions.get_mut(&name).map(|known| known[KINDS].take())
        && let Some(kinds) = schema[KINDS].as_array_mut()
    {
        let more: Vec<Value> = std::mem::replace(kinds, known);
        for kind in more {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.sort_by_cached_key(|kind| {
            ["group", "version", "kind"].map(|part| kind[part].as_str().unwrap_or_default().to_owned())
        });
    }
    definitions.insert(name, schema);
}

/// The groups and versions that upstream's scheme holds, served or not: options and events belong to all.
const EVERYWHERE: &[(&str, &[&str])] = &[
    ("", &["v1"]),
    ("admission.k8s.io", &["v1", "v1beta1"]),
    ("admissionregistration.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("apiextensions.k8s.io", &["v1", "v1beta1"]),
    ("apiregistration.k8s.io", &["v1", "v1beta1"]),
    ("apps", &["v1", "v1beta1", "v1beta2"]),
    ("authentication.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("authorization.k8s.io", &["v1", "v1beta1"]),
    ("autoscaling", &["v1", "v2"]),
    ("batch", &["v1", "v1beta1"]),
    ("certificates.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("coordination.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("discovery.k8s.io", &["v1", "v1beta1"]),
    ("events.k8s.io", &["v1", "v1beta1"]),
    ("extensions", &["v1beta1"]),
    ("flowcontrol.apiserver.k8s.io", &["v1", "v1beta1", "v1beta2", "v1beta3"]),
    ("imagepolicy.k8s.io", &["v1alpha1"]),
    ("internal.apiserver.k8s.io", &["v1alpha1"]),
    ("networking.k8s.io", &["v1", "v1beta1"]),
    ("node.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("policy", &["v1", "v1beta1"]),
    ("rbac.authorization.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("resource.k8s.io", &["v1", "v1alpha3", "v1beta1", "v1beta2"]),
    ("scheduling.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("storage.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("storagemigration.k8s.io", &["v1beta1"]),
];

fn belongs_everywhere(schema: &mut Value, kind: &str) {
    let Some(known) = schema["x-kubernetes-group-version-kind"].as_array_mut() else { return };
    for (group, versions) in EVERYWHERE {
        for version in *versions {
            let entry = json!({"group": group, "version": version, "kind": kind});
            if !known.contains(&entry) {
                known.push(entry);
            }
        }
    }
    known.sort_by_cached_key(|kind| {
        ["group", "version"].map(|part| kind[part].as_str().unwrap_or_default().to_owned())
    });
}

/// Replaces parameters by references, but for those that tell about one kind, or that old kubectls
/// look for in place.
fn share_parameters(path: &mut Value, shared: &mut Map<String, Value>) {
    let Some(members) = path.as_object_mut() else { return };
    for (key, member) in members {
        let list = match key.as_str() {
            "parameters" => member.as_array_mut(),
            _ => member.get_mut("parameters").and_then(Value::as_array_mut),
        };
        for parameter in list.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            let of_kind = parameter["schema"]["$ref"]
                .as_str()
                .is_some_and(|reference| !reference.contains("/io.k8s.apimachinery"));
            if matches!(name.as_str(), "name" | "fieldValidation" | "dryRun") || of_kind {
                continue;
            }
            let name = format!("{name}-{}", hash(&go_text(parameter)));
            let reference = json!({"$ref": format!("#/parameters/{name}")});
            shared.insert(name, std::mem::replace(parameter, reference));
        }
    }
}

/// A parameter as Go writes it, from which its name is made.
fn go_text(parameter: &Value) -> String {
    const ORDER: [&str; 7] = ["uniqueItems", "type", "description", "name", "in", "required", "schema"];
    let members = ORDER.iter().filter_map(|key| Some((key, parameter.get(*key)?)));
    let members: Vec<String> = members.map(|(key, value)| format!("\"{key}\":{value}")).collect();
    let text = format!("{{{}}}", members.join(","));
    let text = text.replace("#/components/schemas/", "#/definitions/");
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Eight letters for a text: FNV-1, as kube-openapi has it.
fn hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
    URL_SAFE.encode(&hash.to_be_bytes()[..6])
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

/// The order in which upstream's handlers name media types; v3 documents have none.
const MEDIA_TYPES: [&str; 10] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "text/plain",
];

fn in_order(content: &Map<String, Value>) -> Vec<Value> {
    let mut media: Vec<&String> = content.keys().collect();
    media.sort_by_key(|media| MEDIA_TYPES.iter().position(|known| known == media));
    // The text of logs comes first.
    media.sort_by_key(|media| *media != "text/plain");
    media.into_iter().map(|media| json!(media)).collect()
}

fn operation(mut operation: Value) -> Value {
    let Some(map) = operation.as_object_mut() else { return operation };
    let mut all = Vec::new();
    let mut consumes = vec![json!("*/*")];
    if let Some(body) = map.remove("requestBody") {
        let content = body["content"].as_object();
        let schema = content.and_then(|content| content.values().next()).map(|media| media["schema"].clone());
        consumes = content.map(in_order).unwrap_or_default();
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
            produces = in_order(&content);
            if let Some(media) = content.into_iter().next() {
                response["schema"] = media.1["schema"].clone();
            }
        }
    }
    if consumes == ["*/*"] && produces == [MEDIA_TYPES[0], MEDIA_TYPES[1]] {
        // Custom kinds take what they give.
        consumes.clone_from(&produces);
    }
    if map.get("x-kubernetes-action").is_none() {
        // What is no resource has handlers of its own.
        consumes = if map["tags"][0] == "openid" || map["tags"][0] == "WellKnown" {
            Vec::new()
        } else {
            produces.clone()
        };
    }
    if !consumes.is_empty() {
        map.insert("consumes".to_owned(), Value::Array(consumes));
    }
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
