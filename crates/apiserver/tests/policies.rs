//! Admission policies through the whole server, in process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use api::user::UserInfo;
use apiserver::{ApiServer, Body, Config};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

struct Server(ApiServer);

impl Server {
    async fn start() -> Self {
        Self(ApiServer::start(Config::new(Arc::new(store::Memory::new()))).await.unwrap())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response<Body> {
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request =
            Request::builder().method(method).uri(path).body(Full::new(Bytes::from(bytes))).unwrap();
        request.extensions_mut().insert(UserInfo::component("test"));
        self.0.clone().oneshot(request).await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.send(Method::POST, path, Some(body)).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    async fn create(&self, path: &str, body: &Value) -> Value {
        let (code, object) = self.post(path, body).await;
        assert_eq!(code, 201, "{object}");
        object
    }

    /// A policy for ConfigMaps, and its binding.
    async fn policy(&self, sort: &str, spec: Value, binding: Value) {
        let group = "admissionregistration.k8s.io/v1";
        let plural = format!("/apis/{group}/{}admissionpolicies", sort.to_ascii_lowercase());
        let mut full = json!({"matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]}});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let policy = json!({"apiVersion": group, "kind": format!("{sort}AdmissionPolicy"),
            "metadata": {"name": "p"}, "spec": full});
        self.create(&plural, &policy).await;
        let mut full = json!({"policyName": "p"});
        full.as_object_mut().unwrap().extend(binding.as_object().unwrap().clone());
        let binding = json!({"apiVersion": group, "kind": format!("{sort}AdmissionPolicyBinding"),
            "metadata": {"name": "b"}, "spec": full});
        let plural = format!("/apis/{group}/{}admissionpolicybindings", sort.to_ascii_lowercase());
        self.create(&plural, &binding).await;
    }
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(start_paused = true)]
async fn a_policy_refuses_with_its_message() {
    let server = Server::start().await;
    let spec = json!({
        "variables": [
            {"name": "size", "expression": "object == null ? 0 : size(object.data)"},
            {"name": "limit", "expression": "variables.size * 0 + 1"},
        ],
        "matchConditions": [{"name": "writes", "expression": "request.operation != 'DELETE'"}],
        "validations": [
            {"expression": "variables.size <= variables.limit",
             "messageExpression": "'at most ' + string(variables.limit) + ' in ' + namespaceObject.metadata.name",
             "reason": "Forbidden"},
            {"expression": "object.data.?must.orValue('') != 'fail'"},
        ],
    });
    server.policy("Validating", spec, json!({"validationActions": ["Deny"]})).await;
    server.create(MAPS, &config_map("a", &json!({"one": "1"}))).await;
    let (code, status) = server.post(MAPS, &config_map("b", &json!({"one": "1", "two": "2"}))).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    assert_eq!(
        status["message"],
        "configmaps \"b\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: at most 1 in default"
    );
    let (code, status) = server.post(MAPS, &config_map("c", &json!({"must": "fail"}))).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("denied request: failed expression: object.data.?must.orValue('') != 'fail'")
    );
}

#[tokio::test(start_paused = true)]
async fn params_are_selected_and_warnings_given() {
    let server = Server::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for (name, limit) in [("low", "bA=="), ("high", "aA==")] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": {"limit": "yes"}}, "data": {"v": limit}});
        server.create(secrets, &secret).await;
    }
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "validations": [{"expression": "params.metadata.name == 'low'",
            "messageExpression": "'not ' + params.metadata.name"}],
    });
    let binding = json!({"validationActions": ["Warn"], "paramRef": {
        "selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"}});
    server.policy("Validating", spec, binding).await;
    let response = server.send(Method::POST, MAPS, Some(&config_map("a", &json!({})))).await;
    assert_eq!(response.status(), 201);
    assert_eq!(
        response.headers()["warning"],
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': not high\""
    );
}

#[tokio::test(start_paused = true)]
async fn expressions_may_ask_the_authorizer() {
    let server = Server::start().await;
    let spec = json!({"validations": [{
        "expression": "authorizer.serviceAccount('default', 'nobody').group('').resource('secrets').namespace('default').check('get').allowed()",
        "message": "nobody may not"}]});
    server.policy("Validating", spec, json!({"validationActions": ["Deny"]})).await;
    let (code, status) = server.post(MAPS, &config_map("a", &json!({}))).await;
    assert_eq!(code, 422, "{status}");
    assert!(status["message"].as_str().unwrap().ends_with("denied request: nobody may not"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_changes_objects() {
    let server = Server::start().await;
    let spec = json!({"reinvocationPolicy": "IfNeeded", "failurePolicy": "Fail", "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'added': 'yes'}}, data: {'who': request.userInfo.username}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"}},
    ]});
    server.policy("Mutating", spec, json!({})).await;
    let object = server.create(MAPS, &config_map("a", &json!({"own": "1"}))).await;
    assert_eq!(object["data"]["own"], "1");
    assert_eq!(object["metadata"]["labels"], json!({"added": "yes", "a/b": "c"}));
    let fields = &object["metadata"]["managedFields"][0]["fieldsV1"];
    assert!(fields["f:data"].get("f:who").is_none(), "nobody owns what a policy adds: {fields}");
}

#[tokio::test(start_paused = true)]
async fn expressions_are_checked_when_policies_are_written() {
    let server = Server::start().await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["*"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "1 + 1"}, {"expression": "nothing.x == 1"}]}});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let (code, status) = server.post(path, &policy).await;
    assert_eq!(code, 422, "{status}");
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(causes[0]["field"], "spec.validations[0].expression");
    assert_eq!(causes[0]["message"], "Invalid value: \"1 + 1\": must evaluate to bool but got int");
    assert!(causes[1]["message"].as_str().unwrap().contains(
        "compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing' (in container '')"
    ));
}
