//! Custom resources through the whole server, in process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use api::user::UserInfo;
use apiserver::{ApiServer, Body, Config};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use store::Store;
use tower::ServiceExt;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

struct Server(ApiServer);

struct Answer {
    code: u16,
    warnings: Vec<String>,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        Self::on(Arc::new(store::Memory::new())).await
    }

    async fn on(store: Arc<dyn Store>) -> Self {
        Self(ApiServer::start(Config::new(store)).await.unwrap())
    }

    async fn send(&self, method: Method, path: &str, media: &str, body: &Value) -> Response<Body> {
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .body(Full::new(Bytes::from(bytes)))
            .unwrap();
        request.extensions_mut().insert(UserInfo::component("test"));
        self.0.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, media: &str, body: &Value) -> Answer {
        let response = self.send(method, path, media, body).await;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|text| text.to_str().unwrap().to_owned()).collect();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Answer { code, warnings, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.call(Method::GET, path, JSON, &Value::Null).await;
        (answer.code, answer.body)
    }

    async fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(Method::POST, path, JSON, body).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        answer.body
    }

    async fn patch(&self, path: &str, media: &str, body: &Value) -> Value {
        let answer = self.call(Method::PATCH, path, media, body).await;
        assert!(answer.code < 300, "{} {}", answer.code, answer.body);
        answer.body
    }

    /// Creates a definition and waits until it is served.
    async fn define(&self, definition: &Value) {
        self.create(CRDS, definition).await;
        let name = definition["metadata"]["name"].as_str().unwrap();
        self.until(&format!("{CRDS}/{name}"), |_, crd| is(crd, "Established")).await;
    }

    async fn until(&self, path: &str, done: impl Fn(u16, &Value) -> bool) -> Value {
        for _ in 0..1000 {
            let (code, body) = self.get(path).await;
            if done(code, &body) {
                return body;
            }
            tokio::task::yield_now().await;
        }
        panic!("{path} does not get there: {:?}", self.get(path).await)
    }
}

fn is(crd: &Value, condition: &str) -> bool {
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|known| known["type"] == condition && known["status"] == "True")
}

fn definition(versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]}, "versions": versions}})
}

fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema":
        {"type": "object", "properties": {"spec": spec, "status": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": true}}}}})
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn objects_follow_their_schema() {
    let server = Server::start().await;
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 3, "maximum": 9},
        "small": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "!has(self.small) || self.small < self.size", "message": "too big"}]});
    let mut crd = definition(json!([version("v1", true, spec)]));
    crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    server.define(&crd).await;

    let created = server.create(THINGS, &thing("a", json!({"small": 1, "gone": true}))).await;
    assert_eq!(created["spec"], json!({"size": 3, "small": 1}));
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(server.get(&format!("{THINGS}/a")).await, (200, created));

    let unknown = server.call(Method::POST, THINGS, JSON, &thing("b", json!({"gone": 1}))).await;
    assert_eq!(
        (unknown.code, unknown.warnings),
        (201, vec!["299 - \"unknown field \\\"spec.gone\\\"\"".to_owned()])
    );
    let strict = format!("{THINGS}?fieldValidation=Strict");
    let refused = server.call(Method::POST, &strict, JSON, &thing("c", json!({"gone": 1}))).await;
    assert_eq!(
        refused.body["message"],
        "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"spec.gone\""
    );
    let invalid = server.call(Method::POST, THINGS, JSON, &thing("c", json!({"size": 10}))).await;
    assert_eq!(invalid.code, 422, "{}", invalid.body);
    let broken = server.call(Method::POST, THINGS, JSON, &thing("c", json!({"small": 5}))).await;
    assert_eq!(
        broken.body["message"], "Thing.example.com \"c\" is invalid: spec: Invalid value: too big",
        "{}",
        broken.body
    );

    // The status is its own; only other changes count.
    let path = format!("{THINGS}/a");
    let same = server.patch(&path, MERGE, &json!({"status": {"ready": true}})).await;
    assert_eq!((same.get("status"), &same["metadata"]["generation"]), (None, &json!(1)));
    let status = server.patch(&format!("{path}/status"), MERGE, &json!({"status": {"ready": true}})).await;
    assert_eq!((&status["status"]["ready"], &status["metadata"]["generation"]), (&json!(true), &json!(1)));
    let changed = server.patch(&path, MERGE, &json!({"spec": {"size": 4}})).await;
    assert_eq!((&changed["status"]["ready"], &changed["metadata"]["generation"]), (&json!(true), &json!(2)));
    let strategic = "application/strategic-merge-patch+json";
    assert_eq!(server.call(Method::PATCH, &path, strategic, &json!({})).await.code, 415);

    // A changed schema counts for the next write and the next read.
    let crd_path = format!("{CRDS}/things.example.com");
    let add = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late",
        "value": {"type": "string", "default": "later"}}]);
    server.patch(&crd_path, "application/json-patch+json", &add).await;
    let read = server.until(&path, |_, object| object["spec"]["late"] == "later").await;
    assert_eq!(read["metadata"]["generation"], 2);
    let list = server.get(THINGS).await.1;
    assert_eq!(list["items"][1]["spec"]["late"], "later");
}

#[tokio::test(start_paused = true)]
async fn versions_show_the_same_object() {
    let server = Server::start().await;
    let fields = |names: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": properties})
    };
    let versions = |stored: &str| {
        json!([
            version("v1", stored == "v1", fields(&["a", "b"])),
            version("v1beta1", stored != "v1", fields(&["a"]))
        ])
    };
    server.define(&definition(versions("v1"))).await;
    server.create(THINGS, &thing("x", json!({"a": "1", "b": "2"}))).await;
    let beta = "/apis/example.com/v1beta1/namespaces/default/things";
    let (_, shown) = server.get(&format!("{beta}/x")).await;
    assert_eq!((&shown["apiVersion"], &shown["spec"]), (&json!("example.com/v1beta1"), &json!({"a": "1"})));
    let (_, list) = server.get(beta).await;
    assert_eq!(list["items"][0]["apiVersion"], "example.com/v1beta1");

    // What is stored keeps its version until it is written again.
    let crd_path = format!("{CRDS}/things.example.com");
    let switched = server.patch(&crd_path, MERGE, &json!({"spec": {"versions": versions("v1beta1")}})).await;
    assert_eq!(switched["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    let (_, old) = server.get(&format!("{THINGS}/x")).await;
    assert_eq!(old["spec"], json!({"a": "1", "b": "2"}));
    let written =
        server.patch(&format!("{THINGS}/x"), MERGE, &json!({"metadata": {"labels": {"l": "1"}}})).await;
    assert_eq!((&written["apiVersion"], &written["spec"]), (&json!("example.com/v1"), &json!({"a": "1"})));
}

#[tokio::test(start_paused = true)]
async fn a_definition_takes_its_objects_along() {
    let server = Server::start().await;
    server.define(&definition(json!([version("v1", true, json!({"type": "object"}))]))).await;
    let mut held = thing("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/f"]);
    server.create(THINGS, &held).await;
    server.create(THINGS, &thing("free", json!({}))).await;
    let watch = server.send(Method::GET, &format!("{THINGS}?watch=1"), JSON, &Value::Null).await;

    let crd_path = format!("{CRDS}/things.example.com");
    let deleted = server.call(Method::DELETE, &crd_path, JSON, &Value::Null).await;
    assert_eq!(deleted.body["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    server.until(&format!("{THINGS}/free"), |code, _| code == 404).await;
    assert!(is(&server.get(&crd_path).await.1, "Terminating"));
    let late = server.call(Method::POST, THINGS, JSON, &thing("late", json!({}))).await;
    assert_eq!(
        late.body["message"],
        "things.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating"
    );
    server.patch(&format!("{THINGS}/held"), MERGE, &json!({"metadata": {"finalizers": null}})).await;
    server.until(&crd_path, |code, _| code == 404).await;
    server.until(THINGS, |code, _| code == 404).await;
    assert_eq!(server.get("/apis/example.com").await.0, 404);

    // The watch saw it all, and ends.
    let events = watch.into_body().collect().await.unwrap().to_bytes();
    let events: Vec<Value> = events
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let deletes = events.iter().filter(|event| event["type"] == "DELETED").count();
    assert_eq!(deletes, 2, "{events:?}");
    // The name is free.
    server.define(&definition(json!([version("v1", true, json!({"type": "object"}))]))).await;
    assert_eq!(server.get(THINGS).await.1["items"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn appliers_share_a_list_map() {
    let server = Server::start().await;
    let items = json!({"type": "object", "required": ["name"], "properties":
        {"name": {"type": "string"}, "port": {"type": "integer", "default": 80}, "v": {"type": "string"}}});
    let spec = json!({"type": "object", "properties": {"items": {"type": "array", "items": items,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "port"]}}});
    server.define(&definition(json!([version("v1", true, spec)]))).await;
    let path = |manager: &str| format!("{THINGS}/x?fieldManager={manager}");
    let items = |items: Value| thing("x", json!({"items": items}));
    server.patch(&path("one"), APPLY, &items(json!([{"name": "a", "v": "1"}]))).await;
    let both = server.patch(&path("two"), APPLY, &items(json!([{"name": "a", "port": 8080}]))).await;
    assert_eq!(
        both["spec"]["items"],
        json!([{"name": "a", "port": 80, "v": "1"}, {"name": "a", "port": 8080}])
    );
    let taken = items(json!([{"name": "a", "port": 80, "v": "2"}]));
    let conflict = server.call(Method::PATCH, &path("two"), APPLY, &taken).await;
    assert_eq!(
        conflict.body["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.items[name=\"a\",port=80].v"
    );
}

#[tokio::test(start_paused = true)]
async fn names_are_given_to_the_first() {
    let server = Server::start().await;
    server.define(&definition(json!([version("v1", true, json!({"type": "object"}))]))).await;
    let mut second = definition(json!([version("v1", true, json!({"type": "object"}))]));
    second["metadata"]["name"] = json!("theses.example.com");
    second["spec"]["names"] = json!({"plural": "theses", "kind": "Thesis", "shortNames": ["th"]});
    server.create(CRDS, &second).await;
    let path = format!("{CRDS}/theses.example.com");
    let refused = server.until(&path, |_, crd| crd["status"]["conditions"].is_array()).await;
    assert!(!is(&refused, "NamesAccepted") && !is(&refused, "Established"));
    assert_eq!(server.get("/apis/example.com/v1/theses").await.0, 404);
    server.call(Method::DELETE, &format!("{CRDS}/things.example.com"), JSON, &Value::Null).await;
    server.until(&path, |_, crd| is(crd, "Established")).await;
    assert_eq!(server.get("/apis/example.com/v1/theses").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn definitions_survive_a_restart() {
    let store: Arc<dyn Store> = Arc::new(store::Memory::new());
    let spec = json!({"type": "object", "properties": {"size": {"type": "integer", "default": 3}}});
    {
        let server = Server::on(store.clone()).await;
        server.define(&definition(json!([version("v1", true, spec)]))).await;
        server.create(THINGS, &thing("a", json!({}))).await;
        server.0.shut_down();
    }
    let server = Server::on(store).await;
    let (code, object) = server.get(&format!("{THINGS}/a")).await;
    assert_eq!((code, &object["spec"]), (200, &json!({"size": 3})));
    server.create(THINGS, &thing("b", json!({}))).await;
    assert_eq!(server.get("/apis/example.com/v1").await.1["resources"][0]["shortNames"], json!(["th"]));
}

#[tokio::test(start_paused = true)]
async fn thousands_of_definitions() {
    const COUNT: usize = 2000;
    let store: Arc<dyn Store> = Arc::new(store::Memory::new());
    let server = Server::on(store.clone()).await;
    for index in 0..COUNT {
        let mut crd = definition(json!([version("v1", true, json!({"type": "object"}))]));
        crd["metadata"]["name"] = json!(format!("things.g{index}.example.com"));
        crd["spec"]["group"] = json!(format!("g{index}.example.com"));
        server.create(CRDS, &crd).await;
    }
    let last = format!("{CRDS}/things.g{}.example.com", COUNT - 1);
    server.until(&last, |_, crd| is(crd, "Established")).await;
    let (_, groups) = server.get("/apis").await;
    assert!(groups["groups"].as_array().unwrap().len() > COUNT);
    let mut object = thing("x", json!({}));
    object["apiVersion"] = json!("g7.example.com/v1");
    server.create("/apis/g7.example.com/v1/namespaces/default/things", &object).await;
    let again = Server::on(store).await;
    assert_eq!(again.get("/apis/g7.example.com/v1/namespaces/default/things/x").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn owners_are_forgotten_where_versions_disagree() {
    let server = Server::start().await;
    let of = |field: &str| json!({"type": "object", "properties": {(field): {"type": "string"}}});
    let mut versions = json!([version("v1", true, of("new")), version("v1beta1", false, of("old"))]);
    for version in versions.as_array_mut().unwrap() {
        version["subresources"] = json!({"scale":
            {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    }
    let newer = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    newer["replicas"] = json!({"type": "integer"});
    newer["kept"] = json!({"type": "string", "default": "always"});
    server.define(&definition(versions)).await;
    server.create(THINGS, &thing("a", json!({"new": "x", "replicas": 1}))).await;

    // What an apply to the scale would change, upstream cannot bring into the form that it needs.
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"},
        "spec": {"replicas": 2}});
    let path = format!("{THINGS}/a/scale?fieldManager=m&force=true");
    let failed = server.call(Method::PATCH, &path, APPLY, &scale).await;
    assert_eq!(
        (failed.code, &failed.body["message"]),
        (
            500,
            &json!(
                "failed to convert new object (/a; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1"
            )
        )
    );

    let older = THINGS.replace("/v1/", "/v1beta1/");
    let patched = server.patch(&format!("{older}/a"), MERGE, &json!({"spec": {"old": "y"}})).await;
    assert!(patched["metadata"]["managedFields"].is_null(), "{patched}");
    let mut config = thing("a", json!({"old": "z"}));
    config["apiVersion"] = json!("example.com/v1beta1");
    server.patch(&format!("{older}/a?fieldManager=m&force=true"), APPLY, &config).await;
    let path = format!("{THINGS}/a?fieldManager=n");
    let failed = server.call(Method::PATCH, &path, APPLY, &thing("a", json!({"new": "n"}))).await;
    assert_eq!(
        (failed.code, &failed.body["message"]),
        (500, &json!(".spec.kept: field not declared in schema"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_object_of_the_kind_is_told_in_upstreams_words() {
    let server = Server::start().await;
    let spec = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "string"}},
        "any": {"x-kubernetes-int-or-string": true}}});
    server.define(&definition(json!([version("v1", true, spec)]))).await;
    assert_eq!(server.get("/apis/example.com/v9").await, (404, json!("404 page not found\n")));
    for (body, words) in [
        (json!({"apiVersion": "a/b/c", "kind": "Thing"}), "unexpected GroupVersion string: a/b/c"),
        (
            json!({"apiVersion": 1, "kind": "Thing"}),
            "cannot unmarshal number into Go struct field .apiVersion",
        ),
    ] {
        let refused = server.call(Method::POST, THINGS, JSON, &body).await;
        let message = refused.body["message"].as_str().unwrap();
        assert!(refused.code == 400 && message.contains(words), "{message}");
    }
    // An apply's nulls are values.
    for (spec, words) in [
        (json!({"list": null}), "spec.list in body must be of type array: \"null\""),
        (json!({"any": {"a": 1}}), "spec.any in body must be of type integer,string: \"object\""),
    ] {
        let path = format!("{THINGS}/a?fieldManager=m");
        let refused = server.call(Method::PATCH, &path, APPLY, &thing("a", spec)).await;
        let message = refused.body["message"].as_str().unwrap();
        assert!(refused.code == 422 && message.contains(words), "{message}");
    }
}
