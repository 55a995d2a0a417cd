//! Paths and operations of OpenAPI v3 documents, derived from the kind table.

use serde_json::{Map, Value, json};

use super::parameters::{self, PRETTY, Parameter};
use crate::kind::{Action, Group, Kind, Subresource, Verbs, Version, group_version};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// All paths of one group version.
pub fn of_version(group: &Group, version: &Version) -> Map<String, Value> {
    let root = if group.name.is_empty() { "/api" } else { "/apis" };
    let base = format!("{root}/{}", group_version(&group.name, &version.name));
    let names = Names::new(&group.name, &version.name);
    let mut paths = Map::new();
    let resources = schema_ref(&format!("{META}.APIResourceList"));
    let get = json!({"tags": [names.tag], "description": "get available resources",
        "operationId": format!("get{}APIResources", names.camel), "responses": responses(&[("200", "OK")], &resources, &[JSON, YAML, PROTOBUF])});
    if !group.is_custom() {
        paths.insert(format!("{base}/"), json!({"get": get}));
    }
    for kind in version.kinds.values() {
        KindPaths { kind, base: &base, names: &names }.add(&mut paths);
    }
    paths
}

/// The path that tells about a group: `/apis/apps/`.
pub fn of_group(group: &Group) -> Map<String, Value> {
    let names = Names::new(&group.name, "");
    let id = format!("get{}APIGroup", names.camel);
    let operation = discovery(&names.tag, "get information of a group", &id, "APIGroup");
    Map::from_iter([(format!("/apis/{}/", group.name), operation)])
}

/// The paths that list groups and versions: `/api/`, `/apis/`.
pub fn of_lists(path: &str, id: &str, kind: &str) -> Map<String, Value> {
    let tag = if path == "/api/" { "core" } else { "apis" };
    Map::from_iter([(path.to_owned(), discovery(tag, "get available API versions", id, kind))])
}

fn discovery(tag: &str, description: &str, id: &str, kind: &str) -> Value {
    let schema = schema_ref(&format!("{META}.{kind}"));
    json!({"get": {"tags": [tag], "description": description, "operationId": id,
        "responses": responses(&[("200", "OK")], &schema, &[JSON, YAML, PROTOBUF])}})
}

/// How a group version is named in operation ids and tags.
struct Names {
    /// `CoreV1`, `RbacAuthorizationV1`
    camel: String,
    /// `core_v1`, `rbacAuthorization_v1`
    tag: String,
}

impl Names {
    fn new(group: &str, version: &str) -> Names {
        let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
        let camel: String = group.split(['.', '-']).map(upper_first).collect();
        let mut letters = camel.chars();
        let lower: String =
            letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect();
        let tag = if version.is_empty() { lower } else { format!("{lower}_{version}") };
        Names { camel: camel + &upper_first(version), tag }
    }
}

fn upper_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

struct KindPaths<'a> {
    kind: &'a Kind,
    base: &'a str,
    names: &'a Names,
}

/// What an operation does and how it is named.
struct Operation<'a> {
    method: &'a str,
    action: &'a str,
    id: String,
    description: String,
}

impl KindPaths<'_> {
    fn add(&self, paths: &mut Map<String, Value>) {
        let kind = self.kind;
        let collection = match kind.namespaced {
            true => format!("{}/namespaces/{{namespace}}/{}", self.base, kind.plural),
            false => format!("{}/{}", self.base, kind.plural),
        };
        let item = format!("{collection}/{{name}}");
        paths.insert(collection.clone(), self.collection());
        if kind.verbs != Verbs::Create {
            paths.insert(item.clone(), self.item());
            if kind.namespaced {
                paths.insert(format!("{}/{}", self.base, kind.plural), self.everywhere());
            }
        }
        // The deprecated paths never were there for custom kinds.
        if kind.verbs.has("watch") && !kind.is_custom() {
            self.add_watches(paths, &collection, &item);
        }
        for sub in &kind.subresources {
            let path = format!("{item}/{}", sub.name);
            paths.insert(path.clone(), self.subresource(sub, false));
            if sub.action == Action::Proxy {
                paths.insert(format!("{path}/{{path}}"), self.subresource(sub, true));
            }
        }
    }

    fn schema(&self) -> Value {
        schema_ref(&self.kind.schema)
    }

    fn list_schema(&self) -> Value {
        match self.kind.schema.rsplit_once('.') {
            Some((package, _)) => schema_ref(&format!("{package}.{}", self.kind.list_kind)),
            None => schema_ref(""),
        }
    }

    fn scope(&self) -> &'static str {
        if self.kind.namespaced { "Namespaced" } else { "" }
    }

    fn gvk(&self) -> Value {
        json!({"group": self.kind.group, "version": self.kind.version, "kind": self.kind.kind})
    }

    fn operation(
        &self,
        what: Operation<'_>,
        parameters: &[Parameter],
        body: Value,
        responses: Value,
    ) -> (String, Value) {
        let mut operation = json!({
            "tags": [self.names.tag],
            "description": what.description,
            "operationId": what.id,
            "responses": responses,
            "x-kubernetes-action": what.action,
            "x-kubernetes-group-version-kind": self.gvk(),
        });
        if !parameters.is_empty() {
            operation["parameters"] = queries(parameters);
        }
        if !body.is_null() {
            operation["requestBody"] = body;
        }
        (what.method.to_owned(), operation)
    }

    fn collection(&self) -> Value {
        let (kind, names, scope) = (&self.kind.kind, &self.names.camel, self.scope());
        let has = |verb| self.kind.verbs.has(verb);
        let mut operations = Map::new();
        if has("list") {
            let id = format!("list{names}{scope}{kind}");
            operations.extend([self.list(id)]);
        }
        if has("create") {
            let what = Operation {
                method: "post",
                action: "post",
                id: format!("create{names}{scope}{kind}"),
                description: format!("create {}", with_article(kind)),
            };
            let answers = self.written(&["200", "201", "202"], &self.schema());
            operations.extend([self.operation(
                what,
                parameters::WRITE,
                self.body(&self.schema(), true),
                answers,
            )]);
        }
        if has("deletecollection") {
            let what = Operation {
                method: "delete",
                action: "deletecollection",
                id: format!("delete{names}Collection{scope}{kind}"),
                description: format!("delete collection of {kind}"),
            };
            let mut parameters = [parameters::LIST, parameters::DELETE].concat();
            parameters.retain(|(name, ..)| !matches!(*name, "allowWatchBookmarks" | "watch"));
            parameters.sort_unstable();
            let answers = self.written(&["200"], &status());
            operations.extend([match self.kind.is_custom() {
                // Nobody told this builder of upstream's that deletes of collections have options.
                true => self.operation(what, parameters::LIST, Value::Null, answers),
                false => self.operation(what, &parameters, self.delete_options(), answers),
            }]);
        }
        self.with_path_parameters(operations, false, &[])
    }

    fn list(&self, id: String) -> (String, Value) {
        let watchable = self.kind.verbs.has("watch") && !self.kind.is_custom();
        let does = if watchable { "list or watch" } else { "list" };
        let description = format!("{does} objects of kind {}", self.kind.kind);
        let what = Operation { method: "get", action: "list", id, description };
        let schema = self.list_schema();
        // Upstream's router knows what is listed as streams, whether it can be watched or not.
        let streams = !self.kind.is_custom();
        let answers = if streams { watched(&schema) } else { self.written(&["200"], &schema) };
        self.operation(what, parameters::LIST, Value::Null, answers)
    }

    /// What objects of the kind are written in: custom ones have no protobuf.
    fn media(&self) -> &'static [&'static str] {
        if self.kind.is_custom() { &[JSON, YAML] } else { &[JSON, PROTOBUF, YAML] }
    }

    fn written(&self, codes: &[&'static str], schema: &Value) -> Value {
        written(codes, schema, self.media())
    }

    fn body(&self, schema: &Value, required: bool) -> Value {
        body(schema, required, if self.kind.is_custom() { self.media() } else { &["*/*"] })
    }

    fn delete_options(&self) -> Value {
        self.body(&schema_ref(&format!("{META}.DeleteOptions")), false)
    }

    /// The parameters of reading one object.
    fn reading(&self) -> &'static [Parameter] {
        if self.kind.is_custom() { parameters::CUSTOM_GET } else { &[] }
    }

    /// The codes that a patch is answered with, as far as upstream tells.
    fn patched(&self) -> &'static [&'static str] {
        if self.kind.is_custom() { &["200"] } else { &["200", "201"] }
    }

    fn item(&self) -> Value {
        let (kind, names, scope) = (&self.kind.kind, &self.names.camel, self.scope());
        let has = |verb| self.kind.verbs.has(verb);
        let mut operations = Map::new();
        let what = |method: &'static str, verb: &str, description: String| Operation {
            method,
            action: method,
            id: format!("{verb}{names}{scope}{kind}"),
            description,
        };
        let schema = self.schema();
        if has("get") {
            let what = what("get", "read", format!("read the specified {kind}"));
            let answers = self.written(&["200"], &schema);
            operations.extend([self.operation(what, self.reading(), Value::Null, answers)]);
        }
        if has("update") {
            let what = what("put", "replace", format!("replace the specified {kind}"));
            let answers = self.written(&["200", "201"], &schema);
            operations.extend([self.operation(what, parameters::WRITE, self.body(&schema, true), answers)]);
        }
        if has("patch") {
            let what = what("patch", "patch", format!("partially update the specified {kind}"));
            let answers = self.written(self.patched(), &schema);
            operations.extend([self.operation(what, parameters::PATCH, self.patch_body(), answers)]);
        }
        if has("delete") {
            let what = what("delete", "delete", format!("delete {}", with_article(kind)));
            // Upstream says so of all that it does not answer a delete with at once, and is wrong about two.
            let told = !matches!(kind.as_ref(), "Namespace" | "CustomResourceDefinition");
            let answer = if self.kind.behaviour.delete_returns_object && told { schema } else { status() };
            let answers = self.written(&["200", "202"], &answer);
            operations.extend([self.operation(what, parameters::DELETE, self.delete_options(), answers)]);
        }
        self.with_path_parameters(operations, true, &[])
    }

    fn patch_body(&self) -> Value {
        let patch = json!({"schema": schema_ref(&format!("{META}.Patch"))});
        let mut types = vec![
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
        ];
        if !self.kind.is_custom() {
            types.push("application/strategic-merge-patch+json");
        }
        let content: Map<String, Value> =
            types.into_iter().map(|media| (media.to_owned(), patch.clone())).collect();
        json!({"content": content, "required": true})
    }

    /// The list over all namespaces.
    fn everywhere(&self) -> Value {
        let (kind, names) = (&self.kind.kind, &self.names.camel);
        let id = format!("list{names}{kind}ForAllNamespaces");
        let (_, mut get) = self.list(id);
        if let Some(get) = get.as_object_mut() {
            get.remove("parameters");
        }
        let mut parameters = parameters::LIST.to_vec();
        parameters.push(PRETTY);
        parameters.sort_unstable();
        json!({"get": get, "parameters": queries(&parameters)})
    }

    fn add_watches(&self, paths: &mut Map<String, Value>, collection: &str, item: &str) {
        let (kind, names, scope) = (&self.kind.kind, &self.names.camel, self.scope());
        let deprecated = "deprecated: use the 'watch' parameter with a list operation instead";
        let of_list = format!("watch individual changes to a list of {kind}. {deprecated}.");
        let of_one = format!(
            "watch changes to an object of kind {kind}. {deprecated}, filtered to a single item with the 'fieldSelector' parameter."
        );
        let event = schema_ref(&format!("{META}.WatchEvent"));
        let watch = |action: &'static str, id: String, description: String| {
            let what = Operation { method: "get", action, id, description };
            let (method, operation) = self.operation(what, &[], Value::Null, watched(&event));
            Map::from_iter([(method, operation)])
        };
        let watched = |path: &str| path.replacen(self.base, &format!("{}/watch", self.base), 1);
        let list = watch("watchlist", format!("watch{names}{scope}{kind}List"), of_list.clone());
        paths.insert(watched(collection), self.with_path_parameters(list, false, parameters::LIST));
        let one = watch("watch", format!("watch{names}{scope}{kind}"), of_one);
        paths.insert(watched(item), self.with_path_parameters(one, true, parameters::LIST));
        if self.kind.namespaced {
            let all = watch("watchlist", format!("watch{names}{kind}ListForAllNamespaces"), of_list);
            let mut parameters = parameters::LIST.to_vec();
            parameters.push(PRETTY);
            parameters.sort_unstable();
            let mut path = Value::Object(all);
            path["parameters"] = queries(&parameters);
            paths.insert(format!("{}/watch/{}", self.base, self.kind.plural), path);
        }
    }

    fn subresource(&self, sub: &Subresource, with_path: bool) -> Value {
        let options = match sub.action {
            Action::Exec => parameters::EXEC,
            Action::Attach => parameters::ATTACH,
            Action::PortForward => parameters::PORT_FORWARD,
            Action::Proxy => match self.kind.kind.as_ref() {
                "Pod" => parameters::POD_PROXY,
                "Node" => parameters::NODE_PROXY,
                _ => parameters::SERVICE_PROXY,
            },
            Action::Log => return self.log(sub),
            _ => return self.object_subresource(sub),
        };
        let (kind, names, scope) = (&self.kind.kind, &self.names.camel, self.scope());
        let suffix = if with_path { "WithPath" } else { "" };
        let methods: &[&str] = match sub.action {
            Action::Proxy => &["delete", "get", "head", "options", "patch", "post", "put"],
            _ => &["get", "post"],
        };
        let mut operations = Map::new();
        for method in methods {
            let what = Operation {
                method,
                action: "connect",
                id: format!(
                    "connect{names}{}{scope}{kind}{}{suffix}",
                    upper_first(method),
                    upper_first(&sub.name)
                ),
                description: format!("connect {} requests to {} of {kind}", method.to_uppercase(), sub.name),
            };
            let answer = json!({"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}},
                "401": {"description": "Unauthorized"}});
            let (method, mut operation) = self.operation(what, &[], Value::Null, answer);
            operation["x-kubernetes-group-version-kind"] = self.gvk_of(sub);
            operations.insert(method, operation);
        }
        let mut parameters: Vec<Value> = options.iter().map(query).collect();
        if with_path {
            parameters.push(in_path("path", "path to the resource".to_owned()));
        }
        self.with_parameters(operations, parameters, &sub.kind)
    }

    fn gvk_of(&self, sub: &Subresource) -> Value {
        if self.kind.is_custom() {
            return self.gvk();
        }
        if sub.version.is_empty() {
            return json!({"group": self.kind.group, "version": self.kind.version, "kind": sub.kind});
        }
        json!({"group": sub.group, "version": sub.version, "kind": sub.kind})
    }

    fn log(&self, sub: &Subresource) -> Value {
        let (kind, names, scope) = (&self.kind.kind, &self.names.camel, self.scope());
        let what = Operation {
            method: "get",
            action: "get",
            id: format!("read{names}{scope}{kind}Log"),
            description: format!("read log of the specified {kind}"),
        };
        let text = json!({"schema": {"type": "string"}});
        let content: Map<String, Value> = [JSON, PROTOBUF, YAML, "text/plain"]
            .into_iter()
            .map(|media| (media.to_owned(), text.clone()))
            .collect();
        let answer =
            json!({"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}});
        let (method, mut operation) = self.operation(what, &[], Value::Null, answer);
        operation["x-kubernetes-group-version-kind"] = self.gvk_of(sub);
        self.with_path_parameters(Map::from_iter([(method, operation)]), true, parameters::LOG)
    }

    /// Subresources that read and write an object.
    fn object_subresource(&self, sub: &Subresource) -> Value {
        let (kind, names, scope) = (&self.kind.kind, &self.names.camel, self.scope());
        let schema =
            schema_ref(&match (sub.kind == self.kind.kind, sub.group.as_ref(), sub.version.as_ref()) {
                (true, ..) => self.kind.schema.to_string(),
                (_, "", "") => {
                    let package = self.kind.schema.rsplit_once('.').map_or("", |(package, _)| package);
                    format!("{package}.{}", sub.kind)
                }
                (_, group, version) => {
                    format!(
                        "io.k8s.api.{}.{version}.{}",
                        group.split('.').next().unwrap_or_default(),
                        sub.kind
                    )
                }
            });
        let mut operations = Map::new();
        for verb in sub.verbs {
            let (method, id, description) = match *verb {
                "get" => ("get", "read", format!("read {} of the specified {kind}", sub.name)),
                "update" => ("put", "replace", format!("replace {} of the specified {kind}", sub.name)),
                "patch" => {
                    ("patch", "patch", format!("partially update {} of the specified {kind}", sub.name))
                }
                _ => ("post", "create", format!("create {} of {}", sub.name, with_article(kind))),
            };
            let id = format!("{id}{names}{scope}{kind}{}", upper_first(&sub.name));
            let what = Operation { method, action: method, id, description };
            let (parameters, body, answers) = match method {
                "get" => (self.reading(), Value::Null, self.written(&["200"], &schema)),
                "put" => {
                    (parameters::WRITE, self.body(&schema, true), self.written(&["200", "201"], &schema))
                }
                "patch" => (parameters::PATCH, self.patch_body(), self.written(self.patched(), &schema)),
                _ => (&[][..], self.body(&schema, true), self.written(&["200", "201", "202"], &schema)),
            };
            let (method, mut operation) = self.operation(what, parameters, body, answers);
            operation["x-kubernetes-group-version-kind"] = self.gvk_of(sub);
            operations.insert(method, operation);
        }
        let shared = if sub.verbs == ["create"] { parameters::WRITE } else { &[] };
        let parameters = shared.iter().chain([&PRETTY]).map(query).collect();
        let named = if self.kind.is_custom() { &self.kind.kind } else { &sub.kind };
        self.with_parameters(operations, parameters, named)
    }

    /// Adds the parameters that all operations of a path share.
    fn with_path_parameters(&self, operations: Map<String, Value>, named: bool, more: &[Parameter]) -> Value {
        let parameters = more.iter().chain([&PRETTY]).map(query).collect();
        self.with_parameters(operations, parameters, if named { &self.kind.kind } else { "" })
    }

    /// Adds `parameters` and those of the path; `named` is what the name in it belongs to, if it has one.
    /// What all operations have in common is told once.
    fn with_parameters(
        &self,
        mut operations: Map<String, Value>,
        mut parameters: Vec<Value>,
        named: &str,
    ) -> Value {
        if !named.is_empty() {
            parameters.push(in_path("name", format!("name of the {named}")));
        }
        if self.kind.namespaced {
            parameters.push(in_path(
                "namespace",
                "object name and auth scope, such as for teams and projects".to_owned(),
            ));
        }
        let of = |operation: &Value| operation["parameters"].as_array().cloned().unwrap_or_default();
        let mut common = operations.values().next().map(of).unwrap_or_default();
        common.retain(|parameter| operations.values().all(|operation| of(operation).contains(parameter)));
        for operation in operations.values_mut().filter_map(Value::as_object_mut) {
            if let Some(own) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
                own.retain(|parameter| !common.contains(parameter));
                if own.is_empty() {
                    operation.remove("parameters");
                }
            }
        }
        parameters.extend(common);
        let place = |parameter: &Value| {
            (parameter["name"].as_str().map(str::to_owned), parameter["in"].as_str().map(str::to_owned))
        };
        parameters.sort_by_cached_key(place);
        let mut path = Value::Object(operations);
        path["parameters"] = Value::Array(parameters);
        path
    }
}

fn with_article(kind: &str) -> String {
    // Plurals have none.
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return kind.to_owned();
    }
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn schema_ref(name: &str) -> Value {
    if name.is_empty() {
        return json!({"type": "object"});
    }
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn status() -> Value {
    schema_ref(&format!("{META}.Status"))
}

fn query((name, r#type, description): &Parameter) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": r#type, "uniqueItems": true}})
}

fn queries(parameters: &[Parameter]) -> Value {
    parameters.iter().map(query).collect()
}

fn in_path(name: &str, description: String) -> Value {
    json!({"name": name, "in": "path", "description": description, "required": true,
        "schema": {"type": "string", "uniqueItems": true}})
}

fn body(schema: &Value, required: bool, media: &[&str]) -> Value {
    let mut body = json!({"content": content(schema, media)});
    if required {
        body["required"] = json!(true);
    }
    body
}

fn content(schema: &Value, media: &[&str]) -> Map<String, Value> {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect()
}

fn written(codes: &[&'static str], schema: &Value, media: &[&str]) -> Value {
    let named: Vec<(&str, &str)> = codes
        .iter()
        .map(|code| {
            (
                *code,
                if *code == "201" {
                    "Created"
                } else if *code == "202" {
                    "Accepted"
                } else {
                    "OK"
                },
            )
        })
        .collect();
    responses(&named, schema, media)
}

fn watched(schema: &Value) -> Value {
    let streams = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
    responses(&[("200", "OK")], schema, &[&[JSON, PROTOBUF, YAML][..], &streams].concat())
}

fn responses(codes: &[(&str, &str)], schema: &Value, media: &[&str]) -> Value {
    let content = content(schema, media);
    let mut responses = json!({"401": {"description": "Unauthorized"}});
    for (code, description) in codes {
        responses[*code] = json!({"description": description, "content": content});
    }
    responses
}
